// What a decision costs: columns gathered and filled, filters, scorers and the picker, with a trace
// as the gateway keeps one. The arrival's part (keys of a 2k-token prompt) and the index stand
// apart.
//
//   cmake --preset bench && cmake --build build/bench --target decision_bench
//   build/bench/bin/decision_bench
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <iostream>

#include "kvcache/exact_caches.h"
#include "kvcache/prefix_index.h"
#include "plugins/builtin.h"
#include "sched/config_loader.h"

namespace penstock {
namespace {

constexpr size_t kPromptTokens = 2048;

sched::SchedulingSpec FourScorers() {
  sched::SchedulingSpec spec = *sched::BuiltinPolicy("weighted");
  spec.plugins.push_back({"active-request-scorer", "active-request-scorer", {}});
  auto& profile = spec.profiles.front().plugins;
  profile.insert(profile.begin(), {"active-request-scorer", 1.0});
  return spec;
}

// A pool in the middle of its day: every endpoint has some load, and all share a system prompt of a
// quarter of the request; `home` has nearly all of it.
struct Rig {
  Rig(const sched::SchedulingSpec& spec, size_t size) : live(size) {
    config::Diagnostics diagnostics;
    scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
    for (const std::string& error : diagnostics.errors) std::cerr << error << "\n";
    if (scheduler == nullptr) std::exit(1);
    for (uint32_t i = 0; i < size; ++i) {
      model::EndpointInfo endpoint;
      endpoint.slot = i;
      endpoint.spec.name = endpoint.address = "10.0.0." + std::to_string(i) + ":8000";
      endpoint.health = model::Health::kHealthy;
      endpoint.block_size_tokens = 16;
      endpoint.gpu_blocks = 30000;
      pool.endpoints.push_back(endpoint);
      live.waiting[i] = static_cast<float>(random.Below(20));
      live.running[i] = static_cast<float>(random.Below(200));
      live.kv_usage[i] = static_cast<float>(random.Uniform());
      live.in_flight_requests[i] = static_cast<int64_t>(random.Below(100));
      live.in_flight_tokens[i] = static_cast<int64_t>(random.Below(100000));
      live.scraped_at_nanos[i] = 1;
    }
    pool.Index();
    candidates = pool.healthy;
    for (const auto& endpoint : pool.endpoints) scheduler->OnEndpointChanged(endpoint);
    Learn();
  }

  void Prepare(std::string_view text) {
    const model::PromptPart part{text, true};
    context = {};
    context.request.target_model = "llama-3-70b";
    context.request.prompt = {&part, 1};
    scheduler->Prepare(context, now);
    context.request.prompt = {};
  }
  void Learn() {
    for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<char>('a' + i / 256 % 26);
    Prepare(std::string_view(prompt).substr(0, prompt.size() / 4));
    for (uint32_t i = 0; i < pool.endpoints.size(); ++i) {
      scheduler->FillColumns(context, pool, live, now, &columns);
      scheduler->OnPicked(context, columns, {i, i, now});
    }
    Prepare(std::string_view(prompt).substr(0, prompt.size() * 15 / 16));
    scheduler->FillColumns(context, pool, live, now, &columns);
    scheduler->OnPicked(context, columns, {0, 0, now});
    Prepare(prompt);
  }
  void Decide() {
    scheduler->FillColumns(context, pool, live, now, &columns);
    scheduler->Schedule(context, columns, candidates, random, workspace, &trace, &decision);
  }

