#include "proxy/relay.h"

#include <utility>

#include "telemetry/log.h"

namespace penstock::proxy {
namespace {

// A success is the first token; anything else is told apart by the status.
bool IsRetryableStatus(int status) { return status == 502 || status == 503 || status == 504; }

director::TryFailure FailureOfStatus(int status) {
  return status == 502   ? director::TryFailure::kStatus502
         : status == 503 ? director::TryFailure::kStatus503
                         : director::TryFailure::kStatus504;
}

api::ApiError ErrorOf(http::CallFailure failure, std::string_view endpoint,
                      std::string_view message) {
  const std::string detail = "Engine " + std::string(endpoint) + ": " + std::string(message) + ".";
  switch (failure) {
    case http::CallFailure::kLocal:
      return {
          503, "service_unavailable", "gateway_out_of_resources",
          "The gateway could not open a connection: " + std::string(message) + ". Try again soon.",
          ""};
    case http::CallFailure::kConnect:
    case http::CallFailure::kTls:
      return {502, "api_error", "engine_unreachable",
              detail + " No other engine could take the request.", ""};
    case http::CallFailure::kReset:
      return {502, "api_error", "engine_reset", detail + " No other engine could take the request.",
              ""};
    case http::CallFailure::kTruncated:
      return {502, "api_error", "engine_truncated", detail, ""};
    case http::CallFailure::kBadResponse:
      return {502, "api_error", "engine_bad_response", detail, ""};
    case http::CallFailure::kTimeout:
      return {504, "timeout_error", "engine_timeout", detail, ""};
  }
  return {502, "api_error", "engine_failed", detail, ""};
}

}  // namespace

Relay::Relay(GatewayHandler& handler, http::Exchange& exchange,
             std::unique_ptr<intake::Follower> follower, std::vector<api::Splice> splices)
    : handler_(handler),
      exchange_(exchange),
      follower_(std::move(follower)),
      flight_(follower_->flight()),
      splices_(std::move(splices)) {}

std::string Relay::EngineHead() const {
  const http::RequestHead& head = exchange_.head();
  const bool has_options = head.headers.Has("connection");
  size_t body_bytes = exchange_.body().size();
  for (const api::Splice& splice : splices_) {
    body_bytes = body_bytes - (splice.end - splice.begin) + splice.text.size();
  }
  std::string out;
  out.reserve(512);
  // A whole URL (absolute form) is for proxies: the engine gets the path that was understood here.
  const size_t query = head.target.find('?');
  out.append(head.method).append(" ").append(head.path);
  if (query != std::string_view::npos) out.append(head.target.substr(query));
  out.append(" HTTP/1.1\r\nhost: ");
  out.append(flight_.target().destination()).append("\r\n");
  for (const http::Header& h : head.headers.list) {
    if (http::IsHopByHop(h.name) || EqualsIgnoreCase(h.name, "host") ||
        EqualsIgnoreCase(h.name, "expect") || EqualsIgnoreCase(h.name, "x-request-id") ||
        api::IsControlHeader(h.name) ||
        (has_options && http::IsConnectionOption(head.headers, h.name))) {
      continue;
    }
    out.append(h.name).append(": ").append(h.value).append("\r\n");
  }
  out.append("x-request-id: ").append(flight_.context().request.id).append("\r\n");
  for (const auto& [name, value] : flight_.target().headers) {
    out.append(name).append(": ").append(value).append("\r\n");
  }
  if (body_bytes > 0 || head.method == "POST" || head.method == "PUT" || head.method == "PATCH") {
    out.append("content-length: ").append(std::to_string(body_bytes)).append("\r\n");
  }
  out.append("\r\n");
  return out;
}

void Relay::Dispatch() {
  const director::Target& target = flight_.target();
  call_ = handler_.client_->Send(
      target.host, target.dial_port, EngineHead(), api::ApplySplices(exchange_.body(), splices_),
      target.scheme == model::Scheme::kHttps ? handler_.shared_.tls_call_options
                                             : handler_.shared_.call_options,
      *this);
}

bool Relay::Retry(director::TryFailure failure) {
  const std::string_view failed = flight_.target().name;  // in the attempt's pool
  const Time before = handler_.loop_.Now();
  if (!flight_.OnTryFailed(failure, before)) return false;
  handler_.shared_.metrics.OnRetry(director::TryFailureName(failure));
  handler_.series_.OnDecision(handler_.loop_.Now() - before, follower_->series(), flight_.target());
  telemetry::log::Info("request is tried on another endpoint",
                       {{"request_id", flight_.context().request.id},
                        {"endpoint", failed},
                        {"reason", director::TryFailureName(failure)},
                        {"next", flight_.target().name}});
  Dispatch();
  return true;
}

void Relay::End(director::EndKind kind, int status, std::string_view reason) {
  follower_->OnEnd(kind, status, reason, handler_.loop_.Now());
}

// --- the client's side

void Relay::OnClientGone() {
  call_.reset();  // closes the engine's connection: it stops generating
  End(director::EndKind::kClientGone, follower_->status(), "the client closed the connection");
}

void Relay::OnDrained() {
  if (call_ != nullptr) call_->Resume();
}

// --- the engine's side

void Relay::OnHead(const http::ResponseHead& head) {
  if (IsRetryableStatus(head.status) && Retry(FailureOfStatus(head.status))) return;
  started_ = true;
  // Nothing is sent again from here on: a long prompt need not stay in memory while its answer
  // streams.
  exchange_.ReleaseBody();
  follower_->OnHead(head.status, head.headers.Find("content-type"),
                    head.headers.Has("content-encoding"));
  const bool has_options = head.headers.Has("connection");
  std::vector<http::Header> headers;
  headers.reserve(head.headers.list.size() + 2);
  for (const http::Header& h : head.headers.list) {
    if (http::IsHopByHop(h.name) || EqualsIgnoreCase(h.name, "x-request-id") ||
        EqualsIgnoreCase(h.name, "date") ||
        (has_options && http::IsConnectionOption(head.headers, h.name))) {
      continue;
    }
    headers.push_back(h);
  }
  headers.push_back({"x-request-id", flight_.context().request.id});
  for (const auto& [name, value] : flight_.context().response_headers)
    headers.push_back({name, value});
  exchange_.Start(head.status, headers,
                  head.has_length && !follower_->restores()
                      ? std::optional<uint64_t>(head.content_length)
                      : std::nullopt);
}

void Relay::OnBody(std::string_view piece) {
  if (piece.empty()) return;
  follower_->OnPiece(piece, handler_.loop_.Now());
  piece = follower_->Restored(piece, false);
  if (piece.empty()) return;
  tail_[0] = piece.size() > 1 ? piece[piece.size() - 2] : tail_[1];
  tail_[1] = piece.back();
  exchange_.Write(piece);
  if (exchange_.above_high_watermark()) call_->Pause();
}

void Relay::OnEnd() {
  if (const std::string_view rest = follower_->Restored("", true); !rest.empty()) {
    exchange_.Write(rest);
  }
  follower_->OnComplete(handler_.loop_.Now());
  call_.reset();
  exchange_.Finish();  // may destroy this
}

void Relay::OnFailure(http::CallFailure failure, std::string_view message) {
  handler_.shared_.metrics.OnEngineFailure(http::CallFailureName(failure));
  if (started_) {
    const bool timed_out = failure == http::CallFailure::kTimeout;
    const api::ApiError error = ErrorOf(failure, flight_.target().name, message);
    End(timed_out ? director::EndKind::kTimeout : director::EndKind::kEngineGone,
        follower_->status(), error.message);
    call_.reset();
    // A stream that stands between two events can still say why it ends.
    if (follower_->is_event_stream() &&
        (follower_->response_bytes() == 0 || (tail_[0] == '\n' && tail_[1] == '\n'))) {
      const model::Api api = flight_.context().request.api;
      exchange_.Write((api == model::Api::kMessages ? "event: error\ndata: " : "data: ") +
                      api::RenderError(error, api) + "\n\n");
    }
    exchange_.Abort();  // may destroy this
    return;
  }
  if (failure == http::CallFailure::kLocal && Retry(director::TryFailure::kLocal)) return;
  const bool is_unreached =
      failure == http::CallFailure::kConnect || failure == http::CallFailure::kTls;
  if (is_unreached && Retry(director::TryFailure::kConnect)) return;
  if (failure == http::CallFailure::kReset && Retry(director::TryFailure::kReset)) return;
  RespondFailure(failure, message);
}

void Relay::RespondFailure(http::CallFailure failure, std::string_view message) {
  const api::ApiError error = ErrorOf(failure, flight_.target().name, message);
  const std::string id = flight_.context().request.id;
  const model::Api api = flight_.context().request.api;
  telemetry::log::Warn("request failed", {{"request_id", id},
                                          {"endpoint", flight_.target().name},
                                          {"status", error.status},
                                          {"reason", message}});
  if (failure == http::CallFailure::kTimeout)
    flight_.OnTryFailed(director::TryFailure::kTimeout, handler_.loop_.Now());
  End(failure == http::CallFailure::kTimeout ? director::EndKind::kTimeout
      : failure == http::CallFailure::kLocal ? director::EndKind::kRejected
                                             : director::EndKind::kEngineGone,
      error.status, error.message);
  call_.reset();
  handler_.RespondError(exchange_, api, error, id);  // may destroy this
}

}  // namespace penstock::proxy
