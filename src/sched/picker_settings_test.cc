#include "sched/picker_settings.h"

#include <gtest/gtest.h>

namespace penstock::sched {
namespace {

TEST(MetricSpec, IsANameWithLabels) {
  const std::pair<std::string_view, MetricSpec> cases[] = {
      {"vllm:num_requests_waiting", {"vllm:num_requests_waiting", {}}},
      {" a { } ", {"a", {}}},
      {"nv_m{request_type=waiting}", {"nv_m", {{"request_type", "waiting"}}}},
      {"m{a=\"x,}\\\"y\", b = z }", {"m", {{"a", "x,}\"y"}, {"b", "z"}}}},
      {"m{a=}", {"m", {{"a", ""}}}},
  };
  for (const auto& [text, expected] : cases) EXPECT_EQ(ParseMetricSpec(text), expected) << text;
}

TEST(MetricSpec, RefusesAnythingElse) {
  for (const std::string_view text :
       {"", " ", "1a", "a b", "a{", "a{b", "a{b}", "a{b=c", "a}", "{b=c}", "a{b=\"c}",
        "a{b=\"c\"d}", "a{=c}", "a{b:c=d}", "a{b=c}x"}) {
    EXPECT_EQ(ParseMetricSpec(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace penstock::sched
