#include "sched/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

namespace penstock::sched {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Plugins whose behaviour a test writes down. Everything is by type name.
struct Script {
  std::map<std::string, std::vector<Need>> needs;                 // by type
  std::map<std::string, std::vector<float>> scores;               // of scorers
  std::map<std::string, std::vector<uint32_t>> keeps;             // of filters
  std::map<std::string, std::vector<DataKey>> produces;           // of producers
  std::function<int(std::span<const ProfileResult>)> next;        // of the handler
  std::function<size_t(std::span<const ProfileResult>)> primary;  // of the handler
  std::vector<std::string> calls;                                 // what ran, in order
};
Script* g_script = nullptr;

template <class Base>
class Scripted : public Base {
 public:
  explicit Scripted(std::string type) : type_(std::move(type)) {}
  std::vector<Need> Needs() override { return g_script->needs[type_]; }
  void OnPicked(RequestContext&, const model::EndpointColumns&, const Picked&) override {
    g_script->calls.push_back("picked:" + this->name());
  }
  void OnEndpointRemoved(uint32_t slot) override {
    g_script->calls.push_back("removed:" + this->name() + ":" + std::to_string(slot));
  }
  uint64_t MaxBytes() const override { return 1000; }

 protected:
  const std::string type_;
};

class FakeFilter : public Scripted<Filter> {
 public:
  using Scripted::Scripted;
  void Apply(const RequestContext&, const model::EndpointColumns&, Mask& candidates,
             Random&) const override {
    g_script->calls.push_back(name());
    const std::vector<uint32_t>& keeps = g_script->keeps[type_];
    candidates.Keep(
        [&](size_t i) { return std::find(keeps.begin(), keeps.end(), i) != keeps.end(); });
  }
};

class FakeScorer : public Scripted<Scorer> {
 public:
  using Scripted::Scripted;
  void Score(const RequestContext&, const model::EndpointColumns&, const Mask&,
             std::span<float> scores) const override {
    const std::vector<float>& given = g_script->scores[type_];
    std::copy(given.begin(), given.end(), scores.begin());
  }
};

// The best two, best first.
class FakePicker : public Scripted<Picker> {
 public:
  using Scripted::Scripted;
  size_t Pick(std::span<const float> scores, const Mask& candidates, Random&,
              std::span<uint32_t> out) const override {
    std::vector<uint32_t> order;
    candidates.ForEach([&](size_t i) { order.push_back(static_cast<uint32_t>(i)); });
    std::stable_sort(order.begin(), order.end(),
                     [&](uint32_t a, uint32_t b) { return scores[a] > scores[b]; });
    std::copy_n(order.begin(), out.size(), out.begin());
    return out.size();
  }
  size_t max_endpoints() const override { return 2; }
};

class FakeHandler : public Scripted<ProfileHandler> {
 public:
  using Scripted::Scripted;
  int Next(const RequestContext&, std::span<const std::string>,
           std::span<const ProfileResult> results) const override {
    if (g_script->next) return g_script->next(results);
    return results.empty() ? 0 : -1;
  }
  size_t Primary(std::span<const ProfileResult> results) const override {
    return g_script->primary ? g_script->primary(results) : 0;
  }
  std::string CheckProfiles(std::span<const std::string> names) const override {
    return names.size() > 2 ? "too many profiles" : "";
  }
};

class FakeProducer : public Scripted<Producer> {
 public:
  using Scripted::Scripted;
  std::vector<DataKey> Produces() const override { return g_script->produces[type_]; }
  void SetIndex(DataKey, uint32_t index) override { index_ = index; }
  void WantHostBlocks() override { g_script->calls.push_back("host-blocks:" + name()); }
  void Prepare(RequestContext&, Time) const override {
    g_script->calls.push_back("prepare:" + name());
  }
  void Produce(const RequestContext&, model::EndpointColumns& columns) const override {
    g_script->calls.push_back("produce:" + name());
    if (index_ < columns.prefix.size()) {
      columns.prefix[index_].matched_blocks.assign(columns.size(), static_cast<float>(index_));
    }
  }

