// Which series of an engine's /metrics mean what, for every kind of engine: those that are known
// and those that a configuration describes.
//
//   engine               waiting, running, kv usage
//   vllm                 vllm:num_requests_waiting, vllm:num_requests_running,
//                        vllm:kv_cache_usage_perc (when absent: vllm:gpu_cache_usage_perc of V0)
//   sglang               sglang:num_queue_reqs, sglang:num_running_reqs, sglang:token_usage
//   trtllm-serve         trtllm_num_requests_waiting, trtllm_num_requests_running,
//                        trtllm_kv_cache_utilization
//   triton-tensorrt-llm  nv_trt_llm_request_metrics{request_type=waiting, scheduled},
//                        nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}
//   triton               nv_inference_pending_request_count (it has no gauge of running requests)
//
// and LoRA adapters, block size and number of blocks where the engine tells them, and from any
// engine process_start_time_seconds, which tells that it was restarted.
//
// THREADS: immutable.
// SOURCE: the names are those of vLLM, SGLang, TensorRT-LLM and Triton; settings are llm-d's
// core-metrics-extractor.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/endpoint.h"
#include "sched/picker_settings.h"

namespace penstock::signals {

// The known engines; those that only a configuration describes have the numbers that follow.
enum class EngineType : uint16_t { kUnknown, kVllm, kSglang, kTrtllm, kTritonTrtllm, kTriton };

// What a series tells.
enum class Meaning : uint8_t {
  kWaiting,
  kRunning,
  kKvUsage,
  kOldKvUsage,  // counts when there is no kKvUsage
  kBlockSize,
  kBlocks,
  kLora,       // a time, with names in labels
  kCacheInfo,  // sizes in labels
  kStartTime,
  kAttribute,  // a number with a name of its own
};

class EngineTable {
 public:
  using LabelValues = std::vector<std::pair<std::string, std::string>>;

  // The known engines alone; an endpoint without a label is what its page says.
  static const EngineTable& Known();
  // Those and the configuration's, of which one of a known name takes its place. An endpoint
  // without a label is the default engine, unless its page has nothing of it.
  explicit EngineTable(const sched::ExtractorSettings& settings);
  EngineTable(const EngineTable&) = delete;
  EngineTable& operator=(const EngineTable&) = delete;

  size_t size() const { return names_.size(); }
  // kUnknown for "" and names of no engine.
  EngineType Find(std::string_view name) const;
  std::string_view Name(EngineType type) const;
  // What the endpoint's label says: under the configured key, else under llm-d's older one. ""
  // when it has none.
  std::string_view LabelOf(const model::Labels& labels) const;
  // What an engine is taken for that has no label; kUnknown: whatever its page fits best.
  EngineType default_type() const { return default_type_; }
  // Names of all attributes, each once, sorted.
  const std::vector<std::string>& attributes() const { return attributes_; }

  // One reading of a series.
  struct Use {
    EngineType engine = EngineType::kUnknown;
    Meaning meaning = Meaning::kWaiting;
    LabelValues labels;            // that it must have
    std::string size_label;        // of kCacheInfo
    std::string blocks_label;      // of kCacheInfo
    uint32_t attribute = 0;        // of kAttribute: index in attributes()
    uint32_t attribute_total = 0;  // of kAttribute: its number among all such uses
  };
  struct Family {
    std::string name;
    std::vector<Use> uses;
  };
  // The family that a line begins with, up to its labels or value, or null.
  const Family* FindFamily(std::string_view line) const;
  const std::vector<Family>& families() const { return families_; }
  uint32_t attribute_totals() const { return attribute_totals_; }
  // Whether an engine of this type has any gauge of load to tell.
  bool HasLoad(EngineType type) const { return !load_names_[static_cast<size_t>(type)].empty(); }
  // "vllm:num_requests_waiting, vllm:num_requests_running, vllm:kv_cache_usage_perc"
  std::string_view LoadNames(EngineType type) const {
    return load_names_[static_cast<size_t>(type)];
  }

 private:
  // Families with the same first letter: what else they have in common at their beginning, and the
  // letter after that, turn nearly every line of a page away.
  struct Entry {
    std::string_view rest;  // of the name
    const Family* family;
  };
  struct Bucket {
    std::string_view prefix;
    std::vector<Entry> entries;
  };

  EngineTable(const sched::ExtractorSettings& settings, bool has_default);
  void Add(EngineType type, const sched::EngineMetrics& engine);
  void AddUse(const sched::MetricSpec& spec, Use use);
  void Arrange();

  std::string label_key_;
  EngineType default_type_ = EngineType::kUnknown;
  std::vector<std::string> names_;       // by type
  std::vector<std::string> load_names_;  // by type
  std::vector<std::string> attributes_;
  uint32_t attribute_totals_ = 0;
  std::vector<Family> families_;
  std::vector<Bucket> buckets_;
  std::array<uint8_t, 256> bucket_of_{};  // by first letter: index in buckets_ + 1, 0: none
};

}  // namespace penstock::signals
