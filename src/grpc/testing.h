// For tests: a gRPC client on a blocking socket, by nghttp2, with TLS or without.
#pragma once

#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpc/framing.h"
#include "net/tls_testing.h"

namespace penstock::grpc {

using Fields = std::vector<std::pair<std::string, std::string>>;

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

  enum class Tls { kNone, kUsed };

  explicit Client(uint16_t port, bool takes_all = true, Tls tls = Tls::kNone)
      : fd_(net::ConnectLoopback(port)) {
    if (tls == Tls::kUsed) tls_ = std::make_unique<net::TlsClient>(fd_);
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
          if (frame->hd.type == NGHTTP2_GOAWAY) static_cast<Client*>(user)->goodbyes += 'G';
          if (frame->hd.type == NGHTTP2_PING) static_cast<Client*>(user)->goodbyes += 'P';
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
    if (tls_ == nullptr) ::close(fd_);
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

  // Sends these bytes, whatever they are.
  bool Say(std::string_view bytes) {
    if (tls_ != nullptr) return tls_->Write(bytes);
    return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
  }
  void Push() {
    const uint8_t* data = nullptr;
    for (ssize_t size; !is_closed && (size = nghttp2_session_mem_send(session_, &data)) > 0;) {
      is_closed |= !Say({reinterpret_cast<const char*>(data), static_cast<size_t>(size)});
    }
  }
  // Talks until the condition holds or the server has closed. False: it does not hold.
  bool Until(const std::function<bool()>& holds) {
    std::vector<char> buffer(64 << 10);
    int quiet = 0;
    while (!holds()) {
      Push();
      pollfd ready{fd_, POLLIN, 0};
      const bool has_pending = tls_ != nullptr && tls_->has_pending();
      if (!has_pending && ::poll(&ready, 1, 10) <= 0) {
        if (++quiet > 3'000) return false;
        continue;
      }
      const ssize_t size = tls_ != nullptr ? tls_->Read(buffer.data(), buffer.size())
                                           : ::recv(fd_, buffer.data(), buffer.size(), 0);
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
  // Sending gives up when the server takes nothing for three seconds (is_closed then), and the
  // socket takes little.
  void ReadNoMore() {
    const timeval limit{3, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    const int bytes = 64 << 10;
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
  }
  // Whether something has come that was not read.
  bool HasInput() const {
    pollfd ready{fd_, POLLIN, 0};
    return ::poll(&ready, 1, 0) > 0;
  }
  const Answer& Finish(int32_t stream) {
    EXPECT_TRUE(Until([&] { return answers[stream].is_closed; }));
    return answers[stream];
  }

  std::map<int32_t, Answer> answers;
  std::string goodbyes;  // GOAWAY and PING frames, by their first letters
  bool is_closed = false;

 private:
  struct Source {
    std::string body;
    size_t sent = 0;
    bool is_last = true;
  };
  const int fd_;
  std::unique_ptr<net::TlsClient> tls_;  // owns the socket, if there
  nghttp2_session* session_ = nullptr;
  std::vector<std::unique_ptr<Source>> sources_;
  std::map<int32_t, Source*> last_source_;
};

inline std::string Framed(std::string_view message) {
  std::string out;
  AppendMessage(message, &out);
  return out;
}

}  // namespace penstock::grpc
