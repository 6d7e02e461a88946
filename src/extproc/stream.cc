#include "extproc/stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/text.h"
#include "telemetry/log.h"

namespace penstock::extproc {
namespace {

constexpr std::string_view kDroppedReason = "x-llm-d-request-dropped-reason";
constexpr Duration kWarnEvery = seconds(1);
constexpr uint64_t kSmallBody = 64 << 10;  // budgets are charged in steps of this

std::string_view NameOf(int status) {
  switch (status) {
    case 400:
      return "BadRequest";
    case 404:
      return "NotFound";
    case 412:
      return "PreconditionFailed";
    case 413:
      return "PayloadTooLarge";
    case 429:
      return "ResourceExhausted";
    case 503:
      return "ServiceUnavailable";
    default:
      return "Internal";
  }
}

// The host of "HOST:PORT", "[HOST]:PORT" or a host alone.
std::string_view HostOf(std::string_view address) {
  if (address.starts_with('[')) {
    return address.substr(1, address.substr(0, address.find(']')).size() - 1);
  }
  const size_t colon = address.rfind(':');
  const bool is_bare_v6 = colon != std::string_view::npos && address.find(':') != colon;
  return colon == std::string_view::npos || is_bare_v6 ? address : address.substr(0, colon);
}

int ParseStatus(std::string_view text) {
  int status = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), status);
  return error == std::errc() && end == text.data() + text.size() ? status : 0;
}

}  // namespace

Stream::Stream(LoopPart& part, grpc::Call& call)
    : part_(part), call_(call), opened_(part.loop.Now()) {
  part_.shared.streams.OnBegin();
}

Stream::~Stream() {
  FreeBody();
  StreamMetrics& streams = part_.shared.streams;
  if (streams.counts_streams()) streams.OnEnd(status_, part_.loop.Now() - opened_);
}

void Stream::Finish(grpc::Status status, std::string_view message) {
  status_ = status;
  call_.Finish(status, message);
}

void Stream::FreeBody() {
  is_forwarding_ = false;
  part_.shared.bodies.Give(std::exchange(charged_, 0));
  pieces_ = {};
  splices_ = {};
  body_ = {};
}

std::string_view Stream::Header(std::string_view name) const {
  const auto found = std::ranges::find(headers_, name, &model::HeaderView::name);
  return found == headers_.end() ? std::string_view() : found->value;
}

void Stream::Fail(grpc::Status status, std::string_view message) {
  part_.shared.streams.bad_streams.Add();
  WarnOfEnd(status, message);
  phase_ = Phase::kOver;
  asking_.reset();
  intake::RequestLabels labels;
  if (follower_ != nullptr) {
    follower_->OnEnd(director::EndKind::kClientGone, follower_->status(), message,
                     part_.loop.Now());
    labels = follower_->series().labels();
  }
  part_.shared.metrics.OnError(labels, "Unknown");
  FreeBody();
  Finish(status, message);
}

// An Envoy that is set up wrongly sends nothing but such streams.
void Stream::WarnOfEnd(grpc::Status status, std::string_view message) {
  const int64_t now = ToNanos(part_.loop.Now());
  int64_t before = part_.shared.warned_at_nanos.load(std::memory_order_relaxed);
  if (before != 0 && now - before < kWarnEvery.count()) return;
  if (!part_.shared.warned_at_nanos.compare_exchange_strong(before, now)) return;
  telemetry::log::Warn(
      "an ext_proc stream is ended; more like it are only counted for a second",
      {{"request_id", request_id_}, {"status", grpc::StatusName(status)}, {"reason", message}});
}

void Stream::Refuse(int status, std::string_view message, std::string_view dropped_reason) {
  phase_ = Phase::kOver;
  FreeBody();
  const std::string body = fmt::format("inference error: {} - {}", NameOf(status), message);
  std::vector<extproc::Header> headers;
  if (!dropped_reason.empty()) headers.push_back({kDroppedReason, dropped_reason});
  if (status == 429 || status == 503) headers.push_back({"retry-after", "1"});
  part_.out.clear();
  AppendImmediate(status, headers, body, &part_.out);
  call_.Send(part_.out);
  Finish(grpc::Status::kOk);
}

