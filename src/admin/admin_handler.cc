#include "admin/admin_handler.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <span>

#include "admin/decision_json.h"
#include "admin/live_json.h"
#include "admin/plugin_states.h"
#include "embedded/console.h"

namespace penstock::admin {
namespace {

using http::Exchange;
using http::Header;

constexpr size_t kDefaultDecisions = 50;
constexpr size_t kMaxDecisions = 1000;
// The live page's view: five minutes in points of two seconds, TTFT and hit rate over ten.
constexpr int kLivePoints = 150;
constexpr int kLiveStepSeconds = 2;
constexpr int kLiveSmoothSeconds = 10;
constexpr size_t kLiveEndpoints = 256;
constexpr size_t kLiveDecisions = 25;
constexpr size_t kMaxPublishers = 1000;

constexpr std::string_view kNoCaches = "no_kv_events";
constexpr std::string_view kWhyNoCaches =
    "Nobody listens to KV events: the policy has no plugin that asks for them, such as "
    "precise-prefix-cache-producer.";

constexpr std::string_view kBinary = "application/octet-stream";

// Only what the page itself brings may run, load or connect; nobody may frame it.
constexpr std::string_view kPagePolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

void Respond(Exchange& exchange, int status, std::string_view type, std::string_view body) {
  const Header headers[] = {
      {"content-type", type},
      {"cache-control", "no-store"},
      {"x-content-type-options", "nosniff"},
  };
  exchange.Respond(status, headers, body);
}

void RespondJson(Exchange& exchange, int status, std::string body) {
  body += '\n';
  Respond(exchange, status, "application/json", body);
}

void RespondError(Exchange& exchange, int status, std::string_view code, std::string_view message) {
  RespondJson(exchange, status, RenderAdminError(status, code, message));
}

// The raw value of a query parameter of "path?a=1&b=2".
std::optional<std::string_view> QueryValue(std::string_view target, std::string_view name) {
  const size_t mark = target.find('?');
  if (mark == std::string_view::npos) return std::nullopt;
  std::string_view query = target.substr(mark + 1);
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const size_t equals = std::min(pair.find('='), pair.size());
    if (pair.substr(0, equals) == name) {
      return pair.substr(std::min(equals + 1, pair.size()));
    }
  }
  return std::nullopt;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// "a%2Fb" to "a/b"; a percent sign that escapes nothing stays.
std::string PercentDecoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = high >= 0 ? HexDigit(text[i + 2]) : -1;
    if (low >= 0) {
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string_view TypeOf(std::string_view file) {
  if (file.ends_with(".html")) return "text/html; charset=utf-8";
  if (file.ends_with(".js")) return "text/javascript; charset=utf-8";
  if (file.ends_with(".css")) return "text/css; charset=utf-8";
  if (file.ends_with(".svg")) return "image/svg+xml";
  return kBinary;
}

}  // namespace

std::string RenderAdminError(int status, std::string_view code, std::string_view message) {
  std::string body;
  wire::JsonWriter json(&body);
  json.BeginObject().Key("error").BeginObject();
  json.Field("status", status).Field("code", code).Field("message", message);
  json.EndObject().EndObject();
  return body;
}

AdminHandler::AdminHandler(const AdminShared& shared) : shared_(shared) {}

void AdminHandler::Handle(Exchange& exchange) {
  constexpr std::string_view kDecision = "/debug/decisions/";
  const http::RequestHead& head = exchange.head();
  const std::string_view path = head.path;
  if (path == "/debug/kv/match" && head.method == "POST") return HandleMatch(exchange);
  if (head.method != "GET" && head.method != "HEAD") {
    const Header headers[] = {{"content-type", "application/json"}, {"allow", "GET, HEAD"}};
    return exchange.Respond(
        405, headers,
        RenderAdminError(405, "method_not_allowed", "The admin port only answers GET and HEAD."));
  }
  if (path == "/debug/kv/match") {
    const Header headers[] = {{"content-type", "application/json"}, {"allow", "POST"}};
    return exchange.Respond(405, headers,
                            RenderAdminError(405, "method_not_allowed",
                                             "Ask with POST and a body {\"token_ids\": [...]}."));
  }
  if (path == "/metrics") {
    return Respond(exchange, 200, "text/plain; version=0.0.4; charset=utf-8",
                   shared_.registry.Expose());
  }
  if (path == "/healthz") return Respond(exchange, 200, "text/plain", "ok\n");
  if (path == "/readyz") return HandleReady(exchange);
  if (path == "/debug/decisions") return HandleDecisions(exchange);
  if (path.starts_with(kDecision)) {
    return HandleDecision(exchange, path.substr(kDecision.size()));
  }
  if (path == "/debug/endpoints") return HandleEndpoints(exchange);
  if (path == "/debug/plugins/state") return HandlePluginStates(exchange);
  if (path == "/debug/kv") return HandleCaches(exchange);
  if (path == "/debug/kv/snapshot") return HandleSnapshot(exchange);
  if (path == "/api/live") return HandleLive(exchange);
  if (HandleFile(exchange)) return;
  RespondError(exchange, 404, "not_found",
               "There is no such page. See /, /metrics, /debug/decisions, /debug/endpoints and "
               "/debug/kv.");
}

void AdminHandler::HandleCaches(Exchange& exchange) {
  if (shared_.caches.knows == nullptr) return RespondError(exchange, 404, kNoCaches, kWhyNoCaches);
  const std::string endpoint =
      PercentDecoded(QueryValue(exchange.head().target, "endpoint").value_or(""));
  std::string body;
  wire::JsonWriter json(&body);
  WriteCaches(shared_.caches, endpoint, kMaxPublishers, &json);
  RespondJson(exchange, 200, std::move(body));
}

void AdminHandler::HandleMatch(Exchange& exchange) {
  if (shared_.caches.knows == nullptr) return RespondError(exchange, 404, kNoCaches, kWhyNoCaches);
  std::string body;
  wire::JsonWriter json(&body);
  if (Result<> ok = WriteMatch(shared_.caches, exchange.body(), &json); !ok) {
    return RespondError(exchange, 400, "bad_body", ok.error().message);
  }
  RespondJson(exchange, 200, std::move(body));
}

void AdminHandler::HandleSnapshot(Exchange& exchange) {
  if (shared_.caches.snapshots == nullptr) {
    return RespondError(exchange, 404, "no_snapshots",
                        "No snapshots are made here: no plugin has kvSnapshot with a file or a "
                        "secretFile.");
  }
  // The client may go before it is made.
  struct Asked {
    Exchange* exchange;
  };
  class Listener final : public http::ExchangeListener {
   public:
    explicit Listener(std::shared_ptr<Asked> asked) : asked_(std::move(asked)) {}
    ~Listener() override { asked_->exchange = nullptr; }

   private:
    const std::shared_ptr<Asked> asked_;
  };
  const auto asked = std::make_shared<Asked>(&exchange);
  const auto answer = [asked, &loop = exchange.loop()](SnapshotMaker::Bytes bytes) {
    loop.Post([asked, bytes = std::move(bytes)] {
      if (asked->exchange == nullptr) return;
      if (bytes != nullptr) return Respond(*asked->exchange, 200, kBinary, *bytes);
      RespondError(*asked->exchange, 503, "no_snapshot", "None can be made; the log says why.");
    });
  };
  if (!shared_.caches.snapshots->Make(answer)) {
    return RespondError(exchange, 503, "overloaded", "Too many wait for a snapshot; ask later.");
  }
  exchange.SetListener(std::make_unique<Listener>(asked));
}

void AdminHandler::HandleReady(Exchange& exchange) {
  if (shared_.is_draining && shared_.is_draining()) {
    return RespondError(exchange, 503, "draining", "The gateway is draining.");
  }
  if (shared_.director.fleet().snapshot().Get()->healthy.Empty()) {
    return RespondError(exchange, 503, "no_endpoint",
                        "No engine is healthy; /debug/endpoints says why.");
  }
  Respond(exchange, 200, "text/plain", "ok\n");
}

void AdminHandler::HandleDecisions(Exchange& exchange) {
  size_t limit = kDefaultDecisions;
  if (const auto text = QueryValue(exchange.head().target, "limit")) {
    const std::optional<uint64_t> number = ParseUint(*text);
    if (!number || *number < 1 || *number > kMaxDecisions) {
      return RespondError(exchange, 400, "bad_limit",
                          fmt::format("limit must be a whole number from 1 to {}.", kMaxDecisions));
    }
    limit = *number;
  }
  const director::DecisionLog& log = shared_.director.decisions();
  std::string body;
  wire::JsonWriter json(&body);
  json.BeginObject().Field("total", log.total()).Key("decisions").BeginArray();
  for (const auto& record : log.Latest(limit)) WriteDecisionSummary(*record, &json);
  json.EndArray().EndObject();
  RespondJson(exchange, 200, std::move(body));
}

void AdminHandler::HandleDecision(Exchange& exchange, std::string_view request_id) {
  const auto record = shared_.director.decisions().Find(PercentDecoded(request_id));
  if (record == nullptr) {
    return RespondError(exchange, 404, "not_found",
                        "No ended request of that id is on record: it still runs, it never came "
                        "here, or it was so long ago that its record gave way to newer ones.");
  }
  std::string body;
  wire::JsonWriter json(&body);
  WriteDecision(*record, &json);
  RespondJson(exchange, 200, std::move(body));
}

void AdminHandler::HandleEndpoints(Exchange& exchange) {
  const auto pool = shared_.director.fleet().snapshot().Get();
  std::string body;
  wire::JsonWriter json(&body);
  json.BeginObject().Field("version", pool->version);
  WriteEndpoints(*pool, shared_.director.fleet().live(), shared_.live, exchange.received(),
                 pool->endpoints.size(), &json);
  json.EndObject();
  RespondJson(exchange, 200, std::move(body));
}

void AdminHandler::HandlePluginStates(Exchange& exchange) {
  std::string body;
  wire::JsonWriter json(&body);
  WritePluginStates(shared_.director,
                    std::chrono::duration_cast<std::chrono::nanoseconds>(
                        std::chrono::system_clock::now().time_since_epoch()),
                    &json);
  RespondJson(exchange, 200, std::move(body));
}

void AdminHandler::HandleLive(Exchange& exchange) {
  const Time now = exchange.received();
  const auto pool = shared_.director.fleet().snapshot().Get();
  const director::DecisionLog& log = shared_.director.decisions();
  std::string body;
  body.reserve(32 * 1024);
  wire::JsonWriter json(&body);
  json.BeginObject()
      .Field("version", shared_.version)
      .Field("policy", shared_.policy)
      .Field("draining", shared_.is_draining && shared_.is_draining());
  json.Key("scheduling").BeginArray();
  for (const std::string& line : shared_.scheduling) json.Value(line);
  json.EndArray().Key("models").BeginArray();
  for (size_t i = 0; i < pool->models.size() && i < kLiveEndpoints; ++i) {
    json.Value(pool->models[i].first);
  }
  json.EndArray()
      .Field("endpoints_total", pool->endpoints.size())
      .Field("endpoints_healthy", pool->healthy.Count())
      .Field("step_s", kLiveStepSeconds)
      .Field("smooth_s", kLiveSmoothSeconds);
  WriteSeries(shared_.live.Series(now, kLivePoints, kLiveStepSeconds, kLiveSmoothSeconds), &json);
  WriteEndpoints(*pool, shared_.director.fleet().live(), shared_.live, now, kLiveEndpoints, &json);
  json.Field("decisions_total", log.total()).Key("decisions").BeginArray();
  for (const auto& record : log.Latest(kLiveDecisions)) WriteDecisionSummary(*record, &json);
  json.EndArray().Key("caches");
  WriteLiveCaches(shared_.caches, kLiveEndpoints, &json);
  json.EndObject();
  RespondJson(exchange, 200, std::move(body));
}

bool AdminHandler::HandleFile(Exchange& exchange) {
  std::string_view name = exchange.head().path;
  name.remove_prefix(name.starts_with('/') ? 1 : 0);
  if (name.empty()) name = "index.html";
  for (const EmbeddedFile& file : ConsoleFiles()) {
    if (file.name != name) continue;
    const Header headers[] = {
        {"content-type", TypeOf(file.name)},   {"cache-control", "no-cache"},
        {"x-content-type-options", "nosniff"}, {"content-security-policy", kPagePolicy},
        {"referrer-policy", "no-referrer"},
    };
    exchange.Respond(200, headers, file.bytes);
    return true;
  }
  return false;
}

}  // namespace penstock::admin
