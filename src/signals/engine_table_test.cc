#include "signals/engine_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "signals/metric_scanner.h"

namespace penstock::signals {
namespace {

using sched::ParseMetricSpec;
using ::testing::ElementsAre;
using ::testing::Eq;
using ::testing::FloatEq;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Optional;

Result<ScannedMetrics> Scan(const EngineTable& table, std::string_view page,
                            std::string_view type = "") {
  MetricScanner scanner(table);
  scanner.Begin(table.Find(type));
  scanner.Feed(page);
  return scanner.Finish();
}

sched::ExtractorSettings Mine() {
  sched::EngineMetrics mine;
  mine.name = "mine";
  mine.waiting = ParseMetricSpec("q{kind=waiting}");
  mine.running = ParseMetricSpec("q{kind=\"running\",model=\"a \\\"b\\\"\"}");
  mine.kv_usage = ParseMetricSpec("cache_used");
  mine.lora = ParseMetricSpec("adapters");
  mine.cache_info = ParseMetricSpec("cache_info");
  mine.block_size_label = "tokens";
  mine.block_count_label = "pages";
  mine.custom = {{"heat", *ParseMetricSpec("gpu_temperature")},
                 {"drift", *ParseMetricSpec("clock_drift{unit=s}")}};
  sched::ExtractorSettings settings;
  settings.engines = {mine};
  return settings;
}

constexpr std::string_view kMyPage = R"(q{kind="waiting",model="a \"b\""} 3
q{kind="waiting",model="other"} 2
q{kind="running",model="a \"b\""} 7
q{kind="running",model="other"} 90
cache_used{rank="0"} 0.2
cache_used{rank="1"} 0.4
adapters{running_lora_adapters="x,y",waiting_lora_adapters="",max_lora="2"} 5
cache_info{tokens="32",pages="100"} 1
gpu_temperature{gpu="0"} 60
gpu_temperature{gpu="1"} 70
gpu_temperature{gpu="2"} NaN
clock_drift{unit="s"} -0.5
clock_drift{unit="ms"} -500
)";

TEST(EngineTable, KnowsItsEngines) {
  const EngineTable& known = EngineTable::Known();
  EXPECT_EQ(known.Find("vllm"), EngineType::kVllm);
  EXPECT_EQ(known.Find("sglang"), EngineType::kSglang);
  EXPECT_EQ(known.Find("trtllm-serve"), EngineType::kTrtllm);
  EXPECT_EQ(known.Find("triton-tensorrt-llm"), EngineType::kTritonTrtllm);
  EXPECT_EQ(known.Find("triton"), EngineType::kTriton);
  EXPECT_EQ(known.Find(""), EngineType::kUnknown);
  EXPECT_EQ(known.Find("mine"), EngineType::kUnknown);
  EXPECT_EQ(known.default_type(), EngineType::kUnknown);
  EXPECT_THAT(known.attributes(), IsEmpty());
}

TEST(EngineTable, FindsFamiliesByTheirWholeName) {
  const EngineTable table(Mine());
  ASSERT_NE(table.FindFamily("vllm:num_requests_waiting{a=\"b\"} 1"), nullptr);
  EXPECT_EQ(table.FindFamily("vllm:num_requests_waiting 1")->name, "vllm:num_requests_waiting");
  EXPECT_EQ(table.FindFamily("q{kind=\"waiting\"} 1")->uses.size(), 2u);
  for (const std::string_view line :
       {"vllm:num_requests_waiting", "vllm:num_requests_waiting_total 1", "vllm:num_requests 1",
        "vllm:", "v", "", "# TYPE q gauge", "queue 1", "q", "sglang:cache_config_infos 1"}) {
    EXPECT_EQ(table.FindFamily(line), nullptr) << line;
  }
}

TEST(EngineTable, ReadsAnEngineThatTheConfigurationDescribes) {
  const EngineTable table(Mine());
  EXPECT_THAT(table.attributes(), ElementsAre("drift", "heat"));
  const auto page = Scan(table, kMyPage, "mine");
  ASSERT_TRUE(page) << page.error().message;
  EXPECT_EQ(table.Name(page->type), "mine");
  const director::EngineSignals& signals = page->signals;
  EXPECT_THAT(signals.waiting, Optional(5.0f));
  EXPECT_THAT(signals.running, Optional(7.0f));
  EXPECT_THAT(signals.kv_usage, Optional(FloatEq(0.3f)));
  EXPECT_THAT(signals.block_size_tokens, Optional(32u));
  EXPECT_THAT(signals.gpu_blocks, Optional(100u));
  ASSERT_TRUE(signals.lora);
  EXPECT_THAT(signals.lora->running, ElementsAre("x", "y"));
  EXPECT_THAT(signals.attributes, ElementsAre(FloatEq(-0.5f), FloatEq(65.0f)));
}

TEST(EngineTable, AttributesThatAreNotToldAreNoNumbers) {
  const EngineTable table(Mine());
  const auto page = Scan(table, "q{kind=\"waiting\"} 1\ngpu_temperature +Inf\n", "mine");
  ASSERT_TRUE(page);
  ASSERT_EQ(page->signals.attributes.size(), 2u);
  EXPECT_TRUE(std::isnan(page->signals.attributes[0]));
  EXPECT_TRUE(std::isnan(page->signals.attributes[1]));
  // Another engine's page does not tell them either.
  const auto other = Scan(table, "vllm:num_requests_waiting 1\ngpu_temperature 5\n", "vllm");
  ASSERT_TRUE(other);
  EXPECT_TRUE(std::isnan(other->signals.attributes[1]));
}