void Stream::RefuseUnread(int status, std::string_view message, std::string_view dropped_reason) {
  part_.shared.metrics.OnError({}, NameOf(status));
  Refuse(status, message, dropped_reason);
}

bool Stream::CheckModes(const Incoming& incoming) {
  if (incoming.is_observed) {
    Fail(grpc::Status::kFailedPrecondition,
         "observability_mode is on, so Envoy would not heed the picker; turn it off");
    return false;
  }
  if (!incoming.body_modes) return true;
  const auto [request, response] = *incoming.body_modes;
  if (request == kFullDuplexStreamed && (response == kFullDuplexStreamed || response == 0)) {
    hears_answer_ = response != 0;
    return true;
  }
  const bool is_request = request != kFullDuplexStreamed;
  Fail(grpc::Status::kFailedPrecondition,
       fmt::format("{}_body_mode is {}; the picker needs FULL_DUPLEX_STREAMED",
                   is_request ? "request" : "response",
                   BodySendModeName(is_request ? request : response)));
  return false;
}

void Stream::OnMessage(std::string_view message) {
  if (phase_ == Phase::kOver) return;
  now_ = part_.loop.Now();
  Incoming& incoming = part_.incoming;
  if (!ReadIncoming(message, &incoming)) {
    return Fail(grpc::Status::kInvalidArgument, "a message is no ProcessingRequest");
  }
  if (!CheckModes(incoming)) return;
  if (incoming.kind == Incoming::Kind::kNone) {
    return Fail(grpc::Status::kInvalidArgument, "a ProcessingRequest says nothing");
  }
  incoming.side == Side::kRequest ? OnRequestMessage(incoming) : OnResponseMessage(incoming);
}

void Stream::OnRequestMessage(const Incoming& incoming) {
  if (incoming.kind == Incoming::Kind::kHeaders) return OnRequestHeaders(incoming);
  if (incoming.kind == Incoming::Kind::kBody) return OnRequestBody(incoming);
  OnRequestTrailers();
}

void Stream::OnResponseMessage(const Incoming& incoming) {
  if (phase_ == Phase::kForwarded) answer_began_ = now_;
  if (incoming.kind == Incoming::Kind::kHeaders) {
    OnResponseHeaders(incoming);
  } else if (incoming.kind == Incoming::Kind::kBody) {
    OnResponseBody(incoming);
  } else {
    OnResponseTrailers();
  }
  if (follower_ == nullptr) return;
  const bool is_over = follower_->flight().record().end == director::EndKind::kComplete;
  if (!is_over && !follower_->is_event_stream()) return;
  const Time now = part_.loop.Now();
  answer_work_ += now - now_;
  if (!is_over) return;
  part_.shared.streams.answer_seconds.Observe(
      ToSeconds(follower_->is_event_stream() ? answer_work_ : now - answer_began_));
}

// --- the request

void Stream::NoteSubset(const Incoming& incoming) {
  if (!part_.shared.options.heeds_subset || !incoming.subset) return;
  subset_.emplace();
  for (const std::string_view address : *incoming.subset) subset_->emplace_back(HostOf(address));
  std::ranges::sort(*subset_);
  const auto twice = std::ranges::unique(*subset_);
  subset_->erase(twice.begin(), twice.end());
}

void Stream::OnRequestHeaders(const Incoming& incoming) {
  if (phase_ != Phase::kBegin) {
    return Fail(grpc::Status::kInvalidArgument, "request headers come twice");
  }
  received_ = now_;
  // A copy of all, and views of it: 1,600 instructions less than text by text. Of headers that come
  // twice the last one counts, and whoever looks takes the first that he finds.
  head_ = incoming.head;
  const auto kept = [&](std::string_view text) {
    if (text.empty()) return text;
    return std::string_view(head_.data() + (text.data() - incoming.head.data()), text.size());
  };
  headers_.reserve(incoming.headers.size());
  for (auto h = incoming.headers.rbegin(); h != incoming.headers.rend(); ++h) {
    headers_.push_back({kept(h->name), kept(h->value)});
  }
  const std::string_view given = Header("x-request-id");
  request_id_ = part_.reader.RequestId(given);
  is_new_id_ = request_id_ != given;
  NoteSubset(incoming);
  has_body_ = !incoming.is_last;
  if (!has_body_) return Decide();
  phase_ = Phase::kRequestBody;
}

