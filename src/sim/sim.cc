#include "sim/sim.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "http/server.h"
#include "sim/engine_host.h"
#include "sim/handler.h"
#include "sim/metrics.h"
#include "tokens/prompt_tokenizer.h"

namespace penstock::sim {
namespace {

constexpr uint32_t kMaxEngines = 1'000;
constexpr size_t kMaxLoras = 1'000;
constexpr double kMaxSpeed = 100'000;

Result<> Check(const SimOptions& options) {
  if (options.engines == 0 || options.engines > kMaxEngines) {
    return Fail(Code::kOutOfRange, "engines: " + std::to_string(options.engines) +
                                       " is not between 1 and " + std::to_string(kMaxEngines));
  }
  if (!(options.speed > 0 && options.speed <= kMaxSpeed)) {
    return Fail(Code::kOutOfRange,
                "speed: " + std::to_string(options.speed) + " is not above 0 and at most 100000");
  }
  if (options.median_output_tokens == 0) {
    return Fail(Code::kOutOfRange, "output tokens: the median must be at least 1");
  }
  if (options.base_port != 0 && options.base_port + options.engines - 1 > 65'535) {
    return Fail(Code::kOutOfRange, "port: " + std::to_string(options.engines) +
                                       " engines from port " + std::to_string(options.base_port) +
                                       " on go beyond 65535");
  }
  if (options.loras.size() > kMaxLoras) {
    return Fail(Code::kOutOfRange, "lora: more than " + std::to_string(kMaxLoras) + " adapters");
  }
  std::set<std::string> names = {options.model};
  for (const std::string& lora : options.loras) {
    if (lora.empty() || !names.insert(lora).second) {
      return Fail(Code::kInvalidArgument,
                  "lora: '" + lora + "' is empty, given twice, or the model's own name");
    }
  }
  return {};
}

std::string RenderServerError(int status, std::string_view code, std::string_view message) {
  return RenderError({status, code, std::string(message)}, model::Api::kOther);
}

// One engine with everything around it. Members are destroyed from the last to the first: the
// server's connections end before what they use.
struct Unit {
  Front front;
  std::unique_ptr<EngineMetrics> metrics;
  std::unique_ptr<EngineHost> host;
  std::unique_ptr<http::Server> server;
};

class Fleet final : public SimFleet {
 public:
  Result<> Add(net::LoopPool& loops, const SimOptions& options, uint32_t index);
  // REQUIRES: no engine is added.
  Result<> LoadTokenizer(const std::string& path);
  // REQUIRES: all engines are added.
  Result<> StartKv(const SimOptions& options);

  std::vector<uint16_t> ports() const override {
    std::vector<uint16_t> ports;
    for (const auto& unit : units_) ports.push_back(unit->server->port());
    return ports;
  }

  std::vector<KvPublisher::Endpoint> kv_endpoints() const override {
    return kv_ == nullptr ? std::vector<KvPublisher::Endpoint>() : kv_->endpoints();
  }

  void Drain(Duration limit, std::function<void()> done) override {
    // All `done`s come on loop 0, so the count needs no lock.
    auto left = std::make_shared<size_t>(units_.size());
    auto all_done = std::make_shared<std::function<void()>>(std::move(done));
    for (const auto& unit : units_) {
      unit->server->Drain(limit, [left, all_done] {
        if (--*left == 0) (*all_done)();
      });
    }
  }

