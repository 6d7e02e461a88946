#include "workload/open.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "workload/testing.h"

namespace penstock::workload {
namespace {

using testing::HasSubstr;

// The first 1000 jobs of each built-in: any machine and compiler must give these.
TEST(Open, BuiltinsAreTheSameEverywhere) {
  const std::map<std::string, uint64_t> digests = {
      {"agentic", 8854972985014425854ULL},         {"b2b-saas", 15700213754643178322ULL},
      {"code-generation", 8813459877944698463ULL}, {"interactive-chat", 3761737730672692964ULL},
      {"ladder", 9174296267159871611ULL},          {"pd", 12005124188296045845ULL},
      {"production", 9762718499483870112ULL},      {"reasoning", 7980178883513989093ULL},
      {"scenario-a", 2029528881407063768ULL},      {"scenario-b", 6950981822080143302ULL},
      {"scenario-c", 15198421790497490696ULL},     {"scenario-d", 12892256030819210643ULL},
      {"sharegpt-like", 6695128263250825944ULL},   {"tiered", 9095621815093897083ULL},
  };
  std::map<std::string, uint64_t> found;
  for (const std::string& name : BuiltinWorkloadNames()) {
    auto source = Open(name, 1, {.max_requests = 1000});
    ASSERT_TRUE(source.has_value()) << source.error().message;
    const Played played = Play(**source);
    EXPECT_EQ(played.jobs.size(), 1000u) << name;
    found[name] = DigestOf(played.jobs);
  }
  EXPECT_EQ(found, digests);
}

TEST(Open, BuiltinsCarryTheirFileNameAndOrigin) {
  for (const std::string& name : BuiltinWorkloadNames()) {
    const auto workload = LoadWorkload(name);
    ASSERT_TRUE(workload.has_value()) << workload.error().message;
    EXPECT_EQ(workload->name, name);
    EXPECT_FALSE(workload->origin.empty()) << name;
    EXPECT_FALSE(workload->description.empty()) << name;
  }
}

// The published ladder: a warm-up of 750 requests that brings every prompt once, 16 more stages.
TEST(Open, TheLadderIsThePublishedOne) {
  const auto workload = LoadWorkload("ladder");
  ASSERT_TRUE(workload.has_value());
  EXPECT_EQ(workload->load.stages.size(), 17u);
  auto source = Open("ladder", 1, {.max_requests = 750});
  ASSERT_TRUE(source.has_value());
  EXPECT_EQ((*source)->Total(), 750u);
  std::map<uint64_t, int> questions;
  for (const Job& job : Play(**source).jobs) {
    EXPECT_EQ(job.prompt_tokens(), 7200u);
    EXPECT_EQ(job.output_tokens, 1000u);
    ++questions[job.prompt[1].content];
  }
  EXPECT_EQ(questions.size(), 750u);
}

TEST(Open, AnUnknownNameListsTheKnownOnes) {
  const auto source = Open("senario-a", {}, {});
  ASSERT_FALSE(source.has_value());
  EXPECT_EQ(source.error().code, Code::kNotFound);
  EXPECT_THAT(source.error().message, HasSubstr("did you mean 'scenario-a'"));
  EXPECT_THAT(source.error().message, HasSubstr("tiered, FILE.yaml, mooncake:FILE"));
  EXPECT_EQ(Open("./no/such.yaml", {}, {}).error().code, Code::kNotFound);
  EXPECT_EQ(Open("pd", {}, {.rate_scale = 0}).error().code, Code::kOutOfRange);
}

}  // namespace
}  // namespace penstock::workload