 private:
  uint32_t index_ = ~0U;
};

class FakeCharge : public FakeProducer, public ChargeRule {
 public:
  using FakeProducer::FakeProducer;
  int64_t TokensToCharge(const RequestContext&, const model::EndpointColumns&,
                         uint32_t column) const override {
    return 100 + column;
  }
};

template <class P>
PluginType Type(const char* name, Kind kind, std::vector<DataKey> default_of = {}) {
  PluginType type;
  type.type = name;
  type.kind = kind;
  type.default_producer_of = std::move(default_of);
  type.make = [name](const wire::YamlNode&, std::string_view, config::Diagnostics*) {
    return std::make_unique<P>(name);
  };
  return type;
}

const Registry& Types() {
  static const Registry registry({
      Type<FakeFilter>("filter-a", Kind::kFilter),
      Type<FakeFilter>("filter-b", Kind::kFilter),
      Type<FakeScorer>("scorer-a", Kind::kScorer),
      Type<FakeScorer>("scorer-b", Kind::kScorer),
      Type<FakePicker>("picker", Kind::kPicker),
      Type<FakeHandler>("handler", Kind::kProfileHandler),
      Type<FakeProducer>("tokens", Kind::kProducer, {DataKey::kTokens}),
      Type<FakeProducer>("prefix", Kind::kProducer, {DataKey::kPrefixMatch}),
      Type<FakeCharge>("load", Kind::kProducer, {DataKey::kInFlightLoad}),
  });
  return registry;
}

class SchedulerTest : public ::testing::Test {
 protected:
  SchedulerTest() {
    g_script = &script;
    script.produces = {{"tokens", {DataKey::kTokens}},
                       {"prefix", {DataKey::kPrefixMatch}},
                       {"load", {DataKey::kInFlightLoad}}};
    for (uint32_t i = 0; i < 4; ++i) {
      model::EndpointInfo endpoint;
      endpoint.slot = 3 - i;  // the other way round than columns
      pool.endpoints.push_back(endpoint);
    }
    pool.Index();
    all.Reset(4);
    for (size_t i = 0; i < 4; ++i) all.Set(i);
  }
  ~SchedulerTest() override { g_script = nullptr; }

  // The handler, the picker, these plugins ("type" or "name=type"), and one profile of those that
  // are not producers.
  static SchedulingSpec Spec(const std::vector<std::string>& plugins) {
    SchedulingSpec spec;
    spec.file = "e.yaml";
    spec.plugins = {{"handler", "handler", {}}, {"picker", "picker", {}}};
    spec.profiles = {{"default", {}}};
    for (const std::string& plugin : plugins) {
      const size_t equals = plugin.find('=');
      const std::string type = equals == std::string::npos ? plugin : plugin.substr(equals + 1);
      const std::string name = plugin.substr(0, equals);
      wire::YamlNode node;
      node.line = static_cast<uint32_t>(spec.plugins.size());
      node.column = 7;
      spec.plugins.push_back({name, type, node});
      const PluginType* known = Types().Find(type);
      if (known == nullptr || known->kind == Kind::kProducer) continue;
      spec.profiles[0].plugins.push_back({name, 1.0});
    }
    spec.profiles[0].plugins.push_back({"picker", 1.0});
    return spec;
  }
  void Create(const SchedulingSpec& spec) {
    diagnostics = {};
    scheduler = Scheduler::Create(spec, Types(), &diagnostics);
    EXPECT_EQ(scheduler == nullptr, !diagnostics.errors.empty());
  }
  Decision Run(DecisionTrace* trace = nullptr) {
    scheduler->Prepare(context, now);
    scheduler->FillColumns(context, pool, live, now, &columns);
    Decision decision;
    scheduler->Schedule(context, columns, all, random, workspace, trace, &decision);
    return decision;
  }

  Script script;
  model::PoolSnapshot pool;
  model::LiveColumns live{4};
  Mask all;
  config::Diagnostics diagnostics;
  std::unique_ptr<Scheduler> scheduler;
  RequestContext context;
  model::EndpointColumns columns;
  Random random{1};
  Workspace workspace;
  Time now = FromNanos(10'000'000'000);
};

// A clock that goes on by one at each look.
class FakeStopwatch : public Stopwatch {
 public:
  Time Now() override { return FromNanos(++nanos_); }
  void Observe(Step step, const Plugin& plugin, Duration took) override {
    EXPECT_EQ(took, Duration(1));
    seen.push_back(std::string(StepName(step)) + ":" + plugin.name());
  }
  std::vector<std::string> seen;

