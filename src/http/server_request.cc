// What a connection reads: heads, bodies and the buffers for them.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "http/server_connection.h"
#include "http/server_loop.h"
#include "telemetry/log.h"

namespace penstock::http {
namespace {

constexpr size_t kInputBytes = 16 * 1024;
// Below this much room behind what has come, the input is moved or the buffer grown.
constexpr size_t kMinRoomBytes = 2 * 1024;
constexpr size_t kBodySlackBytes = 64;
constexpr size_t kKeptBodyBytes = 16 * 1024;
constexpr size_t kFirstBodyReadBytes = 16 * 1024;
// A full body buffer grows to at most so many times what has come: an announced length alone takes
// next to no memory, of 4 MB no more than 1.2 MB are copied on the way, and the few sizes leave the
// allocator what it needs: 1 page fault a request of 4 MB, against 745 when buffers doubled.
constexpr size_t kBodyGrowth = 8;

}  // namespace

// --- requests

// Goes on with what has come: not recursive, however many requests that is.
void ServerConnection::Process() {
  if (in_process_) return;
  net::Ref<ServerConnection> keep(this);
  in_process_ = true;
  bool goes_on = true;
  while (goes_on) {
    if (state_ == State::kHead) {
      // A client that sends requests without reading the answers waits.
      goes_on = !is_stalled() && ProcessHead();
    } else {
      goes_on = state_ == State::kBody && ProcessBody();
    }
  }
  in_process_ = false;
  if (client_finished_) {
    if (state_ == State::kExchange || is_inside_request()) return Leave();
    if (state_ == State::kHead && !is_stalled()) BeginClosing(Ending::kClose);
  }
  if (state_ == State::kClosing || state_ == State::kClosed) return;
  UpdateReadDue();
  ReadOn();
}

bool ServerConnection::ProcessHead() {
  if (in_next_ == in_end_) return false;
  switch (scanner_.Scan(input())) {
    case wire::H1HeadScanner::State::kMore:
      return false;
    case wire::H1HeadScanner::State::kError: {
      const wire::H1Error error = scanner_.error();
      RefuseRequest(error.status, error.code, error.message);
      return false;
    }
    case wire::H1HeadScanner::State::kDone:
      break;
  }
  // While the exchange runs the head must not move, and there must be room to read behind it.
  if (!is_reading()) MakeRoom();
  parsed_at_ = in_.get() + in_begin_;
  head_bytes_ = scanner_.head_bytes();
  if (auto error = wire::ParseRequestHead({parsed_at_, head_bytes_}, &parsed_)) {
    RefuseRequest(error->status, error->code, error->message);
    return false;
  }
  OnHeadComplete();
  return true;
}

void ServerConnection::OnHeadComplete() {
  const wire::H1Framing& framing = parsed_.framing;
  in_next_ += head_bytes_;
  received_ = net::Stream::loop().Now();
  keep_alive_ = framing.persistent();
  is_head_request_ = parsed_.method == "HEAD";
  is_head_timed_ = false;
  body_.clear();
  body_fill_ = 0;
  if (framing.content_length > server_.options().max_body_bytes) return RefuseBody();
  if (!framing.chunked && framing.content_length == 0) return BeginExchange();
  state_ = State::kBody;
  chunks_.Reset();
  if (parsed_.expect_continue && framing.minor_version >= 1 && in_next_ == in_end_) {
    out_.append("HTTP/1.1 100 Continue\r\n\r\n");
    Defer();
  }
}

void ServerConnection::RefuseBody() {
  RefuseRequest(413, "body_too_large",
                "The body is larger than the limit of " +
                    std::to_string(server_.options().max_body_bytes) + " bytes.");
}

bool ServerConnection::ProcessBody() {
  return parsed_.framing.chunked ? TakeChunked() : TakeKnownLength();
}

// Both return whether the body is complete.
bool ServerConnection::TakeKnownLength() {
  const uint64_t missing = parsed_.framing.content_length - body_fill_;
  const size_t take = static_cast<size_t>(std::min<uint64_t>(missing, in_end_ - in_next_));
  if (!AppendBody(input().substr(0, take))) return false;
  in_next_ += take;
  if (body_fill_ < parsed_.framing.content_length) return false;
  BeginExchange();
  return true;
}

bool ServerConnection::TakeChunked() {
  std::string_view rest = input();
  while (true) {
    const wire::ChunkDecoder::Step step = chunks_.Next(&rest);
    switch (step.state) {
      case wire::ChunkDecoder::State::kData:
        if (step.data.size() > server_.options().max_body_bytes - body_fill_) {
          RefuseBody();
          return false;
        }
        if (!AppendBody(step.data)) return false;
        continue;
      case wire::ChunkDecoder::State::kMore:
        in_next_ = in_end_;
        return false;
      case wire::ChunkDecoder::State::kError: {
        const wire::H1Error error = chunks_.error();
        RefuseRequest(error.status, error.code, error.message);
        return false;
      }
      case wire::ChunkDecoder::State::kEnd:
        in_next_ = in_end_ - rest.size();
        BeginExchange();
        return true;
    }
  }
}

// False when there is no memory for it: the request is refused then.
bool ServerConnection::AppendBody(std::string_view piece) {
  if (piece.empty()) return true;
  if (!ReserveBody(body_fill_ + piece.size())) return false;
  std::memcpy(body_.data() + body_fill_, piece.data(), piece.size());
  body_fill_ += piece.size();
  return true;
}

// Makes body_ at least that long. What is new in it is not initialised. False when the server has
// no memory left for it: the request is refused then.
bool ServerConnection::ReserveBody(size_t bytes) {
  const size_t wanted = bytes + kBodySlackBytes;
  if (wanted > body_.capacity() && !GrowBody(wanted)) {
    RefuseForMemory();
    return false;
  }
  if (body_.size() < bytes) body_.resize_and_overwrite(bytes, [](char*, size_t n) { return n; });
  return true;
}

// Moves the body to a larger buffer, twice as large if it may become that long. A small buffer is
// the connection's; a larger one is paid for from the server's budget, before the old one is given
// back, because for a moment there are both.
bool ServerConnection::GrowBody(size_t wanted) {
  const wire::H1Framing& framing = parsed_.framing;
  const uint64_t longest =
      framing.chunked ? server_.options().max_body_bytes : framing.content_length;
  size_t capacity =
      std::max<size_t>(wanted, std::min<uint64_t>(2 * body_.capacity(), longest + kBodySlackBytes));
  std::string& spare = server_.spare_body();
  const bool takes_spare = wanted > kKeptBodyBytes && wanted <= spare.capacity();
  if (takes_spare) capacity = spare.capacity();
  const uint64_t charge = capacity > kKeptBodyBytes ? capacity : 0;
  if (charge > 0 && !server_.budget().TryTake(charge)) return false;
  std::string larger;
  if (takes_spare) {
    larger.swap(spare);
  } else {
    larger.reserve(capacity);
  }
  larger.assign(body_.data(), body_fill_);
  body_.swap(larger);
  if (charged_bytes_ > 0) server_.budget().Give(charged_bytes_);
  charged_bytes_ = charge;
  return true;
}

void ServerConnection::RefuseForMemory() {
  RefuseRequest(503, "overloaded",
                "The bodies of the requests that are being served hold all the memory there is for "
                "them. Try again soon.");
}

void ServerConnection::BeginExchange() {
  server_.counters().requests.fetch_add(1, std::memory_order_relaxed);
  body_.resize(body_fill_);
  if (body_.empty()) body_.reserve(kBodySlackBytes);  // any other has it from ReserveBody
  ShowHead();
  state_ = State::kExchange;
  read_due_ = Time::max();
  has_started_ = false;
  was_above_high_ = false;
  server_.handler().Handle(*this);
  if (state_ != State::kExchange || listener_ != nullptr) return;
  telemetry::log::Err("a handler returned without an answer or a listener",
                      {{"server", server_.options().name}});
  RespondOwnError(500, "no_answer", "The server has no answer to this request.");
}

void ServerConnection::ShowHead() {
  const char* at = in_.get() + in_begin_;
  if (at != parsed_at_) {  // moved while the body came
    parsed_at_ = at;
    (void)wire::ParseRequestHead({at, head_bytes_}, &parsed_);  // was good where it stood before
  }
  head_.method = parsed_.method;
  head_.target = parsed_.target;
  head_.path = parsed_.path;
  head_.headers.list.clear();
  for (const wire::H1Header& h : parsed_.headers) head_.headers.list.push_back({h.name, h.value});
}

void ServerConnection::ReleaseRequest() {
  in_begin_ = in_next_;
  head_bytes_ = 0;
  scanner_.Reset();
  is_head_request_ = false;
  head_.method = head_.target = head_.path = {};
  head_.headers.list.clear();
  ReleaseBody();
}

void ServerConnection::ReleaseBody() {
  if (is_direct_read_) return;  // the memory is being read into; OnRead comes back to it
  body_.clear();
  body_fill_ = 0;
  if (body_.capacity() > kKeptBodyBytes) {
    std::string& spare = server_.spare_body();
    if (body_.capacity() <= ServerLoop::kMaxSpareBytes && body_.capacity() > spare.capacity()) {
      spare.swap(body_);
    }
    if (body_.capacity() > kKeptBodyBytes) std::string().swap(body_);
  }
  if (charged_bytes_ > 0) server_.budget().Give(std::exchange(charged_bytes_, 0));
}

// --- buffers

void ServerConnection::ReadOn() {
  if (is_reading() || client_finished_ || is_write_broken_) return;
  switch (state_) {
    case State::kHead:
      if (is_stalled()) return;
      [[fallthrough]];
    case State::kExchange:
      if (MakeRoom()) StartRead(in_.get() + in_end_, room());
      return;
    case State::kBody:
      return ReadBodyOn();
    case State::kLinger:
      return StartRead(in_.get(), in_capacity_);
    case State::kClosing:
    case State::kClosed:
      return;
  }
}

void ServerConnection::ReadBodyOn() {
  if (parsed_.framing.chunked) {
    MakeRoom();
    return StartRead(in_.get() + in_end_, room());
  }
  // All of the input is in body_ already; the rest goes there at once, first into the room there
  // is.
  const uint64_t missing = parsed_.framing.content_length - body_fill_;
  const size_t used = std::min(body_fill_ + kBodySlackBytes, body_.capacity());
  size_t window = body_.capacity() - used;
  if (window < kFirstBodyReadBytes) {
    window = std::max(kFirstBodyReadBytes, (kBodyGrowth - 1) * body_fill_);
  }
  window = static_cast<size_t>(std::min<uint64_t>(missing, window));
  if (!ReserveBody(body_fill_ + window)) return;
  is_direct_read_ = true;
  StartRead(body_.data() + body_fill_, window);
}

void ServerConnection::MoveInput(size_t from, size_t to) {
  std::memmove(in_.get() + to, in_.get() + from, in_end_ - from);
  in_end_ -= from - to;
}

// Makes room to read behind in_end_; returns whether there is any. The head stays where it is while
// an exchange shows it. REQUIRES: no read outstanding.
bool ServerConnection::MakeRoom() {
  const size_t head_end = in_begin_ + head_bytes_;
  if (in_next_ > head_end && (in_next_ == in_end_ || room() < kMinRoomBytes)) {
    MoveInput(in_next_, head_end);
    in_next_ = head_end;
  }
  if (state_ == State::kExchange) return room() > 0;
  if (in_begin_ == in_end_ && in_capacity_ > kInputBytes) {  // a long head is gone
    in_.reset();
    in_capacity_ = in_begin_ = in_next_ = in_end_ = 0;
  }
  if (in_begin_ > 0 && (in_begin_ == in_end_ || room() < kMinRoomBytes)) {
    MoveInput(in_begin_, 0);
    in_next_ -= in_begin_;
    in_begin_ = 0;
  }
  if (room() < kMinRoomBytes) {
    const size_t capacity = std::max(kInputBytes, 2 * in_capacity_);
    auto larger = std::make_unique_for_overwrite<char[]>(capacity);
    if (in_end_ > 0) std::memcpy(larger.get(), in_.get(), in_end_);
    in_ = std::move(larger);
    in_capacity_ = capacity;
  }
  return true;
}

}  // namespace penstock::http
