// Finds the few families that routing needs in an engine's Prometheus text, and nothing else: no
// tree, no general parser. The page is fed in pieces as they arrive, so it is never kept.
//
// | engine               | waiting           | running           | kv usage | | vllm |
// vllm:num_requests_waiting, _running   | vllm:kv_cache_usage_perc, else  | | | |
// vllm:gpu_cache_usage_perc (old) | | sglang               | sglang:num_queue_reqs,
// num_running_reqs | sglang:token_usage            | | trtllm-serve         |
// trtllm_num_requests_waiting, _running | trtllm_kv_cache_utilization     | | triton-tensorrt-llm
// | nv_trt_llm_request_metrics{request_type=waiting, scheduled},            | | |
// nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}         | | triton |
// nv_inference_pending_request_count    | -  (only a cumulative counter)  |
//
// with LoRA adapters and the size of the cache where the engine tells them.
//
// Several series of one family describe parts of one server (data-parallel ranks, models), whose
// engine spreads requests over them. So waiting, running and gpu_blocks are summed, and kv usage is
// the mean: the share that is used of all there is, as the parts are of one size. SGLang's series
// that differ in tp_rank or pp_rank only are the same requests seen by several processes; the
// largest of them counts. Of lora_requests_info the sample with the largest value (a time) counts.
//
// A value that is not finite, negative or absurd (a count above 1e9, a usage above 1.5; between 1
// and 1.5 counts as 1) is left out and counted, as is a line above 64 KiB.
//
// THREADS: belongs to its caller.
// COST: no allocation per page but for LoRA names and lines that are cut by the end of a piece.
// SOURCE: Prometheus text format 0.0.4 (OpenMetrics' exemplars are passed over); metric names of
// vLLM, SGLang, TensorRT-LLM and Triton.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"
#include "director/fleet.h"

namespace penstock::signals {

enum class EngineType : uint8_t { kUnknown, kVllm, kSglang, kTrtllm, kTritonTrtllm, kTriton };

// The value of the label llm-d.ai/engine-type; kUnknown for others and "".
EngineType ParseEngineType(std::string_view label);
std::string_view EngineTypeName(EngineType type);

struct ScannedMetrics {
  director::EngineSignals signals;
  EngineType type = EngineType::kUnknown;  // whose families these are
};

class MetricScanner {
 public:
  MetricScanner();

  // Begins a page of an engine of this type; kUnknown finds out from the page.
  void Begin(EngineType expected);
  void Feed(std::string_view piece);
  // What the page said. A page without any of waiting, running and kv usage is an error whose
  // message tells a person what to look at.
  Result<ScannedMetrics> Finish();

  // Of the page since Begin.
  uint64_t bad_values() const { return bad_values_; }

 private:
  uint64_t bad_values_ = 0;
};

}  // namespace penstock::signals
