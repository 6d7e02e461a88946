#include "workload/generated_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "workload/testing.h"

namespace penstock::workload {
namespace {

Workload Parse(std::string_view yaml) {
  auto workload = ParseWorkload(yaml, "w.yaml");
  EXPECT_TRUE(workload.has_value()) << workload.error().message;
  return workload ? *workload : Workload();
}

Played TrafficOf(std::string_view yaml, const PlayOptions& options = {}, uint64_t seed = 1) {
  auto source = Generate(Parse(yaml), seed, {});
  return Play(*source, options);
}

constexpr std::string_view kRandom = R"(
load: {type: poisson, interval: 5, stages: [{rate: 10, duration: 20}, {rate: 5, duration: 10}]}
data:
  type: random
  inputDistribution: {type: uniform, min: 10, max: 20}
  outputDistribution: 7
)";

TEST(Generated, OpenLoopKeepsToItsStages) {
  const auto source = Generate(Parse(kRandom), 1, {});
  EXPECT_EQ(source->Total(), 250u);
  const Played played = Play(*source);
  ASSERT_EQ(played.jobs.size(), 250u);
  EXPECT_LE(played.jobs[199].at, seconds(20));
  EXPECT_GE(played.jobs[200].at, seconds(25));
  std::set<uint64_t> contents;
  for (const Job& job : played.jobs) {
    ASSERT_EQ(job.prompt.size(), 1u);
    EXPECT_GE(job.prompt_tokens(), 10u);
    EXPECT_LE(job.prompt_tokens(), 20u);
    EXPECT_EQ(job.output_tokens, 7u);
    EXPECT_EQ(job.max_output_tokens, 7u);
    EXPECT_EQ(job.session, 0u);
    contents.insert(job.prompt[0].content);
  }
  EXPECT_EQ(contents.size(), 250u);
}

TEST(Generated, OpenLoopDoesNotWaitForAnswers) {
  PlayOptions slow;
  slow.service = [](const Job&) { return seconds(1000); };
  EXPECT_EQ(DigestOf(TrafficOf(kRandom).jobs), DigestOf(TrafficOf(kRandom, slow).jobs));
  EXPECT_EQ(TrafficOf(kRandom, slow).most_in_flight, 250u);
}

TEST(Generated, ADrainWaitsForTheLastAnswerAndThenTheInterval) {
  std::string yaml(kRandom);
  yaml.replace(yaml.find("interval: 5"), 11, "interval: 5, drain: true");
  PlayOptions slow;
  slow.service = [](const Job&) { return seconds(100); };
  const Played played = TrafficOf(yaml, slow);
  ASSERT_EQ(played.jobs.size(), 250u);
  EXPECT_GE(played.jobs[200].at, played.jobs[199].at + seconds(105));
}

TEST(Generated, ASeedIsATraffic) {
  EXPECT_EQ(DigestOf(TrafficOf(kRandom, {}, 4).jobs), DigestOf(TrafficOf(kRandom, {}, 4).jobs));
  EXPECT_NE(DigestOf(TrafficOf(kRandom, {}, 4).jobs), DigestOf(TrafficOf(kRandom, {}, 5).jobs));
}

TEST(Generated, ClosedLoopHoldsItsLevel) {
  const auto source = Generate(Parse(R"(
load:
  type: concurrent
  interval: 2
  stages: [{concurrencyLevel: 3, numRequests: 50}, {concurrencyLevel: 8, numRequests: 40}]
data: {type: random, inputDistribution: 10, outputDistribution: 100}
)"),
                               1, {});
  EXPECT_EQ(source->Total(), 90u);
  const Played played = Play(*source);
  ASSERT_EQ(played.jobs.size(), 90u);
  EXPECT_EQ(played.most_in_flight, 8u);
  // 50 requests of 120 ms, 3 at a time: the last two begin after 16 rounds.
  EXPECT_EQ(played.jobs[49].at, milliseconds(120) * 16);
  EXPECT_EQ(played.jobs[50].at, milliseconds(120) * 17 + seconds(2));
}

TEST(Generated, ARefusedClientWaitsASecond) {
  PlayOptions refused;
  refused.is_served = [](const Job&) { return false; };
  refused.service = [](const Job&) { return Duration(0); };
  const Played played = TrafficOf(R"(
load: {type: concurrent, stages: [{concurrencyLevel: 2, numRequests: 10}]}
data: {type: random}
)",
                                  refused);
  ASSERT_EQ(played.jobs.size(), 10u);
  EXPECT_EQ(played.jobs[9].at, seconds(4));
}

