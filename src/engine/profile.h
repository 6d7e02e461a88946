// What one kind of engine is like: a model on an accelerator, how its scheduler is set, how long
// its steps take. Profiles are YAML files; those under profiles/ are part of the program.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/describe.h"
#include "core/result.h"
#include "engine/engine.h"

namespace penstock::engine {

struct Profile {
  std::string name;
  std::string description;
  std::string model;
  std::string accelerator;
  uint32_t tensor_parallel = 1;
  std::string origin;
  std::string quality;
  struct Scheduler {
    uint32_t max_num_seqs = 256;
    uint32_t max_num_batched_tokens = 8192;
    uint32_t long_prefill_tokens = 0;
    uint32_t max_model_len = 32'768;
    uint32_t max_loras = 4;
    uint32_t max_waiting = 10'000;
    bool async_scheduling = false;
    template <class V>
    void Describe(V& v) {
      v.Field("maxNumSeqs", max_num_seqs,
              {.text = "Sequences in one step.", .unit = "sequences", .min = 1, .max = 100'000});
      v.Field("maxNumBatchedTokens", max_num_batched_tokens,
              {.text = "Token budget of one step.", .unit = "tokens", .min = 1, .max = 10'000'000});
      v.Field("longPrefillTokens", long_prefill_tokens,
              {.text = "Largest prefill chunk of one request; 0 means the whole budget.",
               .unit = "tokens",
               .min = 0,
               .max = 10'000'000});
      v.Field("maxModelLen", max_model_len,
              {.text = "Prompt and output of one request.",
               .unit = "tokens",
               .min = 1,
               .max = 100'000'000});
      v.Field("maxLoras", max_loras,
              {.text = "Distinct LoRA adapters that run at once.", .min = 1, .max = 1'000});
      v.Field("maxWaiting", max_waiting,
              {.text = "Requests that may wait; more are refused with 429.",
               .unit = "requests",
               .min = 1,
               .max = 1'000'000});
      v.Field("asyncScheduling", async_scheduling,
              {.text = "A step is made while the one before it runs."});
    }
  } scheduler;
  struct KvCache {
    uint32_t block_size = 16;
    uint32_t blocks = 0;
    uint64_t bytes_per_token = 0;
    template <class V>
    void Describe(V& v) {
      v.Field("blockSize", block_size,
              {.text = "Tokens in one KV block.", .unit = "tokens", .min = 1, .max = 4'096});
      v.Field("blocks", blocks,
              {.text = "KV blocks of the engine.",
               .unit = "blocks",
               .min = 1,
               .max = 100'000'000,
               .required = true});
      v.Field("bytesPerToken", bytes_per_token,
              {.text = "KV of one token in all layers; needed where KV is transferred.",
               .unit = "bytes",
               .min = 0,
               .max = 1e9});
    }
  } kv_cache;
  struct KvOffload {
    uint32_t cpu_blocks = 0;
    LinkCosts link;
    template <class V>
    void Describe(V& v) {
      v.Field("cpuBlocks", cpu_blocks,
              {.text = "KV blocks that host memory holds; 0 means that there is no such tier.",
               .unit = "blocks",
               .min = 0,
               .max = 1'000'000'000});
      link.Describe(v);
    }
  } kv_offload;
  LinkCosts kv_transfer = EngineOptions().peer_link;
  StepCosts step_time;
  std::string kernel_times_file;
  std::shared_ptr<const KernelTimes> kernel_times;  // what that file holds

  template <class V>
  void Describe(V& v) {
    v.Field("name", name, {.text = "What --profile calls it.", .required = true});
    v.Field("description", description, {.text = "One line about it."});
    v.Field("model", model,
            {.text = "Model id that the engine serves unless told otherwise.", .required = true});
    v.Field("accelerator", accelerator, {.text = "The hardware."});
    v.Field("tensorParallel", tensor_parallel,
            {.text = "Accelerators of one engine.", .min = 1, .max = 64});
    v.Field("origin", origin, {.text = "Where the numbers come from.", .required = true});
    v.Field("quality", quality,
            {.text = "How far to trust the numbers.",
             .required = true,
             .one_of = {"measured", "derived", "guess"}});
    v.Field("scheduler", scheduler, {.text = "Limits of the engine's scheduler."});
    v.Field("kvCache", kv_cache, {.text = "Its KV cache.", .required = true});
    v.Field("kvOffload", kv_offload,
            {.text = "Full blocks are kept in host memory, too, and come back from there."});
    v.Field("kvTransfer", kv_transfer,
            {.text = "The network that KV takes between a prefill and a decode engine."});
    v.Field("stepTime", step_time,
            {.text = "How long a step takes, beside what kernelTimes holds.", .required = true});
    v.Field(
        "kernelTimes", kernel_times_file,
        {.text = "CSV of measured kernel times (engine/kernel_times.h), in the profile's folder."});
  }

  // The engine that this profile describes; seed and policy are the defaults.
  EngineOptions Options() const;
};

// All complaints in one message, a line each, as FILE:LINE:COLUMN.
Result<Profile> ParseProfile(std::string_view yaml, std::string_view file_name);
// A built-in name, or a path (anything with '/' or ending in .yaml). kNotFound lists the names.
Result<Profile> LoadProfile(std::string_view name_or_path);
// In alphabetical order.
std::vector<std::string> BuiltinProfileNames();

}  // namespace penstock::engine
