#include "grpc/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "grpc/testing.h"

namespace penstock::grpc {
namespace {

using ::testing::HasSubstr;

// What is told of RPCs, from the loop's thread.
struct Log {
  std::atomic<int> calls{0}, messages{0}, half_closes{0}, cancels{0}, drained{0}, destroyed{0};
};

// /test/Echo sends back what it gets; /test/Flood sends 32 messages of 256 KiB, as fast as it may;
// /test/Hold does nothing; /test/Early ends at the first message; /test/Once sends one back and is
// done, but leaves it to the client to end.
class TestListener final : public CallListener {
 public:
  TestListener(Call& call, Log& log) : call_(call), log_(log) {}
  ~TestListener() override { ++log_.destroyed; }
  void OnMessage(std::string_view message) override {
    ++log_.messages;
    is_done_ = call_.path() == "/test/Once";
    if (call_.path() == "/test/Echo" || is_done_) call_.Send(message);
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
  bool is_done() const override { return is_done_; }

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
  bool is_done_ = false;
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

class GrpcServerTest : public ::testing::TestWithParam<Client::Tls> {
 protected:
  void Start(ServerOptions options = {}) {
    if (GetParam() == Client::Tls::kUsed) {
      options.tls = *net::TlsContext::Create({}, *net::MakeSelfSigned());
    }
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
  Client Connect(bool takes_all = true) { return Client(server_->port(), takes_all, GetParam()); }
  void Wait(const std::function<bool()>& holds) {
    while (!holds()) std::this_thread::yield();
  }

  Log log_;
  int unknown_ = 0;  // calls without a listener
  net::LoopPool loops_{2};
  std::unique_ptr<Server> server_;
};

INSTANTIATE_TEST_SUITE_P(, GrpcServerTest,
                         ::testing::Values(Client::Tls::kNone, Client::Tls::kUsed),
                         [](const auto& info) {
                           return info.param == Client::Tls::kNone ? "Plain" : "Tls";
                         });

TEST_P(GrpcServerTest, AUnaryRpcIsAnsweredWithMessageAndStatus) {
  Start();
  Client client = Connect();
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

TEST_P(GrpcServerTest, StreamsBothWaysAtTheirOwnPace) {
  Start();
  Client client = Connect();
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

TEST_P(GrpcServerTest, ManyRpcsShareAConnection) {
  Start();
  Client client = Connect();
  std::vector<int32_t> streams;
  for (int i = 0; i < 300; ++i) {
    streams.push_back(client.Begin("/test/Echo", Framed("m" + std::to_string(i))));
  }
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(client.Finish(streams[static_cast<size_t>(i)]).Messages().at(0),
              "m" + std::to_string(i));
  }
}

TEST_P(GrpcServerTest, RefusalsSayWhy) {
  Start();
  Client client = Connect();
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

TEST_P(GrpcServerTest, BadMessagesEndTheRpcAndNothingElse) {
  ServerOptions options;
  options.max_message_bytes = 1000;
  Start(options);
  Client client = Connect();
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

TEST_P(GrpcServerTest, AnAnswerBeforeTheEndStopsTheClient) {
  Start();
  Client client = Connect();
  const int32_t stream = client.Begin("/test/Early", Framed("one"), false);
  const auto& answer = client.Finish(stream);
  EXPECT_EQ(answer.Find("grpc-status"), "5");
  EXPECT_EQ(answer.Find("grpc-message"), "enough of it");
  EXPECT_EQ(answer.error, static_cast<uint32_t>(NGHTTP2_NO_ERROR));
  EXPECT_EQ(log_.cancels, 0);
}

TEST_P(GrpcServerTest, TimeThatIsUpEndsTheRpc) {
  Start();
  Client client = Connect();
  const auto& answer =
      client.Finish(client.Begin("/test/Hold", Framed("x"), false, {{"grpc-timeout", "20m"}}));
  EXPECT_EQ(answer.Find("grpc-status"), "4");
  EXPECT_EQ(log_.cancels, 1);
  EXPECT_EQ(server_->Stats().deadlines, 1U);
}

TEST_P(GrpcServerTest, ClientsThatGoAwayCancelTheirRpcs) {
  Start();
  {
    Client client = Connect();
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

// As Envoy ends exchanges of ext_proc.
TEST_P(GrpcServerTest, ResetsOfWhatIsDoneAreNoFault) {
  Start();
  Client client = Connect();
  constexpr int kRpcs = 3000;
  const int32_t other = client.Begin("/test/Echo", Framed("before"), false);
  for (int i = 0; i < kRpcs; ++i) {
    const int32_t stream = client.Begin("/test/Once", Framed("x"), false);
    ASSERT_TRUE(client.Until([&] { return !client.answers[stream].body.empty(); })) << i;
    client.Reset(stream);
  }
  client.More(other, Framed("after"), true);
  EXPECT_EQ(client.Finish(other).Messages().size(), 2U);
  Wait([&] { return log_.cancels == kRpcs; });
  EXPECT_EQ(client.goodbyes, "");
  EXPECT_EQ(server_->Stats().clients_gone, 0U);
}

TEST_P(GrpcServerTest, ASlowReaderHoldsUpTheSenderNotTheMemory) {
  Start();
  Client client = Connect(false);
  const int32_t stream = client.Begin("/test/Flood", Framed("go"));
  // The client's window is 64 KiB and it gives no more: the server stops above its mark.
  ASSERT_TRUE(client.Until([&] { return client.answers[stream].body.size() > 60'000; }));
  EXPECT_LE(log_.drained, 1);
  Client other = Connect();
  EXPECT_EQ(other.Finish(other.Begin("/test/Echo", Framed("x"))).Find("grpc-status"), "0");
  Client fast = Connect();
  const int32_t flood = fast.Begin("/test/Flood", Framed("go"));
  uint64_t most = 0;
  ASSERT_TRUE(fast.Until([&] {
    most = std::max(most, server_->Stats().buffered_bytes);
    return fast.answers[flood].is_closed;
  }));
  EXPECT_EQ(fast.answers[flood].Messages().size(), 32U);
  EXPECT_LT(most, 8U << 20) << "of a flood of 8 MiB little more than one waits";
  EXPECT_GT(log_.drained, 3);
}

TEST_P(GrpcServerTest, WhoTakesNoAnswersSendsNoMore) {
  Start();
  Client client = Connect(false);
  std::string body;
  for (int i = 0; i < 128; ++i) body += Framed(std::string(64 << 10, 'x'));
  client.Begin("/test/Echo", body, false);
  // A mebibyte of answers waits, then the window of another one is used up.
  ASSERT_TRUE(client.Until([&] { return log_.messages >= 30; }));
  for (int i = 0; i < 50; ++i) {
    client.Push();
    Client other = Connect();
    EXPECT_EQ(other.Finish(other.Begin("/test/Echo", Framed("x"))).Find("grpc-status"), "0");
  }
  EXPECT_LE(log_.messages - 50, 36);
}

TEST_P(GrpcServerTest, WhoReadsNoRefusalsIsReadNoMore) {
  Start();
  Client client = Connect();
  EXPECT_EQ(client.Finish(client.Begin("/test/Echo", Framed("x"))).Find("grpc-status"), "0");
  client.ReadNoMore();
  // A hundred megabytes of refusals, each with its path: more than sockets take.
  for (int i = 0; i < 100'000 && !client.is_closed; ++i) {
    client.Begin("/other/" + std::to_string(i) + std::string(900, 'x'), "");
    if (i % 100 == 0) client.Push();
  }
  EXPECT_TRUE(client.is_closed) << "the server takes no more";
  EXPECT_GT(server_->Stats().calls_open, 1'000U);
  EXPECT_LT(server_->Stats().calls_open, 20'000U);
  unknown_ = log_.calls - 1;
}

TEST_P(GrpcServerTest, DrainingLetsRpcsEnd) {
  ServerOptions options;
  options.drain_wait = milliseconds(100);
  Start(options);
  Client client = Connect();
  Client idle = Connect();  // whose pings nghttp2 leaves without an answer
  EXPECT_EQ(idle.Finish(idle.Begin("/test/Echo", Framed("x"))).Find("grpc-status"), "0");
  const int32_t stream = client.Begin("/test/Echo", Framed("before"), false);
  ASSERT_TRUE(client.Until([&] { return client.answers[stream].Messages().size() == 1; }));
  std::promise<void> done;
  server_->Drain(std::chrono::hours(1), [&] { done.set_value(); });
  ASSERT_TRUE(client.Until([&] { return !client.goodbyes.empty(); }));
  EXPECT_TRUE(idle.Until([&] { return idle.is_closed; }));
  client.More(stream, Framed("after"), true);
  EXPECT_EQ(client.Finish(stream).Find("grpc-status"), "0");
  EXPECT_EQ(client.answers[stream].Messages().size(), 2U);
  done.get_future().wait();
}

TEST_P(GrpcServerTest, DrainingServesWhatIsOnItsWay) {
  Start();
  Client client = Connect();
  const int32_t first = client.Begin("/test/Echo", Framed("before"), false);
  ASSERT_TRUE(client.Until([&] { return client.answers[first].Messages().size() == 1; }));
  std::promise<void> done;
  server_->Drain(seconds(30), [&] { done.set_value(); });
  Wait([&] { return client.HasInput(); });
  // The server has told it to go, but it has not read that.
  const int32_t late = client.Begin("/test/Echo", Framed("late"));
  EXPECT_EQ(client.Finish(late).Messages(), std::vector<std::string>{"late"});
  client.More(first, "", true);
  EXPECT_EQ(client.Finish(first).Find("grpc-status"), "0");
  EXPECT_TRUE(client.Until([&] { return client.is_closed; }));
  EXPECT_EQ(client.goodbyes, "GPG");
  done.get_future().wait();
}

TEST_P(GrpcServerTest, DrainingDoesNotWaitForWhoSaysNothing) {
  Start();
  Client silent = Connect();
  Wait([&] { return server_->Stats().connections_open == 1; });
  std::promise<void> done;
  server_->Drain(std::chrono::hours(1), [&] { done.set_value(); });
  done.get_future().wait();
}

TEST_P(GrpcServerTest, MetadataIsInTheBudget) {
  ServerOptions options;
  options.max_buffered_bytes = 64 << 10;
  Start(options);
  Client client = Connect();
  const Fields much = {{"x-much", std::string(8 << 10, 'x')}};
  std::vector<int32_t> streams;
  for (int i = 0; i < 20; ++i) {
    streams.push_back(client.Begin("/test/Hold", Framed("x"), false, much));
  }
  const auto& refused = client.Finish(streams.back());
  EXPECT_EQ(refused.Find("grpc-status"), "8");
  EXPECT_EQ(refused.Find("grpc-message"), "the server has no memory left for calls");
  EXPECT_EQ(client.Finish(client.Begin("/test/Echo", Framed("x"))).Find("grpc-status"), "0");
}

TEST_P(GrpcServerTest, AnswersThatNobodyTakesAreInTheBudget) {
  ServerOptions options;
  options.max_buffered_bytes = 4 << 20;
  Start(options);
  Client client = Connect(false);
  // Each stream takes 64 KiB, and holds a mebibyte and more of answers back.
  std::vector<int32_t> streams;
  const std::string message = Framed(std::string(64 << 10, 'x'));
  for (int i = 0; i < 8; ++i) {
    streams.push_back(client.Begin("/test/Echo", "", false));
    for (int k = 0; k < 20; ++k) client.More(streams.back(), message, false);
  }
  const auto dropped = [&] {
    return std::ranges::count_if(streams, [&](int32_t s) { return client.answers[s].is_closed; });
  };
  ASSERT_TRUE(client.Until([&] { return dropped() >= 3; }));
  for (const int32_t stream : streams) {
    if (client.answers[stream].is_closed) {
      EXPECT_EQ(client.answers[stream].error, static_cast<uint32_t>(NGHTTP2_ENHANCE_YOUR_CALM));
    }
  }
  EXPECT_LT(server_->Stats().buffered_bytes, 6U << 20);
  Wait([&] { return log_.cancels >= 3; });
}

TEST_P(GrpcServerTest, DrainingHasALimit) {
  Start();
  Client client = Connect();
  client.Begin("/test/Hold", Framed("x"), false);
  client.Push();
  Wait([&] { return log_.messages == 1; });
  std::promise<void> done;
  server_->Drain(milliseconds(20), [&] { done.set_value(); });
  done.get_future().wait();
  EXPECT_EQ(log_.cancels, 1);
}

TEST_P(GrpcServerTest, OldConnectionsAreToldToComeAnew) {
  ServerOptions options;
  options.max_connection_age = seconds(1);  // longer than a busy machine shakes hands
  options.connection_age_grace = milliseconds(50);
  Start(options);
  Client client = Connect();
  client.Begin("/test/Hold", Framed("x"), false);
  ASSERT_TRUE(client.Until([&] { return !client.goodbyes.empty(); }));
  EXPECT_TRUE(client.Until([&] { return client.is_closed; }));
  Wait([&] { return log_.cancels == 1; });
}

TEST_P(GrpcServerTest, ASilentClientIsAskedAndThenCutOff) {
  ServerOptions options;
  options.keep_alive = milliseconds(20);
  options.keep_alive_timeout = seconds(2);  // longer than a busy machine keeps the client waiting
  Start(options);
  Client client = Connect();
  // It answers pings by itself as long as it is driven.
  ASSERT_TRUE(client.Until([&] { return client.goodbyes.size() >= 2; }));
  EXPECT_EQ(server_->Stats().connections_open, 1U);
  Wait([&] { return server_->Stats().connections_open == 0; });  // now it says nothing
}

TEST_P(GrpcServerTest, WhatIsNoHttp2IsClosed) {
  Start();
  Client client = Connect();
  const std::string text = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
  ASSERT_TRUE(client.Say(text));
  Wait([&] { return server_->Stats().bad_connections == 1; });
  Wait([&] { return server_->Stats().connections_open == 0; });
}

TEST_P(GrpcServerTest, ThereIsALimitOfRpcs) {
  ServerOptions options;
  options.max_calls = 3;
  Start(options);
  Client client = Connect();
  std::vector<int32_t> streams;
  for (int i = 0; i < 4; ++i) streams.push_back(client.Begin("/test/Hold", Framed("x"), false));
  const auto& refused = client.Finish(streams.back());
  EXPECT_EQ(refused.Find("grpc-status"), "8");
  EXPECT_EQ(refused.Find("grpc-message"), "there are 3 RPCs already, as many as may be");
  client.Reset(streams.front());
  Wait([&] { return server_->Stats().calls_open == 2; });
  const auto& next = client.Finish(client.Begin("/test/Echo", Framed("x")));
  EXPECT_EQ(next.Find("grpc-status"), "0");
}

TEST_P(GrpcServerTest, LimitsOfConnectionsAndMetadataHold) {
  ServerOptions options;
  options.max_connections = 1;
  options.max_metadata_bytes = 2000;
  Start(options);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<Client>(server_->port(), true, GetParam()));
  }
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
