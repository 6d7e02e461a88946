#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <thread>
#include <vector>

#include "telemetry/label_limiter.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace penstock::telemetry {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Counter, AddsUpOverThreads) {
  Counter counter;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 10; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 1000; ++i) counter.Add();
      });
    }
  }
  EXPECT_EQ(counter.Value(), 10'000u);
}

TEST(Histogram, CountsIntoTheRightBucketAndInterpolates) {
  const std::array bounds = {1.0, 2.0, 4.0};
  Histogram histogram(bounds);
  for (double value : {0.5, 1.0, 1.5, 3.0, 100.0}) histogram.Observe(value);
  EXPECT_EQ(histogram.Buckets(),
            (std::vector<uint64_t>{2, 1, 1, 1}));  // a bound belongs to its bucket
  EXPECT_EQ(histogram.Count(), 5u);
  EXPECT_DOUBLE_EQ(histogram.Sum(), 106.0);
  EXPECT_DOUBLE_EQ(histogram.Quantile(0.2), 0.5);
  EXPECT_DOUBLE_EQ(histogram.Quantile(1.0), 4.0);
  EXPECT_DOUBLE_EQ(Histogram(bounds).Quantile(0.5), 0.0);
}

TEST(Registry, ExposesSortedEscapedText) {
  Registry registry;
  registry.AddGauge("b_gauge", "A gauge.").Set(1.5);
  registry.AddCounterFamily("a_total", "Line\nbreak.", {"x"}).With({"q\"\\\n"}).Add(3);
  const std::array bounds = {0.1};
  registry.AddHistogram("c_seconds", "Time.", bounds).Observe(0.05);
  EXPECT_EQ(registry.Expose(),
            "# HELP a_total Line\\nbreak.\n# TYPE a_total counter\na_total{x=\"q\\\"\\\\\\n\"} 3\n"
            "# HELP b_gauge A gauge.\n# TYPE b_gauge gauge\nb_gauge 1.5\n"
            "# HELP c_seconds Time.\n# TYPE c_seconds histogram\nc_seconds_bucket{le=\"0.1\"} 1\n"
            "c_seconds_bucket{le=\"+Inf\"} 1\nc_seconds_sum 0.05\nc_seconds_count 1\n"
            "# HELP penstock_metric_series_overflow_total Look-ups of a label set that found its "
            "metric full and were counted under \"other\" instead.\n"
            "# TYPE penstock_metric_series_overflow_total counter\n");
}

TEST(Registry, SeriesBeyondTheLimitAreCountedAsOther) {
  Registry registry;
  Family<Counter>& family = registry.AddCounterFamily("n_total", "N.", {"model"}, 2);
  for (const char* model : {"a", "b", "c", "d"}) family.With({model}).Add();
  EXPECT_EQ(family.With({"a"}).Value(), 1u);
  const std::string text = registry.Expose();
  EXPECT_THAT(text, HasSubstr("n_total{model=\"other\"} 2"));
  EXPECT_THAT(text, HasSubstr("penstock_metric_series_overflow_total{metric=\"n_total\"} 2"));
  family.Remove({"other"});
  family.With({"e"}).Add();
  EXPECT_THAT(registry.Expose(), HasSubstr("n_total{model=\"other\"} 1"));
}