TEST(EngineTable, AnEngineOfAKnownNameTakesItsPlace) {
  sched::ExtractorSettings settings;
  settings.engines = {{}};
  settings.engines[0].name = "triton";
  settings.engines[0].waiting = ParseMetricSpec("nv_inference_pending_request_count");
  settings.engines[0].running = ParseMetricSpec("nv_inference_exec_count");
  const EngineTable table(settings);
  const auto page =
      Scan(table, "nv_inference_pending_request_count 1\nnv_inference_exec_count 9\n", "triton");
  ASSERT_TRUE(page);
  EXPECT_THAT(page->signals.running, Optional(9.0f));
  EXPECT_EQ(table.size(), EngineTable::Known().size());
}

TEST(EngineTable, EndpointsWithoutALabelAreTheDefaultEngine) {
  sched::ExtractorSettings settings = Mine();
  settings.default_engine = "mine";
  const EngineTable table(settings);
  const std::string both =
      "q{kind=\"waiting\"} 1\nvllm:num_requests_waiting 2\n"
      "vllm:num_requests_running 3\n";
  EXPECT_THAT(Scan(table, both)->signals.waiting, Optional(1.0f));
  EXPECT_THAT(Scan(table, both, "vllm")->signals.waiting, Optional(2.0f));
  // Unless its page has nothing of it.
  EXPECT_THAT(Scan(table, "sglang:num_queue_reqs 4\n")->signals.waiting, Optional(4.0f));
  EXPECT_THAT(
      Scan(table, "up 1\n").error().message,
      HasSubstr("none of q{kind=waiting}, q{kind=running,model=a \"b\"}, cache_used, though "
                "the engine type is mine by default"));
}

TEST(EngineTable, AnEngineWithoutLoadNeedsNoneOnItsPage) {
  sched::ExtractorSettings settings;
  settings.engines = {{}};
  settings.engines[0].name = "silent";
  settings.engines[0].custom = {{"heat", *ParseMetricSpec("heat")}};
  const EngineTable table(settings);
  EXPECT_TRUE(Scan(table, "up 1\n", "silent"));
  EXPECT_THAT(Scan(table, "", "silent").error().message, HasSubstr("/metrics is empty"));
}

TEST(EngineTable, ReadsTheLabelUnderBothKeys) {
  sched::ExtractorSettings settings;
  settings.engine_label_key = "team/engine";
  const EngineTable table(settings);
  const std::string old_key = "inference.networking.k8s.io/engine-type";
  EXPECT_EQ(table.LabelOf({{old_key, "sglang"}, {"team/engine", "vllm"}}), "vllm");
  EXPECT_EQ(table.LabelOf({{old_key, "sglang"}}), "sglang");
  EXPECT_EQ(table.LabelOf({{"llm-d.ai/engine-type", "sglang"}}), "");
  EXPECT_EQ(EngineTable::Known().LabelOf({{"llm-d.ai/engine-type", "triton"}}), "triton");
}

// What each known engine of llm-d's table is called, word by word.
TEST(EngineTable, ReadsEveryKnownEngine) {
  struct Case {
    std::string_view engine, page;
    float waiting, running, kv_usage;  // -1: not told
    uint32_t block_size, blocks;       // 0: not told
  };
  const Case cases[] = {
      {"vllm",
       "vllm:num_requests_waiting 1\nvllm:num_requests_running 2\nvllm:kv_cache_usage_perc 0.5\n"
       "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"100\"} 1\n",
       1, 2, 0.5f, 16, 100},
      {"sglang",
       "sglang:num_queue_reqs 1\nsglang:num_running_reqs 2\nsglang:token_usage 0.5\n"
       "sglang:cache_config_info{page_size=\"1\",num_pages=\"9\"} 1\n",
       1, 2, 0.5f, 1, 9},
      {"trtllm-serve",
       "trtllm_num_requests_waiting 1\ntrtllm_num_requests_running 2\n"
       "trtllm_kv_cache_utilization 0.5\ntrtllm_kv_cache_tokens_per_block 32\n"
       "trtllm_kv_cache_max_blocks 7\n",
       1, 2, 0.5f, 32, 7},
      {"triton-tensorrt-llm",
       "nv_trt_llm_request_metrics{request_type=\"waiting\"} 1\n"
       "nv_trt_llm_request_metrics{request_type=\"scheduled\"} 2\n"
       "nv_trt_llm_request_metrics{request_type=\"max\"} 64\n"
       "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\"} 0.5\n"
       "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"tokens_per\"} 64\n"
       "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"max\"} 8\n",
       1, 2, 0.5f, 64, 8},
      {"triton", "nv_inference_pending_request_count 1\nnv_inference_exec_count 700\n", 1, -1, -1,
       0, 0},
  };
  for (const Case& c : cases) {
    for (const std::string_view label : {c.engine, std::string_view()}) {
      const auto page = Scan(EngineTable::Known(), c.page, label);
      ASSERT_TRUE(page) << c.engine << ": " << page.error().message;
      EXPECT_EQ(EngineTable::Known().Name(page->type), c.engine);
      EXPECT_THAT(page->signals.waiting.value_or(-1), Eq(c.waiting)) << c.engine;
      EXPECT_THAT(page->signals.running.value_or(-1), Eq(c.running)) << c.engine;
      EXPECT_THAT(page->signals.kv_usage.value_or(-1), Eq(c.kv_usage)) << c.engine;
      EXPECT_EQ(page->signals.block_size_tokens.value_or(0), c.block_size) << c.engine;
      EXPECT_EQ(page->signals.gpu_blocks.value_or(0), c.blocks) << c.engine;
    }
  }
}

}  // namespace
}  // namespace penstock::signals
