#include "grpc/server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <future>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "grpc/framing.h"

namespace penstock::grpc {
namespace {

using ::testing::HasSubstr;
using Fields = std::vector<std::pair<std::string, std::string>>;

// What is told of RPCs, from the loop's thread.
struct Log {
  std::atomic<int> calls{0}, messages{0}, half_closes{0}, cancels{0}, drained{0}, destroyed{0};
};

// /test/Echo sends back what it gets; /test/Flood sends 32 messages of 256 KiB, as fast as it may;
// /test/Hold does nothing; /test/Early ends at the first message.
class TestListener final : public CallListener {
 public:
  TestListener(Call& call, Log& log) : call_(call), log_(log) {}
  ~TestListener() override { ++log_.destroyed; }
  void OnMessage(std::string_view message) override {
    ++log_.messages;
    if (call_.path() == "/test/Echo") call_.Send(message);
    if (call_.path() == "/test/Early") call_.Finish(Status::kNotFound, "enough of it");
    if (call_.path() == "/test/Flood") Flood();
  }
  void OnHalfClose() override {
    ++log_.half_closes;
    if (call_.path() == "/test/Echo") call_.Finish(Status::kOk);
  }
  void OnCancel() override { ++log_.cancels; }
  void OnDrained() override {
    ++log_.drained;
    Flood();
  }

 private:
  void Flood() {
    while (left_ > 0 && !call_.above_high_watermark()) {
      --left_;
      call_.Send(std::string(256 << 10, 'x'));
    }
    if (left_ == 0) call_.Finish(Status::kOk);
  }

  Call& call_;
  Log& log_;
  int left_ = 32;
};

class TestHandler final : public Handler {
 public:
  explicit TestHandler(Log& log) : log_(log) {}
  std::unique_ptr<CallListener> OnCall(Call& call) override {
    ++log_.calls;
    if (!call.path().starts_with("/test/")) return nullptr;
    return std::make_unique<TestListener>(call, log_);
  }

 private:
  Log& log_;
};

// An HTTP/2 client on a blocking socket.
class Client {
 public:
  struct Answer {
    Fields headers, trailers;
    std::string body;
    bool is_closed = false;
    uint32_t error = 0;
    std::string Find(std::string_view name) const {
      for (const auto* fields : {&trailers, &headers}) {
        for (const auto& [key, value] : *fields) {
          if (key == name) return value;
        }
      }
      return "";
    }
    std::vector<std::string> Messages() const {
      std::vector<std::string> out;
      MessageReader reader(SIZE_MAX);
      reader.Feed(body);
      std::string_view message;
      while (reader.Take(&message) == MessageReader::Next::kMessage) out.emplace_back(message);
      return out;
    }
  };

