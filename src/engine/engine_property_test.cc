// Random traffic against an engine, checked against what must hold whatever happens.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "core/random.h"
#include "engine/block_hash.h"
#include "engine/block_pool.h"
#include "engine/engine.h"

namespace penstock::engine {
namespace {

using Kind = Event::Kind;

struct Live {
  uint32_t prompt = 0;
  uint32_t output = 0;
  uint32_t tokens = 0;
  bool waiting = true;
  bool is_remote = false;
};

// Whether blocks travel: through the tier, from peers, to peers.
enum class Transfers : uint8_t { kNone, kSome };

EngineOptions RandomOptions(Random& random, Transfers transfers) {
  EngineOptions options;
  options.block_size = 1 + static_cast<uint32_t>(random.Below(8));
  options.num_blocks = 8 + static_cast<uint32_t>(random.Below(60));
  options.max_model_len = options.block_size * options.num_blocks;
  options.max_num_seqs = 1 + static_cast<uint32_t>(random.Below(12));
  options.max_num_batched_tokens = 1 + static_cast<uint32_t>(random.Below(64));
  options.long_prefill_tokens = static_cast<uint32_t>(random.Below(3) * 7);
  options.max_loras = 1 + static_cast<uint32_t>(random.Below(2));
  options.max_waiting = 20;
  options.policy = random.Below(2) == 0 ? Policy::kFcfs : Policy::kPriority;
  options.async_scheduling = random.Below(2) == 0;
  options.costs.floor_ms = 1;
  options.costs.per_token_us = 10;
  options.costs.noise = 0.05;
  if (transfers == Transfers::kSome) {
    options.cpu_blocks = static_cast<uint32_t>(random.Below(4) * 30);
    options.kv_bytes_per_token = 1000;
    // A token takes between 1 us and 10 ms, so that some transfers last many steps.
    options.tier_link = {1 / static_cast<double>(1 + random.Below(10'000)), 100};
    options.peer_link = {1 / static_cast<double>(1 + random.Below(10'000)), 2000};
  }
  return options;
}

// Prompts begin with one of a few texts, so that prefixes are shared.
Request RandomRequest(Random& random, uint64_t id, const EngineOptions& options,
                      Transfers transfers) {
  Request request;
  request.id = id;
  request.prompt_tokens = 1 + static_cast<uint32_t>(random.Below(options.max_model_len - 1));
  if (random.Below(3) > 0) request.prompt_tokens = 1 + request.prompt_tokens / 8;
  request.output_tokens = static_cast<uint32_t>(random.Below(40));
  request.lora = static_cast<uint32_t>(random.Below(4));
  request.priority = static_cast<int32_t>(random.Below(3));
  std::vector<uint32_t> tokens(request.prompt_tokens + request.output_tokens);
  std::iota(tokens.begin(), tokens.end(), static_cast<uint32_t>(random.Below(3) * 1000));
  if (random.Below(2) == 0) tokens.back() += 77;
  request.block_hashes =
      HashBlocks(tokens, options.block_size, RootHash(std::to_string(request.lora), ""));
  if (transfers == Transfers::kSome) {
    if (random.Below(4) == 0) request.hold = milliseconds(1 + random.Below(200));
    if (random.Below(4) == 0) {
      request.remote_tokens = static_cast<uint32_t>(random.Below(request.prompt_tokens + 1));
    }
  }
  return request;
}

class Checker {
 public:
  Checker(const EngineOptions& options, Transfers transfers)
      : options_(options), transfers_(transfers) {}

  std::map<uint64_t, Live> live;

  void Begin(const Step& step) {
    for (const Event& event : step.events) {
      Live& request = live.at(event.id);
      if (event.kind == Kind::kLoading) {
        RC_ASSERT(request.waiting);
        RC_ASSERT(event.count > 0u);
        RC_ASSERT(event.count < request.prompt + request.tokens);
        continue;
      }
      RC_ASSERT(event.kind == Kind::kScheduled || event.kind == Kind::kPreempted);
      RC_ASSERT(request.waiting == (event.kind == Kind::kScheduled));
      request.waiting = event.kind == Kind::kPreempted;
      if (event.kind == Kind::kScheduled) {
        RC_ASSERT(event.count < request.prompt + request.tokens);
        RC_ASSERT(request.is_remote || event.count % options_.block_size == 0u);
      }
    }
    RC_ASSERT(step.load.new_tokens <= options_.max_num_batched_tokens);
    RC_ASSERT(step.load.sequences <= options_.max_num_seqs);
    const bool preempted = std::any_of(step.events.begin(), step.events.end(),
                                       [](const Event& e) { return e.kind == Kind::kPreempted; });
    if (preempted) {
      for (const Event& event : step.events) RC_ASSERT(event.kind == Kind::kPreempted);
    }
    // Work never stalls: what cannot run waits for a moment to come.
    if (live.empty()) RC_ASSERT(step.load.sequences == 0u);
    if (!live.empty() && step.load.sequences == 0) {
      RC_ASSERT(transfers_ == Transfers::kSome);
      RC_ASSERT(preempted || step.duration > Duration(0));
    }
  }

  void End(std::span<const Event> events) {
    for (const Event& event : events) {
      const auto it = live.find(event.id);
      RC_ASSERT(it != live.end());
      Live& request = it->second;
      RC_ASSERT(!request.waiting);
      if (event.kind == Kind::kToken) {
        RC_ASSERT(event.count == ++request.tokens);
      } else {
        RC_ASSERT(event.kind == Kind::kFinished);
        RC_ASSERT(event.count == request.tokens);
        RC_ASSERT(request.tokens == request.output);
        live.erase(it);
      }
    }
  }

  void Compare(const EngineStats& stats) {
    const auto waiting = static_cast<uint32_t>(
        std::count_if(live.begin(), live.end(), [](const auto& e) { return e.second.waiting; }));
    RC_ASSERT(stats.waiting == waiting);
    RC_ASSERT(stats.running == live.size() - waiting);
    RC_ASSERT(stats.used_blocks <= stats.num_blocks);
    RC_ASSERT(stats.prefix_hit_tokens <= stats.prefix_query_tokens);
    RC_ASSERT(stats.external_hit_tokens <= stats.external_query_tokens);
    RC_ASSERT(stats.cpu_blocks_used <= options_.cpu_blocks);
    const HoldStats& holds = stats.holds;
    RC_ASSERT((holds.holds == 0) == (holds.blocks == 0));
    RC_ASSERT(holds.expired + holds.released <= holds.taken);
    const uint32_t users = transfers_ == Transfers::kNone
                               ? stats.running
                               : stats.running + stats.waiting + stats.loading + holds.holds;
    if (users == 0) RC_ASSERT(stats.used_blocks == 0u);
  }

 private:
  const EngineOptions& options_;
  const Transfers transfers_;
};

// Drives an engine with random requests, aborts, readers of holds and failures of peers.
class Drive {
 public:
  Drive(uint64_t seed, Transfers transfers)
      : random_(seed),
        transfers_(transfers),
        options_(RandomOptions(random_, transfers)),
        engine_(std::move(*Engine::Create(options_))),
        checker_(options_, transfers) {}

  void Run() {
    for (int i = 0; i < 150; ++i) {
      for (uint64_t n = random_.Below(4); n > 0; --n) Submit();
      if (random_.Below(5) == 0) Abort();
      Step();
      checker_.Compare(engine_->Stats());
    }
    for (int i = 0; i < 20'000 && engine_->HasWork(); ++i) {
      checker_.Begin(engine_->BeginStep());
      checker_.End(engine_->EndStep());
    }
    RC_ASSERT(!engine_->HasWork());
    RC_ASSERT(checker_.live.empty());
    checker_.Compare(engine_->Stats());
    RC_ASSERT(engine_->Stats().used_blocks == 0u);
  }

 private:
  void Submit() {
    Request request = RandomRequest(random_, next_id_, options_, transfers_);
    const Live live{request.prompt_tokens,
                    std::min(request.output_tokens, options_.max_model_len - request.prompt_tokens),
                    0, true, request.remote_tokens > 0};
    if (engine_->Submit(std::move(request))) checker_.live[next_id_] = live;
    ++next_id_;
  }

  uint64_t AnyLive() {
    auto it = checker_.live.begin();
    std::advance(it, random_.Below(checker_.live.size()));
    return it->first;
  }

  void Abort() {
    if (checker_.live.empty()) return;
    const uint64_t id = AnyLive();
    RC_ASSERT(engine_->Abort(id));
    checker_.live.erase(id);
  }

  void Step() {
    const engine::Step step = engine_->BeginStep(now_);
    checker_.Begin(step);
    Duration passed = step.duration;
    if (step.load.sequences == 0) passed = passed * random_.Below(5) / 4;  // it may end early
    if (random_.Below(5) == 0) Abort();
    if (random_.Below(5) == 0) Submit();
    if (transfers_ == Transfers::kSome) Disturb();
    now_ += passed;
    checker_.End(engine_->EndStep());
  }

  void Disturb() {
    const uint64_t any = 1 + random_.Below(next_id_);
    const auto hold = engine_->FindHold(any);
    switch (random_.Below(8)) {
      case 0: {
        const uint64_t hash = hold && random_.Below(4) > 0 ? hold->prefix_hash : 5;
        const auto sent = engine_->ConsumeHold(any, hash, hold ? hold->tokens : 1, now_);
        if (sent) RC_ASSERT(hold->state == HoldState::kHeld && *sent > now_);
        break;
      }
      case 1:
        if (engine_->ReleaseHold(any, now_)) RC_ASSERT(hold->blocks > 0u);
        break;
      case 2:
        if (engine_->ExtendHold(any, milliseconds(50), now_)) RC_ASSERT(hold->blocks > 0u);
        break;
      case 3:
        if (!checker_.live.empty()) (void)engine_->FailLoad(AnyLive());
        break;
      case 4:
        if (!checker_.live.empty()) (void)engine_->DelayLoad(AnyLive(), now_ + milliseconds(5));
        break;
      default:
        if (random_.Below(60) != 0) break;
        engine_->Reset();
        checker_.live.clear();
        RC_ASSERT(!engine_->HasWork());
        RC_ASSERT(engine_->Stats().used_blocks == 0u);
        break;
    }
  }

  Random random_;
  const Transfers transfers_;
  const EngineOptions options_;
  std::unique_ptr<Engine> engine_;
  Checker checker_;
  uint64_t next_id_ = 1;
  Time now_{};
};

TEST(EngineProperty, WhateverComesNothingLeaksOrStalls) {
  EXPECT_TRUE(rc::check("random traffic",
                        [] { Drive(*rc::gen::arbitrary<uint64_t>(), Transfers::kNone).Run(); }));
  EXPECT_TRUE(rc::check("random traffic with transfers",
                        [] { Drive(*rc::gen::arbitrary<uint64_t>(), Transfers::kSome).Run(); }));
}

TEST(EngineProperty, TheSameTrafficGivesTheSameRun) {
  const auto run = [](Transfers transfers) {
    Random random(11);
    EngineOptions options = RandomOptions(random, transfers);
    auto engine = std::move(*Engine::Create(options));
    std::vector<int64_t> trace;
    for (uint64_t i = 1; i < 400; ++i) {
      (void)engine->Submit(RandomRequest(random, i, options, transfers));
      trace.push_back(engine->BeginStep().duration.count());
      for (const Event& event : engine->EndStep()) {
        trace.push_back(static_cast<int64_t>(event.id * 1000 + event.count));
      }
    }
    return trace;
  };
  for (const Transfers transfers : {Transfers::kNone, Transfers::kSome}) {
    EXPECT_EQ(run(transfers), run(transfers));
  }
}

// What an engine does, step by step, and what it says of it, except tokens after the first.
std::vector<int64_t> Trace(uint64_t seed, Transfers transfers, bool tells_every_token) {
  Random random(seed);
  EngineOptions options = RandomOptions(random, transfers);
  options.tells_every_token = tells_every_token;
  auto engine = std::move(*Engine::Create(options));
  std::vector<int64_t> trace;
  const auto add = [&](std::span<const Event> events) {
    for (const Event& event : events) {
      if (event.kind == Kind::kToken && event.count > 1) continue;
      for (const uint64_t word :
           {event.id, uint64_t{static_cast<uint8_t>(event.kind)},
            uint64_t{static_cast<uint8_t>(event.reason)}, uint64_t{event.count}}) {
        trace.push_back(static_cast<int64_t>(word));
      }
    }
  };
  uint64_t next_id = 1;
  for (int i = 0; i < 300; ++i) {
    if (random.Below(3) > 0) {
      (void)engine->Submit(RandomRequest(random, next_id++, options, transfers));
    }
    if (random.Below(8) == 0) (void)engine->Abort(random.Below(next_id));
    const Step step = engine->BeginStep();
    trace.push_back(step.duration.count());
    trace.push_back(static_cast<int64_t>(step.load.new_tokens));
    trace.push_back(step.load.sequences);
    trace.push_back(static_cast<int64_t>(step.load.decode_context_tokens));
    add(step.events);
    if (random.Below(8) == 0) (void)engine->Abort(random.Below(next_id));
    add(engine->EndStep());
    if (random.Below(100) == 0) engine->Reset();
    const EngineStats stats = engine->Stats();
    for (const uint64_t word : {uint64_t{stats.running}, uint64_t{stats.used_blocks}, stats.steps,
                                stats.prompt_tokens, stats.generation_tokens, stats.preemptions}) {
      trace.push_back(static_cast<int64_t>(word));
    }
  }
  return trace;
}

TEST(EngineProperty, WhatIsNotToldIsDoneAllTheSame) {
  EXPECT_TRUE(rc::check("first tokens alone", [](uint64_t seed) {
    for (const Transfers transfers : {Transfers::kNone, Transfers::kSome}) {
      RC_ASSERT(Trace(seed, transfers, false) == Trace(seed, transfers, true));
    }
  }));
}

// A pool against the plainest model: reference counts in a map, the free order as a list.
TEST(BlockPoolProperty, AgreesWithAPlainModel) {
  EXPECT_TRUE(rc::check("pool", [](uint64_t seed) {
    Random random(seed);
    const uint32_t total = 1 + static_cast<uint32_t>(random.Below(20));
    BlockPool pool(total);
    std::vector<uint32_t> order(total);  // free blocks, least recently used first
    std::iota(order.begin(), order.end(), 0);
    std::map<uint32_t, uint32_t> references;
    std::map<uint32_t, uint64_t> content;
    for (int i = 0; i < 300; ++i) {
      switch (random.Below(4)) {
        case 0:
          if (!order.empty()) {
            const uint32_t block = pool.Take();
            RC_ASSERT(block == order.front());
            order.erase(order.begin());
            content.erase(block);
            references[block] = 1;
          }
          break;
        case 1: {
          for (const auto& [block, count] : references) {
            if (content.contains(block)) continue;
            const uint64_t hash = random.Below(30);
            const bool known = std::any_of(content.begin(), content.end(),
                                           [&](const auto& e) { return e.second == hash; });
            pool.Publish(block, hash);
            if (!known) content[block] = hash;
            break;
          }
          break;
        }
        case 2: {
          std::vector<uint64_t> hashes(1 + random.Below(4));
          std::iota(hashes.begin(), hashes.end(), random.Below(30));
          BlockPool::Match match;
          pool.Find(hashes, &match);
          std::vector<uint32_t> expected;
          for (const uint64_t hash : hashes) {
            const auto it = std::find_if(content.begin(), content.end(),
                                         [&](const auto& e) { return e.second == hash; });
            RC_ASSERT(pool.Has(hash) == (it != content.end()));
            if (it == content.end()) break;
            expected.push_back(it->first);
          }
          RC_ASSERT(match.blocks == expected);
          RC_ASSERT(match.on_free_list ==
                    std::count_if(expected.begin(), expected.end(),
                                  [&](uint32_t block) { return !references.contains(block); }));
          pool.Reference(match.blocks);
          for (const uint32_t block : expected) {
            ++references[block];
            std::erase(order, block);
          }
          break;
        }
        default: {
          if (references.empty()) break;
          auto it = references.begin();
          std::advance(it, random.Below(references.size()));
          const uint32_t block = it->first;
          pool.Release({&block, 1});
          if (--it->second == 0) {
            references.erase(it);
            order.push_back(block);
          }
        }
      }
      RC_ASSERT(pool.free_blocks() == order.size());
      RC_ASSERT(pool.cached_blocks() == content.size());
      for (const auto& [block, count] : references) RC_ASSERT(pool.references(block) == count);
    }
  }));
}

}  // namespace
}  // namespace penstock::engine
