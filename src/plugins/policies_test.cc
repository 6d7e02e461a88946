// The built-in policies as a whole: from a specification to picks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <thread>

#include "plugins/testing.h"
#include "sched/config_loader.h"

namespace penstock::plugins {
namespace {

using sched::DataKey;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TestPool;

// A scheduler over a pool, and a ledger to write on.
struct Rig {
  Rig(const sched::SchedulingSpec& spec, size_t size) : pool(size), live(64 + size) {
    config::Diagnostics diagnostics;
    scheduler = sched::Scheduler::Create(spec, Builtins(), &diagnostics);
    EXPECT_THAT(diagnostics.errors, IsEmpty());
    for (const auto& endpoint : pool.pool.endpoints) scheduler->OnEndpointChanged(endpoint);
  }
  Rig(std::string_view policy, size_t size) : Rig(*sched::BuiltinPolicy(policy), size) {}

  // Schedules one request with this prompt and tells the plugins.
  sched::Decision Run(std::string_view prompt, sched::DecisionTrace* trace = nullptr) {
    const model::PromptPart part{prompt, true};
    context = {};
    context.request.target_model = "llama";
    context.request.prompt = {&part, 1};
    scheduler->Prepare(context, now);
    context.request.prompt = {};
    return Again(trace);
  }
  sched::Decision Again(sched::DecisionTrace* trace = nullptr) {
    scheduler->FillColumns(context, pool.pool, live, now, &columns);
    sched::Decision decision;
    scheduler->Schedule(context, columns, pool.all, random, workspace, trace, &decision);
    if (decision.verdict == sched::Verdict::kPicked) {
      const uint32_t column = decision.picks.front();
      scheduler->OnPicked(context, columns, {column, pool.pool.slots[column], now});
    }
    return decision;
  }

