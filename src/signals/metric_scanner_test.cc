#include "signals/metric_scanner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>

namespace penstock::signals {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Optional;

Result<ScannedMetrics> Scan(std::string_view text, EngineType type = EngineType::kUnknown) {
  MetricScanner scanner;
  scanner.Begin(type);
  scanner.Feed(text);
  return scanner.Finish();
}

director::EngineSignals Signals(std::string_view text, EngineType type = EngineType::kUnknown) {
  auto page = Scan(text, type);
  if (!page) {
    ADD_FAILURE() << page.error().message;
    return {};
  }
  return page->signals;
}

uint64_t BadValues(std::string_view text) {
  MetricScanner scanner;
  scanner.Begin(EngineType::kUnknown);
  scanner.Feed(text);
  (void)scanner.Finish();
  return scanner.bad_values();
}

constexpr std::string_view kVllmV1 =
    R"(# HELP python_gc_objects_collected_total Objects collected during gc
# TYPE python_gc_objects_collected_total counter
python_gc_objects_collected_total{generation="0"} 12345.0
# HELP process_resident_memory_bytes Resident memory size in bytes.
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1.234567168e+09
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen3-8B"} 7.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="Qwen/Qwen3-8B"} 3.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="Qwen/Qwen3-8B",reason="capacity"} 99.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="Qwen/Qwen3-8B"} 0.4375
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0",model_name="Qwen/Qwen3-8B"} 1.7179869184e+010
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="Qwen/Qwen3-8B"} 0.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="Qwen/Qwen3-8B"} 412.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="Qwen/Qwen3-8B"} 30.25
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",calculate_kv_scales="False",cpu_offload_gb="0",enable_prefix_caching="True",engine="0",gpu_memory_utilization="0.9",is_attention_free="False",num_cpu_blocks="None",num_gpu_blocks="27649",num_gpu_blocks_override="None",sliding_window="None",swap_space="4",swap_space_bytes="4294967296"} 1.0
# TYPE vllm:lora_requests_info gauge
vllm:lora_requests_info{max_lora="4",running_lora_adapters="",waiting_lora_adapters=""} 1.7300000001e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="sql,chat",waiting_lora_adapters="code"} 1.7300000009e+09
vllm:lora_requests_info{max_lora="4",running_lora_adapters="old",waiting_lora_adapters=""} 1.7300000005e+09
)";

TEST(MetricScanner, ReadsVllm) {
  const auto page = Scan(kVllmV1);
  ASSERT_TRUE(page);
  EXPECT_EQ(page->type, EngineType::kVllm);
  const director::EngineSignals& signals = page->signals;
  EXPECT_THAT(signals.waiting, Optional(3.0f));
  EXPECT_THAT(signals.running, Optional(7.0f));
  EXPECT_THAT(signals.kv_usage, Optional(0.4375f));
  EXPECT_THAT(signals.block_size_tokens, Optional(16u));
  EXPECT_THAT(signals.gpu_blocks, Optional(27649u));
  ASSERT_TRUE(signals.lora);
  EXPECT_THAT(signals.lora->running, ElementsAre("chat", "sql"));
  EXPECT_THAT(signals.lora->waiting, ElementsAre("code"));
  EXPECT_EQ(signals.lora->max_adapters, 4u);
  EXPECT_EQ(BadValues(kVllmV1), 0u);
}

TEST(MetricScanner, ReadsVllmV0) {
  const auto signals = Signals(
      "vllm:num_requests_running{model_name=\"m\"} 1.0\n"
      "vllm:num_requests_swapped{model_name=\"m\"} 5.0\n"
      "vllm:num_requests_waiting{model_name=\"m\"} 2.0\n"
      "vllm:gpu_cache_usage_perc{model_name=\"m\"} 0.25\n"
      "vllm:cpu_cache_usage_perc{model_name=\"m\"} 0.75\n");
  EXPECT_THAT(signals.running, Optional(1.0f));
  EXPECT_THAT(signals.waiting, Optional(2.0f));
  EXPECT_THAT(signals.kv_usage, Optional(0.25f));
  EXPECT_FALSE(signals.lora);
  EXPECT_FALSE(signals.block_size_tokens);
}

