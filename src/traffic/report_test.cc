#include "traffic/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock::traffic {
namespace {

using testing::HasSubstr;
using testing::Not;

TurnRecord Answered(Duration first_token, uint64_t prompt, uint64_t cached) {
  TurnRecord record;
  record.has_first_token = true;
  record.first_token = first_token;
  record.per_token = milliseconds(20);
  record.whole = first_token + seconds(2);
  record.usage = {.is_known = true,
                  .cached_known = true,
                  .prompt_tokens = prompt,
                  .cached_tokens = cached,
                  .output_tokens = 100};
  return record;
}

TEST(LatencyHistogram, QuantilesAreWithinHalfABucket) {
  LatencyHistogram times;
  for (int i = 1; i <= 1000; ++i) times.Add(milliseconds(i));
  EXPECT_EQ(times.count(), 1000u);
  EXPECT_NEAR(times.Quantile(0.5), 0.500, 0.500 * 0.026);
  EXPECT_NEAR(times.Quantile(0.9), 0.900, 0.900 * 0.026);
  EXPECT_NEAR(times.Quantile(1), 1.000, 1.000 * 0.026);
  EXPECT_NEAR(times.Quantile(0), 0.001, 0.001 * 0.026);
}

TEST(LatencyHistogram, BeyondItsEndsItStaysAtThem) {
  LatencyHistogram times;
  EXPECT_EQ(times.Quantile(0.5), 0);
  times.Add(Duration(0));
  EXPECT_NEAR(times.Quantile(0.5), 1e-4, 1e-5);
  times.Add(std::chrono::hours(100));
  EXPECT_GT(times.Quantile(1), 3000);
}

TEST(Totals, HitRateIsOverTokensOfAnswersThatSay) {
  Totals totals;
  EXPECT_EQ(totals.HitRate(), -1);
  totals.Add(Answered(milliseconds(100), 1000, 900));
  totals.Add(Answered(milliseconds(100), 3000, 0));
  TurnRecord silent = Answered(milliseconds(100), 50'000, 0);
  silent.usage.cached_known = false;
  totals.Add(silent);
  EXPECT_DOUBLE_EQ(totals.HitRate(), 900.0 / 4000);
  EXPECT_EQ(totals.prompt_tokens, 54'000u);
  EXPECT_EQ(totals.output_tokens, 300u);
  EXPECT_EQ(totals.answered, 3u);
}

TEST(Totals, FailuresAreCountedByKindAndNothingElse) {
  Totals totals;
  TurnRecord failure = Answered(milliseconds(1), 1000, 0);
  failure.error = "HTTP 503";
  failure.detail = "no endpoint";
  totals.Add(failure);
  failure.detail = "later";
  totals.Add(failure);
  EXPECT_EQ(totals.failed, 2u);
  EXPECT_EQ(totals.answered, 0u);
  EXPECT_EQ(totals.errors.at("HTTP 503"), 2u);
  EXPECT_EQ(totals.first_error, "HTTP 503: no endpoint");
  EXPECT_EQ(totals.first_token.count(), 0u);
  for (int i = 0; i < 100; ++i) {
    failure.error = "kind " + std::to_string(i);
    totals.Add(failure);
  }
  EXPECT_EQ(totals.errors.size(), Totals::kMaxErrorKinds);
  EXPECT_EQ(totals.errors.at("other"), 102u - 2 - (Totals::kMaxErrorKinds - 2));
}

TEST(Report, ShowsRatesQuantilesAndFailures) {
  Totals totals;
  for (int i = 0; i < 1500; ++i) totals.Add(Answered(milliseconds(80), 4000, 3000));
  TurnRecord failure;
  failure.error = "connect";
  failure.detail = "refused";
  totals.Add(failure);
  totals.cut_off = 3;
  const std::string report = Report(totals, {.begun = 200, .held_back = 7}, seconds(60));
  EXPECT_THAT(report, HasSubstr("1,500 answered (25.0 a second), 1 failed, 3 cut off"));
  EXPECT_THAT(report, HasSubstr("200 begun, 7 held back"));
  EXPECT_THAT(report, HasSubstr("75.0 % of 6,000,000 prompt tokens"));
  EXPECT_THAT(report, HasSubstr("100000 in, 2500 out"));
  EXPECT_THAT(report, HasSubstr("1 x connect"));
  EXPECT_THAT(report, HasSubstr("connect: refused"));
  EXPECT_THAT(report, testing::ContainsRegex("time to first token +p50 (78|79|80|81|82) ms"));
}

TEST(Report, OfNothingIsNoNonsense) {
  const std::string report = Report(Totals(), {}, Duration(0));
  EXPECT_THAT(report, HasSubstr("0 answered (0.0 a second), 0 failed\n"));
  EXPECT_THAT(report, HasSubstr("not known"));
  EXPECT_THAT(report, Not(HasSubstr("nan")));
  EXPECT_THAT(StatusLine(Totals(), {}, Duration(0)), HasSubstr("no answer yet"));
}

TEST(StatusLine, IsOneLine) {
  Totals window;
  for (int i = 0; i < 50; ++i) window.Add(Answered(milliseconds(1200), 4000, 3000));
  const std::string line = StatusLine(window, {.open = 12}, seconds(5));
  EXPECT_THAT(line, HasSubstr("10.0 req/s"));
  EXPECT_THAT(line, HasSubstr("75.0 %"));
  EXPECT_THAT(line, HasSubstr("12 chats"));
  EXPECT_THAT(line, Not(HasSubstr("failed")));
  EXPECT_THAT(line, Not(HasSubstr("\n")));
}

}  // namespace
}  // namespace penstock::traffic
