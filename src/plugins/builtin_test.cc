#include "plugins/builtin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "plugins/testing.h"
#include "sched/config_loader.h"

namespace penstock::plugins {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <class Interface>
bool AsA(const sched::Plugin& plugin) {
  return dynamic_cast<const Interface*>(&plugin) != nullptr;
}

TEST(Builtins, AreDeclaredOnceAndExplained) {
  std::set<std::string_view> names;
  for (const sched::PluginType& type : Builtins().types()) {
    EXPECT_TRUE(names.insert(type.type).second) << type.type;
    for (const std::string_view alias : type.aliases) EXPECT_TRUE(names.insert(alias).second);
    EXPECT_TRUE(type.text.ends_with('.')) << type.type;
  }
  EXPECT_EQ(names.size(), 42u);
}

// With the parameters of its example, which is how the reference shows it.
TEST(Builtins, AreOfTheKindThatTheySay) {
  for (const sched::PluginType& type : Builtins().types()) {
    config::Diagnostics diagnostics;
    const auto plugin = testing::TryMake(type.type, type.example, &diagnostics);
    ASSERT_NE(plugin, nullptr) << type.type;
    const bool is_kind = type.kind == sched::Kind::kFilter   ? AsA<sched::Filter>(*plugin)
                         : type.kind == sched::Kind::kScorer ? AsA<sched::Scorer>(*plugin)
                         : type.kind == sched::Kind::kPicker ? AsA<sched::Picker>(*plugin)
                         : type.kind == sched::Kind::kProfileHandler
                             ? AsA<sched::ProfileHandler>(*plugin)
                             : AsA<sched::Producer>(*plugin);
    EXPECT_TRUE(is_kind) << type.type << " is no " << sched::KindName(type.kind);
  }
}

TEST(Builtins, RefuseUnknownParametersWithTheNearestName) {
  for (const sched::PluginType& type : Builtins().types()) {
    const std::vector<std::string> errors = testing::ErrorsOf(type.type, "{noSuchField: 1}");
    EXPECT_THAT(errors, Contains(HasSubstr("noSuchField"))) << type.type;
  }
  EXPECT_THAT(testing::ErrorsOf("token-load-scorer", "{queueTresholdTokens: 1}"),
              Contains(HasSubstr("did you mean 'queueThresholdTokens'?")));
}

TEST(Builtins, DocumentEveryParameter) {
  for (const sched::PluginType& type : Builtins().types()) {
    for (const config::FieldRow& row : type.parameters()) {
      EXPECT_TRUE(row.text.ends_with('.')) << type.type << "." << row.path;
    }
  }
}

// llm-d's sample for the estimated prefix cache, as it is.
constexpr std::string_view kEstimateSample = R"(apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: single-profile-handler
- type: decode-filter
- type: prefix-cache-scorer
- type: load-aware-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - pluginRef: decode-filter
  - pluginRef: prefix-cache-scorer
    weight: 1.0
  - pluginRef: load-aware-scorer
    weight: 1.0
  - pluginRef: max-score-picker
)";

TEST(Builtins, LoadLlmdsSample) {
  config::Diagnostics diagnostics{.file = "sample.yaml"};
  sched::SchedulingSpec spec;
  const auto tree = wire::ParseYaml(kEstimateSample, "sample.yaml");
  ASSERT_TRUE(tree.has_value());
  EXPECT_TRUE(sched::LoadEndpointPickerConfig(*tree, Builtins(), &spec, &diagnostics));
  const auto scheduler = sched::Scheduler::Create(spec, Builtins(), &diagnostics);
  EXPECT_THAT(diagnostics.errors, IsEmpty());
  ASSERT_NE(scheduler, nullptr);
  EXPECT_THAT(scheduler->Describe(),
              ::testing::ElementsAre("profile default: decode-filter, prefix-cache-scorer x 1, "
                                     "load-aware-scorer x 1, max-score-picker",
                                     "producer token-producer: TokenizedPrompt",
                                     "producer approx-prefix-cache-producer: "
                                     "PrefixCacheMatchInfo"));
}

}  // namespace
}  // namespace penstock::plugins
