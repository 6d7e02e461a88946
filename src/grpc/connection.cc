#include "grpc/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

#include "core/text.h"
#include "grpc/server_loop.h"
#include "telemetry/log.h"

namespace penstock::grpc {
namespace {

constexpr size_t kHighWatermark = 1 << 20;
constexpr int32_t kStreamWindow = 1 << 20;
constexpr int32_t kConnectionWindow = 16 << 20;
constexpr size_t kConsumeBytes = 64 << 10;  // windows are given back in steps of this
constexpr size_t kWriteBytes = 256 << 10;
constexpr size_t kMaxQueuedFrames = 10'000;  // then nothing is read until they are out
constexpr size_t kMaxStatusText = 1024;
constexpr size_t kFirstMetadata = 12;  // an RPC of Envoy has ten, of 230 bytes
constexpr size_t kFirstMetadataBytes = 384;
constexpr size_t kFirstAnswerBytes = 1024;
constexpr size_t kFreeBytes = 4 << 10;  // of a call, that no budget counts
constexpr uint8_t kDrainPing[8] = {'d', 'r', 'a', 'i', 'n'};

nghttp2_nv Header(std::string_view name, std::string_view value) {
  return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
          reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
          NGHTTP2_NV_FLAG_NONE};
}

std::string_view View(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace

// --- the call

ServerCall::ServerCall(Connection& connection, int32_t stream)
    : connection_(connection),
      stream_(stream),
      reader_(connection.server_.options().max_message_bytes) {}

ServerCall::~ServerCall() {
  connection_.server_.buffered().fetch_sub(charged_, std::memory_order_relaxed);
}

net::Loop& ServerCall::loop() { return connection_.server_.loop(); }

std::string_view ServerCall::Metadata(std::string_view name) const {
  const std::string_view all = metadata_;
  uint32_t begin = 0;
  for (const MetadataEnds& end : metadata_ends_) {
    if (all.substr(begin, end.name - begin) == name) {
      return all.substr(end.name, end.value - end.name);
    }
    begin = end.value;
  }
  return {};
}

void ServerCall::FreeMetadata() {
  metadata_ = {};
  metadata_ends_ = {};
  Charge();
}

bool ServerCall::above_high_watermark() const { return out_.size() - out_sent_ > kHighWatermark; }

void ServerCall::Send(std::string_view message) {
  if (is_finished_) return;
  if (out_sent_ == out_.size() || out_sent_ > kHighWatermark) {
    out_.erase(0, std::exchange(out_sent_, 0));
  }
  if (!has_headers_) out_.reserve(kFirstAnswerBytes);
  AppendMessage(message, &out_);
  Charge();
  was_above_high_ |= above_high_watermark();
  if (!has_headers_) {
    connection_.SubmitHeaders(*this);
  } else if (is_deferred_) {
    is_deferred_ = false;
    nghttp2_session_resume_data(connection_.session_, stream_);
  }
  connection_.Defer();
}

void ServerCall::Finish(Status status, std::string_view message) {
  if (is_finished_) return;
  is_finished_ = true;
  status_ = status;
  status_text_ = EncodeMessage(Utf8Prefix(message, kMaxStatusText));
  deadline_.reset();
  if (!has_headers_) {
    connection_.SubmitTrailersOnly(*this);
  } else if (is_deferred_) {
    is_deferred_ = false;
    nghttp2_session_resume_data(connection_.session_, stream_);
  }
  connection_.Defer();
}

void ServerCall::Cancel(Status status, std::string_view message) {
  if (is_finished_) return;
  Finish(status, message);
  if (listener_ != nullptr) listener_->OnCancel();
}

void ServerCall::Charge() {
  const uint64_t held = reader_.buffered_bytes() + metadata_.capacity() + out_.capacity();
  const uint64_t now = held > kFreeBytes ? held : 0;
  if (now == charged_) return;
  connection_.server_.buffered().fetch_add(now - charged_, std::memory_order_relaxed);
  charged_ = now;
}

void ServerCall::Drop() {
  Cancel(Status::kResourceExhausted, "the server has no memory left for messages");
  if (out_sent_ == out_.size()) return;
  // What waits may wait for ever, and the status behind it.
  nghttp2_submit_rst_stream(connection_.session_, NGHTTP2_FLAG_NONE, stream_,
                            NGHTTP2_ENHANCE_YOUR_CALM);
}

// --- what nghttp2 calls

struct Connection::Callbacks {
  static Connection& Self(void* user) { return *static_cast<Connection*>(user); }

  static nghttp2_session_callbacks* Make() {
    nghttp2_session_callbacks* all = nullptr;
    nghttp2_session_callbacks_new(&all);
    nghttp2_session_callbacks_set_on_begin_headers_callback(
        all, [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
          if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
            Self(user).OnBeginHeaders(frame->hd.stream_id);
          }
          return 0;
        });
    nghttp2_session_callbacks_set_on_header_callback(
        all, [](nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                const uint8_t* value, size_t value_size, uint8_t, void* user) {
          ServerCall* const call = Self(user).Find(frame->hd.stream_id);
          if (call == nullptr || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
          return Self(user).OnHeader(*call, View(name, name_size), View(value, value_size));
        });
    nghttp2_session_callbacks_set_on_frame_recv_callback(
        all, [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
          Self(user).OnFrame(*frame);
          return 0;
        });
    nghttp2_session_callbacks_set_on_frame_send_callback(
        all, [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
          Self(user).OnFrameSent(*frame);
          return 0;
        });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
        all, [](nghttp2_session*, uint8_t, int32_t stream, const uint8_t* data, size_t size,
                void* user) {
          Self(user).OnChunk(stream, View(data, size));
          return 0;
        });
    nghttp2_session_callbacks_set_on_stream_close_callback(
        all, [](nghttp2_session*, int32_t stream, uint32_t, void* user) {
          Self(user).OnStreamClose(stream);
          return 0;
        });
    return all;
  }
};

ServerCall* Connection::Find(int32_t stream) {
  // What nghttp2 says of a frame comes in a row.
  if (found_ != nullptr && found_->stream_ == stream) return found_;
  const auto found = calls_.find(stream);
  return found == calls_.end() ? nullptr : found_ = found->second.get();
}

void Connection::OnBeginHeaders(int32_t stream) {
  calls_.emplace(stream, std::make_unique<ServerCall>(*this, stream));
  Count(server_.counters().calls);
  Count(server_.counters().calls_open);
}

int Connection::OnHeader(ServerCall& call, std::string_view name, std::string_view value) {
  if (call.metadata_ends_.empty()) {
    call.metadata_.reserve(kFirstMetadataBytes);
    call.metadata_ends_.reserve(kFirstMetadata);
  }
  call.metadata_.append(name).append(value);
  const size_t name_end = call.metadata_.size() - value.size();
  call.metadata_ends_.push_back(
      {static_cast<uint32_t>(name_end), static_cast<uint32_t>(call.metadata_.size())});
  const size_t bytes = call.metadata_.size() + 32 * call.metadata_ends_.size();
  if (bytes > server_.options().max_metadata_bytes) {
    Count(server_.counters().refused_calls);
    call.FreeMetadata();
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;  // resets the stream
  }
  return 0;
}

void Connection::OnFrame(const nghttp2_frame& frame) {
  if (frame.hd.type == NGHTTP2_PING && (frame.hd.flags & NGHTTP2_FLAG_ACK) != 0) {
    return OnPong(frame.ping);
  }
  ServerCall* call = Find(frame.hd.stream_id);
  if (call == nullptr) return;
  if (frame.hd.type == NGHTTP2_HEADERS && frame.headers.cat == NGHTTP2_HCAT_REQUEST) {
    BeginCall(*call);
  }
  const bool has_end = (frame.hd.type == NGHTTP2_HEADERS || frame.hd.type == NGHTTP2_DATA) &&
                       (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
  if (has_end) EndInput(*call);
}

void Connection::OnFrameSent(const nghttp2_frame& frame) {
  if (frame.hd.type == NGHTTP2_GOAWAY && has_told_ && !is_draining_) {
    // Not before, because nghttp2 lets pings overtake.
    nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kDrainPing);
  }
  // The answer is out while the client still sends: it may stop.
  if (frame.hd.type != NGHTTP2_HEADERS || (frame.hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return;
  const ServerCall* const call = Find(frame.hd.stream_id);
  if (call == nullptr || call->is_half_closed_) return;
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, frame.hd.stream_id, NGHTTP2_NO_ERROR);
}

bool Connection::CheckHead(ServerCall& call) {
  const auto refuse = [&](Status status, std::string_view why) {
    Count(server_.counters().refused_calls);
    call.Finish(status, why);
    call.FreeMetadata();
    return false;
  };
  call.Charge();
  if (call.charged_ > 0 && server_.IsFull()) {
    return refuse(Status::kResourceExhausted, "the server has no memory left for calls");
  }
  const uint32_t max_calls = server_.options().max_calls;
  if (server_.counters().calls_open.load(std::memory_order_relaxed) > max_calls) {
    return refuse(Status::kResourceExhausted,
                  fmt::format("there are {} RPCs already, as many as may be", max_calls));
  }
  const std::string_view type = call.Metadata("content-type");
  constexpr std::string_view kType = "application/grpc";
  const bool is_grpc =
      type.starts_with(kType) &&
      (type.size() == kType.size() || type[kType.size()] == '+' || type[kType.size()] == ';');
  const bool is_post = call.Metadata(":method") == "POST";
  if (!is_post || !is_grpc) {
    Count(server_.counters().refused_calls);
    RefuseHttp(call, is_post ? "415" : "405");
    call.FreeMetadata();
    return false;
  }
  const std::string_view encoding = call.Metadata("grpc-encoding");
  if (!encoding.empty() && encoding != "identity") {
    return refuse(Status::kUnimplemented,
                  fmt::format("messages compressed with {} are not read; send identity", encoding));
  }
  const std::string_view timeout = call.Metadata("grpc-timeout");
  if (timeout.empty()) return true;
  const auto limit = ParseTimeout(timeout);
  if (!limit) return refuse(Status::kInternal, fmt::format("grpc-timeout '{}' is none", timeout));
  call.deadline_ = std::make_unique<net::Timer>(server_.loop(), [this, &call] {
    Count(server_.counters().deadlines);
    call.Cancel(Status::kDeadlineExceeded, "the client's time limit has passed");
  });
  call.deadline_->Start(*limit);
  return true;
}

void Connection::BeginCall(ServerCall& call) {
  if (!CheckHead(call)) return;
  call.listener_ = server_.handler().OnCall(call);
  if (call.listener_ != nullptr || call.is_finished_) return;
  Count(server_.counters().refused_calls);
  call.Finish(Status::kUnimplemented, fmt::format("there is no method {}", call.path()));
  call.FreeMetadata();
}

void Connection::OnChunk(int32_t stream, std::string_view bytes) {
  unconsumed_ += bytes.size();
  if (unconsumed_ >= kConsumeBytes) {
    nghttp2_session_consume_connection(session_, std::exchange(unconsumed_, 0));
  }
  ServerCall* const call = Find(stream);
  if (call == nullptr) return;
  OnData(*call, bytes);
  call->unconsumed_ += bytes.size();
  // Whoever does not take answers sends no more.
  if (call->unconsumed_ >= kConsumeBytes && !call->above_high_watermark()) Consume(*call);
}

void Connection::Consume(ServerCall& call) {
  nghttp2_session_consume_stream(session_, call.stream_, std::exchange(call.unconsumed_, 0));
}

void Connection::OnData(ServerCall& call, std::string_view bytes) {
  if (call.is_finished_ || call.listener_ == nullptr) return;
  call.reader_.Feed(bytes);
  std::string_view message;
  MessageReader::Next next = MessageReader::Next::kMore;
  while (!call.is_finished_ &&
         (next = call.reader_.Take(&message)) == MessageReader::Next::kMessage) {
    call.listener_->OnMessage(message);
  }
  call.Charge();
  if (call.is_finished_) return;
  const ServerOptions& options = server_.options();
  if (next == MessageReader::Next::kCompressed) {
    Count(server_.counters().bad_messages);
    call.Cancel(Status::kUnimplemented, "a compressed message without grpc-encoding");
  } else if (next == MessageReader::Next::kTooLarge) {
    Count(server_.counters().bad_messages);
    call.Cancel(Status::kResourceExhausted,
                fmt::format("a message is larger than {} bytes", options.max_message_bytes));
  } else if (call.charged_ > 0 && server_.IsFull()) {
    call.Drop();
  }
}

void Connection::EndInput(ServerCall& call) {
  call.is_half_closed_ = true;
  if (call.is_finished_ || call.listener_ == nullptr) return;
  if (call.reader_.is_between()) return call.listener_->OnHalfClose();
  Count(server_.counters().bad_messages);
  call.Cancel(Status::kInternal, "the last message is cut short");
}

void Connection::OnStreamClose(int32_t stream) {
  const auto found = calls_.find(stream);
  if (found == calls_.end()) return;
  std::unique_ptr<ServerCall> call = std::move(found->second);
  calls_.erase(found);
  found_ = nullptr;
  EndCall(std::move(call));
}

void Connection::EndCall(std::unique_ptr<ServerCall> call) {
  server_.counters().calls_open.fetch_sub(1, std::memory_order_relaxed);
  call->deadline_.reset();
  if (!std::exchange(call->is_finished_, true)) {
    CallListener* const listener = call->listener_.get();
    if (listener == nullptr || !listener->is_done()) Count(server_.counters().clients_gone);
    if (listener != nullptr) listener->OnCancel();
  }
  ended_.push_back(std::move(call));
}

// --- answers

void Connection::SubmitHeaders(ServerCall& call) {
  call.has_headers_ = true;
  const nghttp2_nv headers[] = {Header(":status", "200"),
                                Header("content-type", "application/grpc")};
  nghttp2_data_provider provider{};
  provider.source.ptr = &call;
  provider.read_callback = [](nghttp2_session*, int32_t, uint8_t* out, size_t length,
                              uint32_t* flags, nghttp2_data_source* source, void* user) {
    return Callbacks::Self(user).ReadAnswer(*static_cast<ServerCall*>(source->ptr), out, length,
                                            flags);
  };
  nghttp2_submit_response(session_, call.stream_, headers, std::size(headers), &provider);
}

ssize_t Connection::ReadAnswer(ServerCall& call, uint8_t* out, size_t length, uint32_t* flags) {
  const size_t size = std::min(length, call.out_.size() - call.out_sent_);
  std::memcpy(out, call.out_.data() + call.out_sent_, size);
  call.out_sent_ += size;
  if (call.was_above_high_ && !call.above_high_watermark()) {
    call.was_above_high_ = false;
    drained_.push_back(call.stream_);
  }
  if (call.out_sent_ < call.out_.size()) return static_cast<ssize_t>(size);
  if (call.out_.capacity() > kFreeBytes) {
    // One long message must not keep its memory for the life of a stream of short ones.
    call.out_ = {};
    call.out_sent_ = 0;
    call.Charge();
  }
  if (call.is_finished_) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    const std::string status = std::to_string(static_cast<int>(call.status_));
    const nghttp2_nv trailers[] = {Header("grpc-status", status),
                                   Header("grpc-message", call.status_text_)};
    nghttp2_submit_trailer(session_, call.stream_, trailers, call.status_text_.empty() ? 1 : 2);
    return static_cast<ssize_t>(size);
  }
  if (size > 0) return static_cast<ssize_t>(size);
  call.is_deferred_ = true;
  return NGHTTP2_ERR_DEFERRED;
}

void Connection::SubmitTrailersOnly(ServerCall& call) {
  call.has_headers_ = true;
  const std::string status = std::to_string(static_cast<int>(call.status_));
  const nghttp2_nv headers[] = {
      Header(":status", "200"), Header("content-type", "application/grpc"),
      Header("grpc-accept-encoding", "identity"), Header("grpc-status", status),
      Header("grpc-message", call.status_text_)};
  const size_t count = std::size(headers) - (call.status_text_.empty() ? 1 : 0);
  nghttp2_submit_response(session_, call.stream_, headers, count, nullptr);
}

void Connection::RefuseHttp(ServerCall& call, std::string_view status) {
  call.has_headers_ = call.is_finished_ = true;
  const nghttp2_nv headers[] = {Header(":status", status)};
  nghttp2_submit_response(session_, call.stream_, headers, std::size(headers), nullptr);
  Defer();
}

// --- the connection

Connection::Connection(ServerLoop& server) : net::ServedStream(server.loop()), server_(server) {}

Connection::~Connection() {
  // Die() has ended the calls; what is left belongs to a session that never opened.
  nghttp2_session_del(session_);
}

void Connection::OnOpen() {
  static nghttp2_session_callbacks* const callbacks = Callbacks::Make();
  static nghttp2_option* const option = [] {
    nghttp2_option* made = nullptr;
    nghttp2_option_new(&made);
    nghttp2_option_set_no_auto_window_update(made, 1);
    nghttp2_option_set_no_closed_streams(made, 1);
    // Envoy ends every exchange of ext_proc with a reset, so that nghttp2's limit of them (1,000 at
    // once, then 33 a second) would end connections under load. An RPC that is reset costs no more
    // than one that is answered.
    nghttp2_option_set_stream_reset_rate_limit(made, UINT64_MAX, UINT64_MAX);
    return made;
  }();
  nghttp2_session_server_new2(&session_, callbacks, this, option);
  const ServerOptions& options = server_.options();
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindow},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<uint32_t>(options.max_metadata_bytes)}};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
  is_open_ = true;
  heard_ = server_.loop().Now();
  constexpr Duration kNever = std::chrono::hours(24 * 365);
  if (options.max_connection_age < kNever) {
    // A tenth more or less, by chance: what began together does not come anew together.
    const Duration thousandth = options.max_connection_age / 1000;
    old_at_ = heard_ + options.max_connection_age +
              thousandth * (heard_.time_since_epoch().count() % 201 - 100);
  }
  WaitReadable();
  Defer();
  UpdateDeadline();
}

