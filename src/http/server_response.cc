// What a connection writes: the Exchange's side of it.
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

#include "http/server_connection.h"
#include "http/server_loop.h"
#include "telemetry/log.h"

namespace penstock::http {
namespace {

// From here on bytes are sent at once instead of being gathered, which saves copying them.
constexpr size_t kDirectBytes = 16 * 1024;
constexpr size_t kKeptOutBytes = 64 * 1024;

// Of a status that has no body, whatever the headers say (RFC 9110 section 6.4.1).
bool IsBodiless(int status) { return status == 204 || status == 304; }

void AppendNumber(uint64_t number, int base, std::string* out) {
  char digits[24];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), number, base);
  out->append(digits, end);
}

bool IsToken(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), wire::IsTokenChar);
}

}  // namespace

void ServerConnection::SetListener(std::unique_ptr<ExchangeListener> listener) {
  if (state_ == State::kExchange) listener_ = std::move(listener);
}

bool ServerConnection::above_high_watermark() const {
  return unsent_bytes() > server_.options().high_watermark;
}

// --- the head

void ServerConnection::AppendHead(int status, std::span<const Header> headers,
                                  std::optional<uint64_t> length) {
  if (status < 200 || status > 999) status = 500;  // an interim response ends nothing
  const bool is_old = parsed_.framing.minor_version == 0;
  if (is_draining_) keep_alive_ = false;
  has_started_ = true;
  out_.append("HTTP/1.1 ");
  AppendNumber(static_cast<uint64_t>(status), 10, &out_);
  out_.append(" ").append(ReasonPhrase(status)).append("\r\ndate: ").append(server_.Date());
  out_.append("\r\n");
  AppendHeaders(headers);
  if (IsBodiless(status)) {
    out_framing_ = Framing::kNone;
  } else if (length) {
    out_framing_ = Framing::kLength;
    out_remaining_ = *length;
    out_.append("content-length: ");
    AppendNumber(*length, 10, &out_);
    out_.append("\r\n");
  } else if (is_old) {
    out_framing_ = Framing::kUntilClose;
    keep_alive_ = false;
  } else {
    out_framing_ = Framing::kChunked;
    out_.append("transfer-encoding: chunked\r\n");
  }
  if (is_head_request_) out_framing_ = Framing::kNone;
  if (!keep_alive_) {
    out_.append("connection: close\r\n");
  } else if (is_old) {
    out_.append("connection: keep-alive\r\n");
  }
  out_.append("\r\n");
}

void ServerConnection::AppendHeaders(std::span<const Header> headers) {
  for (const Header& h : headers) {
    if (IsHopByHop(h.name) || EqualsIgnoreCase(h.name, "date")) continue;
    if (!IsToken(h.name) || !wire::IsHeaderValue(h.value)) {
      // Sent as it is, it could end the header and begin another, or another response.
      server_.counters().dropped_headers.fetch_add(1, std::memory_order_relaxed);
      telemetry::log::Warn(
          "a response header is left out: it cannot be sent",
          {{"server", server_.options().name}, {"header", IsToken(h.name) ? h.name : "?"}});
      continue;
    }
    out_.append(h.name).append(": ").append(h.value).append("\r\n");
  }
}

// --- whole responses

void ServerConnection::Respond(int status, std::span<const Header> headers, std::string_view body) {
  if (state_ != State::kExchange) return;
  if (has_started_) return Abort();
  AppendHead(status, headers, body.size());
  if (out_framing_ == Framing::kLength) Append({}, body, {});
  EndExchange();
}

void ServerConnection::AppendOwnError(int status, std::string_view code, std::string_view message) {
  const std::string body = server_.RenderError(status, code, message);
  const Header headers[] = {{"content-type", "application/json"}, {"retry-after", "1"}};
  keep_alive_ = false;
  AppendHead(status, {headers, status == 503 ? 2u : 1u}, body.size());
  if (out_framing_ == Framing::kLength) Append({}, body, {});
}

void ServerConnection::RespondOwnError(int status, std::string_view code,
                                       std::string_view message) {
  AppendOwnError(status, code, message);
  EndExchange();
}

// --- responses in pieces

void ServerConnection::Start(int status, std::span<const Header> headers,
                             std::optional<uint64_t> content_length) {
  if (state_ != State::kExchange || has_started_) return;
  AppendHead(status, headers, content_length);
  Defer();
}

void ServerConnection::Write(std::string_view piece) {
  if (state_ != State::kExchange || !has_started_ || piece.empty()) return;
  switch (out_framing_) {
    case Framing::kNone:
      return;
    case Framing::kLength:
      piece =
          piece.substr(0, static_cast<size_t>(std::min<uint64_t>(piece.size(), out_remaining_)));
      out_remaining_ -= piece.size();
      Append({}, piece, {});
      break;
    case Framing::kUntilClose:
      Append({}, piece, {});
      break;
    case Framing::kChunked: {
      char size[20];
      char* end = std::to_chars(size, size + 16, piece.size(), 16).ptr;
      *end++ = '\r';
      *end++ = '\n';
      Append({size, end}, piece, "\r\n");
      break;
    }
  }
  if (above_high_watermark()) was_above_high_ = true;
  Defer();
}

