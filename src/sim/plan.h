// Decides what an engine will answer before it runs: how long, which words, why it ends, and which
// KV blocks prompt and answer fill.
//
// The same prompt, seed and choice give the same answer on every engine of a fleet.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/engine.h"
#include "engine/kv_log.h"
#include "sim/request.h"
#include "sim/text.h"

namespace penstock::sim {

struct Voice {
  uint64_t seed = 1;
  uint32_t median_output_tokens = 192;                 // of answers that no limit cuts
  const tokens::PromptTokenizer* tokenizer = nullptr;  // null: the engine's own words
};

struct Plan {
  engine::Request request;  // id is the caller's to set
  std::string text;
  std::vector<uint32_t> ends;  // bytes of text that may be shown once token i is there
  std::string stop_text;       // the stop sequence that ends it, or ""
  std::shared_ptr<const engine::KvContent> content;  // when it is asked for
};

// REQUIRES: `job` comes from ParseJob, so the prompt fits.
// With the content of its blocks, if the engine has a listener that wants to tell it.
Plan MakePlan(const Job& job, size_t prompt, uint32_t choice, const Voice& voice,
              const engine::EngineOptions& options);

}  // namespace penstock::sim