void Connection::OnReadable() {
  if (!is_open_) return;
  for (int rounds = 0; rounds < 4; ++rounds) {
    const net::IoResult result = ReadNow(server_.scratch(), ServerLoop::kScratchBytes);
    if (result.error == EAGAIN) break;
    if (result.error != 0 || result.bytes == 0) return Die();
    heard_ = server_.loop().Now();
    has_pinged_ = false;
    if (!std::exchange(has_heard_, true) && has_told_) TellToGo();  // there is somebody, after all
    const ssize_t taken = nghttp2_session_mem_recv(
        session_, reinterpret_cast<const uint8_t*>(server_.scratch()), result.bytes);
    ended_.clear();
    if (taken < 0) {
      Count(server_.counters().bad_connections);
      telemetry::log::Debug("a gRPC connection is closed",
                            {{"reason", nghttp2_strerror(static_cast<int>(taken))}});
      return Die();
    }
    if (result.bytes < ServerLoop::kScratchBytes || IsChoked()) break;
  }
  if (!IsChoked()) WaitReadable();
  Defer();
}

bool Connection::IsChoked() const {
  return nghttp2_session_get_outbound_queue_size(session_) > kMaxQueuedFrames;
}

void Connection::OnWritable() {
  write_due_ = Time::max();
  Flush();
}