TEST(MetricScanner, ReadsWhenTheYoungestProcessStarted) {
  const auto scanned = Scan(
      "process_start_time_seconds{rank=\"0\"} 1.79556615984e+09\n"
      "process_start_time_seconds{rank=\"1\"} 1.79556616e+09\nsglang:num_queue_reqs 1\n");
  ASSERT_TRUE(scanned.has_value());
  EXPECT_EQ(scanned->signals.started_at, 1.79556616e+09);
  EXPECT_FALSE(Scan("sglang:num_queue_reqs 1\n")->signals.started_at.has_value());
  EXPECT_FALSE(Scan("process_start_time_seconds 1.7e9\n").has_value());
}

TEST(MetricScanner, PrefersTheNewNameOfCacheUsage) {
  EXPECT_THAT(Signals("vllm:gpu_cache_usage_perc 0.9\nvllm:kv_cache_usage_perc 0.1\n").kv_usage,
              Optional(0.1f));
}

TEST(MetricScanner, ReadsSglang) {
  const auto page = Scan(R"(# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 12.0
sglang:num_used_tokens{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 123859.0
sglang:token_usage{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 0.28
sglang:gen_throughput{model_name="m"} 86.5
sglang:num_queue_reqs{engine_type="unified",model_name="m",pp_rank="0",tp_rank="0"} 4.0
sglang:cache_config_info{model_name="m",page_size="64",num_pages="1000"} 1.0
)");
  ASSERT_TRUE(page);
  EXPECT_EQ(page->type, EngineType::kSglang);
  EXPECT_THAT(page->signals.running, Optional(12.0f));
  EXPECT_THAT(page->signals.waiting, Optional(4.0f));
  EXPECT_THAT(page->signals.kv_usage, Optional(FloatEq(0.28f)));
  EXPECT_THAT(page->signals.block_size_tokens, Optional(64u));
  EXPECT_THAT(page->signals.gpu_blocks, Optional(1000u));
}

TEST(MetricScanner, CountsSglangsProcessesOfOneRankOnce) {
  const auto signals = Signals(R"(
sglang:num_queue_reqs{dp_rank="0",tp_rank="0",pp_rank="0"} 4
sglang:num_queue_reqs{dp_rank="0",tp_rank="1",pp_rank="0"} 4
sglang:num_queue_reqs{tp_rank="2",dp_rank="1",pp_rank="0"} 7
sglang:num_queue_reqs{dp_rank="1",pp_rank="1",tp_rank="3"} 6
sglang:token_usage{dp_rank="0",tp_rank="0"} 0.2
sglang:token_usage{dp_rank="0",tp_rank="1"} 0.2
sglang:token_usage{dp_rank="1",tp_rank="2"} 0.6
)");
  EXPECT_THAT(signals.waiting, Optional(11.0f));
  EXPECT_THAT(signals.kv_usage, Optional(FloatEq(0.4f)));
}

TEST(MetricScanner, ReadsTensorRtLlm) {
  const auto page = Scan(
      "trtllm_num_requests_waiting 5\ntrtllm_num_requests_running 6\n"
      "trtllm_kv_cache_utilization 0.5\ntrtllm_kv_cache_tokens_per_block 32\n"
      "trtllm_kv_cache_max_blocks 4096\ntrtllm_kv_cache_hit_rate 0.9\n");
  ASSERT_TRUE(page);
  EXPECT_EQ(page->type, EngineType::kTrtllm);
  EXPECT_THAT(page->signals.waiting, Optional(5.0f));
  EXPECT_THAT(page->signals.running, Optional(6.0f));
  EXPECT_THAT(page->signals.kv_usage, Optional(0.5f));
  EXPECT_THAT(page->signals.block_size_tokens, Optional(32u));
  EXPECT_THAT(page->signals.gpu_blocks, Optional(4096u));
}

constexpr std::string_view kTriton = R"(
nv_inference_pending_request_count{model="ensemble",version="1"} 9
nv_inference_exec_count{model="ensemble",version="1"} 100000
nv_trt_llm_request_metrics{model="llm",request_type="context",version="1"} 1
nv_trt_llm_request_metrics{model="llm",request_type="scheduled",version="1"} 3
nv_trt_llm_request_metrics{model="llm",request_type="max",version="1"} 512
nv_trt_llm_request_metrics{model="llm",request_type="active",version="1"} 8
nv_trt_llm_request_metrics{model="llm",request_type="waiting",version="1"} 2
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="llm",version="1"} 0.75
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="llm",version="1"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="llm",version="1"} 1
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="llm",version="1"} 6239
)";