constexpr std::string_view kPrefix = R"(
load: {type: constant, stages: [{rate: 10, duration: 12}]}
data:
  type: sharedPrefix
  sharedPrefix:
    numGroups: 4
    numPromptsPerGroup: 5
    systemPromptLen: 100
    questionLen: {type: uniform, min: 10, max: 90}
    outputLen: 8
)";

TEST(Generated, SharedPrefixesComeInTurn) {
  const Played played = TrafficOf(kPrefix);
  ASSERT_EQ(played.jobs.size(), 120u);
  std::map<uint64_t, int> questions;
  std::map<uint32_t, std::set<uint64_t>> systems;
  for (const Job& job : played.jobs) {
    ASSERT_EQ(job.prompt.size(), 2u);
    EXPECT_EQ(job.prompt[0].tokens, 100u);
    systems[job.group].insert(job.prompt[0].content);
    ++questions[job.prompt[1].content];
  }
  EXPECT_EQ(systems.size(), 4u);
  for (const auto& [group, contents] : systems) EXPECT_EQ(contents.size(), 1u) << group;
  EXPECT_EQ(questions.size(), 20u);
  for (const auto& [content, count] : questions) EXPECT_EQ(count, 6) << content;
  // The first 20 are all of them, in an order that is not that of the groups.
  std::vector<uint32_t> groups;
  for (int i = 0; i < 20; ++i) groups.push_back(played.jobs[i].group);
  EXPECT_FALSE(std::is_sorted(groups.begin(), groups.end()));
}

TEST(Generated, SkewMakesGroupsPopular) {
  std::string yaml(kPrefix);
  yaml.replace(yaml.find("numGroups: 4"), 12, "numGroups: 4\n    groupSkew: 1");
  yaml.replace(yaml.find("rate: 10,"), 9, "rate: 1000,");
  std::map<uint32_t, double> counts;
  const Played played = TrafficOf(yaml);
  for (const Job& job : played.jobs) counts[job.group] += 1.0 / 12'000;
  const double sum = 1 + 1.0 / 2 + 1.0 / 3 + 1.0 / 4;
  for (uint32_t i = 0; i < 4; ++i) EXPECT_NEAR(counts[i], 1 / (i + 1.0) / sum, 0.015) << i;
}

std::string Chats() {
  std::string yaml(kPrefix);
  yaml += "    enableMultiTurnChat: true\n    turns: 3\n";
  return yaml;
}

TEST(Generated, ChatsGrowAndBeginAnew) {
  std::map<uint64_t, std::vector<Job>> by_user;
  for (const Job& job : TrafficOf(Chats()).jobs) by_user[job.session].push_back(job);
  ASSERT_EQ(by_user.size(), 20u);
  for (const auto& [user, jobs] : by_user) {
    ASSERT_EQ(jobs.size(), 6u);
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_EQ(jobs[i].prompt.size(), 2 + 2 * (i % 3));
      if (i % 3 == 0) continue;
      const Job& before = jobs[i - 1];
      EXPECT_TRUE(std::equal(before.prompt.begin(), before.prompt.end(), jobs[i].prompt.begin()));
      const Piece answer{before.output_content, before.output_tokens};
      EXPECT_EQ(jobs[i].prompt[before.prompt.size()], answer);
    }
    EXPECT_NE(jobs[0].prompt[1], jobs[3].prompt[1]);
  }
}

