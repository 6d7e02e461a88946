// Finds the few families that routing needs in an engine's Prometheus text, and nothing else: no
// tree, no general parser. The page is fed in pieces as they arrive, so it is never kept.
//
//   engine               waiting, running, kv usage
//   vllm                 vllm:num_requests_waiting, vllm:num_requests_running,
//                        vllm:kv_cache_usage_perc (when absent: vllm:gpu_cache_usage_perc of V0)
//   sglang               sglang:num_queue_reqs, sglang:num_running_reqs, sglang:token_usage
//   trtllm-serve         trtllm_num_requests_waiting, trtllm_num_requests_running,
//                        trtllm_kv_cache_utilization
//   triton-tensorrt-llm  nv_trt_llm_request_metrics{request_type="waiting", "scheduled"},
//                        nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"}
//   triton               nv_inference_pending_request_count (it has no gauge of running requests)
//
// and LoRA adapters, block size and number of blocks where the engine tells them, and from any
// engine process_start_time_seconds, which tells that it was restarted.
//
// Several series of one family describe parts of one server (data-parallel ranks, models), and the
// engine spreads requests over the parts. So waiting, running and blocks are summed, and kv usage
// is the mean: the used share of all there is, as ranks are of one size. (The maximum would call a
// server full whose other ranks are empty.) SGLang's series that differ in tp_rank or pp_rank only
// are the same requests seen by several processes; the largest of them counts. Of
// vllm:lora_requests_info the sample with the largest value, a time, counts.
//
// A value that is not finite, negative or absurd (a count above 1e9, a usage above 1.5; between 1
// and 1.5 it counts as 1) is left out and counted, as is a sample that is no valid text and a line
// above 64 KiB.
//
// THREADS: belongs to its caller.
// COST: 6.5 us a page of 57 KB and 589 lines (bench/metric_scan_bench). No allocation but for LoRA
// names, labels of a longer line than before and lines that are cut by the end of a piece.
//
// SOURCE: Prometheus text format 0.0.4 (timestamps and OpenMetrics' exemplars are passed over); the
// names are those of vLLM, SGLang, TensorRT-LLM and Triton.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "director/fleet.h"

namespace penstock::signals {

enum class EngineType : uint8_t { kUnknown, kVllm, kSglang, kTrtllm, kTritonTrtllm, kTriton };
inline constexpr size_t kEngineTypes = 6;

// The value of the label llm-d.ai/engine-type; kUnknown for "" and any other text.
EngineType ParseEngineType(std::string_view label);
std::string_view EngineTypeName(EngineType type);

struct ScannedMetrics {
  director::EngineSignals signals;
  EngineType type = EngineType::kUnknown;  // whose families these are
};

class MetricScanner {
 public:
  static constexpr size_t kMaxLineBytes = 64 * 1024;

  // Begins a page of an engine of this type; kUnknown takes the type whose families the page has.
  void Begin(EngineType expected);
  void Feed(std::string_view piece);
  // What the page said. A page without any of waiting, running and kv usage is an error whose
  // message tells a person what to look at.
  Result<ScannedMetrics> Finish();

  // Of the page since Begin.
  uint64_t bad_values() const { return bad_values_; }

 private:
  enum class What : uint8_t;
  struct Family;
  struct Label {
    std::string_view name;
    std::string_view raw;  // as between its quotes
  };
  struct Total {
    double sum = 0;
    uint32_t count = 0;
  };
  // The largest of the samples that several processes give for the same thing.
  struct Group {
    What what;
    uint64_t key = 0;
    double value = 0;
  };
  struct Lora {
    bool is_seen = false;
    double time = 0;
    std::string running, waiting;  // raw label values
    uint32_t max_adapters = 0;
  };
  struct Totals {
    Total waiting, running, kv_usage, kv_usage_old, blocks;
    uint32_t block_size_tokens = 0;
  };

  static const Family* FindFamily(std::string_view line);
  void ScanLine(std::string_view line);
  bool ReadSample(std::string_view text, double* value);
  bool ReadLabels(std::string_view* text);
  std::string_view RawLabel(std::string_view name) const;
  void Take(const Family& family, double value);
  void TakeTriton(const Family& family, double value);
  void TakeCacheInfo(const Family& family);
  void TakeLora(double time);
  void AddGauge(EngineType type, What what, double value);
  void Add(EngineType type, What what, double value);
  uint64_t GroupKey() const;
  uint32_t Known(EngineType type) const;
  Error Complaint() const;

  EngineType expected_ = EngineType::kUnknown;
  std::array<Totals, kEngineTypes> totals_{};
  std::vector<Group> groups_;
  Lora lora_;
  double started_at_ = 0;      // of several processes the youngest; 0: not told
  std::vector<Label> labels_;  // of the sample that is being read
  std::string carry_;          // the cut line at the end of the last piece
  bool skips_line_ = false;    // the rest of a line that is too long
  bool has_bytes_ = false;
  uint64_t bad_values_ = 0;
};

}  // namespace penstock::signals
