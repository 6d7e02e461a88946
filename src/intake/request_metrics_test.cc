#include "intake/request_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "director/director.h"

namespace penstock::intake {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

director::DecisionRecord Ended(uint64_t input, uint64_t output, bool knows_cached) {
  director::DecisionRecord record;
  record.e2e_s = 2;
  record.ttft_s = 0.5;
  record.usage_known = true;
  record.reported_input_tokens = input;
  record.output_tokens = output;
  record.cached_known = knows_cached;
  return record;
}

TEST(RequestMetrics, CountsTokensOnlyWhenThereAreSomeButForCachedOnes) {
  telemetry::Registry registry;
  RequestMetrics metrics(registry, {});
  RequestMetrics::Cache cache(metrics);
  RequestSeries& series = cache.Find({"m", "m", "f"});
  metrics.OnEnd(series, Ended(0, 0, true), 10, false);
  EXPECT_EQ(series.input_tokens.Count() + series.output_tokens.Count(), 0u);
  EXPECT_EQ(series.cached_tokens.Count(), 1u);
  EXPECT_EQ(series.normalized_tpot.Count(), 0u);
  metrics.OnEnd(series, Ended(5, 3, false), 10, false);
  EXPECT_EQ(series.input_tokens.Sum(), 5);
  EXPECT_EQ(series.output_tokens.Sum(), 3);
  EXPECT_EQ(series.cached_tokens.Count(), 1u);
  EXPECT_DOUBLE_EQ(series.normalized_tpot.Sum(), 2.0 / 3);
}

TEST(RequestMetrics, TimePerTokenIsOfStreamsOfMoreThanOne) {
  telemetry::Registry registry;
  RequestMetrics metrics(registry, {});
  RequestMetrics::Cache cache(metrics);
  RequestSeries& series = cache.Find({"m", "m", "f"});
  metrics.OnEnd(series, Ended(5, 4, false), 10, false);
  metrics.OnEnd(series, Ended(5, 1, false), 10, true);
  EXPECT_EQ(series.tpot.Count(), 0u);
  metrics.OnEnd(series, Ended(5, 4, false), 10, true);
  EXPECT_DOUBLE_EQ(series.tpot.Sum(), 1.5 / 3);
  EXPECT_EQ(series.ttft_streaming.Count(), 2u);
  EXPECT_EQ(series.ttft_unary.Count(), 1u);
}

TEST(RequestMetrics, ErrorsHaveLlmdsCodesWhereAsked) {
  telemetry::Registry registry;
  RequestMetrics::Options options;
  options.error_codes = RequestMetrics::ErrorCodes::kLlmd;
  RequestMetrics metrics(registry, options);
  for (const std::string_view code : {"no_endpoint", "saturated", "model_not_found", "timeout",
                                      "engine_gone", "client_gone", "odd", "BadRequest"}) {
    metrics.OnError({"m", "m", "f"}, code);
  }
  const std::string page = registry.Expose();
  const auto count = [&](const std::string& code, int n) {
    EXPECT_THAT(page, HasSubstr("error_code=\"" + code + "\"} " + std::to_string(n) + "\n"));
  };
  count("ServiceUnavailable", 1);
  count("ResourceExhausted", 1);
  count("NotFound", 1);
  count("ModelServerError", 2);
  count("Unknown", 1);
  count("BadRequest", 1);
  EXPECT_THAT(page, Not(HasSubstr("client_gone")));
}

TEST(RequestMetrics, NamesOfEndpointsAreToldFromTheirNamespaces) {
  telemetry::Registry registry;
  RequestMetrics::Options options;
  options.pool_namespace = "prod";
  RequestMetrics metrics(registry, options);
  RequestMetrics::Cache cache(metrics);
  const RequestSeries& series = cache.Find({"m", "m", "f"});
  director::Target target;
  target.port = 8000;
  const auto chooses = [&](uint32_t slot, std::string_view name) {
    target.slot = slot;
    target.name = name;
    cache.OnDecision(milliseconds(1), series, target);
  };
  chooses(0, "pod-1");
  chooses(0, "other/pod-1");  // who has the slot now
  chooses(1, "other/pod-1");
  const RequestSeries& others = cache.Find({"m", "m2", "f"});
  EXPECT_NE(others.target_number, series.target_number);
  EXPECT_EQ(cache.Find({"m", "m", "g"}).target_number, series.target_number);
  cache.OnDecision(milliseconds(1), others, target);
  metrics.OnNoDecision(milliseconds(1), "m");
  const std::string page = registry.Expose();
  constexpr std::string_view kName = "llm_d_epp_scheduler_attempts_total";
  EXPECT_THAT(page, HasSubstr(std::string(kName) +
                              "{status=\"success\",target_model_name=\"m\",endpoint_name=\"pod-1\","
                              "namespace=\"prod\",port=\"8000\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("target_model_name=\"m\",endpoint_name=\"pod-1\",namespace=\"other\","
                              "port=\"8000\"} 2\n"));
  EXPECT_THAT(page,
              HasSubstr("target_model_name=\"m2\",endpoint_name=\"pod-1\",namespace=\"other\","
                        "port=\"8000\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("{status=\"failure\",target_model_name=\"m\",endpoint_name=\"\","
                              "namespace=\"\",port=\"\"} 1\n"));
}

TEST(RequestMetrics, ModelsAndFairnessIdsAreBounded) {
  telemetry::Registry registry;
  RequestMetrics metrics(registry, {});
  for (int i = 0; i < 1500; ++i) {
    metrics.OnNoDecision(Duration(0), "model-" + std::to_string(i));
  }
  const std::string page = registry.Expose();
  EXPECT_THAT(page, HasSubstr("target_model_name=\"model-999\""));
  EXPECT_THAT(page, Not(HasSubstr("target_model_name=\"model-1000\"")));
  EXPECT_THAT(page, HasSubstr("{status=\"failure\",target_model_name=\"other\",endpoint_name=\"\","
                              "namespace=\"\",port=\"\"} 500\n"));
  RequestMetrics::Cache cache(metrics);
  EXPECT_EQ(cache.Find({"model-1200", "model-3", "f"}).model, "other");
  EXPECT_EQ(cache.Find({"model-1200", "model-3", "f"}).target_model, "model-3");
}

}  // namespace
}  // namespace penstock::intake