TEST(Generated, AUserWaitsForTheAnswer) {
  // 20 users and 10 requests/s that take 4 s each: from the 21st request on somebody has to end.
  PlayOptions slow;
  slow.service = [](const Job&) { return seconds(4); };
  const Played played = TrafficOf(Chats(), slow);
  ASSERT_EQ(played.jobs.size(), 120u);
  EXPECT_EQ(played.most_in_flight, 20u);
  EXPECT_EQ(played.jobs[20].at, seconds(4));
  std::map<uint64_t, Duration> until;
  for (const Job& job : played.jobs) {
    EXPECT_GE(job.at, until[job.session]);
    until[job.session] = job.at + seconds(4);
  }
}

constexpr std::string_view kTalks = R"(
load: {type: concurrent, stages: [{concurrencyLevel: 5, numRequests: 200}]}
data:
  type: conversations
  conversations:
    sharedSystemPromptLen: 40
    dynamicSystemPromptLen: {type: uniform, min: 100, max: 200}
    turnsPerConversation: {type: uniform, min: 1, max: 6}
    inputTokensPerTurn: {type: lognormal, mean: 30, stdDev: 20, min: 1, max: 100}
    outputTokensPerTurn: {type: exponential, mean: 30, min: 1, max: 100}
    toolCallLatencySec: {type: uniform, min: 1, max: 2}
)";

std::map<uint64_t, std::vector<Job>> BySession(const Played& played) {
  std::map<uint64_t, std::vector<Job>> out;
  for (const Job& job : played.jobs) out[job.session].push_back(job);
  return out;
}

TEST(Generated, ConversationsPauseAndGrow) {
  const Played played = TrafficOf(kTalks);
  ASSERT_EQ(played.jobs.size(), 200u);
  EXPECT_LE(played.most_in_flight, 5u);
  const auto talks = BySession(played);
  uint64_t shared = 0;
  for (const auto& [session, jobs] : talks) {
    if (shared == 0) shared = jobs[0].prompt[0].content;
    EXPECT_EQ(jobs[0].prompt[0], (Piece{shared, 40}));
    for (size_t i = 1; i < jobs.size(); ++i) {
      const Duration pause = jobs[i].at - (jobs[i - 1].at + UsualService(jobs[i - 1]));
      EXPECT_GE(pause, seconds(1));
      EXPECT_LE(pause, seconds(2));
      EXPECT_EQ(jobs[i].prompt_tokens(), jobs[i - 1].prompt_tokens() + jobs[i - 1].output_tokens +
                                             jobs[i].prompt.back().tokens);
    }
  }
}

// What is said depends on the seed and the conversation's number, not on how fast answers come.
TEST(Generated, TimingDoesNotChangeWhatIsSaid) {
  PlayOptions slow;
  slow.service = [](const Job& job) { return seconds(1 + job.session % 7); };
  const auto fast_talks = BySession(TrafficOf(kTalks));
  const auto slow_talks = BySession(TrafficOf(kTalks, slow));
  size_t compared = 0;
  for (const auto& [session, jobs] : fast_talks) {
    const auto other = slow_talks.find(session);
    if (other == slow_talks.end()) continue;
    for (size_t i = 0; i < std::min(jobs.size(), other->second.size()); ++i) {
      EXPECT_EQ(jobs[i].prompt, other->second[i].prompt);
      EXPECT_EQ(jobs[i].output_tokens, other->second[i].output_tokens);
      EXPECT_EQ(jobs[i].output_content, other->second[i].output_content);
      ++compared;
    }
  }
  EXPECT_GT(compared, 150u);
}