void Stream::OnRequestBody(const Incoming& incoming) {
  if (phase_ != Phase::kRequestBody) {
    return Fail(grpc::Status::kInvalidArgument, "a request body comes out of order");
  }
  const uint64_t size = body_.size() + incoming.body.size();
  const Options& options = part_.shared.options;
  if (size > options.max_body_bytes) {
    part_.shared.metrics.OnClientError("body_too_large");
    return RefuseUnread(
        413, fmt::format("the request body is larger than {} bytes", options.max_body_bytes), "");
  }
  if (size > charged_) {
    const uint64_t step = std::max(size - charged_, std::max(kSmallBody, charged_));
    if (!part_.shared.bodies.TryTake(step)) {
      return RefuseUnread(503, "no memory is left for request bodies", "rejected-saturated");
    }
    charged_ += step;
  }
  body_.append(incoming.body);
  NoteSubset(incoming);
  if (incoming.is_last) Decide();
}

void Stream::OnRequestTrailers() {
  if (phase_ != Phase::kRequestBody) {
    return Fail(grpc::Status::kInvalidArgument, "request trailers come out of order");
  }
  has_trailers_ = true;
  Decide();
}

void Stream::Decide() {
  std::string_view path = Header(":path");
  if (path.empty()) path = Header("x-original-path");
  if (path.empty()) path = Header("x-forwarded-path");
  if (path.empty()) path = "/v1/completions";  // as llm-d has it
  std::optional<api::Route> route = api::Route();
  if (Header(":method") == "POST") route = part_.shared.options.parsers.Find(path);
  if (!route) {
    part_.shared.metrics.OnClientError("no_parser");
    return RefuseUnread(400, fmt::format("no parser reads the path {}", path), "");
  }
  intake::Preparer* const preparer = part_.shared.preparer;
  if (preparer != nullptr && preparer->Takes(body_.size())) return DecideLater(*route);
  auto read = part_.reader.Read(*route, request_id_, std::move(headers_), body_);
  if (!read) {
    part_.shared.metrics.OnClientError(read.error().code);
    return RefuseUnread(read.error().status, read.error().message, "");
  }
  read->request.subset = subset_;
  if (part_.asker != nullptr) return DecideAsking(*route, std::move(*read));
  splices_ = read->edits.Splices();
  Forward(intake::Admit(std::move(*read), part_.lane, part_.shared.metrics, part_.series, received_,
                        part_.loop));
}

void Stream::DecideLater(const api::Route& route) {
  auto request = std::make_shared<intake::LongRequest>(std::move(body_), headers_);
  if (auto read = request->Read(route, request_id_); !read) {
    part_.shared.metrics.OnClientError(read.error().code);
    return RefuseUnread(read.error().status, read.error().message, "");
  }
  request->incoming().request.subset = subset_;
  request->Begin(part_.lane.Begin(std::move(request->incoming().request)));
  phase_ = Phase::kPreparing;
  waiting_ = part_.shared.preparer->Start(std::move(request), received_, part_.loop,
                                          [this, route](intake::LongRequest* prepared) {
                                            if (phase_ != Phase::kPreparing)
                                              return;  // Envoy has answered itself
                                            AskOrForward(route, *prepared);
                                          });
}

void Stream::DecideAsking(const api::Route& route, intake::IncomingRequest incoming) {
  const Time before = part_.loop.Now();
  sched::RequestContext context = part_.lane.Begin(std::move(incoming.request));
  part_.shared.director.scheduler().Prepare(context, received_);
  auto question = part_.asker->Consider(context, route);
  if (!question) {
    splices_ = incoming.edits.Splices();
    return Forward(intake::AdmitPrepared(incoming, std::move(context), before, part_.lane,
                                         part_.shared.metrics, part_.series, received_,
                                         part_.loop));
  }
  // What was read stands in this loop's reader, which others use meanwhile: it is read once more.
  auto request = std::make_shared<intake::LongRequest>(std::move(body_), context.request.headers);
  if (auto read = request->Read(route, request_id_); !read) {
    return RefuseUnread(read.error().status, read.error().message, "");
  }
  request->incoming().request.subset = subset_;
  context.request = std::move(request->incoming().request);
  request->Begin(std::move(context));
  phase_ = Phase::kPreparing;
  Ask(*std::move(question), std::move(request));
}