  explicit Client(uint16_t port, bool takes_all = true) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const int yes = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(
        callbacks,
        [](nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
           const uint8_t* value, size_t value_size, uint8_t, void* user) {
          Answer& answer = static_cast<Client*>(user)->answers[frame->hd.stream_id];
          const bool is_trailer = frame->headers.cat == NGHTTP2_HCAT_HEADERS;
          (is_trailer ? answer.trailers : answer.headers)
              .emplace_back(std::string(reinterpret_cast<const char*>(name), name_size),
                            std::string(reinterpret_cast<const char*>(value), value_size));
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        callbacks, [](nghttp2_session*, uint8_t, int32_t stream, const uint8_t* data, size_t size,
                      void* user) {
          static_cast<Client*>(user)->answers[stream].body.append(
              reinterpret_cast<const char*>(data), size);
          return 0;
        });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        callbacks, [](nghttp2_session*, int32_t stream, uint32_t error, void* user) {
          Answer& answer = static_cast<Client*>(user)->answers[stream];
          answer.is_closed = true;
          answer.error = error;
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
          if (frame->hd.type == NGHTTP2_GOAWAY) static_cast<Client*>(user)->goaways++;
          if (frame->hd.type == NGHTTP2_PING) static_cast<Client*>(user)->pings++;
          return 0;
        });
    nghttp2_option* option = nullptr;
    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, takes_all ? 0 : 1);
    nghttp2_session_client_new2(&session_, callbacks, this, option);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session_, 0, nullptr, 0);
  }
  ~Client() {
    nghttp2_session_del(session_);
    ::close(fd_);
  }

  // Begins an RPC; `body` goes out with it, `is_last` or not.
  int32_t Begin(const std::string& path, const std::string& body, bool is_last = true,
                Fields extra = {}, const std::string& type = "application/grpc",
                const std::string& method = "POST") {
    Fields fields = {{":method", method},    {":scheme", "http"},    {":path", path},
                     {":authority", "test"}, {"content-type", type}, {"te", "trailers"}};
    fields.insert(fields.end(), extra.begin(), extra.end());
    std::vector<nghttp2_nv> headers;
    for (auto& [name, value] : fields) {
      headers.push_back({reinterpret_cast<uint8_t*>(name.data()),
                         reinterpret_cast<uint8_t*>(value.data()), name.size(), value.size(), 0});
    }
    auto* source = new Source{body, 0, is_last};
    sources_.emplace_back(source);
    nghttp2_data_provider provider{};
    provider.source.ptr = source;
    provider.read_callback = [](nghttp2_session*, int32_t, uint8_t* out, size_t length,
                                uint32_t* flags, nghttp2_data_source* data, void*) -> ssize_t {
      auto* from = static_cast<Source*>(data->ptr);
      const size_t size = std::min(length, from->body.size() - from->sent);
      if (size == 0 && !from->is_last) return NGHTTP2_ERR_DEFERRED;
      std::memcpy(out, from->body.data() + from->sent, size);
      from->sent += size;
      if (from->is_last && from->sent == from->body.size()) *flags |= NGHTTP2_DATA_FLAG_EOF;
      return static_cast<ssize_t>(size);
    };
    const int32_t stream = nghttp2_submit_request(session_, nullptr, headers.data(), headers.size(),
                                                  &provider, nullptr);
    last_source_[stream] = source;
    return stream;
  }
  void More(int32_t stream, const std::string& body, bool is_last) {
    Source* source = last_source_[stream];
    source->body += body;
    source->is_last = is_last;
    nghttp2_session_resume_data(session_, stream);
  }
  void Reset(int32_t stream) {
    nghttp2_submit_rst_stream(session_, 0, stream, NGHTTP2_CANCEL);
    Push();
  }

  void Push() {
    const uint8_t* data = nullptr;
    for (ssize_t size; (size = nghttp2_session_mem_send(session_, &data)) > 0;) {
      is_closed |= ::send(fd_, data, static_cast<size_t>(size), MSG_NOSIGNAL) != size;
    }
  }
  // Talks until the condition holds or the server has closed. False: it does not hold.
  bool Until(const std::function<bool()>& holds) {
    std::vector<char> buffer(64 << 10);
    while (!holds()) {
      Push();
      pollfd ready{fd_, POLLIN, 0};
      if (::poll(&ready, 1, 30'000) <= 0) return false;
      const ssize_t size = ::recv(fd_, buffer.data(), buffer.size(), 0);
      if (size <= 0) {
        is_closed = true;
        return holds();
      }
      if (nghttp2_session_mem_recv(session_, reinterpret_cast<uint8_t*>(buffer.data()),
                                   static_cast<size_t>(size)) < 0) {
        return false;
      }
    }
    Push();
    return true;
  }
  const Answer& Finish(int32_t stream) {
    EXPECT_TRUE(Until([&] { return answers[stream].is_closed; }));
    return answers[stream];
  }
  int fd() const { return fd_; }

  std::map<int32_t, Answer> answers;
  int goaways = 0, pings = 0;
  bool is_closed = false;

 private:
  struct Source {
    std::string body;
    size_t sent = 0;
    bool is_last = true;
  };
  int fd_ = -1;
  nghttp2_session* session_ = nullptr;
  std::vector<std::unique_ptr<Source>> sources_;
  std::map<int32_t, Source*> last_source_;
};

std::string Framed(std::string_view message) {
  std::string out;
  AppendMessage(message, &out);
  return out;
}

class GrpcServerTest : public ::testing::Test {
 protected:
  void Start(ServerOptions options = {}) {
    auto made = Server::Create(loops_, "127.0.0.1", 0, options,
                               [this](net::Loop&) { return std::make_unique<TestHandler>(log_); });
    ASSERT_TRUE(made) << made.error().message;
    server_ = std::move(*made);
    loops_.Start();
  }
  ~GrpcServerTest() override {
    server_.reset();
    loops_.StopAndJoin();
    EXPECT_EQ(log_.destroyed, log_.calls - unknown_) << "every listener is destroyed";
  }
  void Wait(const std::function<bool()>& holds) {
    while (!holds()) std::this_thread::yield();
  }

  Log log_;
  int unknown_ = 0;  // calls without a listener
  net::LoopPool loops_{2};
  std::unique_ptr<Server> server_;
};

TEST_F(GrpcServerTest, AUnaryRpcIsAnsweredWithMessageAndStatus) {
  Start();
  Client client(server_->port());
  const auto& answer = client.Finish(client.Begin("/test/Echo", Framed("hello")));
  EXPECT_EQ(answer.Find(":status"), "200");
  EXPECT_EQ(answer.Find("content-type"), "application/grpc");
  EXPECT_EQ(answer.Find("grpc-status"), "0");
  EXPECT_EQ(answer.Messages(), std::vector<std::string>{"hello"});
  EXPECT_EQ(answer.error, static_cast<uint32_t>(NGHTTP2_NO_ERROR));
  Wait([&] { return server_->Stats().calls_open == 0; });
  EXPECT_EQ(server_->Stats().calls, 1U);
  EXPECT_EQ(log_.cancels, 0);
}

TEST_F(GrpcServerTest, StreamsBothWaysAtTheirOwnPace) {
  Start();
  Client client(server_->port());
  const int32_t stream = client.Begin("/test/Echo", "", false);
  std::string large(300'000, 'a');
  for (const std::string& message : {std::string("one"), std::string(), large}) {
    const size_t before = client.answers[stream].Messages().size();
    client.More(stream, Framed(message), false);
    ASSERT_TRUE(
        client.Until([&] { return client.answers[stream].Messages().size() == before + 1; }));
    EXPECT_EQ(client.answers[stream].Messages().back(), message);
  }
  client.More(stream, "", true);
  EXPECT_EQ(client.Finish(stream).Find("grpc-status"), "0");
  EXPECT_EQ(log_.messages, 3);
}

TEST_F(GrpcServerTest, ManyRpcsShareAConnection) {
  Start();
  Client client(server_->port());
  std::vector<int32_t> streams;
  for (int i = 0; i < 300; ++i) {
    streams.push_back(client.Begin("/test/Echo", Framed("m" + std::to_string(i))));
  }
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(client.Finish(streams[static_cast<size_t>(i)]).Messages().at(0),
              "m" + std::to_string(i));
  }
}

TEST_F(GrpcServerTest, RefusalsSayWhy) {
  Start();
  Client client(server_->port());
  const auto& unknown = client.Finish(client.Begin("/other/Thing", Framed("x")));
  EXPECT_EQ(unknown.Find("grpc-status"), "12");
  EXPECT_EQ(unknown.Find("grpc-message"), "there is no method /other/Thing");
  unknown_ = 1;
  const auto& gzip =
      client.Finish(client.Begin("/test/Echo", Framed("x"), true, {{"grpc-encoding", "gzip"}}));
  EXPECT_EQ(gzip.Find("grpc-status"), "12");
  EXPECT_EQ(gzip.Find("grpc-accept-encoding"), "identity");
  EXPECT_THAT(gzip.Find("grpc-message"), HasSubstr("compressed with gzip"));
  EXPECT_EQ(client.Finish(client.Begin("/test/Echo", "x", true, {}, "text/html")).Find(":status"),
            "415");
  EXPECT_EQ(client.Finish(client.Begin("/test/Echo", "", true, {}, "application/grpc", "GET"))
                .Find(":status"),
            "405");
  const auto& timeout =
      client.Finish(client.Begin("/test/Echo", Framed("x"), true, {{"grpc-timeout", "soon"}}));
  EXPECT_EQ(timeout.Find("grpc-status"), "13");
  EXPECT_EQ(server_->Stats().refused_calls, 5U);
}

TEST_F(GrpcServerTest, BadMessagesEndTheRpcAndNothingElse) {
  ServerOptions options;
  options.max_message_bytes = 1000;
  Start(options);
  Client client(server_->port());
  const std::string compressed("\1\0\0\0\1x", 6);
  EXPECT_EQ(client.Finish(client.Begin("/test/Echo", compressed)).Find("grpc-status"), "12");
  EXPECT_EQ(
      client.Finish(client.Begin("/test/Echo", Framed(std::string(1001, 'x')))).Find("grpc-status"),
      "8");
  const auto& cut = client.Finish(client.Begin("/test/Echo", Framed("hello").substr(0, 7)));
  EXPECT_EQ(cut.Find("grpc-status"), "13");
  EXPECT_EQ(cut.Find("grpc-message"), "the last message is cut short");
  EXPECT_EQ(log_.cancels, 3);
  EXPECT_EQ(server_->Stats().bad_messages, 3U);
  EXPECT_EQ(client.Finish(client.Begin("/test/Echo", Framed("fine"))).Find("grpc-status"), "0");
}

TEST_F(GrpcServerTest, AnAnswerBeforeTheEndStopsTheClient) {
  Start();
  Client client(server_->port());
  const int32_t stream = client.Begin("/test/Early", Framed("one"), false);
  const auto& answer = client.Finish(stream);
  EXPECT_EQ(answer.Find("grpc-status"), "5");
  EXPECT_EQ(answer.Find("grpc-message"), "enough of it");
  EXPECT_EQ(answer.error, static_cast<uint32_t>(NGHTTP2_NO_ERROR));
  EXPECT_EQ(log_.cancels, 0);
}

TEST_F(GrpcServerTest, TimeThatIsUpEndsTheRpc) {
  Start();
  Client client(server_->port());
  const auto& answer =
      client.Finish(client.Begin("/test/Hold", Framed("x"), false, {{"grpc-timeout", "20m"}}));
  EXPECT_EQ(answer.Find("grpc-status"), "4");
  EXPECT_EQ(log_.cancels, 1);
  EXPECT_EQ(server_->Stats().deadlines, 1U);
}

TEST_F(GrpcServerTest, ClientsThatGoAwayCancelTheirRpcs) {
  Start();
  {
    Client client(server_->port());
    const int32_t first = client.Begin("/test/Hold", Framed("x"), false);
    client.Begin("/test/Hold", Framed("x"), false);
    client.Push();
    Wait([&] { return log_.messages == 2; });
    client.Reset(first);
    Wait([&] { return log_.cancels == 1; });
  }
  Wait([&] { return log_.cancels == 2; });
  Wait([&] { return server_->Stats().connections_open == 0; });
  EXPECT_EQ(server_->Stats().clients_gone, 2U);
  EXPECT_EQ(server_->Stats().calls_open, 0U);
}

TEST_F(GrpcServerTest, ASlowReaderHoldsUpTheSenderNotTheMemory) {
  Start();
  Client client(server_->port(), false);
  const int32_t stream = client.Begin("/test/Flood", Framed("go"));
  // The client's window is 64 KiB and it gives no more: the server stops above its mark.
  ASSERT_TRUE(client.Until([&] { return client.answers[stream].body.size() > 60'000; }));
  EXPECT_LE(log_.drained, 1);
  Client other(server_->port());
  EXPECT_EQ(other.Finish(other.Begin("/test/Echo", Framed("x"))).Find("grpc-status"), "0");
  Client fast(server_->port());
  EXPECT_EQ(fast.Finish(fast.Begin("/test/Flood", Framed("go"))).Messages().size(), 32U);
  EXPECT_GT(log_.drained, 3);
}

TEST_F(GrpcServerTest, DrainingLetsRpcsEndAndTakesNoNewOnes) {
  Start();
  Client client(server_->port());
  Client idle(server_->port());
  const int32_t stream = client.Begin("/test/Echo", Framed("before"), false);
  ASSERT_TRUE(client.Until([&] { return client.answers[stream].Messages().size() == 1; }));
  ASSERT_TRUE(idle.Until([&] { return server_->Stats().connections_open == 2; }));
  std::promise<void> done;
  server_->Drain(seconds(30), [&] { done.set_value(); });
  ASSERT_TRUE(client.Until([&] { return client.goaways > 0; }));
  EXPECT_TRUE(idle.Until([&] { return idle.is_closed; }));
  client.More(stream, Framed("after"), true);
  EXPECT_EQ(client.Finish(stream).Find("grpc-status"), "0");
  EXPECT_EQ(client.answers[stream].Messages().size(), 2U);
  done.get_future().wait();
}

TEST_F(GrpcServerTest, DrainingHasALimit) {
  Start();
  Client client(server_->port());
  client.Begin("/test/Hold", Framed("x"), false);
  client.Push();
  Wait([&] { return log_.messages == 1; });
  std::promise<void> done;
  server_->Drain(milliseconds(20), [&] { done.set_value(); });
  done.get_future().wait();
  EXPECT_EQ(log_.cancels, 1);
}

TEST_F(GrpcServerTest, OldConnectionsAreToldToComeAnew) {
  ServerOptions options;
  options.max_connection_age = milliseconds(30);
  options.connection_age_grace = milliseconds(50);
  Start(options);
  Client client(server_->port());
  client.Begin("/test/Hold", Framed("x"), false);
  ASSERT_TRUE(client.Until([&] { return client.goaways > 0; }));
  EXPECT_TRUE(client.Until([&] { return client.is_closed; }));
  Wait([&] { return log_.cancels == 1; });
}

TEST_F(GrpcServerTest, ASilentClientIsAskedAndThenCutOff) {
  ServerOptions options;
  options.keep_alive = milliseconds(20);
  options.keep_alive_timeout = milliseconds(40);
  Start(options);
  Client client(server_->port());
  // It answers pings by itself as long as it is driven.
  ASSERT_TRUE(client.Until([&] { return client.pings >= 2; }));
  EXPECT_EQ(server_->Stats().connections_open, 1U);
  Wait([&] { return server_->Stats().connections_open == 0; });  // now it says nothing
}

TEST_F(GrpcServerTest, WhatIsNoHttp2IsClosed) {
  Start();
  Client client(server_->port());
  const std::string text = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
  ASSERT_EQ(::send(client.fd(), text.data(), text.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(text.size()));
  Wait([&] { return server_->Stats().bad_connections == 1; });
  Wait([&] { return server_->Stats().connections_open == 0; });
}

TEST_F(GrpcServerTest, LimitsOfConnectionsAndMetadataHold) {
  ServerOptions options;
  options.max_connections = 1;
  options.max_metadata_bytes = 2000;
  Start(options);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(std::make_unique<Client>(server_->port()));
  Wait([&] { return server_->Stats().refused_connections >= 1; });  // two loops, one each
  Client* open = nullptr;
  for (auto& client : clients) {
    const int32_t stream = client->Begin("/test/Echo", Framed("x"));
    if (client->Until([&] { return client->answers[stream].is_closed || client->is_closed; }) &&
        !client->is_closed) {
      open = client.get();
    }
  }
  ASSERT_NE(open, nullptr);
  const auto& answer =
      open->Finish(open->Begin("/test/Echo", "", true, {{"x-much", std::string(3000, 'x')}}));
  EXPECT_NE(answer.error, static_cast<uint32_t>(NGHTTP2_NO_ERROR));
}

}  // namespace
}  // namespace penstock::grpc