TEST(MetricScanner, ReadsTritonWithTensorRtLlm) {
  const auto page = Scan(kTriton);
  ASSERT_TRUE(page);
  EXPECT_EQ(page->type, EngineType::kTritonTrtllm);
  EXPECT_THAT(page->signals.waiting, Optional(2.0f));
  EXPECT_THAT(page->signals.running, Optional(3.0f));
  EXPECT_THAT(page->signals.kv_usage, Optional(0.75f));
  EXPECT_THAT(page->signals.block_size_tokens, Optional(64u));
  EXPECT_THAT(page->signals.gpu_blocks, Optional(6239u));
}

TEST(MetricScanner, ReadsTriton) {
  const auto page = Scan(kTriton, EngineType::kTriton);
  ASSERT_TRUE(page);
  EXPECT_THAT(page->signals.waiting, Optional(9.0f));
  EXPECT_FALSE(page->signals.running);
  EXPECT_FALSE(page->signals.kv_usage);
}

TEST(MetricScanner, CombinesDataParallelRanks) {
  const auto signals = Signals(R"(
vllm:num_requests_running{engine="0"} 1
vllm:num_requests_running{engine="1"} 2
vllm:num_requests_waiting{engine="0"} 10
vllm:num_requests_waiting{engine="1"} 20
vllm:kv_cache_usage_perc{engine="0"} 0.2
vllm:kv_cache_usage_perc{engine="1"} 0.4
vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="100"} 1
vllm:cache_config_info{engine="1",block_size="16",num_gpu_blocks="101"} 1
)");
  EXPECT_THAT(signals.running, Optional(3.0f));
  EXPECT_THAT(signals.waiting, Optional(30.0f));
  EXPECT_THAT(signals.kv_usage, Optional(FloatEq(0.3f)));
  EXPECT_THAT(signals.gpu_blocks, Optional(201u));
  EXPECT_THAT(signals.block_size_tokens, Optional(16u));
}

TEST(MetricScanner, TypeFromTheLabelWins) {
  const std::string_view both = "vllm:num_requests_waiting 1\nsglang:num_queue_reqs 2\n";
  EXPECT_THAT(Signals(both, EngineType::kSglang).waiting, Optional(2.0f));
  EXPECT_THAT(Signals(both, EngineType::kVllm).waiting, Optional(1.0f));
}

struct Line {
  std::string_view text;
  std::optional<float> waiting;
  uint64_t bad = 0;
};