TEST(Registry, WhateverALabelHoldsThePageIsShortAndUtf8) {
  Registry registry;
  Family<Counter>& family = registry.AddCounterFamily("n_total", "N.", {"tenant"});
  family.With({"a\xff\xfe"}).Add();
  family.With({"a\xfe\xff"}).Add();
  EXPECT_THAT(registry.Expose(), HasSubstr("n_total{tenant=\"a\xef\xbf\xbd\xef\xbf\xbd\"} 2\n"));
  family.With({std::string(60'000, 'x')}).Add(3);
  family.With({std::string(50'000, 'x')}).Add(4);
  EXPECT_THAT(registry.Expose(), HasSubstr("\"" + std::string(kMaxLabelBytes, 'x') + "\"} 7\n"));
}

TEST(Registry, ARemovedSeriesIsNotExposedAndItsReferenceStaysUsable) {
  Registry registry;
  Family<Gauge>& family = registry.AddGaugeFamily("g", "G.", {"endpoint"});
  Gauge& gauge = family.With({"a"});
  gauge.Set(1);
  family.Remove({"a"});
  gauge.Set(2);
  EXPECT_THAT(registry.Expose(), testing::Not(HasSubstr("g{")));
}

TEST(Registry, TheSameNameGivesTheSameMetricAndRefreshersRun) {
  Registry registry;
  EXPECT_EQ(&registry.AddCounter("x_total", "X."), &registry.AddCounter("x_total", "X."));
  Gauge& gauge = registry.AddGauge("y", "Y.");
  registry.OnCollect([&] { gauge.Set(7); });
  EXPECT_THAT(registry.Expose(), HasSubstr("y 7\n"));
  EXPECT_EQ(registry.Rows().size(), 3u);  // with the registry's own counter of overflows
}

TEST(Registry, FollowedCountersAreCountersThatOnlyGrow) {
  Registry registry;
  FollowedCounter& seconds = registry.AddFollowedCounter("s_total", "S.");
  seconds.Follow(1.5);
  seconds.Follow(1.25);
  EXPECT_THAT(registry.Expose(), HasSubstr("# TYPE s_total counter\ns_total 1.5\n"));
}

TEST(Registry, ManyThreadsMayMakeAndReadSeries) {
  Registry registry;
  Family<Counter>& family = registry.AddCounterFamily("t_total", "T.", {"k"}, 50);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 500; ++i) family.With({std::to_string((i + t) % 80)}).Add();
      });
    }
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) (void)registry.Expose();
    });
  }
  uint64_t sum = family.With({"other"}).Value();
  for (int i = 0; i < 80; ++i) {
    const std::string key = std::to_string(i);
    if (&family.With({key}) != &family.With({"other"})) sum += family.With({key}).Value();
  }
  EXPECT_EQ(sum, 2000u);
}

// What was logged since CaptureStderr.
std::string LoggedLines() {
  EXPECT_TRUE(log::Flush(std::chrono::seconds(60)));
  return testing::internal::GetCapturedStderr();
}

TEST(Log, LevelsAndFormatsAreNamed) {
  EXPECT_EQ(*log::ParseLevel("warn"), log::Level::kWarn);
  EXPECT_THAT(log::ParseLevel("loud").error().message, HasSubstr("debug, info, warn, error, off"));
  EXPECT_FALSE(log::ParseFormat("xml").has_value());
}