void ServerConnection::Finish() {
  if (state_ != State::kExchange) return;
  if (!has_started_) {
    return RespondOwnError(500, "no_answer", "The server has no answer to this request.");
  }
  if (out_framing_ == Framing::kLength && out_remaining_ > 0) return Abort();
  if (out_framing_ == Framing::kChunked) out_.append("0\r\n\r\n");
  EndExchange();
}

void ServerConnection::Abort() {
  if (state_ != State::kExchange) return;
  const bool is_end_the_end = has_started_ && out_framing_ == Framing::kUntilClose;
  EndExchangeAs(is_end_the_end ? Ending::kReset : Ending::kClose);
}

void ServerConnection::EndExchange() {
  if (keep_alive_ && !is_draining_) return EndExchangeAs(std::nullopt);
  // Bytes that are unread when the socket is closed would reset the connection under the response.
  // A client that has asked for the end sends none.
  const bool is_quiet = in_next_ == in_end_ && (is_reading() || !parsed_.framing.persistent());
  EndExchangeAs(is_quiet ? Ending::kClose : Ending::kLinger);
}

void ServerConnection::EndExchangeAs(std::optional<Ending> ending) {
  Defer();
  is_head_timed_ = false;
  was_above_high_ = false;
  read_due_ = Time::max();
  if (ending) {
    BeginClosing(*ending);
  } else {
    state_ = State::kHead;
  }
  // The state comes first, so that nothing the listener does on its way out is taken for an answer.
  listener_.reset();
  ReleaseRequest();
}

// --- sending

void ServerConnection::Append(std::string_view before, std::string_view piece,
                              std::string_view after) {
  if (is_write_broken_) return;
  if (out_sent_ > kKeptOutBytes && out_sent_ > out_.size() / 2) {
    out_.erase(0, out_sent_);
    out_sent_ = 0;
  }
  if (!waits_writable() && unsent_bytes() + piece.size() > kDirectBytes) {
    const std::string_view pieces[] = {before, piece, after};
    return SendDirectly(pieces);
  }
  out_.append(before).append(piece).append(after);
}

void ServerConnection::SendDirectly(std::span<const std::string_view> pieces) {
  iovec parts[4];
  size_t count = 0;
  const auto add = [&](std::string_view part) {
    if (!part.empty()) parts[count++] = {const_cast<char*>(part.data()), part.size()};
  };
  add(std::string_view(out_).substr(out_sent_));
  for (std::string_view piece : pieces) add(piece);
  const net::IoResult result = WriteNow({parts, count});
  if (result.error != 0 && result.error != EAGAIN) {
    is_write_broken_ = true;  // told in OnTurnEnd: here the listener is at work
    out_.clear();
    out_sent_ = 0;
    return;
  }
  size_t left = result.bytes;
  const size_t from_out = std::min(left, unsent_bytes());
  out_sent_ += from_out;
  left -= from_out;
  if (out_sent_ == out_.size()) {
    out_.clear();
    out_sent_ = 0;
  }
  for (std::string_view piece : pieces) {
    const size_t skip = std::min(left, piece.size());
    out_.append(piece.substr(skip));
    left -= skip;
  }
  OnSomeSent(result.bytes);
}

// Waits for the socket when bytes are left, for as long as the client may take none.
void ServerConnection::OnSomeSent(size_t bytes) {
  if (unsent_bytes() == 0) {
    write_due_ = Time::max();
    return;
  }
  if (bytes > 0 || write_due_ == Time::max())
    write_due_ = net::Stream::loop().Now() + server_.options().write_timeout;
  WaitWritable();
}

void ServerConnection::SendRest() {
  if (unsent_bytes() > 0 && !is_write_broken_) {
    const iovec rest{out_.data() + out_sent_, unsent_bytes()};
    const net::IoResult result = WriteNow({&rest, 1});
    if (result.error != 0 && result.error != EAGAIN) {
      is_write_broken_ = true;
    } else {
      out_sent_ += result.bytes;
      OnSomeSent(result.bytes);
    }
  }
  if (is_write_broken_) return Leave();
  if (unsent_bytes() > 0) return;
  out_.clear();
  out_sent_ = 0;
  if (out_.capacity() > kKeptOutBytes && state_ != State::kExchange) std::string().swap(out_);
  if (state_ == State::kClosing) FinishClosing();
}

void ServerConnection::OnTurnEnd() {
  if (state_ == State::kClosed) return;
  if (!waits_writable() || is_write_broken_) SendRest();
  // OnDrained comes in a turn of its own, or one client that reads fast would hold up all others.
  if (state_ == State::kExchange && was_above_high_ &&
      unsent_bytes() <= server_.options().low_watermark) {
    WaitWritable();
  }
  if (state_ == State::kHead) Process();
  UpdateDeadline();
}

void ServerConnection::OnWritable() {
  if (state_ == State::kClosed) return;
  SendRest();
  if (state_ == State::kExchange && was_above_high_ &&
      unsent_bytes() <= server_.options().low_watermark) {
    was_above_high_ = false;
    if (listener_ != nullptr) listener_->OnDrained();
  }
  if (state_ == State::kHead) Process();
  UpdateDeadline();
}

}  // namespace penstock::http
