// What tests of the engine share: a small engine, requests for it, steps as text.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/block_hash.h"
#include "engine/engine.h"

namespace penstock::engine {

inline EngineOptions Small() {
  EngineOptions options;
  options.block_size = 4;
  options.num_blocks = 16;
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 32;
  options.max_model_len = 64;
  options.costs.floor_ms = 10;
  return options;
}

inline std::unique_ptr<Engine> Make(const EngineOptions& options) {
  auto engine = Engine::Create(options);
  EXPECT_TRUE(engine.has_value()) << engine.error().message;
  return std::move(*engine);
}

// Tokens first, first+1, ...
inline std::vector<uint64_t> Hashes(uint32_t first, uint32_t tokens, uint32_t block_size = 4) {
  std::vector<uint32_t> ids(tokens);
  std::iota(ids.begin(), ids.end(), first);
  return HashBlocks(ids, block_size, RootHash("", ""));
}

inline Request Ask(uint64_t id, uint32_t prompt, uint32_t output,
                   std::vector<uint64_t> hashes = {}) {
  Request request;
  request.id = id;
  request.prompt_tokens = prompt;
  request.output_tokens = output;
  request.end = FinishReason::kLength;
  request.block_hashes = std::move(hashes);
  return request;
}

// One step's events as "s1:8 t2:1 f2:1 p3:0 l4:8": scheduled, token, finished, preempted, loading.
inline std::string RunStep(Engine& engine) {
  std::string out;
  const auto add = [&](std::span<const Event> events) {
    for (const Event& event : events) {
      if (!out.empty()) out += ' ';
      out += "sptfl"[static_cast<int>(event.kind)];
      out += std::to_string(event.id) + ":" + std::to_string(event.count);
    }
  };
  add(engine.BeginStep().events);
  add(engine.EndStep());
  return out;
}

inline int StepsUntilIdle(Engine& engine) {
  int steps = 0;
  while (engine.HasWork() && steps < 10'000) {
    engine.BeginStep();
    engine.EndStep();
    ++steps;
  }
  return steps;
}

}  // namespace penstock::engine