void Stream::AskOrForward(const api::Route& route, intake::LongRequest& request) {
  if (part_.asker != nullptr) {
    if (auto question = part_.asker->Consider(request.context(), route)) {
      return Ask(*std::move(question), request.shared_from_this());
    }
  }
  ForwardLong(request);
}

void Stream::Ask(intake::TokenAsker::Question question,
                 std::shared_ptr<intake::LongRequest> request) {
  asking_ = part_.asker->Ask(std::move(question), std::move(request), received_,
                             [this](intake::LongRequest* told) {
                               if (phase_ == Phase::kPreparing) ForwardLong(*told);
                             });
}

void Stream::ForwardLong(intake::LongRequest& request) {
  body_ = std::move(request.body());
  splices_ = request.incoming().edits.Splices();
  Forward(intake::AdmitPrepared(request, part_.lane, part_.shared.metrics, part_.series, received_,
                                part_.loop));
}

void Stream::Forward(intake::Admission admission) {
  if (admission.follower == nullptr) {
    const director::Rejection& rejection = admission.rejection;
    return Refuse(rejection.status, rejection.message,
                  rejection.status == 503   ? "rejected-no-endpoints"
                  : rejection.status == 429 ? "rejected-saturated"
                                            : "");
  }
  follower_ = std::move(admission.follower);
  pieces_ = api::ApplySplices(body_, splices_);
  for (const std::string_view piece : pieces_) unsent_ += piece.size();
  phase_ = Phase::kForwarded;
  is_forwarding_ = true;
  SendRequestHeaders();
  ForwardBody();
}

void Stream::SendRequestHeaders() {
  const director::Flight& flight = follower_->flight();
  std::string destination(flight.target().destination());
  for (const std::string_view next : flight.target().fallbacks)
    destination.append(",").append(next);
  const std::string length = std::to_string(unsent_);
  HeaderChanges& changes = part_.changes;
  changes.Clear();
  changes.set.push_back({kDestinationHeader, destination});
  if (is_new_id_) changes.set.push_back({"x-request-id", request_id_});
  if (unsent_ > 0 && !has_trailers_) changes.set.push_back({"content-length", length});
  for (const auto& [name, value] : flight.target().headers) changes.set.push_back({name, value});
  const auto is_set = [&](std::string_view name) {
    return std::ranges::find(changes.set, name, &Header::name) != changes.set.end();
  };
  for (const model::HeaderView& h : flight.context().request.headers) {
    if (api::IsControlHeader(h.name) && !is_set(h.name)) changes.remove.push_back(h.name);
  }
  Routing routing{destination, {}};
  std::vector<std::pair<std::string_view, double>> scores;
  if (part_.shared.options.emits_scores) {
    const director::Attempt& attempt = flight.record().attempts.back();
    for (const sched::ProfileTrace& profile : attempt.trace.profiles) {
      if (profile.picks.empty()) continue;
      for (size_t i = 0; i < profile.totals.size() && i < attempt.pool->endpoints.size(); ++i) {
        scores.emplace_back(attempt.pool->endpoints[i].address, profile.totals[i]);
      }
    }
    routing.scores = scores;
  }
  part_.out.clear();
  AppendHeaders(Side::kRequest, changes, &routing, &part_.out);
  call_.Send(part_.out);
}

void Stream::ForwardBody() {
  if (has_trailers_ && unsent_ == 0) has_body_ = false;
  while (has_body_ && !call_.above_high_watermark()) {
    const size_t size = std::min<uint64_t>(unsent_, kMaxChunk);
    unsent_ -= size;
    has_body_ = unsent_ > 0;
    part_.out.clear();
    AppendBodyAhead(Side::kRequest, size, !has_body_ && !has_trailers_, &part_.out);
    for (size_t left = size; left > 0;) {
      const std::string_view piece = pieces_[piece_].substr(piece_from_, left);
      part_.out.append(piece);
      left -= piece.size();
      piece_from_ += piece.size();
      if (piece_from_ == pieces_[piece_].size()) {
        ++piece_;
        piece_from_ = 0;
      }
    }
    call_.Send(part_.out);
  }
  if (has_body_) return;  // OnDrained goes on
  is_forwarding_ = false;
  if (has_trailers_) {
    part_.out.clear();
    AppendTrailers(Side::kRequest, &part_.out);
    call_.Send(part_.out);
  }
  FreeBody();
}