TEST(Generated, ALostTurnIsLeftOutOfThePromptsAfterIt) {
  PlayOptions lossy;
  lossy.is_served = [](const Job& job) { return job.prompt.size() != 3; };
  for (const auto& [session, jobs] : BySession(TrafficOf(kTalks, lossy))) {
    for (size_t i = 1; i < jobs.size(); ++i) {
      EXPECT_EQ(jobs[i].prompt.size(), 3u);
      EXPECT_NE(jobs[i].prompt.back(), jobs[i - 1].prompt.back());
    }
  }
}

TEST(Generated, ConversationsComeAgainWhenTheyAreCounted) {
  std::string yaml(kTalks);
  yaml.replace(yaml.find("sharedSystemPromptLen"), 0, "numConversations: 3\n    ");
  std::set<uint64_t> own;
  for (const auto& [session, jobs] : BySession(TrafficOf(yaml)))
    own.insert(jobs[0].prompt[1].content);
  EXPECT_EQ(own.size(), 3u);
}

TEST(Generated, NothingIsLongerThanTheModel) {
  for (const std::string& yaml :
       {std::string(kRandom), std::string(kPrefix), Chats(), std::string(kTalks)}) {
    const auto source = Generate(Parse(yaml), 1, {.max_model_len = 130});
    for (const Job& job : Play(*source).jobs) {
      EXPECT_LE(job.prompt_tokens() + job.output_tokens, 130u);
      EXPECT_GE(job.output_tokens, 1u);
      for (const Piece& piece : job.prompt) EXPECT_GE(piece.tokens, 1u);
    }
  }
}

TEST(Generated, OpenLoopConversationsBeginAtTheRate) {
  std::string yaml(kTalks);
  yaml.replace(yaml.find("load:"), yaml.find("data:") - yaml.find("load:"),
               "load: {type: constant, stages: [{rate: 2, duration: 50}]}\n");
  const auto source = Generate(Parse(yaml), 1, {});
  EXPECT_EQ(source->Total(), std::nullopt);
  const auto talks = BySession(Play(*source));
  EXPECT_EQ(talks.size(), 100u);
  for (const auto& [session, jobs] : talks)
    EXPECT_EQ(jobs[0].at, milliseconds(500) * (session - 1));
}

TEST(Generated, SharesOfAdaptersAndPriorities) {
  const Played played = TrafficOf(R"(
load:
  type: constant
  stages: [{rate: 1000, duration: 20}]
  loraTrafficSplit: [{name: a, split: 0.5}, {name: b, split: 0.25}]
data: {type: random}
slo: {ttft: 2s, tpot: 50ms}
priorities:
  - {priority: 100, share: 0.2, fairnessId: gold, slo: {ttft: 1s}}
  - {priority: -5, share: 0.3}
)");
  std::map<uint32_t, int> loras;
  std::map<int32_t, int> priorities;
  for (const Job& job : played.jobs) {
    ++loras[job.lora];
    ++priorities[job.priority];
    EXPECT_EQ(job.fairness_id, job.priority == 100 ? "gold" : "");
    EXPECT_EQ(job.ttft_slo_s, job.priority == 100 ? 1 : 2);
  }
  EXPECT_NEAR(loras[0], 5000, 250);
  EXPECT_NEAR(loras[1], 10'000, 250);
  EXPECT_NEAR(loras[2], 5000, 250);
  EXPECT_NEAR(priorities[100], 4000, 250);
  EXPECT_NEAR(priorities[-5], 6000, 250);
  EXPECT_NEAR(priorities[0], 10'000, 250);
}

TEST(Generated, TheScaleMultipliesRateOrLevel) {
  EXPECT_EQ(Generate(Parse(kRandom), 1, {.rate_scale = 2})->Total(), 500u);
  const auto closed = Generate(Parse(kTalks), 1, {.rate_scale = 3});
  EXPECT_EQ(closed->Total(), 600u);
  PlayOptions slow;
  slow.service = [](const Job&) { return seconds(60); };
  EXPECT_EQ(Play(*closed, slow).most_in_flight, 15u);
}

}  // namespace
}  // namespace penstock::workload
