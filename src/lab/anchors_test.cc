#include "lab/anchors.h"

#include <gtest/gtest.h>

#include <array>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "engine/profile.h"
#include "engine/step_time.h"

namespace penstock::lab {
namespace {

std::string NameOf(const Anchor& anchor) {
  return std::string(anchor.profile) + " x " + std::to_string(anchor.concurrency) + " " +
         std::string(anchor.name);
}

// The fields of a CSV's lines, its head left out.
std::vector<std::vector<std::string>> ReadCsv(const std::string& name) {
  std::ifstream file("tests/data/h100-vllm-0.26/" + name);
  std::vector<std::vector<std::string>> rows;
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    std::vector<std::string> fields(1);
    for (const char c : line) {
      if (c == ',') {
        fields.emplace_back();
      } else {
        fields.back() += c;
      }
    }
    rows.push_back(std::move(fields));
  }
  return rows;
}

double Number(const std::string& text) {
  double value = std::nan("");
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

void ExpectNear(const Anchor& anchor, double throughput_goal, double ttft_goal) {
  const auto result = RunAnchor(anchor);
  ASSERT_TRUE(result) << result.error().message;
  const std::string name = NameOf(anchor);
  const std::array<std::array<double, 3>, 3> numbers = {{
      {anchor.tpot_ms, result->tpot_ms, throughput_goal},
      {anchor.ttft_ms, result->ttft_ms, ttft_goal},
      {anchor.tokens_per_s, result->tokens_per_s, throughput_goal},
  }};
  for (const auto& [measured, simulated, goal] : numbers) {
    if (measured > 0) {
      EXPECT_NEAR(simulated / measured, 1, goal) << name;
    }
  }
}

TEST(Anchors, PublishedOnesAreMetWithinFifteenPercent) {
  for (const Anchor& anchor : PublishedAnchors()) ExpectNear(anchor, 0.15, 0.15);
}

// 32 at once are a few rounds of short prompts, whose TTFT on the real engine varies by a fifth.
TEST(Anchors, OurOwnAreMetWithinTheGoal) {
  for (const Anchor& anchor : OwnAnchors()) {
    ExpectNear(anchor, 0.05, anchor.concurrency == 32 ? 0.2 : 0.15);
  }
}

TEST(Anchors, OurOwnAreWhatTheRequestsSay) {
  struct Sums {
    double requests = 0, ttft = 0, decode = 0, end = 0;
  };
  std::map<std::string, Sums> loops;
  for (const auto& row : ReadCsv("loops.csv")) {
    ASSERT_EQ(row.size(), 6u);
    Sums& sums = loops[row[0]];
    const double sent = Number(row[2]), first = Number(row[4]), last = Number(row[5]);
    ++sums.requests;
    sums.ttft += first - sent;
    sums.decode += last - first;
    sums.end = std::max(sums.end, last);
  }
  ASSERT_EQ(loops.size(), OwnAnchors().size());
  for (const Anchor& anchor : OwnAnchors()) {
    const Sums& sums = loops[std::string(anchor.name)];
    EXPECT_EQ(sums.requests, anchor.requests) << anchor.name;
    EXPECT_NEAR(sums.ttft / sums.requests * 1e3 / anchor.ttft_ms, 1, 1e-3) << anchor.name;
    EXPECT_NEAR(sums.decode / sums.requests / (anchor.output_tokens - 1) * 1e3 / anchor.tpot_ms, 1,
                1e-3)
        << anchor.name;
    EXPECT_NEAR(sums.requests * anchor.output_tokens / sums.end / anchor.tokens_per_s, 1, 2e-3)
        << anchor.name;
  }
}

TEST(Anchors, TheProfileHasTheMeasuredSteps) {
  const auto profile = engine::LoadProfile("h100-qwen3-32b");
  ASSERT_TRUE(profile) << profile.error().message;
  const auto rows = ReadCsv("steps.csv");
  EXPECT_EQ(rows.size(), 47u);
  for (const auto& row : rows) {
    ASSERT_EQ(row.size(), 8u);
    engine::StepLoad load;
    load.new_tokens = static_cast<uint64_t>(Number(row[0]));
    load.sequences = static_cast<uint32_t>(Number(row[1]));
    load.decode_context_tokens = static_cast<uint64_t>(Number(row[2]));
    load.prefill_pairs = Number(row[3]);
    load.prefill_chunks = static_cast<uint32_t>(Number(row[4]));
    const double idle = Number(row[5]) * profile->step_time.idle_ms;
    const double ms = engine::StepSeconds(profile->step_time, load) * 1e3 + idle;
    const double goal = load.prefill_chunks == 0 ? 0.02 : load.new_tokens >= 256 ? 0.07 : 0.2;
    EXPECT_NEAR(ms / Number(row[7]), 1, goal) << row[0] << " tokens of " << row[1];
  }
}

}  // namespace
}  // namespace penstock::lab