// Each line stands after a good sample of another family.
TEST(MetricScanner, JudgesSamples) {
  const Line kTable[] = {
      {"vllm:num_requests_waiting 5", 5.0f},
      {"vllm:num_requests_waiting 5\r", 5.0f},
      {"vllm:num_requests_waiting\t5", 5.0f},
      {"vllm:num_requests_waiting   5   ", 5.0f},
      {"  vllm:num_requests_waiting 5", 5.0f},
      {"vllm:num_requests_waiting 5 1700000000000", 5.0f},
      {"vllm:num_requests_waiting 5 # {trace_id=\"a\"} 1 2", 5.0f},
      {"vllm:num_requests_waiting{} 5", 5.0f},
      {"vllm:num_requests_waiting{a=\"b\",} 5", 5.0f},
      {"vllm:num_requests_waiting { a = \"b\" , c=\"d\" } 5", 5.0f},
      {"vllm:num_requests_waiting{a=\"}\"}5", 5.0f},
      {"vllm:num_requests_waiting{a=\"} 7 {\",b=\"\\\"} 9\"} 5", 5.0f},
      {"vllm:num_requests_waiting{a=\"\\\\\"} 5", 5.0f},
      {"vllm:num_requests_waiting{a=\"\\n,=\"} 5", 5.0f},
      {"vllm:num_requests_waiting +5", 5.0f},
      {"vllm:num_requests_waiting 5e0", 5.0f},
      {"vllm:num_requests_waiting -0", 0.0f},
      {"vllm:num_requests_waiting 1e9", 1e9f},
      {"vllm:num_requests_waiting NaN", {}, 1},
      {"vllm:num_requests_waiting +Inf", {}, 1},
      {"vllm:num_requests_waiting -Inf", {}, 1},
      {"vllm:num_requests_waiting -1", {}, 1},
      {"vllm:num_requests_waiting 1e300", {}, 1},
      {"vllm:num_requests_waiting 1e999", {}, 1},
      {"vllm:num_requests_waiting 5x", {}, 1},
      {"vllm:num_requests_waiting 0x10", {}, 1},
      {"vllm:num_requests_waiting +-5", {}, 1},
      {"vllm:num_requests_waiting ", {}, 1},
      {"vllm:num_requests_waiting{a=\"b\"}", {}, 1},
      {"vllm:num_requests_waiting{a=\"b\" 5", {}, 1},
      {"vllm:num_requests_waiting{a=\"b} 5", {}, 1},
      {"vllm:num_requests_waiting{a=\"b\\", {}, 1},
      {"vllm:num_requests_waiting{a=b} 5", {}, 1},
      {"vllm:num_requests_waiting{a} 5", {}, 1},
      {"vllm:num_requests_waiting{a=\"b\" c=\"d\"} 5", {}, 1},
      {"vllm:num_requests_waiting{", {}, 1},
      {"vllm:num_requests_waiting", {}},
      {"vllm:num_requests_waiting_total 5", {}},
      {"xvllm:num_requests_waiting 5", {}},
      {"# vllm:num_requests_waiting 5", {}},
      {"#vllm:num_requests_waiting 5", {}},
      {"VLLM:num_requests_waiting 5", {}},
      {"", {}},
      {"\r", {}},
  };
  for (const Line& line : kTable) {
    for (std::string_view end : {"", "\n"}) {
      const std::string page =
          "vllm:num_requests_running 1\n" + std::string(line.text) + std::string(end);
      const auto signals = Signals(page);
      EXPECT_EQ(signals.waiting, line.waiting) << line.text;
      EXPECT_EQ(BadValues(page), line.bad) << line.text;
    }
  }
}

TEST(MetricScanner, JudgesCacheUsage) {
  const std::pair<std::string_view, std::optional<float>> kTable[] = {
      {"0", 0.0f}, {"1", 1.0f},  {"1.0001", 1.0f}, {"1.6", {}},
      {"50", {}},  {"-0.1", {}}, {"nan", {}},
  };
  for (const auto& [text, value] : kTable) {
    const auto signals =
        Signals("vllm:num_requests_running 1\nvllm:kv_cache_usage_perc " + std::string(text));
    EXPECT_EQ(signals.kv_usage, value) << text;
  }
}

TEST(MetricScanner, JudgesCacheSizes) {
  const std::string head = "vllm:num_requests_running 1\nvllm:cache_config_info";
  EXPECT_FALSE(Signals(head + "{block_size=\"None\",num_gpu_blocks=\"None\"} 1").gpu_blocks);
  EXPECT_EQ(BadValues(head + "{block_size=\"None\",num_gpu_blocks=\"None\"} 1"), 0u);
  EXPECT_FALSE(Signals(head + "{block_size=\"0\"} 1").block_size_tokens);
  EXPECT_FALSE(Signals(head + "{block_size=\"99999999999999999999\"} 1").block_size_tokens);
  EXPECT_FALSE(Signals(head + "{num_gpu_blocks=\"-5\"} 1").gpu_blocks);
  EXPECT_EQ(BadValues(head + "{block_size=\"x\",num_gpu_blocks=\"1e9\"} 1"), 2u);
}

TEST(MetricScanner, ReadsLoraNamesAsTheyAreMeant) {
  const auto signals = Signals(
      "vllm:num_requests_running 1\n"
      "vllm:lora_requests_info{running_lora_adapters=\" b,a\\\\x,,a\\\"y, b\",max_lora=\"many\"} "
      "3\n"
      "vllm:lora_requests_info{running_lora_adapters=\"late\"} NaN\n");
  ASSERT_TRUE(signals.lora);
  EXPECT_THAT(signals.lora->running, ElementsAre("a\"y", "a\\x", "b"));
  EXPECT_EQ(signals.lora->max_adapters, 0u);
}

