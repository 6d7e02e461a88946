#include "http/client_connection.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "http/client_loop.h"

namespace penstock::http {
namespace {

// Interim answers (1xx) before the answer; an engine that sends more of them never answers.
constexpr int kMaxInterimHeads = 16;
// Of one turn, so that a fast engine does not keep the others from being heard.
constexpr int kMaxReads = 4;
constexpr size_t kMaxPieces = 64;

// As part of a sentence: "Connection refused" gives "connection refused", "HTTP/1.0 has no X."
// gives "HTTP/1.0 has no X".
std::string AsClause(std::string_view sentence) {
  std::string out(sentence);
  if (out.ends_with('.')) out.pop_back();
  const auto is_upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (out.size() > 1 && is_upper(out[0]) && !is_upper(out[1]))
    out[0] = static_cast<char>(out[0] - 'A' + 'a');
  return out;
}

std::string Text(Duration d) {
  const int64_t millis = std::chrono::duration_cast<milliseconds>(d).count();
  return millis % 1000 == 0 ? std::to_string(millis / 1000) + " s" : std::to_string(millis) + " ms";
}

// Whether connect or socket failed for want of something on this side.
bool IsLocal(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
         error == EADDRNOTAVAIL;
}

// What a read that gave no bytes says about the connection.
std::string Ended(int error) {
  if (error == 0) return "the connection was closed ";
  if (error == ECONNRESET || error == EPIPE) return "the connection was reset ";
  return "the connection broke (" + AsClause(std::strerror(error)) + ") ";
}

}  // namespace

// --- the call

ClientCall::ClientCall(std::string head, std::vector<std::string_view> body,
                       const CallOptions& options, CallListener& listener)
    : head_(std::move(head)),
      body_(std::move(body)),
      options_(options),
      listener_(listener),
      request_bytes_(head_.size()),
      is_head_request_(head_.starts_with("HEAD ")) {
  for (const std::string_view piece : body_) request_bytes_ += piece.size();
}

ClientCall::~ClientCall() {
  if (connection_ != nullptr) connection_->Abandon();
}

void ClientCall::Pause() {
  if (std::exchange(is_paused_, true) || connection_ == nullptr) return;
  connection_->OnPause();
}

void ClientCall::Resume() {
  if (!std::exchange(is_paused_, false) || connection_ == nullptr) return;
  connection_->OnResume();
}

size_t ClientCall::Unsent(uint64_t skip, std::span<iovec> pieces) const {
  size_t count = 0;
  const auto add = [&](std::string_view piece) {
    if (skip >= piece.size()) {
      skip -= piece.size();
      return;
    }
    piece.remove_prefix(static_cast<size_t>(std::exchange(skip, 0)));
    pieces[count++] = {const_cast<char*>(piece.data()), piece.size()};
  };
  add(head_);
  for (size_t i = 0; i < body_.size() && count < pieces.size(); ++i) add(body_[i]);
  return count;
}

// --- connecting

ClientConnection::ClientConnection(ClientLoop& client, ClientPool& pool)
    : net::Stream(client.loop()),
      client_(client),
      pool_(pool),
      epoch_(pool.epoch),
      scanner_(wire::H1Kind::kResponse,
               {.max_head_bytes = client.options().max_response_header_bytes}) {}

ClientConnection::~ClientConnection() = default;

void ClientConnection::Open(ClientCall& call) {
  call_ = &call;
  call.connection_ = this;
  begin_by_ = loop().Now() + call.options_.connect_timeout;
  SetDeadline(begin_by_);
  FindAddresses();
}

void ClientConnection::FindAddresses() {
  if (const auto literal = net::ParseAddress(pool_.host, pool_.port)) {
    addresses_ = std::make_shared<const std::vector<net::Address>>(1, *literal);
    return TryAddress();
  }
  const DnsCache::Answer* known = client_.names().Find(
      pool_.host, [self = net::Ref<ClientConnection>(this)](const DnsCache::Answer& answer) {
        if (self->state_ == State::kConnecting) self->OnAddresses(answer);
      });
  if (known != nullptr) OnAddresses(*known);
}

void ClientConnection::OnAddresses(const DnsCache::Answer& answer) {
  if (answer) {
    addresses_ = *answer;
    return TryAddress();
  }
  // This may be inside Send.
  pending_ = answer.error().message;
  Defer();
}

void ClientConnection::TryAddress() {
  const Time now = loop().Now();
  // Each address gets an equal part of the time that is left, so one that swallows everything does
  // not keep the others from being tried.
  const auto untried = static_cast<int64_t>(addresses_->size() - next_address_);
  net::Address address = (*addresses_)[next_address_++];
  address.set_port(pool_.port);
  Connect(address, pool_.tls, pool_.host);
  SetDeadline(now + (begin_by_ - now) / untried);
}

void ClientConnection::OnConnect(int error) {
  if (const std::string why = TlsFailure(); error != 0 && !why.empty()) {
    return OnAttemptFailed(CallFailure::kTls, why);
  }
  if (error != 0) {
    return OnAttemptFailed(IsLocal(error) ? CallFailure::kLocal : CallFailure::kConnect,
                           AsClause(std::strerror(error)));
  }
  addresses_.reset();
  Count(client_.counters().connections_opened);
  BeginExchange(*call_);
}

void ClientConnection::OnAttemptFailed(CallFailure failure, std::string why) {
  net::Stream::Close();
  if (next_address_ < addresses_->size() && loop().Now() < begin_by_) return TryAddress();
  if (addresses_->size() > 1) {
    why += " (tried " + std::to_string(next_address_) + " of " +
           std::to_string(addresses_->size()) + " addresses)";
  }
  Fail(failure, std::move(why));
}

// --- sending

void ClientConnection::Reuse(ClientCall& call) {
  call.connection_ = this;
  BeginExchange(call);
}

void ClientConnection::BeginExchange(ClientCall& call) {
  call_ = &call;
  state_ = State::kHead;
  is_body_done_ = has_excess_ = is_resuming_ = false;
  interim_heads_ = 0;
  sent_bytes_ = received_bytes_ = 0;
  scanner_.Reset();
  begin_by_ = loop().Now() + call.options_.first_byte_timeout;
  ClearDeadline();
  SendRequest();
  ReadOn();
}

void ClientConnection::SendRequest() {
  iovec pieces[kMaxPieces];
  while (const size_t count = call_->Unsent(sent_bytes_, pieces)) {
    uint64_t offered = 0;
    for (size_t i = 0; i < count; ++i) offered += pieces[i].iov_len;
    const net::IoResult sent = WriteNow({pieces, count});
    // A connection that is gone says so to the read, after what the engine may have answered
    // before.
    if (sent.error != 0 && sent.error != EAGAIN) return;
    sent_bytes_ += sent.bytes;
    if (sent.bytes < offered) return WaitWritable();
  }
}

void ClientConnection::OnWritable() {
  // The rest of a request whose answer has begun is not sent: its body may be gone.
  if (state_ != State::kHead) return;
  begin_by_ = loop().Now() + call_->options_.first_byte_timeout;
  if (!call_->is_paused_ && pending_.empty()) SetDeadline(begin_by_);
  SendRequest();
}

// --- reading

void ClientConnection::OnReadable() {
  if (state_ == State::kIdle) return OnIdleReadable();
  // After a pause, reading goes on when what was read before has been told.
  if (call_->is_paused_ || is_resuming_) return;
  ReadAvailable();
}

void ClientConnection::OnIdleReadable() {
  const net::IoResult got = ReadNow(client_.buffer(), 1);
  if (got.error == EAGAIN) return WaitReadable();
  if (got.bytes > 0) Count(client_.counters().garbage);
  CloseIdle();
}

bool ClientConnection::ReadAvailable() {
  char* const buffer = client_.buffer();
  bool has_come = false;
  for (int reads = 0; reads < kMaxReads; ++reads) {
    const size_t kept = pending_.copy(buffer, client_.buffer_bytes());
    const size_t room = client_.buffer_bytes() - kept;
    const net::IoResult got = ReadNow(buffer + kept, room);
    if (got.error == EAGAIN) break;
    has_come = true;
    if (got.bytes == 0) {
      OnEndOfStream(got.error);
      return true;
    }
    if (kept > 0) std::string().swap(pending_);
    received_bytes_ += got.bytes;
    ClientCall* const call = call_;
    Process({buffer, kept + got.bytes});
    if (got.bytes < room || call_ != call || call_ == nullptr || call_->is_paused_) break;
  }
  ReadOn();
  return has_come;
}

void ClientConnection::Process(std::string_view input) {
  in_process_ = true;
  while (state_ == State::kHead ? TakeHead(&input) : TakeBody(&input)) {
  }
  in_process_ = false;
}

// Waits for more, when there is anything to wait for.
void ClientConnection::ReadOn() {
  if (state_ == State::kIdle) return WaitReadable();
  if (call_ == nullptr || call_->is_paused_) return;
  const bool has_begun = state_ == State::kBody || !pending_.empty();
  SetDeadline(has_begun ? loop().Now() + call_->options_.idle_timeout : begin_by_);
  WaitReadable();
}

bool ClientConnection::TakeHead(std::string_view* input) {
  switch (scanner_.Scan(*input)) {
    case wire::H1HeadScanner::State::kMore:
      pending_ = *input;
      return false;
    case wire::H1HeadScanner::State::kError:
      FailAnswer("the answer is not HTTP: ", scanner_.error());
      return false;
    case wire::H1HeadScanner::State::kDone:
      break;
  }
  wire::H1Response& parsed = client_.parsed();
  if (const auto error = ParseResponseHead(input->substr(0, scanner_.head_bytes()), &parsed)) {
    FailAnswer("the answer is not HTTP: ", *error);
    return false;
  }
  input->remove_prefix(scanner_.head_bytes());
  return parsed.status < 200 ? TakeInterim(parsed.status) : BeginBody(parsed);
}

bool ClientConnection::TakeInterim(int status) {
  if (status == 101) {
    Fail(CallFailure::kBadResponse, "the answer switches to a protocol that was not asked for");
    return false;
  }
  if (++interim_heads_ > kMaxInterimHeads) {
    Fail(CallFailure::kBadResponse,
         "there are more than " + std::to_string(kMaxInterimHeads) + " interim answers");
    return false;
  }
  scanner_.Reset();
  return true;
}

bool ClientConnection::BeginBody(const wire::H1Response& parsed) {
  const wire::H1Framing& framing = parsed.framing;
  const bool has_body = !call_->is_head_request_ && parsed.status != 204 && parsed.status != 304;
  framing_ = !has_body            ? Framing::kNone
             : framing.chunked    ? Framing::kChunked
             : framing.has_length ? Framing::kLength
                                  : Framing::kUntilClose;
  body_remaining_ = framing.content_length;
  is_body_done_ =
      framing_ == Framing::kNone || (framing_ == Framing::kLength && body_remaining_ == 0);
  is_persistent_ = framing.persistent() && framing_ != Framing::kUntilClose;
  chunks_.Reset();
  state_ = State::kBody;

  ResponseHead& head = client_.head();
  head.status = parsed.status;
  head.reason = parsed.reason;
  head.has_length = framing.has_length;
  head.content_length = framing.content_length;
  head.headers.list.clear();
  for (const wire::H1Header& h : parsed.headers) head.headers.list.push_back({h.name, h.value});
  call_->listener_.OnHead(head);
  return state_ == State::kBody;
}

bool ClientConnection::TakeBody(std::string_view* input) {
  if (call_->is_paused_) {
    pending_ = *input;
    return false;
  }
  if (is_body_done_) {
    has_excess_ = !input->empty();
    Finish();
    return false;
  }
  if (input->empty()) return false;
  if (framing_ == Framing::kChunked) return TakeChunked(input);
  size_t bytes = input->size();
  if (framing_ == Framing::kLength) {
    bytes = static_cast<size_t>(std::min<uint64_t>(bytes, body_remaining_));
    body_remaining_ -= bytes;
    is_body_done_ = body_remaining_ == 0;
  }
  const std::string_view piece = input->substr(0, bytes);
  input->remove_prefix(bytes);
  return TellBody(piece);
}

// The chunks are moved together, over the framing between them: one piece is told for each read,
// and 64 KiB are moved in less time than a listener takes for a few pieces.
bool ClientConnection::TakeChunked(std::string_view* input) {
  char* out = nullptr;
  size_t bytes = 0;
  wire::ChunkDecoder::Step step;
  while ((step = chunks_.Next(input)).state == wire::ChunkDecoder::State::kData) {
    if (out == nullptr) {
      out = const_cast<char*>(step.data.data());  // every input is a buffer of ours
    } else {
      std::memmove(out + bytes, step.data.data(), step.data.size());
    }
    bytes += step.data.size();
  }
  is_body_done_ = step.state == wire::ChunkDecoder::State::kEnd;
  if (bytes > 0 && !TellBody({out, bytes})) return false;
  if (step.state != wire::ChunkDecoder::State::kError) return true;
  FailAnswer("the answer's body is not HTTP: ", chunks_.error());
  return false;
}

bool ClientConnection::TellBody(std::string_view piece) {
  call_->listener_.OnBody(piece);
  return state_ == State::kBody;
}

void ClientConnection::OnEndOfStream(int error) {
  const std::string how = error != 0 && !TlsFailure().empty()
                              ? "the connection broke (" + TlsFailure() + ") "
                              : Ended(error);
  if (state_ == State::kBody && framing_ == Framing::kUntilClose && error == 0) return Finish();
  if (received_bytes_ > 0) {
    return Fail(CallFailure::kTruncated,
                how + "after " + std::to_string(received_bytes_) + " bytes of the answer");
  }
  if (was_used_ && !call_->was_replaced_) return ReplaceStale();
  Fail(CallFailure::kReset, how + "before the answer");
}

// --- pause and resume

void ClientConnection::OnPause() {
  if (state_ == State::kHead || state_ == State::kBody) ClearDeadline();
}

void ClientConnection::OnResume() {
  if (in_process_ || state_ == State::kConnecting) return;
  begin_by_ = loop().Now() + call_->options_.first_byte_timeout;
  if (state_ == State::kBody && (!pending_.empty() || is_body_done_)) {
    is_resuming_ = true;
    return Defer();
  }
  ReadOn();
}

void ClientConnection::OnTurnEnd() {
  if (state_ == State::kClosed) return;
  if (state_ == State::kConnecting) return Fail(CallFailure::kConnect, pending_);
  if (!std::exchange(is_resuming_, false) || call_->is_paused_) return;
  std::string held = std::exchange(pending_, {});
  Process({held.data(), held.size()});
  ReadOn();
}

// --- ends

void ClientConnection::OnDeadline() {
  switch (state_) {
    case State::kConnecting:
      if (is_shaking_hands()) {
        return OnAttemptFailed(CallFailure::kTls,
                               "the TLS handshake timed out; does it speak TLS there?");
      }
      if (addresses_ != nullptr && loop().Now() < begin_by_)
        return OnAttemptFailed(CallFailure::kConnect, "connection timed out");
      return Fail(CallFailure::kConnect,
                  "no connection within " + Text(call_->options_.connect_timeout));
    case State::kHead:
    case State::kBody: {
      // Of a loop that was held up, the deadline may be heard before bytes that came in time.
      const bool has_begun = state_ == State::kBody || !pending_.empty();
      if (ReadAvailable()) return;
      return Fail(CallFailure::kTimeout,
                  has_begun ? "nothing came for " + Text(call_->options_.idle_timeout) + " after " +
                                  std::to_string(received_bytes_) + " bytes of the answer"
                            : "no answer within " + Text(call_->options_.first_byte_timeout));
    }
    case State::kIdle:
      return CloseIdle();
    case State::kClosed:
      return;
  }
}

ClientCall* ClientConnection::Detach() {
  ClearDeadline();
  ClientCall* const call = std::exchange(call_, nullptr);
  call->connection_ = nullptr;
  return call;
}

void ClientConnection::Finish() {
  ClientCall* const call = Detach();
  CallListener& listener = call->listener_;
  const bool is_sent = sent_bytes_ == call->request_bytes_;
  was_used_ = true;
  if (has_excess_) Count(client_.counters().garbage);
  if (is_persistent_ && is_sent && !has_excess_ && client_.Keep(*this)) {
    state_ = State::kIdle;
    SetDeadline(loop().Now() + client_.options().idle_connection_timeout);
  } else {
    Close(is_sent ? Ending::kClose : Ending::kReset);
  }
  listener.OnEnd();  // may send the next request here, and destroy the call
}

void ClientConnection::Fail(CallFailure failure, std::string message) {
  Count(client_.counters().failures[static_cast<size_t>(failure)]);
  CallListener& listener = Detach()->listener_;
  Close(Ending::kReset);
  listener.OnFailure(failure, message);
}

void ClientConnection::FailAnswer(std::string_view what, const wire::H1Error& error) {
  Fail(CallFailure::kBadResponse, std::string(what) + AsClause(error.message));
}

void ClientConnection::ReplaceStale() {
  ClientCall* const call = Detach();
  call->was_replaced_ = true;
  Count(client_.counters().replaced_stale);
  client_.SendFresh(*call, pool_);
  Close(Ending::kClose);
}

void ClientConnection::Abandon() {
  if (call_ != nullptr) {
    Detach();
    Count(client_.counters().cancelled);
  }
  // The engine must learn of it now, not when it has read what is still on the way.
  Close(Ending::kReset);
}

void ClientConnection::CloseIdle() { Close(Ending::kClose); }

void ClientConnection::Close(Ending ending) {
  if (state_ == State::kClosed) return;
  const net::Ref<ClientConnection> keep(this);
  if (state_ == State::kIdle) client_.RemoveIdle(*this);
  state_ = State::kClosed;
  if (ending == Ending::kReset) {
    CloseWithReset();
  } else {
    net::Stream::Close();
  }
  addresses_.reset();
  client_.Remove(*this);
}

}  // namespace penstock::http
