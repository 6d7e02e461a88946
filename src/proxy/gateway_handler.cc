#include "proxy/gateway_handler.h"

#include <optional>
#include <utility>

#include "core/text.h"
#include "proxy/relay.h"
#include "telemetry/log.h"

namespace penstock::proxy {
namespace {

// Holds the place of the relay until the request can be decided about; it goes with the client.
template <class Pending>
class WaitingClient final : public http::ExchangeListener {
 public:
  explicit WaitingClient(Pending pending) : pending_(std::move(pending)) {}

 private:
  Pending pending_;
};

}  // namespace

GatewayHandler::GatewayHandler(net::Loop& loop, GatewayShared& shared, uint64_t seed)
    : loop_(loop),
      shared_(shared),
      lane_(shared.director, seed ^ 0x5eed),
      client_(http::Client::Create(loop)),
      asker_(intake::TokenAsker::Create(loop, shared.director, shared.tls_call_options.tls, seed)),
      reader_(seed),
      series_(shared.metrics) {}

GatewayHandler::~GatewayHandler() = default;

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
  std::optional<api::Route> route;
  if (head.method == "POST") route = api::ParserSet::Default().FindWhole(head.path);
  HandleInference(exchange, route.value_or(api::Route()));
}

void GatewayHandler::HandleInference(http::Exchange& exchange, const api::Route& route) {
  const http::RequestHead& head = exchange.head();
  std::vector<model::HeaderView> headers;
  headers.reserve(head.headers.list.size());
  for (const http::Header& h : head.headers.list) headers.push_back({h.name, h.value});
  const std::string id = reader_.RequestId(head.headers.Find("x-request-id"));
  if (shared_.preparer != nullptr && shared_.preparer->Takes(exchange.body().size())) {
    return HandleLong(exchange, route, headers, id);
  }
  auto read = reader_.Read(route, id, std::move(headers), exchange.body());
  if (!read) return RespondError(exchange, route.api, read.error(), id);
  if (asker_ != nullptr) return HandleAsking(exchange, route, id, std::move(*read));
  std::vector<api::Splice> splices = read->edits.Splices();
  intake::Admission admission =
      intake::Admit(std::move(*read), lane_, shared_.metrics, series_, exchange.received(), loop_);
  Dispatch(exchange, route, id, std::move(admission), std::move(splices));
}

void GatewayHandler::HandleLong(http::Exchange& exchange, const api::Route& route,
                                const std::vector<model::HeaderView>& headers,
                                const std::string& id) {
  auto request = std::make_shared<intake::LongRequest>(std::move(exchange.body()), headers);
  if (auto read = request->Read(route, id); !read) {
    return RespondError(exchange, route.api, read.error(), id);
  }
  request->Begin(lane_.Begin(std::move(request->incoming().request)));
  intake::Waiting waiting =
      shared_.preparer->Start(std::move(request), exchange.received(), loop_,
                              [this, &exchange, route, id](intake::LongRequest* prepared) {
                                AskOrDispatch(exchange, route, id, *prepared);
                              });
  exchange.SetListener(std::make_unique<WaitingClient<intake::Waiting>>(std::move(waiting)));
}

void GatewayHandler::HandleAsking(http::Exchange& exchange, const api::Route& route,
                                  const std::string& id, intake::IncomingRequest incoming) {
  const Time before = loop_.Now();
  sched::RequestContext context = lane_.Begin(std::move(incoming.request));
  shared_.director.scheduler().Prepare(context, exchange.received());
  auto question = asker_->Consider(context, route);
  if (!question) {
    std::vector<api::Splice> splices = incoming.edits.Splices();
    intake::Admission admission =
        intake::AdmitPrepared(incoming, std::move(context), before, lane_, shared_.metrics, series_,
                              exchange.received(), loop_);
    return Dispatch(exchange, route, id, std::move(admission), std::move(splices));
  }
  // What was read stands in this loop's reader, which others use meanwhile: it is read once more.
  auto request =
      std::make_shared<intake::LongRequest>(std::move(exchange.body()), context.request.headers);
  if (auto read = request->Read(route, id); !read) {
    return RespondError(exchange, route.api, read.error(), id);
  }
  context.request = std::move(request->incoming().request);
  request->Begin(std::move(context));
  Ask(exchange, route, id, *std::move(question), std::move(request));
}

void GatewayHandler::AskOrDispatch(http::Exchange& exchange, const api::Route& route,
                                   const std::string& id, intake::LongRequest& request) {
  if (asker_ != nullptr) {
    if (auto question = asker_->Consider(request.context(), route)) {
      return Ask(exchange, route, id, *std::move(question), request.shared_from_this());
    }
  }
  DispatchLong(exchange, route, id, request);
}

void GatewayHandler::Ask(http::Exchange& exchange, const api::Route& route, const std::string& id,
                         intake::TokenAsker::Question question,
                         std::shared_ptr<intake::LongRequest> request) {
  auto pending = asker_->Ask(std::move(question), std::move(request), exchange.received(),
                             [this, &exchange, route, id](intake::LongRequest* told) {
                               DispatchLong(exchange, route, id, *told);
                             });
  exchange.SetListener(
      std::make_unique<WaitingClient<intake::TokenAsker::Pending>>(std::move(pending)));
}

void GatewayHandler::DispatchLong(http::Exchange& exchange, const api::Route& route,
                                  const std::string& id, intake::LongRequest& request) {
  exchange.body() = std::move(request.body());
  Dispatch(
      exchange, route, id,
      intake::AdmitPrepared(request, lane_, shared_.metrics, series_, exchange.received(), loop_),
      request.incoming().edits.Splices());
}

void GatewayHandler::Dispatch(http::Exchange& exchange, const api::Route& route,
                              const std::string& id, intake::Admission admission,
                              std::vector<api::Splice> splices) {
  if (admission.follower == nullptr) {
    const director::Rejection& rejection = admission.rejection;
    return RespondError(exchange, route.api,
                        {rejection.status,
                         rejection.status == 404   ? "invalid_request_error"
                         : rejection.status == 429 ? "rate_limit_error"
                                                   : "service_unavailable",
                         rejection.code, rejection.message,
                         rejection.status == 404 ? std::string_view("model") : std::string_view()},
                        id);
  }
  auto relay =
      std::make_unique<Relay>(*this, exchange, std::move(admission.follower), std::move(splices));
  Relay& running = *relay;
  exchange.SetListener(std::move(relay));
  running.Dispatch();
}

std::string RenderServerError(intake::RequestMetrics& metrics, int status, std::string_view code,
                              std::string_view message) {
  const bool is_ours = status == 503;  // counted by the server
  if (!is_ours) metrics.OnClientError(code);
  return api::RenderError({status, is_ours ? "service_unavailable" : "invalid_request_error", code,
                           std::string(message), ""},
                          model::Api::kOther);
}

}  // namespace penstock::proxy
