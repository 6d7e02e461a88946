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
};

EngineOptions RandomOptions(Random& random) {
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
  options.costs.floor_ms = 1;
  options.costs.per_token_us = 10;
  options.costs.noise = 0.05;
  return options;
}

// Prompts begin with one of a few texts, so that prefixes are shared.
Request RandomRequest(Random& random, uint64_t id, const EngineOptions& options) {
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
  return request;
}

class Checker {
 public:
  explicit Checker(const EngineOptions& options) : options_(options) {}

  std::map<uint64_t, Live> live;

  void Begin(const Step& step) {
    for (const Event& event : step.events) {
      Live& request = live.at(event.id);
      RC_ASSERT(event.kind == Kind::kScheduled || event.kind == Kind::kPreempted);
      RC_ASSERT(request.waiting == (event.kind == Kind::kScheduled));
      request.waiting = event.kind == Kind::kPreempted;
      if (event.kind == Kind::kScheduled) {
        RC_ASSERT(event.count < request.prompt + request.tokens);
        RC_ASSERT(event.count % options_.block_size == 0u);
      }
    }
    RC_ASSERT(step.load.new_tokens <= options_.max_num_batched_tokens);
    RC_ASSERT(step.load.sequences <= options_.max_num_seqs);
    const bool preempted = std::any_of(step.events.begin(), step.events.end(),
                                       [](const Event& e) { return e.kind == Kind::kPreempted; });
    if (preempted) {
      for (const Event& event : step.events) RC_ASSERT(event.kind == Kind::kPreempted);
    }
    // Work never stalls.
    RC_ASSERT(live.empty() == (step.load.sequences == 0));
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
    if (stats.running == 0) RC_ASSERT(stats.used_blocks == 0u);
  }

 private:
  const EngineOptions& options_;
};

void DriveRandomly(uint64_t seed) {
  Random random(seed);
  const EngineOptions options = RandomOptions(random);
  auto engine = std::move(*Engine::Create(options));
  Checker checker(options);
  uint64_t next_id = 1;
  const auto submit = [&] {
    Request request = RandomRequest(random, next_id, options);
    const Live live{request.prompt_tokens,
                    std::min(request.output_tokens, options.max_model_len - request.prompt_tokens)};
    if (engine->Submit(std::move(request))) checker.live[next_id] = live;
    ++next_id;
  };
  const auto abort = [&] {
    if (checker.live.empty()) return;
    auto it = checker.live.begin();
    std::advance(it, random.Below(checker.live.size()));
    RC_ASSERT(engine->Abort(it->first));
    checker.live.erase(it);
  };
  for (int i = 0; i < 150; ++i) {
    for (uint64_t n = random.Below(4); n > 0; --n) submit();
    if (random.Below(5) == 0) abort();
    checker.Begin(engine->BeginStep());
    if (random.Below(5) == 0) abort();
    if (random.Below(5) == 0) submit();
    checker.End(engine->EndStep());
    checker.Compare(engine->Stats());
  }
  for (int i = 0; i < 20'000 && engine->HasWork(); ++i) {
    checker.Begin(engine->BeginStep());
    checker.End(engine->EndStep());
  }
  RC_ASSERT(checker.live.empty());
  checker.Compare(engine->Stats());
}

TEST(EngineProperty, WhateverComesNothingLeaksOrStalls) {
  EXPECT_TRUE(rc::check("random traffic", [] { DriveRandomly(*rc::gen::arbitrary<uint64_t>()); }));
}

TEST(EngineProperty, TheSameTrafficGivesTheSameRun) {
  const auto run = [] {
    Random random(11);
    EngineOptions options = RandomOptions(random);
    auto engine = std::move(*Engine::Create(options));
    std::vector<int64_t> trace;
    for (uint64_t i = 1; i < 400; ++i) {
      (void)engine->Submit(RandomRequest(random, i, options));
      trace.push_back(engine->BeginStep().duration.count());
      for (const Event& event : engine->EndStep()) {
        trace.push_back(static_cast<int64_t>(event.id * 1000 + event.count));
      }
    }
    return trace;
  };
  EXPECT_EQ(run(), run());
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
          const uint64_t hash = random.Below(30);
          BlockPool::Match match;
          pool.Find({&hash, 1}, &match);
          const auto it = std::find_if(content.begin(), content.end(),
                                       [&](const auto& e) { return e.second == hash; });
          RC_ASSERT(match.blocks.size() == (it == content.end() ? 0u : 1u));
          if (it == content.end()) break;
          RC_ASSERT(match.blocks[0] == it->first);
          RC_ASSERT(match.on_free_list == (references.contains(it->first) ? 0u : 1u));
          pool.Reference(match.blocks);
          ++references[it->first];
          std::erase(order, it->first);
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