 private:
  int64_t nanos_ = 0;
};

TEST_F(SchedulerTest, MeasuresThePluginsOfARequestThatBringsAStopwatch) {
  script.needs["scorer-a"] = {{DataKey::kTokens, ""}};
  script.keeps["filter-a"] = {0, 1};
  Create(Spec({"tokens", "filter-a", "scorer-a"}));
  FakeStopwatch stopwatch;
  Run();
  EXPECT_THAT(stopwatch.seen, IsEmpty());
  context.stopwatch = &stopwatch;
  Run();
  scheduler->OnPicked(context, columns, {});
  EXPECT_THAT(
      stopwatch.seen,
      ElementsAre("DataProducer:tokens", "DataProducer:tokens", "ProfilePicker:handler",
                  "Filter:filter-a", "Scorer:scorer-a", "Picker:picker", "ProfilePicker:handler",
                  "ProcessProfilesResults:handler", "PreRequest:tokens"));
}

TEST_F(SchedulerTest, AddsClampedScoresTimesWeightsWithoutNormalising) {
  SchedulingSpec spec = Spec({"scorer-a", "scorer-b"});
  spec.profiles[0].plugins[0].weight = 2;
  spec.profiles[0].plugins[1].weight = -1;
  script.scores["scorer-a"] = {0.5, 7, -3, NAN};
  script.scores["scorer-b"] = {1, 0.25, 0, INFINITY};
  Create(spec);
  DecisionTrace trace;
  EXPECT_THAT(Run(&trace).picks, ElementsAre(1, 0));
  ASSERT_EQ(trace.profiles.size(), 1u);
  EXPECT_THAT(trace.profiles[0].totals, ElementsAre(0, 1.75, 0, -1));
  ASSERT_EQ(trace.profiles[0].scores.size(), 2u);
  EXPECT_EQ(trace.profiles[0].scores[0].plugin, "scorer-a");
  EXPECT_EQ(trace.profiles[0].scores[0].weight, 2);
  EXPECT_THAT(trace.profiles[0].scores[0].scores, ElementsAre(0.5, 1, 0, 0));
  EXPECT_THAT(trace.profiles[0].scores[1].scores, ElementsAre(1, 0.25, 0, 1));
  EXPECT_THAT(trace.profiles[0].picks, ElementsAre(1, 0));
}

TEST_F(SchedulerTest, AScorerThatWritesNothingScoresZero) {
  script.scores["scorer-a"] = {1, 1, 1, 1};
  script.scores["scorer-b"] = {};
  Create(Spec({"scorer-a", "scorer-b"}));
  DecisionTrace trace;
  Run(&trace);
  EXPECT_THAT(trace.profiles[0].totals, ElementsAre(1, 1, 1, 1));
}

TEST_F(SchedulerTest, FiltersRunInOrderUntilNobodyIsLeft) {
  script.keeps = {{"filter-a", {}}, {"filter-b", {1}}};
  Create(Spec({"filter-a", "filter-b"}));
  DecisionTrace trace;
  const Decision drained = Run(&trace);
  EXPECT_EQ(drained.verdict, Verdict::kFilteredOut);
  EXPECT_EQ(drained.drained_by, "filter-a");
  EXPECT_THAT(drained.picks, IsEmpty());
  EXPECT_THAT(script.calls, ElementsAre("filter-a"));
  ASSERT_EQ(trace.profiles[0].filters.size(), 1u);
  EXPECT_TRUE(trace.profiles[0].filters[0].after.Empty());

  script.keeps["filter-a"] = {1, 2};
  const Decision picked = Run(&trace);
  EXPECT_THAT(picked.picks, ElementsAre(1));
  EXPECT_EQ(picked.scored.Count(), 1u);
  EXPECT_TRUE(picked.scored.Test(1));
  ASSERT_EQ(trace.profiles[0].filters.size(), 2u);
  EXPECT_EQ(trace.profiles[0].filters[0].after.Count(), 2u);
  EXPECT_EQ(trace.profiles[0].filters[1].after.Count(), 1u);
}

TEST_F(SchedulerTest, NoCandidatesIsAVerdictOfItsOwn) {
  Create(Spec({"filter-a"}));
  all.Reset(4);
  DecisionTrace trace;
  trace.profiles.resize(3);
  EXPECT_EQ(Run(&trace).verdict, Verdict::kNoCandidates);
  EXPECT_THAT(script.calls, IsEmpty());
  EXPECT_THAT(trace.profiles, IsEmpty());
}

TEST_F(SchedulerTest, TheHandlerChoosesProfilesAndThePrimary) {
  SchedulingSpec spec = Spec({"filter-a"});
  spec.plugins.push_back({"filter-b", "filter-b", {}});
  spec.profiles.push_back({"second", {{"filter-b"}, {"picker"}}});
  script.keeps = {{"filter-a", {0}}, {"filter-b", {3}}};
  script.next = [](auto results) {
    return results.size() < 2 ? static_cast<int>(results.size()) : -1;
  };
  script.primary = [](auto) { return 1; };
  Create(spec);
  DecisionTrace trace;
  EXPECT_THAT(Run(&trace).picks, ElementsAre(3));
  ASSERT_EQ(trace.profiles.size(), 2u);
  EXPECT_EQ(trace.profiles[0].profile, "default");
  EXPECT_EQ(trace.profiles[1].profile, "second");

  script.keeps["filter-a"] = {};  // not the primary one
  EXPECT_THAT(Run().picks, ElementsAre(3));
  script.next = [](auto) { return -1; };  // no profile at all
  EXPECT_EQ(Run().verdict, Verdict::kFilteredOut);
  int runs = 0;
  script.next = [&](auto) { return ++runs > 0 ? 1 : -1; };  // for ever
  EXPECT_THAT(Run().picks, ElementsAre(3));
  EXPECT_LE(runs, 10);
}

TEST_F(SchedulerTest, GathersOnlyTheColumnsThatSomebodyNeeds) {
  live.waiting[0] = 5;
  live.running[0] = 6;
  live.scraped_at_nanos[0] = 4'000'000'000;
  script.needs["scorer-a"] = {{DataKey::kWaiting, ""}};
  Create(Spec({"scorer-a"}));
  EXPECT_TRUE(scheduler->NeedsMetrics());
  Run();
  EXPECT_THAT(columns.waiting, ElementsAre(0, 0, 0, 5));
  EXPECT_THAT(columns.metrics_age_s, ElementsAre(INFINITY, INFINITY, INFINITY, 6));
  EXPECT_THAT(columns.running, IsEmpty());
  EXPECT_THAT(columns.kv_usage, IsEmpty());
  EXPECT_THAT(columns.in_flight_tokens, IsEmpty());
  EXPECT_THAT(columns.prefix, IsEmpty());

  script.needs["scorer-a"] = {};
  Create(Spec({"scorer-a"}));
  EXPECT_FALSE(scheduler->NeedsMetrics());
  Run();
  EXPECT_THAT(columns.waiting, IsEmpty());
  EXPECT_THAT(columns.metrics_age_s, IsEmpty());
}

TEST_F(SchedulerTest, MakesDefaultProducersOnDemandInTheOrderOfTheirData) {
  script.needs = {{"scorer-a", {{DataKey::kInFlightLoad, ""}}},
                  {"load", {{DataKey::kPrefixMatch, ""}, {DataKey::kTokens, ""}}},
                  {"prefix", {{DataKey::kTokens, ""}}}};
  Create(Spec({"scorer-a"}));
  live.in_flight_tokens[2] = 77;
  Run();
  EXPECT_THAT(script.calls, ElementsAre("prepare:tokens", "prepare:prefix", "prepare:load",
                                        "produce:tokens", "produce:prefix", "produce:load"));
  EXPECT_THAT(columns.in_flight_tokens, ElementsAre(0, 77, 0, 0));
  EXPECT_EQ(scheduler->MaxBytes(), 6000u);
  EXPECT_EQ(scheduler->TokensToCharge(context, columns, 2), 102);
}

TEST_F(SchedulerTest, ProducersThatNobodyNeedsDoNotRun) {
  Create(Spec({"tokens", "prefix", "scorer-a"}));
  Run();
  EXPECT_THAT(script.calls, IsEmpty());
  scheduler->OnEndpointRemoved(9);
  EXPECT_THAT(script.calls, ::testing::UnorderedElementsAre("removed:handler:9", "removed:picker:9",
                                                            "removed:scorer-a:9"));
}

TEST_F(SchedulerTest, AnOptionalNeedTakesWhatIsThereButMakesNothing) {
  uint32_t index = 7;
  script.needs = {{"load", {{DataKey::kPrefixMatch, "", false, &index}}}};
  Create(Spec({"load"}));
  Run();
  EXPECT_EQ(index, 7u);
  EXPECT_THAT(columns.prefix, IsEmpty());

  // Asked for by another plugin, whichever comes first.
  script.needs["scorer-a"] = {{DataKey::kPrefixMatch, ""}};
  Create(Spec({"load", "scorer-a"}));
  EXPECT_EQ(index, 0u);
  script.calls.clear();
  Run();
  EXPECT_THAT(script.calls,
              ElementsAre("prepare:prefix", "prepare:load", "produce:prefix", "produce:load"));
}

TEST_F(SchedulerTest, NamedProducersHaveColumnsOfTheirOwn) {
  uint32_t a = 9;
  uint32_t b = 9;
  script.needs = {{"scorer-a", {{DataKey::kPrefixMatch, "one", true, &a}}},
                  {"scorer-b", {{DataKey::kPrefixMatch, "two", true, &b}}}};
  Create(Spec({"scorer-a", "scorer-b", "one=prefix", "two=prefix"}));
  Run();
  ASSERT_EQ(columns.prefix.size(), 2u);
  EXPECT_EQ(columns.prefix[a].matched_blocks[0], static_cast<float>(a));
  EXPECT_EQ(columns.prefix[b].matched_blocks[0], static_cast<float>(b));
  EXPECT_NE(a, b);
}

TEST_F(SchedulerTest, OnlyWhoeverIsAskedForBlocksInHostMemoryIsTold) {
  script.needs = {
      {"scorer-a", {{DataKey::kPrefixMatch, "one"}}},
      {"scorer-b", {{.key = DataKey::kPrefixMatch, .producer = "two", .host_blocks = true}}}};
  Create(Spec({"scorer-a", "scorer-b", "one=prefix", "two=prefix"}));
  EXPECT_THAT(script.calls, ElementsAre("host-blocks:two"));
}

TEST_F(SchedulerTest, TheOnlyProducerServesWhateverItsName) {
  script.needs["scorer-a"] = {{DataKey::kPrefixMatch, ""}};
  Create(Spec({"scorer-a", "mine=prefix"}));
  Run();
  EXPECT_THAT(script.calls, ElementsAre("prepare:mine", "produce:mine"));
}

TEST_F(SchedulerTest, AmongSeveralProducersTheOneWithTheDefaultNameServes) {
  script.needs["scorer-a"] = {{DataKey::kPrefixMatch, ""}};
  Create(Spec({"scorer-a", "mine=prefix", "prefix"}));
  Run();
  EXPECT_THAT(script.calls, ElementsAre("prepare:prefix", "produce:prefix"));
  Create(Spec({"scorer-a", "mine=prefix", "yours=prefix"}));
  EXPECT_THAT(diagnostics.errors, ElementsAre(HasSubstr("both 'mine' and 'yours' produce it")));
}

TEST_F(SchedulerTest, TheDefaultProducerMayBeNamedWithoutBeingDeclared) {
  script.needs["scorer-a"] = {{DataKey::kPrefixMatch, "prefix"}};
  Create(Spec({"scorer-a"}));
  Run();
  EXPECT_THAT(script.calls, ElementsAre("prepare:prefix", "produce:prefix"));
}

TEST_F(SchedulerTest, AnUnknownProducerIsAnErrorWithTheNearestName) {
  script.needs["scorer-a"] = {{DataKey::kPrefixMatch, "my-prefx"}};
  Create(Spec({"scorer-a", "my-prefix=prefix"}));
  EXPECT_THAT(diagnostics.errors,
              ElementsAre("e.yaml:2:7: plugin 'scorer-a' wants PrefixCacheMatchInfo from "
                          "'my-prefx', which is not declared, did you mean 'my-prefix'?"));
  script.needs["scorer-a"] = {{DataKey::kPrefixMatch, "tokens"}};
  Create(Spec({"scorer-a", "tokens"}));
  EXPECT_THAT(diagnostics.errors, ElementsAre(HasSubstr("'tokens', which does not produce it")));
}

TEST_F(SchedulerTest, DataThatNobodyCanProduceIsAnError) {
  script.needs["scorer-a"] = {{DataKey::kSessionId, ""}};
  Create(Spec({"scorer-a"}));
  EXPECT_THAT(diagnostics.errors, ElementsAre(HasSubstr("needs a session-id-producer")));
}

TEST_F(SchedulerTest, ProducersThatNeedEachOtherAreAnError) {
  script.needs = {{"scorer-a", {{DataKey::kTokens, ""}}},
                  {"tokens", {{DataKey::kPrefixMatch, ""}}},
                  {"prefix", {{DataKey::kTokens, ""}}}};
  Create(Spec({"scorer-a"}));
  EXPECT_THAT(diagnostics.errors, ElementsAre(HasSubstr("needs data that is made from its own")));
}

TEST_F(SchedulerTest, TwoRulesOfChargingAreAnError) {
  Create(Spec({"load", "other=load"}));
  EXPECT_THAT(diagnostics.errors,
              ElementsAre("e.yaml:3:7: 'load' and 'other' both say what a request is charged; keep "
                          "one"));
}

TEST_F(SchedulerTest, WithoutARuleOfChargingUncachedTokensAreCharged) {
  script.needs["scorer-a"] = {{DataKey::kPrefixMatch, ""}};
  Create(Spec({"scorer-a"}));
  Run();
  context.input_tokens = 1000;
  columns.prefix[0] = {{0, 3, 100, 0}, 16, 64};
  EXPECT_EQ(scheduler->TokensToCharge(context, columns, 0), 1000);
  EXPECT_EQ(scheduler->TokensToCharge(context, columns, 1), 1000 - 3 * 64);
  EXPECT_EQ(scheduler->TokensToCharge(context, columns, 2), 0);
}

TEST_F(SchedulerTest, RefusesSpecificationsThatCannotRun) {
  Create(Spec({"scorer-q"}));
  EXPECT_THAT(diagnostics.errors, ElementsAre(HasSubstr("'scorer-q', did you mean 'scorer-")));
  SchedulingSpec spec = Spec({});
  spec.profiles[0].plugins = {{"tokns"}};
  Create(spec);
  EXPECT_THAT(diagnostics.errors,
              ElementsAre(HasSubstr("no plugin is named 'tokns'"), HasSubstr("has no picker")));
  spec.profiles.clear();
  Create(spec);
  EXPECT_THAT(diagnostics.errors, ElementsAre(HasSubstr("no scheduling profile")));
  spec = Spec({"more=picker", "handler-2=handler"});
  spec.profiles[0].plugins.pop_back();
  spec.profiles[0].plugins.pop_back();
  spec.profiles[0].plugins = {{"more"}, {"picker"}, {"handler"}};
  Create(spec);
  EXPECT_THAT(diagnostics.errors,
              ElementsAre(HasSubstr("more than one picker"), HasSubstr("is no filter, scorer"),
                          HasSubstr("both profile handlers")));
  spec = Spec({});
  spec.profiles.resize(3, spec.profiles[0]);
  Create(spec);
  EXPECT_THAT(diagnostics.errors, ElementsAre(HasSubstr("too many profiles")));
  spec = Spec({"a=scorer-a", "a=scorer-b"});
  Create(spec);
  EXPECT_THAT(diagnostics.errors, ElementsAre(HasSubstr("'a' is taken twice")));
}

TEST_F(SchedulerTest, DescribesItself) {
  script.needs["scorer-a"] = {{DataKey::kPrefixMatch, ""}};
  SchedulingSpec spec = Spec({"filter-a", "scorer-a"});
  spec.profiles[0].plugins[1].weight = 2.5;
  Create(spec);
  EXPECT_THAT(scheduler->Describe(),
              ElementsAre("profile default: filter-a, scorer-a x 2.5, picker",
                          "producer prefix: PrefixCacheMatchInfo"));
}

TEST(Registry, FindsTypesByNameAndAlias) {
  PluginType type;
  type.type = "token-producer";
  type.aliases = {"tokenizer"};
  const Registry registry({type});
  EXPECT_EQ(registry.Find("tokenizer")->type, "token-producer");
  EXPECT_EQ(registry.Find("token-producer")->type, "token-producer");
  EXPECT_EQ(registry.Find("token"), nullptr);
  EXPECT_THAT(registry.Names(), ElementsAre("token-producer", "tokenizer"));
}

}  // namespace
}  // namespace penstock::sched
