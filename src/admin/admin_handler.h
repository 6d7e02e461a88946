// The admin port: what operators, supervisors, Prometheus and the live page ask for.
//
//   GET /metrics                     Prometheus text
//   GET /healthz                     200 while the process serves
//   GET /readyz                      200 when an engine is healthy and the gateway is not draining
//   GET /debug/decisions?limit=N     the newest decisions, a summary each
//   GET /debug/decisions/REQUEST-ID  one decision, explained
//   GET /debug/endpoints             what is known of every engine
//   GET /debug/plugins/state         what the plugins hold, as llm-d tells it
//   GET /debug/kv?endpoint=NAME      who tells of KV caches, how well, and what the index holds
//   GET /debug/kv/snapshot           what is known of KV caches, for another router that starts
//   POST /debug/kv/match             which endpoints hold the blocks of {"token_ids": [...]}
//   GET /api/live                    what the live page polls
//   GET /                            the live page and its files (console/)
//
// Everything only reads; HEAD works wherever GET does. Errors are {"error": {...}} as JSON.
//
// THREADS: loop-bound; what it reads is locked or immutable. COST: /metrics and /debug/* are worked
// out per request: keep the admin server off the loops that relay traffic.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "admin/caches_json.h"
#include "admin/live_stats.h"
#include "director/director.h"
#include "http/server.h"
#include "telemetry/metrics.h"

namespace penstock::admin {

// What all admin loops share; outlives the handlers.
struct AdminShared {
  director::Director& director;
  telemetry::Registry& registry;
  const LiveStats& live;
  std::string version;                  // "0.1.0"
  std::string policy;                   // "sticky", or the file that decides
  std::vector<std::string> scheduling;  // Scheduler::Describe()
  std::function<bool()> is_draining;    // from any thread; empty: never
  HeardCaches caches = {};              // filled before the first request
};

class AdminHandler : public http::Handler {
 public:
  explicit AdminHandler(const AdminShared& shared);
  void Handle(http::Exchange& exchange) override;

 private:
  void HandleReady(http::Exchange& exchange);
  void HandleDecisions(http::Exchange& exchange);
  void HandleDecision(http::Exchange& exchange, std::string_view request_id);
  void HandleEndpoints(http::Exchange& exchange);
  void HandlePluginStates(http::Exchange& exchange);
  void HandleCaches(http::Exchange& exchange);
  void HandleMatch(http::Exchange& exchange);
  void HandleSnapshot(http::Exchange& exchange);
  void HandleLive(http::Exchange& exchange);
  // False when no file of the console has that path.
  bool HandleFile(http::Exchange& exchange);

  const AdminShared& shared_;
};

// Body of an error that the HTTP server itself answers with on the admin port, for
// ServerOptions::render_error.
std::string RenderAdminError(int status, std::string_view code, std::string_view message);

}  // namespace penstock::admin
