#include "proxy/gateway_handler.h"

#include <chrono>
#include <utility>

#include "core/text.h"
#include "proxy/relay.h"
#include "telemetry/log.h"

namespace penstock::proxy {
namespace {

constexpr size_t kMaxRequestIdBytes = 128;
constexpr std::string_view kFairnessHeader = "x-llm-d-inference-fairness-id";
constexpr std::string_view kFairnessHeaderOld = "x-gateway-inference-fairness-id";
constexpr std::string_view kDefaultFlow = "default-flow";

bool IsUsableId(std::string_view id) {
  if (id.empty() || id.size() > kMaxRequestIdBytes) return false;
  for (char c : id) {
    const bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_' || c == '.' || c == ':' || c == '/' || c == '+' ||
                    c == '=';
    if (!ok) return false;
  }
  return true;
}

int64_t UnixMicros() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string_view FairnessId(const model::Request& request) {
  std::string_view id = request.Header(kFairnessHeader);
  if (id.empty()) id = request.Header(kFairnessHeaderOld);
  return id.empty() ? kDefaultFlow : id;
}

}  // namespace

GatewayHandler::GatewayHandler(net::Loop& loop, GatewayShared& shared, uint64_t seed)
    : loop_(loop),
      shared_(shared),
      random_(seed),
      lane_(shared.director, seed ^ 0x5eed),
      client_(http::Client::Create(loop)),
      series_(shared.metrics) {}

GatewayHandler::~GatewayHandler() = default;

std::string GatewayHandler::RequestId(const http::RequestHead& head) {
  const std::string_view given = head.headers.Find("x-request-id");
  if (IsUsableId(given)) return std::string(given);
  static constexpr char kHex[] = "0123456789abcdef";
  std::string id(32, '0');
  for (size_t half = 0; half < 2; ++half) {
    uint64_t bits = random_.Next();
    for (size_t i = 0; i < 16; ++i, bits >>= 4) id[half * 16 + i] = kHex[bits & 15];
  }
  return id;
}

void GatewayHandler::RespondError(http::Exchange& exchange, model::Api api,
                                  const api::ApiError& error, std::string_view request_id) {
  if (error.status < 500) shared_.metrics.OnClientError(error.code);
  std::vector<http::Header> headers = {{"content-type", "application/json"}};
  if (!request_id.empty()) headers.push_back({"x-request-id", request_id});
  if (error.status == 429 || error.status == 503) headers.push_back({"retry-after", "1"});
  exchange.Respond(error.status, headers, api::RenderError(error, api));
}

void GatewayHandler::HandleModels(http::Exchange& exchange) {
  const http::Header headers[] = {{"content-type", "application/json"}};
  exchange.Respond(200, headers, models_.Json(*pool_.Load(shared_.director.fleet().snapshot())));
}

void GatewayHandler::HandleHealth(http::Exchange& exchange) {
  if (pool_.Load(shared_.director.fleet().snapshot())->healthy.Empty()) {
    RespondError(exchange, model::Api::kOther,
                 {503, "service_unavailable", "no_endpoint", "No healthy engine.", ""}, "");
    return;
  }
  exchange.Respond(200, {}, "");
}

void GatewayHandler::Handle(http::Exchange& exchange) {
  const http::RequestHead& head = exchange.head();
  if (head.method == "GET" || head.method == "HEAD") {
    std::string decoded;
    std::string_view path = head.path;
    if (path.find('%') != std::string_view::npos) path = decoded = PercentDecoded(path);
    if (path == "/v1/models") return HandleModels(exchange);
    if (path == "/health") return HandleHealth(exchange);
  }
  HandleInference(exchange,
                  head.method == "POST" ? api::ClassifyPath(head.path) : model::Api::kOther);
}

void GatewayHandler::HandleInference(http::Exchange& exchange, model::Api api) {
  const http::RequestHead& head = exchange.head();
  model::Request request;
  request.id = RequestId(head);
  request.headers.reserve(head.headers.list.size());
  for (const http::Header& h : head.headers.list) request.headers.push_back({h.name, h.value});

  std::vector<api::Splice> splices;
  if (auto read = reader_.Read(api, exchange.body(), &request, &splices); !read) {
    return RespondError(exchange, api, read.error(), request.id);
  }
  request.target_model = request.model;
  const std::string id = request.id;
  const std::string model = request.model;
  const std::string fairness(FairnessId(request));

  const Time before = loop_.Now();
  director::Arrival arrival = lane_.Arrive(std::move(request), exchange.received(), UnixMicros());
  const Duration took = loop_.Now() - before;
  if (arrival.flight == nullptr) {
    const director::Rejection& rejection = arrival.rejection;
    // A model that no engine names may be a client's invention: it gets no series of its own.
    const auto& pool = pool_.Load(shared_.director.fleet().snapshot());
    const bool is_known = model.empty() || pool->Serving(model) != nullptr;
    const std::string_view label = is_known ? std::string_view(model) : "unknown";
    shared_.metrics.OnDecision(took, label, "", "");
    shared_.metrics.OnError(label, fairness, rejection.code);
    return RespondError(exchange, api,
                        {rejection.status,
                         rejection.status == 404   ? "invalid_request_error"
                         : rejection.status == 429 ? "rate_limit_error"
                                                   : "service_unavailable",
                         rejection.code, rejection.message,
                         rejection.status == 404 ? std::string_view("model") : std::string_view()},
                        id);
  }
  arrival.flight->SetDecisionTime(took);
  shared_.metrics.OnDecision(took, model, arrival.flight->target().name,
                             std::to_string(arrival.flight->target().port));
  shared_.metrics.OnDispatch(arrival.flight->record().attempts.front(),
                             loop_.Now() - exchange.received());
  RequestSeries& series = series_.Find(model, fairness);
  series.requests.Add();
  auto relay = std::make_unique<Relay>(*this, exchange, std::move(arrival.flight),
                                       std::move(splices), series);
  Relay& running = *relay;
  exchange.SetListener(std::move(relay));
  running.Dispatch();
}

std::string RenderServerError(RequestMetrics& metrics, int status, std::string_view code,
                              std::string_view message) {
  const bool is_ours = status == 503;  // counted by the server
  if (!is_ours) metrics.OnClientError(code);
  return api::RenderError({status, is_ours ? "service_unavailable" : "invalid_request_error", code,
                           std::string(message), ""},
                          model::Api::kOther);
}

}  // namespace penstock::proxy
