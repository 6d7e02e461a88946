// A workload file: which requests a generator makes and when. YAML in inference-perf's words; every
// key may also be written as inference-perf does (num_groups for numGroups), and the sections and
// fields of inference-perf that are about sending and reporting are read over. docs/workloads.md
// explains the fields for users.
//
// THREADS: plain data.
// SOURCE: inference-perf's configuration (`load`, `data`); rateTo, bursts, drain, groupSkew, turns,
// slo and priorities are ours.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/describe.h"
#include "core/result.h"
#include "core/time.h"
#include "workload/distribution.h"

namespace penstock::workload {

// Open loop: rate (and rateTo, duration). Closed loop: concurrencyLevel and numRequests.
struct Stage {
  std::optional<double> rate;
  std::optional<double> rate_to;  // the rate at the end; between them a straight line
  std::optional<Duration> duration;
  std::optional<uint32_t> concurrency_level;
  std::optional<uint64_t> num_requests;

  template <class V>
  void Describe(V& v) {
    v.Field("rate", rate,
            {.text = "Arrivals; of conversations where the data are conversations.",
             .unit = "per second",
             .min = 0,
             .max = 1e6});
    v.Field("rateTo", rate_to,
            {.text = "Rate at the end of the stage, which is reached in a straight line.",
             .unit = "per second",
             .min = 0,
             .max = 1e6});
    v.Field("duration", duration, {.text = "How long it lasts.", .min = 0.001, .max = 1e6});
    v.Field("concurrencyLevel", concurrency_level,
            {.text = "Requests, or conversations, at a time.", .min = 1, .max = 100'000});
    v.Field("numRequests", num_requests,
            {.text = "Requests after which the stage is over.", .min = 1, .max = 1e9});
  }
};

// In the first `on` of each `period` the rate is `factor` times as high; in the rest it is as much
// lower as keeps the mean.
struct Bursts {
  Duration period{0};
  Duration on{0};
  double factor = 1;

  template <class V>
  void Describe(V& v) {
    v.Field("period", period,
            {.text = "From burst to burst.", .min = 1, .max = 1e6, .required = true});
    v.Field("on", on, {.text = "How long a burst lasts.", .min = 0.001, .required = true});
    v.Field("factor", factor,
            {.text = "The rate in a burst as a multiple of the mean.",
             .min = 1,
             .max = 1000,
             .required = true});
  }
};

struct LoraShare {
  std::string name;
  double split = 0;

  template <class V>
  void Describe(V& v) {
    v.Field("name", name, {.text = "The adapter.", .required = true});
    v.Field("split", split,
            {.text = "Its share of sessions, or of requests without a session.",
             .min = 0,
             .max = 1,
             .required = true});
  }
};

struct Load {
  std::string type = "constant";
  std::vector<Stage> stages;
  Duration interval{0};
  bool drain = false;
  std::optional<Bursts> bursts;
  std::vector<LoraShare> lora_traffic_split;

  bool is_closed() const { return type == "concurrent"; }

  template <class V>
  void Describe(V& v);
};

struct SharedPrefix {
  uint32_t num_groups = 10;
  uint32_t num_prompts_per_group = 10;
  Distribution system_prompt_len = Distribution::Fixed(100);
  Distribution question_len = Distribution::Fixed(50);
  Distribution output_len = Distribution::Fixed(50);
  double group_skew = 0;
  bool enable_multi_turn_chat = false;
  uint32_t turns = 0;
  uint32_t max_model_len = 131'072;

  template <class V>
  void Describe(V& v);
};

struct Conversations {
  uint64_t num_conversations = 0;
  uint32_t shared_system_prompt_len = 0;
  Distribution dynamic_system_prompt_len = Distribution::Fixed(0);
  Distribution turns_per_conversation = Distribution::Fixed(10);
  Distribution input_tokens_per_turn = Distribution::Fixed(512);
  Distribution output_tokens_per_turn = Distribution::Fixed(256);
  Distribution tool_call_latency_sec = Distribution::Fixed(0);
  uint32_t max_model_len = 131'072;

  template <class V>
  void Describe(V& v);
};

struct Data {
  enum class Kind : uint8_t { kRandom, kSharedPrefix, kConversations };
  std::string type = "random";
  Kind kind = Kind::kRandom;  // follows from type
  Distribution input_distribution = Distribution::Fixed(512);
  Distribution output_distribution = Distribution::Fixed(256);
  SharedPrefix shared_prefix;
  Conversations conversations;

  template <class V>
  void Describe(V& v);
};

struct Slo {
  Duration ttft{0};  // 0: none
  Duration tpot{0};

  template <class V>
  void Describe(V& v) {
    v.Field("ttft", ttft, {.text = "Time to the first token; 0 means no target.", .max = 1e5});
    v.Field("tpot", tpot, {.text = "Time per token after it; 0 means no target.", .max = 1e5});
  }
};

struct PriorityShare {
  std::string name;
  int32_t priority = 0;
  double share = 0;
  std::string fairness_id;
  std::optional<Slo> slo;

  template <class V>
  void Describe(V& v) {
    v.Field("name", name, {.text = "What people call the class."});
    v.Field("priority", priority, {.text = "Higher goes first.", .required = true});
    v.Field("share", share,
            {.text = "Its share of sessions, or of requests without a session.",
             .min = 0,
             .max = 1,
             .required = true});
    v.Field("fairnessId", fairness_id, {.text = "The flow that its requests belong to."});
    v.Field("slo", slo, {.text = "Its own targets in place of the workload's."});
  }
};

struct Workload {
  std::string name;
  std::string description;
  std::string origin;
  uint64_t seed = 1;
  bool is_streamed = true;
  Load load;
  Data data;
  Slo slo;
  std::vector<PriorityShare> priorities;

  template <class V>
  void Describe(V& v);
};

// All complaints in one message, a line each, as FILE:LINE:COLUMN. A workload that came through has
// stages that fit its type, shares of at most 1 in sum, and at most a million users.
Result<Workload> ParseWorkload(std::string_view yaml, std::string_view file_name);

}  // namespace penstock::workload
