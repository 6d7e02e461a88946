#include "plugins/producers/cache_drift.h"

#include <gtest/gtest.h>

namespace penstock::plugins {
namespace {

using Verdict = CacheDrift::Verdict;

CacheDrift::Answer Answer(uint32_t expected, uint64_t cached) {
  return {.slot = 3,
          .engine_block = 16,
          .expected_tokens = expected,
          .known_tokens = expected,
          .cached_tokens = cached,
          .prompt_tokens = 2000,
          .reported_prompt_tokens = 2000};
}

TEST(CacheDrift, DiffersFromTheTenthAnswerOnAndAgreesAgain) {
  CacheDrift drift({});
  for (int i = 0; i < 9; ++i) EXPECT_EQ(drift.Compare(Answer(1600, 0)), Verdict::kAsBefore);
  EXPECT_EQ(drift.Compare(Answer(1600, 0)), Verdict::kDiffers);
  EXPECT_EQ(drift.Compare(Answer(1600, 0)), Verdict::kAsBefore);
  EXPECT_EQ(drift.differing(), 1u);
  ASSERT_EQ(drift.Views().size(), 1u);
  EXPECT_EQ(drift.Views()[0].slot, 3u);
  EXPECT_EQ(drift.Views()[0].answers, 11u);
  EXPECT_EQ(drift.Views()[0].likely_cause, "unknown");
  int answers = 0;
  while (drift.Compare(Answer(1600, 1600)) != Verdict::kAgreesAgain) ASSERT_LT(++answers, 100);
  EXPECT_GT(answers, 10);
  EXPECT_EQ(drift.differing(), 0u);
  EXPECT_EQ(drift.Views()[0].likely_cause, "");
}

TEST(CacheDrift, ATenthOfErrorIsNoDrift) {
  CacheDrift drift({});
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(drift.Compare(i % 10 == 0 ? Answer(1600, 0) : Answer(1600, 1600)),
              Verdict::kAsBefore);
  }
}

TEST(CacheDrift, OneBlockOfTheEngineIsNone) {
  CacheDrift drift({});
  for (int i = 0; i < 20; ++i) EXPECT_EQ(drift.Compare(Answer(16, 32)), Verdict::kAsBefore);
  EXPECT_EQ(drift.Views()[0].error, 0);
}

TEST(CacheDrift, MoreThanExpectedIsNoneWhereItIsKnownByNow) {
  CacheDrift drift({});
  CacheDrift::Answer answer = Answer(0, 800);
  answer.known_tokens = 1600;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(drift.Compare(answer), Verdict::kAsBefore);
  answer.known_tokens = 0;
  int answers = 0;
  while (drift.Compare(answer) != Verdict::kDiffers) ASSERT_LT(++answers, 100);
}

TEST(CacheDrift, ColdAnswersSayNothing) {
  CacheDrift drift({});
  EXPECT_EQ(drift.Compare(Answer(0, 0)), Verdict::kAsBefore);
  EXPECT_TRUE(drift.Views().empty());
}

std::string CauseOf(CacheDrift& drift) { return drift.Views().at(0).likely_cause; }

TEST(CacheDrift, NamesTheLikelyCause) {
  {
    CacheDrift drift({});
    CacheDrift::Answer answer = Answer(1600, 0);
    answer.reported_prompt_tokens = 2001;
    for (int i = 0; i < 10; ++i) drift.Compare(answer);
    EXPECT_EQ(CauseOf(drift), "the prompt's token count differs: tokenizer or chat template");
  }
  {
    CacheDrift drift({});
    for (int i = 0; i < 10; ++i) drift.Compare(Answer(1600, 1000));
    EXPECT_EQ(CauseOf(drift), "cached tokens are multiples of another block size");
  }
  {
    CacheDrift drift({});
    CacheDrift::Answer answer = Answer(1600, 0);
    answer.adapter = "sql";
    for (int i = 0; i < 6; ++i) drift.Compare(Answer(1600, 1600));
    for (int i = 0; i < 6; ++i) drift.Compare(answer);
    EXPECT_EQ(CauseOf(drift), "only requests of adapter sql differ: LoRA");
  }
}

TEST(CacheDrift, ForgetsANewProcess) {
  CacheDrift drift({});
  EXPECT_FALSE(drift.Forget(3));
  for (int i = 0; i < 10; ++i) drift.Compare(Answer(1600, 0));
  EXPECT_TRUE(drift.Forget(3));
  EXPECT_TRUE(drift.Views().empty());
}

}  // namespace
}  // namespace penstock::plugins
