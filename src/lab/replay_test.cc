#include "lab/replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/random.h"
#include "engine/profile.h"
#include "lab/engine_run.h"
#include "plugins/builtin.h"
#include "sched/config_loader.h"
#include "workload/open.h"

namespace penstock::lab {
namespace {

using ::testing::HasSubstr;
using workload::Job;
using workload::JobEnd;

std::unique_ptr<sched::Scheduler> Policy(std::string_view name) {
  const auto spec = sched::BuiltinPolicy(name);
  config::Diagnostics diagnostics;
  return sched::Scheduler::Create(*spec, plugins::Builtins(), &diagnostics);
}

engine::EngineOptions Options() { return engine::LoadProfile("rtx4090-llama-3.1-8b")->Options(); }

ReplayOptions Fleet(uint32_t engines) {
  ReplayOptions options;
  for (uint32_t i = 0; i < engines; ++i) {
    options.engines.push_back({"e" + std::to_string(i), Options(), 2});
  }
  return options;
}

// Jobs at fixed times; remembers the ends.
class FixedSource : public workload::Source {
 public:
  explicit FixedSource(std::vector<Job> jobs) : jobs_(std::move(jobs)) {}
  std::optional<Duration> NextAt() override {
    return next_ < jobs_.size() ? std::optional(jobs_[next_].at) : std::nullopt;
  }
  Job Take() override { return jobs_[next_++]; }
  void OnEnd(const Job&, const JobEnd& end) override { ends.push_back(end); }
  std::optional<Error> Failure() const override { return failure; }
  std::vector<JobEnd> ends;
  std::optional<Error> failure;