void Connection::OnTurnEnd() { Flush(); }

bool Connection::Collect() {
  while (unsent_.size() - unsent_from_ < kWriteBytes) {
    const uint8_t* data = nullptr;
    const ssize_t size = nghttp2_session_mem_send(session_, &data);
    if (size < 0) return false;
    if (size == 0) break;
    unsent_.append(View(data, static_cast<size_t>(size)));
  }
  ended_.clear();
  return true;
}

void Connection::TellDrained() {
  for (const int32_t stream : std::exchange(drained_, {})) {
    ServerCall* const call = Find(stream);
    if (call == nullptr) continue;
    if (call->unconsumed_ >= kConsumeBytes) Consume(*call);
    if (!call->is_finished_ && call->listener_ != nullptr) call->listener_->OnDrained();
  }
}

void Connection::Flush() {
  if (!is_open_) return;
  const net::Ref<Connection> keep(this);
  while (true) {
    if (!Collect()) return Die();
    TellDrained();
    if (unsent_from_ == unsent_.size()) break;
    const iovec piece{unsent_.data() + unsent_from_, unsent_.size() - unsent_from_};
    const net::IoResult result = WriteNow({&piece, 1});
    if (result.error == EAGAIN) {
      if (write_due_ == Time::max()) {
        write_due_ = server_.loop().Now() + server_.options().write_timeout;
      }
      WaitWritable();
      return UpdateDeadline();
    }
    if (result.error != 0) return Die();
    write_due_ = Time::max();
    unsent_from_ += result.bytes;
    if (unsent_from_ < unsent_.size()) {
      if (unsent_from_ >= kWriteBytes) unsent_.erase(0, std::exchange(unsent_from_, 0));
      continue;
    }
    unsent_.clear();
    if (unsent_.capacity() > 2 * kWriteBytes) unsent_.shrink_to_fit();
    unsent_from_ = 0;
  }
  // After a GOAWAY and the last RPC there is nothing left to say.
  const bool is_over =
      nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0;
  if (is_over || (is_draining_ && calls_.empty())) return Die();
  if (!waits_readable()) {
    heard_ = server_.loop().Now();  // it was choked
    WaitReadable();
  }
  UpdateDeadline();
}