void Stream::OnDrained() {
  if (is_forwarding_) ForwardBody();
}

// --- the answer

void Stream::OnResponseHeaders(const Incoming& incoming) {
  // Envoy may have answered itself, before the request was whole.
  if (phase_ != Phase::kForwarded && phase_ != Phase::kRequestBody && phase_ != Phase::kPreparing) {
    return Fail(grpc::Status::kInvalidArgument, "response headers come out of order");
  }
  int status = 0;
  std::string_view type;
  bool is_encoded = false;
  for (const model::HeaderView& h : incoming.headers) {
    if (h.name == ":status" || (h.name == "status" && status == 0)) status = ParseStatus(h.value);
    if (h.name == "content-type") type = h.value;
    is_encoded |= h.name == "content-encoding" && h.value != "identity";
  }
  phase_ = Phase::kAnswer;
  if (follower_ != nullptr && !incoming.served.empty()) {
    follower_->flight().OnServedBy(incoming.served, now_);
  }
  HeaderChanges& changes = part_.changes;
  changes.Clear();
  changes.set.push_back({"x-went-into-resp-headers", "true"});
  if (follower_ != nullptr) {
    follower_->OnHead(status, type, is_encoded);
    for (const auto& [name, value] : follower_->flight().context().response_headers) {
      changes.set.push_back({name, value});
    }
    if (follower_->restores()) changes.remove.push_back("content-length");
  }
  part_.out.clear();
  AppendHeaders(Side::kResponse, changes, nullptr, &part_.out);
  call_.Send(part_.out);
  if (incoming.is_last) EndAnswer();
}

void Stream::EndAnswer() {
  phase_ = Phase::kOver;
  FreeBody();
  if (follower_ != nullptr) follower_->OnComplete(now_);
}

void Stream::OnResponseBody(const Incoming& incoming) {
  if (phase_ != Phase::kAnswer) {
    return Fail(grpc::Status::kInvalidArgument, "a response body comes out of order");
  }
  std::string_view piece = incoming.body;
  if (follower_ != nullptr) {
    follower_->OnPiece(piece, now_);
    piece = follower_->Restored(piece, incoming.is_last);
  }
  SendPieces(Side::kResponse, piece, incoming.is_last);
  if (incoming.is_last) EndAnswer();
}

void Stream::OnResponseTrailers() {
  if (phase_ != Phase::kAnswer) {
    return Fail(grpc::Status::kInvalidArgument, "response trailers come out of order");
  }
  if (follower_ != nullptr) {
    const std::string_view rest = follower_->Restored("", true);
    if (!rest.empty()) SendPieces(Side::kResponse, rest, false);
  }
  part_.out.clear();
  AppendTrailers(Side::kResponse, &part_.out);
  call_.Send(part_.out);
  EndAnswer();
}

void Stream::SendPieces(Side side, std::string_view piece, bool is_last) {
  do {
    const std::string_view chunk = piece.substr(0, kMaxChunk);
    piece.remove_prefix(chunk.size());
    part_.out.clear();
    AppendBodyAhead(side, chunk.size(), is_last && piece.empty(), &part_.out);
    part_.out.append(chunk);
    call_.Send(part_.out);
  } while (!piece.empty());
}

// --- the end

void Stream::OnHalfClose() {
  OnCancel();
  Finish(grpc::Status::kOk);
}

void Stream::OnCancel() {
  if (IsBlind()) EndAnswer();
  // Envoy ends an exchange that is complete with a reset.
  if (phase_ == Phase::kOver) status_ = grpc::Status::kOk;
  phase_ = Phase::kOver;
  asking_.reset();
  FreeBody();
  if (follower_ == nullptr || follower_->flight().ended()) return;
  follower_->OnEnd(director::EndKind::kClientGone, follower_->status(),
                   "Envoy closed the stream before the answer's end", part_.loop.Now());
}

std::unique_ptr<grpc::CallListener> Service::OnCall(grpc::Call& call) {
  if (call.path() != kProcess) return nullptr;
  return std::make_unique<Stream>(part_, call);
}

}  // namespace penstock::extproc