 private:
  std::vector<Job> jobs_;
  size_t next_ = 0;
};

// `n` requests, one each `gap`, of their own prompts of 500 tokens, or all of one prompt.
std::vector<Job> Jobs(int n, Duration gap, bool is_shared = false) {
  std::vector<Job> jobs;
  for (int i = 0; i < n; ++i) {
    Job& job = jobs.emplace_back();
    job.at = gap * i;
    job.prompt = {{is_shared ? 7 : 1000 + static_cast<uint64_t>(i), 500}};
    job.output_tokens = 50;
    job.output_content = 5'000'000 + static_cast<uint64_t>(i);
  }
  return jobs;
}

struct Seen {
  std::vector<Outcome> outcomes;  // their jobs are gone
  ReplayTotals totals;
  std::map<uint32_t, int> served_by;
};

Seen Watch(ReplayOptions options, workload::Source& source, std::string_view policy) {
  Seen seen;
  const auto totals =
      Replay(std::move(options), Policy(policy)).Run(source, [&](const Outcome& outcome) {
        seen.outcomes.push_back(outcome);
        if (outcome.is_served) ++seen.served_by[outcome.engine];
      });
  EXPECT_TRUE(totals) << totals.error().message;
  if (totals) seen.totals = *totals;
  return seen;
}

TEST(Replay, OneEngineIsTheEngineAloneAndTheNetwork) {
  ReplayOptions options = Fleet(1);
  options.network = microseconds(250);
  FixedSource source(Jobs(30, milliseconds(50)));
  const Seen seen = Watch(options, source, "sticky");
  ASSERT_EQ(seen.outcomes.size(), 30u);
  EXPECT_EQ(source.ends.size(), 30u);
  std::vector<RunRequest> requests;
  for (int i = 0; i < 30; ++i)
    requests.push_back({milliseconds(50) * i + options.network, 500, 50});
  const auto alone = RunEngine(requests, {.engine = Options()});
  ASSERT_TRUE(alone);
  for (const Outcome& outcome : seen.outcomes) {
    const RunTimes& times = alone->requests[outcome.number];
    EXPECT_TRUE(outcome.is_served);
    EXPECT_EQ(outcome.ttft, times.first_token - times.sent + 2 * options.network);
    EXPECT_EQ(outcome.e2e, times.last_token - times.sent + 2 * options.network);
  }
  EXPECT_EQ(seen.totals.requests, 30u);
  EXPECT_EQ(seen.totals.decisions, 30u);
  EXPECT_DOUBLE_EQ(seen.totals.accelerator_seconds, 2 * ToSeconds(seen.totals.end));
}

TEST(Replay, PoliciesDoWhatTheyAreCalled) {
  FixedSource turns(Jobs(40, milliseconds(20)));
  const Seen round_robin = Watch(Fleet(4), turns, "round-robin");
  for (uint32_t i = 0; i < 4; ++i) EXPECT_EQ(round_robin.served_by.at(i), 10);

  FixedSource shared(Jobs(40, milliseconds(400), true));
  const Seen sticky = Watch(Fleet(4), shared, "sticky");
  EXPECT_EQ(sticky.served_by.size(), 1u) << "all go where their prompt is";
  uint64_t cached = 0;
  for (const Outcome& outcome : sticky.outcomes) cached += outcome.cached_tokens;
  EXPECT_EQ(cached, 39u * 496) << "whole blocks, never the last token";
}

TEST(Replay, RepeatsBitForBit) {
  const auto digest = [](uint64_t seed) {
    auto source = workload::Open("b2b-saas", seed, {.max_requests = 400});
    ReplayOptions options = Fleet(4);
    options.seed = seed;
    return Watch(std::move(options), **source, "weighted").totals.digest;
  };
  EXPECT_EQ(digest(1), digest(1));
  EXPECT_NE(digest(1), digest(2));
  // What every other machine gets. A change of an engine, a plugin or the workload changes it.
  EXPECT_EQ(digest(1), 1521042097537476923u);
}

// Of a counter that an instance shows.
double StatOf(const sched::Scheduler& scheduler, std::string_view metric) {
  for (const auto& instance : scheduler.Stats()) {
    for (const sched::PluginStat& stat : instance.stats) {
      if (stat.metric == metric) return stat.value;
    }
  }
  ADD_FAILURE() << "nobody shows " << metric;
  return 0;
}

// Sessions of several turns on engines whose caches are too small for them, so that blocks are
// pushed out all the time, and one of them fails and comes back.
TEST(Replay, WhatEnginesTellOfTheirCachesIsWhatTheyUse) {
  ReplayOptions options = Fleet(3);
  for (EngineSpec& engine : options.engines) {
    engine.options.num_blocks = 1500;
    engine.options.max_model_len = 8192;
  }
  options.incidents = {{seconds(40), 1, Incident::Kind::kFail},
                       {seconds(50), 1, Incident::Kind::kStart}};
  std::vector<Job> jobs;
  for (int i = 0; i < 600; ++i) {
    const auto session = static_cast<uint64_t>(i * 7 % 40);
    Job job;
    job.at = milliseconds(200 * i);
    job.prompt = {{1, 333}, {100 + session, 800 + 100 * static_cast<uint32_t>(i / 100)}};
    job.output_tokens = 40;
    job.output_content = 10'000 + static_cast<uint64_t>(i);
    jobs.push_back(job);
  }
  FixedSource source(jobs);
  options.engines_tell = true;
  auto scheduler = Policy("least-cost");
  const sched::Scheduler& plugins = *scheduler;
  Replay replay(options, std::move(scheduler));
  uint64_t cached = 0;
  const auto totals =
      replay.Run(source, [&](const Outcome& outcome) { cached += outcome.cached_tokens; });
  ASSERT_TRUE(totals) << totals.error().message;
  EXPECT_GT(cached, 50'000u);
  const double predicted = StatOf(plugins, "predicted_cached_tokens_total");
  const double reported = StatOf(plugins, "reported_cached_tokens_total");
  EXPECT_GT(reported, 0.9 * static_cast<double>(cached)) << "nearly all are compared";
  // What is on its way at the time of a decision makes the difference.
  EXPECT_NEAR(predicted / reported, 1, 0.02);
  EXPECT_EQ(StatOf(plugins, "cache_drifts"), 0);
  EXPECT_GT(StatOf(plugins, "exact_answers_total"), 1700) << "three for each of 600 decisions";
}

TEST(Replay, AFailureLosesOnlyWhatHadBegun) {
  ReplayOptions options = Fleet(2);
  options.incidents = {{milliseconds(900), 0, Incident::Kind::kFail},
                       {seconds(4), 0, Incident::Kind::kStart}};
  FixedSource source(Jobs(200, milliseconds(50)));
  const Seen seen = Watch(options, source, "least-requests");
  ASSERT_EQ(seen.outcomes.size(), 200u);
  int lost = 0, retried = 0;
  for (const Outcome& outcome : seen.outcomes) {
    if (!outcome.is_served) {
      ++lost;
      EXPECT_EQ(outcome.status, 200) << "broken off";
    } else if (outcome.tries > 1) {
      ++retried;
      EXPECT_EQ(outcome.engine, 1u);
    }
  }
  EXPECT_GT(lost, 0);
  EXPECT_LT(lost, 20);
  EXPECT_GT(retried, 0);
  EXPECT_GT(seen.served_by.at(0), 20) << "it served before and serves again";
  EXPECT_LT(seen.totals.accelerator_seconds, 2 * 2 * ToSeconds(seen.totals.end));
}

TEST(Replay, EnginesJoinAndLeave) {
  ReplayOptions options = Fleet(3);
  options.absent = {2};
  options.incidents = {{seconds(2), 2, Incident::Kind::kJoin},
                       {seconds(2), 0, Incident::Kind::kLeave}};
  FixedSource source(Jobs(100, milliseconds(50)));
  const Seen seen = Watch(options, source, "round-robin");
  for (const Outcome& outcome : seen.outcomes) {
    ASSERT_TRUE(outcome.is_served);
    const uint32_t absent = outcome.number < 40 ? 2 : outcome.number > 45 ? 0 : 9;
    EXPECT_NE(outcome.engine, absent) << outcome.number;
  }
  EXPECT_EQ(seen.served_by.size(), 3u);
}

TEST(Replay, OwnBlocksAfterAPreemptionAreNoCacheHits) {
  ReplayOptions options = Fleet(1);
  options.engines[0].options.num_blocks = 100;
  options.engines[0].options.max_model_len = 1600;
  std::vector<Job> jobs = Jobs(12, milliseconds(1));
  for (Job& job : jobs) job.output_tokens = 400;
  FixedSource source(jobs);
  const Seen seen = Watch(options, source, "random");
  EXPECT_GT(seen.totals.preemptions, 0u);
  for (const Outcome& outcome : seen.outcomes) EXPECT_EQ(outcome.cached_tokens, 0u);
}

TEST(Replay, ATierGivesBackWhatTheCacheLost) {
  const auto run = [](uint32_t cpu_blocks, std::vector<Incident> incidents = {}) {
    ReplayOptions options = Fleet(1);
    options.engines[0].options.num_blocks = 100;  // three prompts of 500 tokens
    options.engines[0].options.max_model_len = 1600;
    options.engines[0].options.cpu_blocks = cpu_blocks;
    options.incidents = std::move(incidents);
    std::vector<Job> jobs = Jobs(30, seconds(2));
    for (size_t i = 0; i < jobs.size(); ++i) jobs[i].prompt = {{i % 6, 500}};
    FixedSource source(std::move(jobs));
    return Watch(std::move(options), source, "random");
  };
  const Seen without = run(0), with = run(1000), again = run(1000);
  EXPECT_EQ(without.totals.external_hit_tokens, 0u);
  EXPECT_EQ(with.totals.external_hit_tokens, 24u * 496);
  EXPECT_EQ(with.totals.digest, again.totals.digest);
  ASSERT_EQ(with.outcomes.size(), 30u);
  for (size_t i = 0; i < 30; ++i) {
    ASSERT_TRUE(with.outcomes[i].is_served);
    EXPECT_EQ(with.outcomes[i].ttft, again.outcomes[i].ttft);
    EXPECT_EQ(without.outcomes[i].cached_tokens, 0u);
    EXPECT_EQ(with.outcomes[i].cached_tokens, i < 6 ? 0u : 496u);
    const Duration saved = without.outcomes[i].ttft - with.outcomes[i].ttft;
    EXPECT_EQ(saved > Duration(0), i >= 6) << i;
  }
  // An engine that dies loses its host's memory, too.
  const Seen failed = run(1000, {{milliseconds(25'500), 0, Incident::Kind::kFail},
                                 {milliseconds(25'800), 0, Incident::Kind::kStart}});
  EXPECT_EQ(failed.totals.external_hit_tokens, 18u * 496);
}

TEST(Replay, NobodyToServeIsARefusalThatTheSourceHears) {
  ReplayOptions options = Fleet(1);
  options.incidents = {{Duration(0), 0, Incident::Kind::kFail}};
  FixedSource source(Jobs(10, milliseconds(100)));
  const Seen seen = Watch(options, source, "sticky");
  ASSERT_EQ(source.ends.size(), 10u);
  for (const Outcome& outcome : seen.outcomes) {
    EXPECT_FALSE(outcome.is_served);
    EXPECT_THAT(outcome.status, ::testing::AnyOf(502, 503));
  }
}

TEST(Replay, LimitsEndIt) {
  ReplayOptions options = Fleet(1);
  options.max_requests = 5;
  FixedSource source(Jobs(10, milliseconds(100)));
  EXPECT_EQ(Watch(options, source, "random").outcomes.size(), 5u);
  options = Fleet(1);
  options.until = milliseconds(250);
  FixedSource again(Jobs(10, milliseconds(100)));
  EXPECT_EQ(Watch(options, again, "random").outcomes.size(), 3u);
}

TEST(Replay, SaysWhatIsWrong) {
  const auto complaint = [](ReplayOptions options, std::optional<Error> failure = std::nullopt) {
    FixedSource source({});
    source.failure = std::move(failure);
    const auto totals = Replay(std::move(options), Policy("random")).Run(source, [](auto&) {});
    return totals ? "" : totals.error().message;
  };
  ReplayOptions options = Fleet(2);
  options.incidents = {{seconds(1), 2, Incident::Kind::kFail}};
  EXPECT_EQ(complaint(options), "incident 0: there is no engine 2");
  options = Fleet(2);
  options.absent = {9};
  EXPECT_EQ(complaint(options), "there is no engine 9");
  options = Fleet(2);
  options.engines[1].name = "e0";
  EXPECT_THAT(complaint(options), HasSubstr("e0"));
  options = Fleet(1);
  options.engines[0].options.num_blocks = 0;
  EXPECT_THAT(complaint(options), HasSubstr("e0: "));
  EXPECT_EQ(complaint(Fleet(1), Error{Code::kInvalidArgument, "t.jsonl:7: cut off"}),
            "t.jsonl:7: cut off");
}

}  // namespace
}  // namespace penstock::lab