 private:
  std::unique_ptr<tokens::PromptTokenizer> tokenizer_;  // null: the engines' own words
  std::unique_ptr<KvPublisher> kv_;                     // null: events are not published
  std::vector<std::unique_ptr<Unit>> units_;
};

Result<> Fleet::LoadTokenizer(const std::string& path) {
  auto loaded = tokens::PromptTokenizer::Load({.path = path});
  if (!loaded) return std::unexpected(std::move(loaded.error()));
  tokenizer_ = std::move(*loaded);
  return {};
}

Result<> Fleet::Add(net::LoopPool& loops, const SimOptions& options, uint32_t index) {
  engine::EngineOptions engine_options = options.profile.Options();
  engine_options.policy = options.policy;
  engine_options.seed = options.seed * kMaxEngines + index;
  std::unique_ptr<engine::KvLog> log;
  if (options.kv.is_on) {
    log = std::make_unique<engine::KvLog>(options.kv.encoding, engine_options.block_size);
    engine_options.block_listener = log.get();
  }
  auto engine = engine::Engine::Create(engine_options);
  if (!engine) return std::unexpected(std::move(engine.error()));

  auto unit = std::make_unique<Unit>();
  Front& front = unit->front;
  front.names = {options.model, options.loras, engine_options.max_model_len};
  front.names.tokenizer = tokenizer_.get();
  front.voice = {options.seed, options.median_output_tokens, tokenizer_.get()};
  front.engine_options = engine_options;
  front.has_render = options.has_render;
  front.has_tokenize = options.has_tokenize;
  front.created = std::chrono::duration_cast<std::chrono::seconds>(
                      std::chrono::system_clock::now().time_since_epoch())
                      .count();
  unit->metrics = std::make_unique<EngineMetrics>(front.names, engine_options);
  unit->host = std::make_unique<EngineHost>(loops, index % loops.size(), std::move(*engine),
                                            *unit->metrics, options.speed, std::move(log));
  front.metrics = unit->metrics.get();
  front.host = unit->host.get();

  http::ServerOptions server_options;
  server_options.name = "sim";
  server_options.render_error = RenderServerError;
  const uint16_t port =
      options.base_port == 0 ? 0 : static_cast<uint16_t>(options.base_port + index);
  size_t next_loop = 0;
  auto server = http::Server::Create(
      loops, options.host, port, std::move(server_options),
      [&](net::Loop& loop) -> std::unique_ptr<http::Handler> {
        while (&loops.at(next_loop) != &loop) next_loop = (next_loop + 1) % loops.size();
        auto handler = std::make_unique<Handler>(front, next_loop);
        front.host->SetSink(next_loop, [handler = handler.get()](std::span<const Delta> deltas) {
          handler->OnDeltas(deltas);
        });
        return handler;
      });
  if (!server) return std::unexpected(std::move(server.error()));
  unit->server = std::move(*server);
  units_.push_back(std::move(unit));
  return {};
}

Result<> Fleet::StartKv(const SimOptions& options) {
  std::vector<std::string> topics;
  for (const auto& unit : units_) {
    topics.push_back("kv@" + options.host + ":" + std::to_string(unit->server->port()) + "@" +
                     options.model);
  }
  auto kv = KvPublisher::Start(options.kv, options.host, std::move(topics));
  if (!kv) return std::unexpected(std::move(kv.error()));
  kv_ = std::move(*kv);
  for (size_t i = 0; i < units_.size(); ++i) units_[i]->host->SetPublisher(kv_.get(), i);
  return {};
}

}  // namespace

Result<std::unique_ptr<SimFleet>> SimFleet::Start(net::LoopPool& loops, SimOptions options) {
  if (options.model.empty()) options.model = options.profile.model;
  if (Result<> ok = Check(options); !ok) return std::unexpected(std::move(ok.error()));
  auto fleet = std::make_unique<Fleet>();
  if (!options.tokenizer.empty()) {
    if (Result<> ok = fleet->LoadTokenizer(options.tokenizer); !ok) {
      return std::unexpected(std::move(ok.error()));
    }
  }
  for (uint32_t i = 0; i < options.engines; ++i) {
    if (Result<> ok = fleet->Add(loops, options, i); !ok) {
      return std::unexpected(std::move(ok.error()));
    }
  }
  if (options.kv.is_on) {
    if (Result<> ok = fleet->StartKv(options); !ok) return std::unexpected(std::move(ok.error()));
  }
  return fleet;
}

}  // namespace penstock::sim