TEST(Log, JsonLinesAreValidWhateverTheyQuote) {
  log::Configure(log::Level::kInfo, log::Format::kJson);
  testing::internal::CaptureStderr();
  log::Warn("odd \"text\"\n", {{"bytes", std::string_view("\xff\x01\xc3\xa9", 4)},
                               {"n", 3},
                               {"nan", 0.0 / 0.0},
                               {"ok", true}});
  log::Debug("not written");
  const std::string line = LoggedLines();
  log::Configure(log::Level::kInfo, log::Format::kText);
  EXPECT_THAT(line, HasSubstr(R"("event":"odd \"text\"\u000a")"));
  EXPECT_THAT(
      line,
      HasSubstr("\"bytes\":\"\xef\xbf\xbd\\u0001\xc3\xa9\",\"n\":3,\"nan\":null,\"ok\":true}\n"));
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST(Log, TextLinesQuoteOnlyWhatNeedsIt) {
  testing::internal::CaptureStderr();
  log::Info("ready", {{"address", "127.0.0.1:80"}, {"why", "two words"}});
  EXPECT_THAT(LoggedLines(), HasSubstr("INFO  ready address=127.0.0.1:80 why=\"two words\"\n"));
}

TEST(Log, TextLinesHoldNoBytesThatATerminalMightObey) {
  testing::internal::CaptureStderr();
  log::Info("odd", {{"name", "a\x9b\x1b[2J\n"}});
  EXPECT_THAT(LoggedLines(), HasSubstr("INFO  odd name=\"a\xef\xbf\xbd\\u001b[2J\\u000a\"\n"));
}

TEST(Registry, TwinsShowTheSameSeriesUnderAnotherName) {
  Registry registry;
  registry.AddTwin({"old_total", "new_total", {{"model", "model_name"}, {"code", "code"}}});
  registry.AddTwin({"old_depth", "depth", {{"pod", "endpoint"}}});
  registry.AddTwin({"old_seconds", "seconds", {}});
  registry.AddTwin({"old_nothing", "nothing", {}});
  auto& total =
      registry.AddCounterFamily("new_total", "Things.", {"model_name", "fairness_id", "code"});
  total.With({"m", "a", "x"}).Add(2);
  total.With({"m", "b", "x"}).Add(3);
  total.With({"m\"", "b", "y"}).Add(1);
  registry.AddGaugeFamily("depth", "Depth.", {"pool", "endpoint"}).With({"p", "e"}).Set(1.5);
  const std::array bounds = {1.0, 2.0};
  auto& seconds = registry.AddHistogramFamily("seconds", "Time.", {"plugin"}, bounds);
  seconds.With({"a"}).Observe(0.5);
  seconds.With({"b"}).Observe(1.5);
  const std::string page = registry.Expose();
  EXPECT_THAT(page, HasSubstr("# HELP old_total Older name of new_total.\n"
                              "# TYPE old_total counter\n"
                              "old_total{model=\"m\\\"\",code=\"y\"} 1\n"
                              "old_total{model=\"m\",code=\"x\"} 5\n"));
  EXPECT_THAT(page, HasSubstr("# TYPE old_depth gauge\nold_depth{pod=\"e\"} 1.5\n"));
  EXPECT_THAT(page, HasSubstr("old_seconds_bucket{le=\"1\"} 1\nold_seconds_bucket{le=\"2\"} 2\n"
                              "old_seconds_bucket{le=\"+Inf\"} 2\nold_seconds_sum 2\n"
                              "old_seconds_count 2\n"));
  EXPECT_THAT(page, Not(HasSubstr("old_nothing")));
  EXPECT_LT(page.find("# HELP new_total"), page.find("# HELP old_depth"));
  EXPECT_LT(page.find("# HELP old_total"), page.find("# HELP penstock_metric_series"));
  for (const Registry::Row& row : registry.Rows()) {
    EXPECT_EQ(row.twin_of, row.name == "old_total"     ? "new_total"
                           : row.name == "old_depth"   ? "depth"
                           : row.name == "old_seconds" ? "seconds"
                                                       : "");
    if (row.name == "old_total") {
      EXPECT_EQ(row.labels, "model, code");
    }
  }
}

TEST(LabelLimiter, TheFirstValuesStayAndLaterOnesAreOther) {
  LabelLimiter limiter(2);
  EXPECT_EQ(limiter.Limit("a"), "a");
  EXPECT_EQ(limiter.Limit(""), "");
  EXPECT_EQ(limiter.Limit("b"), "b");
  EXPECT_EQ(limiter.Limit("c"), "other");
  EXPECT_EQ(limiter.Limit("a"), "a");
  EXPECT_EQ(limiter.size(), 2u);
  const std::string longer(kMaxLabelBytes + 1, 'x');
  EXPECT_EQ(LabelLimiter(1).Limit(longer), longer.substr(1));
}

TEST(LabelLimiter, HoldsItsBoundAmongThreads) {
  LabelLimiter limiter(10);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 1000; ++i) limiter.Limit(std::to_string(i));
      });
    }
  }
  EXPECT_EQ(limiter.size(), 10u);
}

}  // namespace
}  // namespace penstock::telemetry
