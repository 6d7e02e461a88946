#include "engine/kernel_times.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace penstock::engine {
namespace {

using ::testing::HasSubstr;

// Simple laws, so that every interpolation is known: dense 100 + n, heads 10 B, decode n c / 100,
// prefill chunk (history + chunk/2) / 1000 at the points, mixed twice the decode.
constexpr std::string_view kTable = R"(# for people
kind,a,b,c,us
dense,1,,,101
dense,100,,,200
dense,1000,,,1100
per_sequence,1,,,10
per_sequence,100,,,1000
decode,1,100,,1
decode,1,1000,,10
decode,10,100,,10
decode,10,1000,,100
prefill,10,0,,1
prefill,10,100,,2
prefill,100,0,,5
prefill,100,100,,15
mixed,1,100,10,2
mixed,1,1000,10,20
mixed,10,100,10,20
mixed,10,100,100,30
mixed,10,1000,10,200
)";

std::shared_ptr<const KernelTimes> Table() {
  auto times = KernelTimes::Parse(kTable, "t.csv");
  EXPECT_TRUE(times) << times.error().message;
  return *times;
}

double Micros(const std::vector<std::pair<uint64_t, uint64_t>>& sequences) {
  StepLoad load;
  for (const auto& [computed, chunk] : sequences) load.Add(computed, chunk);
  return Table()->Seconds(load) * 1e6;
}

TEST(KernelTimes, PointsAreWhatTheTableSays) {
  EXPECT_NEAR(Micros({{99, 1}}), 101 + 10 + 1, 1e-9);
  EXPECT_NEAR(Micros({{999, 1}}), 101 + 10 + 10, 1e-9);
  EXPECT_NEAR(Micros({{0, 100}}), 200 + 10 + 5, 1e-9);
  EXPECT_NEAR(Micros({{100, 100}}), 200 + 10 + 15, 1e-9);
}

TEST(KernelTimes, BetweenPointsItIsLinear) {
  EXPECT_NEAR(Micros({{549, 1}}), 101 + 10 + 5.5, 1e-9);
  EXPECT_NEAR(Micros({{0, 55}}), 155 + 10 + 3, 1e-9);
  EXPECT_NEAR(Micros({{49, 1}, {149, 1}}), 102 + 20 + 2, 1e-9) << "mean context 100";
}

TEST(KernelTimes, BeyondTheLastPointTheSlopeGoesOn) {
  EXPECT_NEAR(Micros({{1999, 1}}), 101 + 10 + 20, 1e-9);
  // 250 tokens are chunks of 100, 100 and 50, behind 0, 100 and 200.
  const double prefill = 5 + 15 + (1 + 4 / 9.0 * 4 + 200 * (0.01 + 4 / 9.0 * 0.09));
  EXPECT_NEAR(Micros({{0, 250}}), 350 + 10 + prefill, 1e-9);
}

TEST(KernelTimes, DecodesBesideAChunkCostWhatTheyAdd) {
  std::vector<std::pair<uint64_t, uint64_t>> step(10, {99, 1});
  step.emplace_back(0, 90);
  EXPECT_NEAR(Micros(step), 200 + 110 + (1 + 80 / 90.0 * 4) + (20 + 80 / 90.0 * 10), 1e-9);
}

TEST(KernelTimes, SeveralChunksCountAsOneOfTheRootOfTheirSquares) {
  const double merged = std::sqrt(30 * 30 + 40 * 40);
  EXPECT_NEAR(Micros({{0, 30}, {0, 40}}), 170 + 20 + (1 + (merged - 10) / 90 * 4), 1e-9);
}

TEST(KernelTimes, ComplaintsNameTheLine) {
  const auto complaint = [](std::string text) {
    const auto times = KernelTimes::Parse(text, "t.csv");
    return times ? "" : times.error().message;
  };
  EXPECT_EQ(complaint("kind;a\n"), "t.csv:1: no column 'kind'");
  const std::string header = "kind,a,b,c,us\n";
  EXPECT_EQ(complaint(header + "dense,1,,\n"), "t.csv:2: 4 cells, not 5");
  EXPECT_EQ(complaint(header + "dense,1,,,5,6\n"), "t.csv:2: 6 cells, not 5");
  EXPECT_EQ(complaint(header + "dense,1,,,x\n"), "t.csv:2: us: 'x' is no number from 0 on");
  EXPECT_EQ(complaint(header + "dense,,,,5\n"), "t.csv:2: a: '' is no number from 0 on");
  EXPECT_EQ(complaint(header + "dense,-1,,,5\n"), "t.csv:2: a: '-1' is no number from 0 on");
  EXPECT_THAT(complaint(header + "dens,1,,,5\n"), HasSubstr("did you mean 'dense'"));
  EXPECT_THAT(complaint(header + "dense,2,,,5\ndense,2,,,5\n"),
              HasSubstr("t.csv:3: dense: points must rise"));
  EXPECT_THAT(complaint(header + "dense,2,,,5\n"), HasSubstr("no line of the kind 'per_sequence'"));
  EXPECT_THAT(complaint(header), HasSubstr("no line of the kind 'dense'"));
}

}  // namespace
}  // namespace penstock::engine
