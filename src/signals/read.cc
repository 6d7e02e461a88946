#include "signals/read.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace penstock::signals {
namespace {

ReadResult ResultOf(http::CallFailure failure) {
  switch (failure) {
    case http::CallFailure::kLocal:
      return ReadResult::kLocal;
    case http::CallFailure::kConnect:
      return ReadResult::kConnect;
    case http::CallFailure::kReset:
      return ReadResult::kReset;
    case http::CallFailure::kTruncated:
      return ReadResult::kTruncated;
    case http::CallFailure::kTimeout:
      return ReadResult::kTimeout;
    case http::CallFailure::kTls:
      return ReadResult::kTls;
    case http::CallFailure::kBadResponse:
      break;
  }
  return ReadResult::kBadResponse;
}

}  // namespace

Read::Read(http::Client& client, std::string_view path, std::string_view accept, Limits limits)
    : client_(client), path_(path), accept_(accept), limits_(limits) {}

void Read::Aim(std::string host, uint16_t port, std::shared_ptr<net::TlsClientContext> tls) {
  call_.reset();
  host_ = std::move(host);
  port_ = port;
  tls_ = std::move(tls);
  const bool is_ipv6 = host_.find(':') != std::string::npos;
  request_ = fmt::format(
      "GET {} HTTP/1.1\r\nHost: {}{}{}:{}\r\nAccept: {}\r\nUser-Agent: penstock\r\n\r\n", path_,
      is_ipv6 ? "[" : "", host_, is_ipv6 ? "]" : "", port_, accept_);
}

void Read::Begin(Time now) {
  began_ = now;
  status_ = 0;
  bytes_ = 0;
  http::CallOptions options;
  options.tls = tls_;
  options.connect_timeout = std::min<Duration>(options.connect_timeout, limits_.time);
  options.first_byte_timeout = limits_.time;
  options.idle_timeout = limits_.time;
  call_ = client_.Send(host_, port_, request_, {}, options, *this);
}

void Read::CheckTime(Time now) {
  // An answer that trickles gets past the client's limits, which are for silence.
  if (call_ == nullptr || now - began_ < limits_.time) return;
  End(ReadResult::kTimeout,
      fmt::format("GET {}: no whole answer within {} s", path_, ToSeconds(limits_.time)), now);
}

void Read::OnHead(const http::ResponseHead& head) { status_ = head.status; }

void Read::OnBody(std::string_view piece) {
  bytes_ += piece.size();
  if (bytes_ > limits_.bytes) {
    return End(ReadResult::kTooLarge,
               fmt::format("GET {}: the answer is larger than {} bytes", path_, limits_.bytes),
               Now());
  }
  if (status_ == 200) OnPiece(piece);
}

void Read::OnEnd() {
  if (status_ == 200) return End(ReadResult::kOk, {}, Now());
  End(ReadResult::kStatus, fmt::format("GET {} answered {}", path_, status_), Now());
}

void Read::OnFailure(http::CallFailure failure, std::string_view message) {
  End(ResultOf(failure),
      fmt::format("GET {}: {}", path_, message.empty() ? http::CallFailureName(failure) : message),
      Now());
}

void Read::End(ReadResult result, std::string reason, Time now) {
  call_.reset();
  OnDone({result, status_, std::move(reason), now - began_});
}

}  // namespace penstock::signals
