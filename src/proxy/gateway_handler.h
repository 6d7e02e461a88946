// The gateway's request handler: one per loop. Reads the request, asks the director, and hands the
// rest to a Relay, which lives as long as the exchange.
//
// THREADS: loop-bound. OWNS: the loop's client pool, body reader and decision lane.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/request.h"
#include "director/director.h"
#include "http/client.h"
#include "http/server.h"
#include "intake/follower.h"
#include "intake/preparer.h"
#include "intake/request_metrics.h"
#include "intake/request_reader.h"
#include "intake/token_asker.h"
#include "proxy/models_list.h"

namespace penstock::proxy {

// What all loops of one gateway share.
struct GatewayShared {
  director::Director& director;
  intake::RequestMetrics& metrics;
  http::CallOptions call_options;
  http::CallOptions tls_call_options;    // of engines that speak TLS
  intake::Preparer* preparer = nullptr;  // null: all requests are prepared on their loops
};

class GatewayHandler : public http::Handler {
 public:
  GatewayHandler(net::Loop& loop, GatewayShared& shared, uint64_t seed);
  ~GatewayHandler() override;

  void Handle(http::Exchange& exchange) override;

 private:
  friend class Relay;
  void HandleModels(http::Exchange& exchange);
  void HandleHealth(http::Exchange& exchange);
  void HandleInference(http::Exchange& exchange, const api::Route& route);
  // Has the request prepared beside the loop first.
  void HandleLong(http::Exchange& exchange, const api::Route& route,
                  const std::vector<model::HeaderView>& headers, const std::string& id);
  // Prepares the request, and has somebody asked for its tokens where that is of use.
  void HandleAsking(http::Exchange& exchange, const api::Route& route, const std::string& id,
                    intake::IncomingRequest incoming);
  // Of a request whose body it has: lets it go on when its tokens are told, or at once.
  void AskOrDispatch(http::Exchange& exchange, const api::Route& route, const std::string& id,
                     intake::LongRequest& request);
  void Ask(http::Exchange& exchange, const api::Route& route, const std::string& id,
           intake::TokenAsker::Question question, std::shared_ptr<intake::LongRequest> request);
  // Sends a request that has its body for itself on its way.
  void DispatchLong(http::Exchange& exchange, const api::Route& route, const std::string& id,
                    intake::LongRequest& request);
  // Sends an admitted request to its engine, or answers one that is not.
  void Dispatch(http::Exchange& exchange, const api::Route& route, const std::string& id,
                intake::Admission admission, std::vector<api::Splice> splices);
  // Ends the exchange with an error in the API's own shape, and counts it.
  void RespondError(http::Exchange& exchange, model::Api api, const api::ApiError& error,
                    std::string_view request_id);

  net::Loop& loop_;
  GatewayShared& shared_;
  director::Lane lane_;
  std::unique_ptr<http::Client> client_;
  std::unique_ptr<intake::TokenAsker> asker_;  // null: nobody is asked for tokens
  intake::RequestReader reader_;
  intake::RequestMetrics::Cache series_;
  ModelsList models_;
  SnapshotCell<model::PoolSnapshot>::Reader pool_;
};

// Errors of the HTTP server itself, in OpenAI's shape; counts those that are the client's.
std::string RenderServerError(intake::RequestMetrics& metrics, int status, std::string_view code,
                              std::string_view message);

}  // namespace penstock::proxy
