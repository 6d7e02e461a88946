// The life of a connection; server_request.cc has what it reads, server_response.cc what it writes.
#include "http/server_connection.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "http/server_loop.h"

namespace penstock::http {
namespace {

// A client that is still sending a body reads the error only when it is done, so what it sends is
// read over for a while: closing at once would reset the connection and take the error with it.
constexpr uint64_t kLingerBytes = 4 << 20;
constexpr Duration kLingerTimeout = seconds(5);
constexpr Duration kLingerLimit = seconds(30);

void Count(std::atomic<uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

}  // namespace

ServerConnection::ServerConnection(ServerLoop& server, const net::Address& peer)
    : net::ServedStream(server.loop()),
      server_(server),
      scanner_(wire::H1Kind::kRequest,
               {server.options().max_header_bytes, server.options().max_headers}),
      client_address_(peer.host()) {}

ServerConnection::~ServerConnection() = default;

void ServerConnection::OnOpen() {
  UpdateReadDue();
  ReadOn();
  UpdateDeadline();
}

void ServerConnection::Drain() {
  is_draining_ = true;
  if (state_ == State::kLinger) return Die();
  if (state_ != State::kHead || is_inside_request()) return;
  if (unsent_bytes() > 0) return BeginClosing(Ending::kLinger);
  // Not closed here: a request that is in the socket already is read before the deadline is looked
  // at, and is answered.
  read_due_ = net::Stream::loop().Now();
  UpdateDeadline();
}

void ServerConnection::Cut() {
  const bool is_end_the_end = state_ == State::kExchange && out_framing_ == Framing::kUntilClose;
  Die(is_end_the_end ? Ending::kReset : Ending::kClose);
}

bool ServerConnection::is_stalled() const {
  return state_ == State::kHead && (above_high_watermark() || is_write_broken_);
}

bool ServerConnection::is_inside_request() const {
  return state_ == State::kBody || state_ == State::kExchange ||
         (state_ == State::kHead && scanner_.begun());
}

// --- events

void ServerConnection::OnRead(net::IoResult result) {
  const bool is_direct = std::exchange(is_direct_read_, false);
  if (state_ == State::kClosed) return;
  if (is_direct && state_ != State::kBody) ReleaseBody();
  if (result.error == EAGAIN) {
    ReadOn();
    return;
  }
  if (result.error != 0) return OnReadError();
  if (result.bytes == 0) {
    OnEndOfStream();
  } else if (state_ == State::kLinger) {
    ReadOver(result.bytes);
  } else if (state_ != State::kClosing) {
    (is_direct ? body_fill_ : in_end_) += result.bytes;
    Process();
  }
  UpdateDeadline();
}

void ServerConnection::OnReadError() {
  if (is_inside_request() || unsent_bytes() > 0) return Leave();
  Die();
}

void ServerConnection::OnEndOfStream() {
  client_finished_ = true;
  switch (state_) {
    case State::kHead:
    case State::kBody:
    case State::kExchange:
      return Process();
    case State::kLinger:
      return Die();
    case State::kClosing:
    case State::kClosed:
      return;
  }
}

void ServerConnection::OnDeadline() {
  const Time now = net::Stream::loop().Now();
  if (write_due_ <= now) {
    Count(server_.counters().timeouts);
    if (state_ == State::kExchange) Count(server_.counters().clients_gone);
    return Die(Ending::kReset);
  }
  if (read_due_ <= now) OnReadTimeout();
  UpdateDeadline();
}

void ServerConnection::OnReadTimeout() {
  if (state_ == State::kBody) {
    return RefuseRequest(408, "body_timeout", "The request's body did not come in time.");
  }
  if (state_ == State::kHead && scanner_.begun()) {
    return RefuseRequest(408, "head_timeout", "The request's headers did not come in time.");
  }
  Die();
}

void ServerConnection::UpdateReadDue() {
  const ServerOptions& options = server_.options();
  if (state_ == State::kBody) {
    const Duration earned = std::chrono::microseconds(static_cast<uint64_t>(body_fill_) *
                                                      1'000'000 / kMinBodyBytesPerSecond);
    read_due_ = options.body_timeout + std::min(net::Stream::loop().Now(), received_ + earned);
  } else if (state_ != State::kHead || is_stalled() || (!scanner_.begun() && unsent_bytes() > 0)) {
    read_due_ = Time::max();
    is_head_timed_ = false;
  } else if (scanner_.begun()) {
    if (std::exchange(is_head_timed_, true)) return;
    read_due_ = net::Stream::loop().Now() + options.header_timeout;
  } else if (read_due_ == Time::max()) {
    read_due_ = net::Stream::loop().Now() + options.idle_timeout;
  }
}

void ServerConnection::UpdateDeadline() {
  if (state_ == State::kClosed) return;
  const Time due = std::min(read_due_, write_due_);
  if (due == Time::max()) {
    ClearDeadline();
  } else {
    SetDeadline(due);
  }
}

void ServerConnection::Leave() {
  Count(server_.counters().clients_gone);
  Die();
}

void ServerConnection::Die(Ending ending) {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  if (ending == Ending::kReset) {
    CloseWithReset();
  } else {
    Close();
  }
  if (std::unique_ptr<ExchangeListener> listener = std::move(listener_)) listener->OnClientGone();
  is_direct_read_ = false;  // the read that may be outstanding was cancelled with the socket
  ReleaseBody();
  server_.Remove(*this);
}

// --- the end

void ServerConnection::RefuseRequest(int status, std::string_view code, std::string_view message) {
  ServerCounters& counters = server_.counters();
  Count(status == 408   ? counters.timeouts
        : status == 413 ? counters.too_large
        : status == 503 ? counters.overloaded
                        : counters.bad_requests);
  // A body whose end is known is read over as a whole, within reason.
  if (head_bytes_ > 0 && parsed_.framing.has_length) {
    linger_bytes_ = std::min(parsed_.framing.content_length, 4 * server_.options().max_body_bytes);
  }
  AppendOwnError(status, code, message);
  ReleaseBody();
  BeginClosing(Ending::kLinger);
}

void ServerConnection::BeginClosing(Ending ending) {
  state_ = State::kClosing;
  ending_ = ending;
  linger_bytes_ += kLingerBytes;
  read_due_ = Time::max();
  Defer();
}

void ServerConnection::FinishClosing() {
  if (ending_ != Ending::kLinger || client_finished_) return Die(ending_);
  state_ = State::kLinger;
  ShutdownWrite();
  const Time now = net::Stream::loop().Now();
  linger_until_ = now + kLingerLimit;
  read_due_ = now + kLingerTimeout;
  ReadOn();
}

void ServerConnection::ReadOver(size_t bytes) {
  if (bytes > linger_bytes_) return Die();
  linger_bytes_ -= bytes;
  read_due_ = std::min(linger_until_, net::Stream::loop().Now() + kLingerTimeout);
  ReadOn();
}

}  // namespace penstock::http
