// After warm-up a decision allocates nothing, and neither do filters, scorers and pickers.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "plugins/testing.h"
#include "sched/config_loader.h"

namespace {
std::atomic<uint64_t> g_allocations{0};
}  // namespace

// Counts for the whole test program; sanitizers still see malloc and free.
// Not inlined, or g++ takes malloc and free for a mismatched pair.
[[gnu::noinline]] void* operator new(size_t size) {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
// A sanitizer would have its own for this one, and the delete below would not match it.
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t&) noexcept {
  g_allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(size == 0 ? 1 : size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace penstock::plugins {
namespace {

constexpr size_t kEndpoints = 200;

void ExpectNoAllocation(const sched::SchedulingSpec& spec) {
  testing::TestPool pool(kEndpoints);
  for (model::EndpointInfo& endpoint : pool.pool.endpoints) {
    endpoint.spec.host = "10.0.0.1";
    endpoint.spec.labels = {{"llm-d.ai/context-length-range", "0-100000"},
                            {std::string(model::kRoleLabel), "encode-prefill-decode"},
                            {"zone", "eu"}};
  }
  pool.Index();
  model::LiveColumns live(testing::kFirstSlot + kEndpoints);
  config::Diagnostics diagnostics;
  const auto scheduler = sched::Scheduler::Create(spec, Builtins(), &diagnostics);
  ASSERT_NE(scheduler, nullptr) << diagnostics.errors.front();
  sched::RequestContext context;
  const std::string text(4000, 'x');
  const model::PromptPart part{text, true};
  context.request.prompt = {&part, 1};
  context.request.headers.push_back({"x-session-id", "anna"});
  context.request.headers.push_back({"x-zone", "eu"});
  context.request.headers.push_back({"test-epp-endpoint-selection", "10.0.0.1"});
  context.request.headers.push_back({"x-session-token", "ZGVmYXVsdC9lMTIz"});  // default/e123
  scheduler->Prepare(context, Time());
  model::EndpointColumns columns;
  sched::Workspace workspace;
  sched::DecisionTrace trace;
  sched::Decision decision;
  Random random(1);
  const auto decide = [&] {
    scheduler->FillColumns(context, pool.pool, live, Time(), &columns);
    scheduler->Schedule(context, columns, pool.all, random, workspace, &trace, &decision);
  };
  decide();
  for (uint32_t i = 0; i < 20; ++i) scheduler->OnPicked(context, columns, pool.Pick(i));
  decide();
  decide();
  const uint64_t before = g_allocations.load();
  for (int i = 0; i < 10; ++i) decide();
  EXPECT_EQ(g_allocations.load() - before, 0u);
  EXPECT_EQ(decision.verdict, sched::Verdict::kPicked);
}

TEST(Decision, DoesNotAllocateWithTheBuiltInPolicies) {
  for (const std::string_view policy : sched::BuiltinPolicyNames()) {
    SCOPED_TRACE(policy);
    ExpectNoAllocation(*sched::BuiltinPolicy(policy));
  }
}

TEST(Decision, DoesNotAllocateWithAnyFilterScorerOrPicker) {
  for (const sched::PluginType& type : Builtins().types()) {
    SCOPED_TRACE(type.type);
    std::string_view parameters = type.example.empty() ? "{}" : type.example;
    if (type.type == "by-label") parameters = "{label: a, allowsNoLabel: true}";
    if (type.type.find("label-selector") != std::string_view::npos) {
      parameters = "{matchLabels: {zone: eu}}";
    }
    if (type.type == "context-length-aware") parameters = "{enableFiltering: true}";
    if (type.type == "session-affinity-scorer") parameters = "{strategy: session_id}";
    if (type.kind == sched::Kind::kPicker) parameters = "{maxNumOfEndpoints: 3}";
    const wire::YamlNode node = *wire::ParseYaml(parameters, "test.yaml");
    const std::string name(type.type);
    sched::SchedulingSpec spec;
    spec.plugins = {{"handler", "single-profile-handler", {}}, {"tested", name, node}};
    spec.profiles = {{"default", {{"tested", 1.0}}}};
    if (type.kind == sched::Kind::kFilter || type.kind == sched::Kind::kScorer) {
      spec.plugins.push_back({"picker", "max-score-picker", {}});
      spec.profiles[0].plugins.push_back({"picker", 1.0});
    } else if (type.kind != sched::Kind::kPicker) {
      continue;
    }
    ExpectNoAllocation(spec);
  }
}

}  // namespace
}  // namespace penstock::plugins