  model::PoolSnapshot pool;
  model::LiveColumns live;
  std::unique_ptr<sched::Scheduler> scheduler;
  std::string prompt = std::string(kPromptTokens * 4, ' ');
  sched::RequestContext context;
  model::EndpointColumns columns;
  Mask candidates;
  Random random{1};
  sched::Workspace workspace;
  sched::DecisionTrace trace;
  sched::Decision decision;
  Time now = FromNanos(1'000'000'000);
};

void RunDecisions(benchmark::State& state, const sched::SchedulingSpec& spec) {
  Rig rig(spec, static_cast<size_t>(state.range(0)));
  for (auto _ : state) {
    rig.Decide();
    benchmark::DoNotOptimize(rig.decision.picks.data());
  }
}

void BM_DecisionSticky(benchmark::State& state) {
  RunDecisions(state, *sched::BuiltinPolicy("sticky"));
}
BENCHMARK(BM_DecisionSticky)->Arg(10)->Arg(100)->Arg(1000);

void BM_DecisionFourScorers(benchmark::State& state) { RunDecisions(state, FourScorers()); }
BENCHMARK(BM_DecisionFourScorers)->Arg(10)->Arg(100)->Arg(1000);

// One plugin alone, with max-score-picker: filters and scorers may take 1 us per 64 endpoints.
void BM_Plugin(benchmark::State& state, std::string_view type, std::string_view parameters) {
  const std::string name(type);
  sched::SchedulingSpec spec;
  spec.plugins = {{"handler", "single-profile-handler", {}},
                  {"picker", "max-score-picker", {}},
                  {"plugin", name, *wire::ParseYaml(parameters, "parameters")}};
  spec.profiles = {{"default", {{"plugin", 1.0}, {"picker", 1.0}}}};
  Rig rig(spec, 1000);
  const std::string cold(kPromptTokens * 4, 'z');
  rig.Prepare(cold);
  rig.scheduler->FillColumns(rig.context, rig.pool, rig.live, rig.now, &rig.columns);
  for (int i = 0; i < 5000; ++i) {
    const auto column = static_cast<uint32_t>(rig.random.Below(1000));
    rig.scheduler->OnPicked(rig.context, rig.columns, {column, column, rig.now});
  }
  for (auto _ : state) {
    rig.scheduler->Schedule(rig.context, rig.columns, rig.candidates, rig.random, rig.workspace,
                            nullptr, &rig.decision);
  }
}
BENCHMARK_CAPTURE(BM_Plugin, label_selector, "label-selector-filter",
                  "{matchExpressions: [{key: a, operator: DoesNotExist}]}");
BENCHMARK_CAPTURE(BM_Plugin, lora_affinity, "lora-affinity-scorer", "{}");
BENCHMARK_CAPTURE(BM_Plugin, no_hit_lru, "no-hit-lru-scorer", "{}");
BENCHMARK_CAPTURE(BM_Plugin, queue, "queue-scorer", "{}");

class NoSink : public kvcache::EventSink {
 public:
  void Apply(const kvcache::KvEvent&) override {}
  void Clear() override {}
  void MarkGap(Time) override {}
  bool HasTurnedOver() const override { return false; }
};

// The match of a prompt of 1,024 blocks at so many endpoints whose engines tell what they hold:
// each another part of it.
void BM_PreciseMatch(benchmark::State& state) {
  const auto size = static_cast<uint32_t>(state.range(0));
  constexpr size_t kBlocks = 1024;
  sched::SchedulingSpec spec;
  spec.plugins = {{"handler", "single-profile-handler", {}},
                  {"picker", "max-score-picker", {}},
                  {"precise", "precise-prefix-cache-producer", {}},
                  {"prefix", "prefix-cache-scorer", {}}};
  spec.profiles = {{"default", {{"prefix", 1.0}, {"picker", 1.0}}}};
  Rig rig(spec, size);
  kvcache::ExactCaches& caches = rig.scheduler->knows_caches()->caches();
  sched::PrefixKeys& keys = rig.context.prefix_keys.front();
  keys.content_tokens = kBlocks * 16 + 1;
  keys.name_space = caches.keys().Namespace("", "");
  for (size_t i = 0; i < kBlocks; ++i) keys.content.push_back(rig.random.Next());
  NoSink sink;
  auto table = std::make_shared<kvcache::SlotTable>();
  for (uint32_t i = 0; i < size; ++i) {
    const auto publisher =
        std::make_shared<kvcache::Publisher>(kvcache::Publisher::Options(), sink);
    publisher->OnConnected(rig.now);
    publisher->OnBatch(0, std::string_view("\x92\x01\x90", 3), rig.now);
    const kvcache::ChainIndex::Slot slot = *caches.index().Join();
    const size_t held = 1 + rig.random.Below(kBlocks);
    caches.index().Unpin(caches.index().Store({.slot = slot.index,
                                               .name_space = keys.name_space,
                                               .keys = std::span(keys.content).first(held)}));
    table->entries.push_back({true, slot, publisher});
  }
  caches.SetTable(table);
  for (auto _ : state) {
    rig.scheduler->FillColumns(rig.context, rig.pool, rig.live, rig.now, &rig.columns);
  }
  if (rig.columns.prefix.front().sources.empty()) state.SkipWithError("nobody is known");
}
BENCHMARK(BM_PreciseMatch)->Arg(16)->Arg(256);

// Keys of the prompt, once per request.
void BM_Prepare2kTokens(benchmark::State& state) {
  Rig rig(*sched::BuiltinPolicy("sticky"), 10);
  for (auto _ : state) rig.Prepare(rig.prompt);
}
BENCHMARK(BM_Prepare2kTokens);

// A request whose first half is known to all of 8 endpoints: look-up, then insertion at one.
void BM_IndexLookupAndInsert(benchmark::State& state) {
  const auto blocks = static_cast<size_t>(state.range(0));
  kvcache::PrefixIndex index(31250);
  Random random(1);
  std::vector<uint64_t> keys(blocks);
  for (uint64_t& key : keys) key = random.Next();
  for (uint32_t slot = 0; slot < 8; ++slot) {
    index.Insert(slot, std::span(keys).first(blocks / 2));
  }
  std::vector<float> counts(8);
  uint32_t slot = 0;
  for (auto _ : state) {
    for (size_t i = blocks / 2; i < blocks; ++i) keys[i] = random.Next();
    index.Count(keys, counts);
    index.Insert(slot++ % 8, keys);
    benchmark::DoNotOptimize(counts.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_IndexLookupAndInsert)->Arg(100)->Arg(16384);

// A block that many hold, all of a conversation known to `holders` endpoints.
void BM_IndexLookupManyHolders(benchmark::State& state) {
  const auto holders = static_cast<uint32_t>(state.range(0));
  kvcache::PrefixIndex index(31250);
  Random random(1);
  std::vector<uint64_t> keys(1024);
  for (uint64_t& key : keys) key = random.Next();
  for (uint32_t slot = 0; slot < holders; ++slot) index.Insert(slot, keys);
  std::vector<float> counts(holders);
  for (auto _ : state) {
    index.Count(keys, counts);
    benchmark::DoNotOptimize(counts.data());
  }
}
BENCHMARK(BM_IndexLookupManyHolders)->Arg(8)->Arg(256);

}  // namespace
}  // namespace penstock