TEST(MetricScanner, SaysWhatIsMissing) {
  EXPECT_THAT(Scan("").error().message, HasSubstr("/metrics is empty"));
  EXPECT_THAT(Scan("up 1\n").error().message, HasSubstr("vLLM, SGLang, TensorRT-LLM or Triton"));
  const std::string wrong =
      Scan("vllm:num_requests_waiting 1\n", EngineType::kSglang).error().message;
  EXPECT_THAT(wrong, HasSubstr("sglang:num_queue_reqs"));
  EXPECT_THAT(wrong, HasSubstr("it has those of vllm"));
  EXPECT_THAT(Scan("vllm:num_requests_waiting NaN\n").error().message,
              HasSubstr("1 unusable values"));
  EXPECT_THAT(Scan("vllm:cache_config_info{block_size=\"16\"} 1\n").error().message,
              Not(HasSubstr("unusable")));
}

TEST(MetricScanner, ForgetsThePageBefore) {
  MetricScanner scanner;
  scanner.Begin(EngineType::kUnknown);
  scanner.Feed("vllm:num_requests_waiting 5\nvllm:num_requests_running nan\nvllm:num_req");
  ASSERT_TRUE(scanner.Finish());
  scanner.Begin(EngineType::kUnknown);
  scanner.Feed("uests_waiting 3\nvllm:num_requests_running 1\n");
  const auto page = scanner.Finish();
  ASSERT_TRUE(page);
  EXPECT_FALSE(page->signals.waiting);
  EXPECT_THAT(page->signals.running, Optional(1.0f));
  EXPECT_EQ(scanner.bad_values(), 0u);
}

TEST(MetricScanner, PiecesDoNotMatter) {
  for (size_t size = 1; size < 200; ++size) {
    MetricScanner scanner;
    scanner.Begin(EngineType::kUnknown);
    for (size_t at = 0; at < kVllmV1.size(); at += size) scanner.Feed(kVllmV1.substr(at, size));
    const auto page = scanner.Finish();
    ASSERT_TRUE(page);
    EXPECT_THAT(page->signals.waiting, Optional(3.0f));
    EXPECT_EQ(page->signals.lora->running.size(), 2u);
    EXPECT_THAT(page->signals.gpu_blocks, Optional(27649u));
  }
}

TEST(MetricScanner, LongLinesAreBounded) {
  const std::string name = "vllm:num_requests_waiting{a=\"";
  const std::string good(MetricScanner::kMaxLineBytes - name.size() - 4, 'x');
  const std::string bad(MetricScanner::kMaxLineBytes, 'x');
  for (size_t size : {size_t{1000}, size_t{64 * 1024}, size_t{10'000'000}}) {
    const std::string page =
        name + good + "\"} 1\n" + name + bad + "\"} 2\nvllm:num_requests_running 4\n" + name + bad;
    MetricScanner scanner;
    scanner.Begin(EngineType::kUnknown);
    for (size_t at = 0; at < page.size(); at += size)
      scanner.Feed(std::string_view(page).substr(at, size));
    const auto signals = scanner.Finish()->signals;
    EXPECT_THAT(signals.waiting, Optional(1.0f));
    EXPECT_THAT(signals.running, Optional(4.0f));
    EXPECT_EQ(scanner.bad_values(), 2u);
  }
}

TEST(MetricScanner, TakesMegabytesOfSeries) {
  std::string page;
  for (int i = 0; i < 50'000; ++i) {
    page += "sglang:num_queue_reqs{tp_rank=\"0\",dp_rank=\"" + std::to_string(i) + "\"} 1\n";
  }
  MetricScanner scanner;
  scanner.Begin(EngineType::kUnknown);
  scanner.Feed(page);
  EXPECT_THAT(scanner.Finish()->signals.waiting, Optional(1024.0f));
  EXPECT_EQ(scanner.bad_values(), 50'000u - 1024);
}

}  // namespace
}  // namespace penstock::signals