  TestPool pool;
  model::LiveColumns live;
  std::unique_ptr<sched::Scheduler> scheduler;
  sched::RequestContext context;
  model::EndpointColumns columns;
  sched::Workspace workspace;
  Random random{7};
  Time now = FromNanos(1'000'000'000);
};

std::string Prompt(char letter, size_t tokens) { return std::string(4 * tokens, letter); }

TEST(StickyPolicy, TheSecondTurnGoesWhereTheFirstWent) {
  Rig rig("sticky", 8);
  const std::string first = Prompt('a', 2048);
  const uint32_t home = rig.Run(first).picks.front();
  for (int i = 0; i < 20; ++i) {
    sched::DecisionTrace trace;
    EXPECT_THAT(rig.Run(first + Prompt('b', 64 * i), &trace).picks, ElementsAre(home));
    EXPECT_EQ(trace.profiles.at(0).filters[0].after.Count(), 1u);
  }
}

TEST(StickyPolicy, ChargesTheUncachedTokensOnly) {
  Rig rig("sticky", 2);
  const uint32_t home = rig.Run(Prompt('a', 1000)).picks.front();
  EXPECT_EQ(rig.scheduler->TokensToCharge(rig.context, rig.columns, home), 1000);
  rig.Run(Prompt('a', 1000));
  EXPECT_EQ(rig.scheduler->TokensToCharge(rig.context, rig.columns, home), 0);
  EXPECT_EQ(rig.scheduler->TokensToCharge(rig.context, rig.columns, 1 - home), 1000);
}

TEST(StickyPolicy, LeavesAnEndpointThatIsTooBusy) {
  Rig rig("sticky", 4);
  const uint32_t home = rig.Run(Prompt('a', 2048)).picks.front();
  // The gate's threshold: 15928 tokens/s for 18 s.
  rig.live.in_flight_tokens[rig.pool.pool.slots[home]] = 286'704;
  EXPECT_EQ(rig.Run(Prompt('a', 2048)).picks.front(), home);
  rig.live.in_flight_tokens[rig.pool.pool.slots[home]] = 286'800;
  EXPECT_NE(rig.Run(Prompt('a', 2048)).picks.front(), home);
}

TEST(StickyPolicy, TheTraceSaysWhatDecided) {
  Rig rig("sticky", 4);
  sched::DecisionTrace trace;
  const uint32_t home = rig.Run(Prompt('a', 2048), &trace).picks.front();
  const auto why = [&] { return trace.profiles.at(0).filters[0].why_all_pass; };
  EXPECT_EQ(why(), "nobody holds enough of the prompt");
  EXPECT_EQ(trace.profiles[0].filters[0].type, "prefix-cache-affinity-filter");
  EXPECT_EQ(trace.profiles[0].scores[0].type, "token-load-scorer");
  EXPECT_EQ(trace.profiles[0].picker_type, "max-score-picker");
  rig.Run(Prompt('a', 2048), &trace);
  EXPECT_EQ(why(), "");  // it narrowed
  rig.live.in_flight_tokens[rig.pool.pool.slots[home]] = 286'800;
  rig.Run(Prompt('a', 2048), &trace);
  EXPECT_EQ(why(), "who holds the prompt is too busy");
}

TEST(StickyPolicy, ForgetsAnEndpointThatLeft) {
  Rig rig("sticky", 4);
  const uint32_t home = rig.Run(Prompt('a', 2048)).picks.front();
  rig.scheduler->OnEndpointRemoved(rig.pool.pool.slots[home]);
  rig.scheduler->FillColumns(rig.context, rig.pool.pool, rig.live, rig.now, &rig.columns);
  EXPECT_THAT(rig.columns.prefix.at(0).matched_blocks, ElementsAre(0, 0, 0, 0));
}

TEST(Policies, NameProducersThatTheyNeedAndNoOthers) {
  const auto producers = [](std::string_view policy) {
    Rig rig(policy, 1);
    size_t n = 0;
    for (const std::string& line : rig.scheduler->Describe()) n += line.starts_with("producer ");
    return n;
  };
  EXPECT_EQ(producers("sticky"), 3u);
  EXPECT_EQ(producers("random"), 0u);
}

TEST(Policies, PickOneOfTheCandidatesWhateverTheState) {
  for (const std::string_view policy : sched::BuiltinPolicyNames()) {
    Rig rig(policy, 70);
    std::set<uint32_t> seen;
    for (int i = 0; i < 300; ++i) {
      rig.pool.all.Reset(70);
      for (int k = 0; k < 5; ++k) rig.pool.all.Set(rig.random.Below(70));
      const uint32_t busy = rig.pool.pool.slots[rig.random.Below(70)];
      rig.live.in_flight_tokens[busy] = static_cast<int64_t>(rig.random.Below(1'000'000));
      rig.live.in_flight_requests[busy] = static_cast<int64_t>(rig.random.Below(50));
      const sched::Decision decision =
          rig.Run(Prompt(static_cast<char>('a' + rig.random.Below(26)), rig.random.Below(500)));
      ASSERT_EQ(decision.verdict, sched::Verdict::kPicked) << policy;
      ASSERT_EQ(decision.picks.size(), 1u);
      ASSERT_TRUE(rig.pool.all.Test(decision.picks.front()));
      seen.insert(decision.picks.front());
    }
    EXPECT_GT(seen.size(), 30u) << policy;
  }
}

TEST(StickyPolicy, ShowsTheSizeOfItsIndex) {
  Rig rig("sticky", 2);
  rig.Run(Prompt('a', 64 * 3));
  const auto stats = rig.scheduler->Stats();
  const auto found = std::ranges::find_if(stats, [](const auto& instance) {
    return instance.plugin->name() == "approx-prefix-cache-producer";
  });
  ASSERT_NE(found, stats.end());
  EXPECT_EQ(found->stats.at(0).metric, "prefix_indexer_size");
  EXPECT_EQ(found->stats.at(0).value, 3);
}

// Loops that decide, and endpoints that come and go, at once.
TEST(Policies, SurviveManyThreads) {
  for (const std::string_view policy : sched::BuiltinPolicyNames()) {
    config::Diagnostics diagnostics;
    const auto scheduler =
        sched::Scheduler::Create(*sched::BuiltinPolicy(policy), Builtins(), &diagnostics);
    ASSERT_NE(scheduler, nullptr);
    TestPool pool(16);
    model::LiveColumns live(64);
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        model::EndpointColumns columns;
        sched::Workspace workspace;
        sched::Decision decision;
        Random random(t);
        for (int i = 0; i < 100; ++i) {
          sched::RequestContext context;
          const std::string text = Prompt(static_cast<char>('a' + i % 5), 500);
          const model::PromptPart part{text, true};
          context.request.prompt = {&part, 1};
          scheduler->Prepare(context, Time());
          scheduler->FillColumns(context, pool.pool, live, Time(), &columns);
          scheduler->Schedule(context, columns, pool.all, random, workspace, nullptr, &decision);
          ASSERT_EQ(decision.verdict, sched::Verdict::kPicked);
          const sched::Picked picked = pool.Pick(decision.picks.front());
          live.in_flight_tokens[picked.slot] += 100;
          scheduler->OnPicked(context, columns, picked);
        }
      });
    }
    for (int i = 0; i < 50; ++i) {
      model::EndpointInfo endpoint = pool.pool.endpoints[static_cast<size_t>(i) % 16];
      endpoint.gpu_blocks = 100;
      endpoint.block_size_tokens = i % 20 == 0 ? 128 : 16;
      scheduler->OnEndpointChanged(endpoint);
      if (i % 7 == 0) scheduler->OnEndpointRemoved(endpoint.slot);
      scheduler->OnTick(Time(seconds(i)));
      scheduler->Stats();
    }
    for (std::thread& thread : threads) thread.join();
  }
}

TEST(Policies, NobodyToChooseFromIsNotTheSameAsFilteredOut) {
  Rig rig("sticky", 3);
  rig.pool.all.Reset(3);
  EXPECT_EQ(rig.Run("hello").verdict, sched::Verdict::kNoCandidates);
}

}  // namespace
}  // namespace penstock::plugins