void Connection::Drain() {
  if (!is_open_ || has_told_) return;
  has_told_ = true;
  if (has_heard_) {
    TellToGo();
  } else {
    is_draining_ = true;  // there is nobody to tell
  }
  Defer();
}

void Connection::TellToGo() {
  is_draining_ = false;
  nghttp2_submit_shutdown_notice(session_);  // OnFrameSent goes on
  // A client of nghttp2 answers no pings when it is told to go and has no stream.
  hears_by_ = server_.loop().Now() + server_.options().drain_wait;
}

void Connection::OnPong(const nghttp2_ping& ping) {
  // What the client began before it heard is here.
  if (std::memcmp(ping.opaque_data, kDrainPing, sizeof(kDrainPing)) == 0) TakeNoMore();
}

void Connection::TakeNoMore() {
  if (!has_told_ || is_draining_) return;
  is_draining_ = true;
  hears_by_ = Time::max();
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                        nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_NO_ERROR,
                        nullptr, 0);
  Defer();
}

void Connection::Cut() { Die(); }

void Connection::UpdateDeadline() {
  if (!is_open_) return;
  const ServerOptions& options = server_.options();
  // Who is not read cannot be heard.
  const Time quiet = waits_readable() ? heard_ + options.keep_alive +
                                            (has_pinged_ ? options.keep_alive_timeout : Duration(0))
                                      : Time::max();
  SetDeadline(std::min({quiet, write_due_, old_at_, hears_by_, cut_at_}));
}

void Connection::OnDeadline() {
  if (!is_open_) return;
  const ServerOptions& options = server_.options();
  const Time now = server_.loop().Now();
  if (now >= write_due_ || now >= cut_at_) return Die();
  if (now >= old_at_) {
    old_at_ = Time::max();
    if (options.connection_age_grace < Duration::max()) {
      cut_at_ = now + options.connection_age_grace;
    }
    Drain();
  }
  if (now >= hears_by_) TakeNoMore();
  if (waits_readable() && now >= heard_ + options.keep_alive) {
    if (has_pinged_) {
      if (now >= heard_ + options.keep_alive + options.keep_alive_timeout) return Die();
    } else {
      has_pinged_ = true;
      nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
      Defer();
    }
  }
  UpdateDeadline();
}

void Connection::Die() {
  if (!is_open_) return;
  is_open_ = false;
  const net::Ref<Connection> keep(this);
  Close();
  ClearDeadline();
  nghttp2_session_del(std::exchange(session_, nullptr));
  auto calls = std::exchange(calls_, {});
  found_ = nullptr;
  for (auto& [stream, call] : calls) EndCall(std::move(call));
  ended_.clear();
  server_.Remove(*this);
}

}  // namespace penstock::grpc
