#include "app/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/markdown.h"
#include "config/serve_config.h"
#include "plugins/builtin.h"
#include "sched/config_loader.h"

namespace penstock::app {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST(Markdown, ProseShowsWhatWasWritten) {
  EXPECT_EQ(Prose("a|b <c> *d* `e` f_g\nh"), "a\\|b &lt;c> \\*d\\* `e` f_g h");
}

TEST(Markdown, CodeKeepsItsCharacters) {
  EXPECT_EQ(Code(""), "");
  EXPECT_EQ(Code("a < b * c"), "`a < b * c`");
  EXPECT_EQ(Code("a|b"), "`a\\|b`");
  EXPECT_EQ(Code("say `x`"), "`` say `x` ``");
}

TEST(Markdown, TableLeavesOutEmptyColumns) {
  EXPECT_EQ(Table({"A", "B", "C"}, {{"1", "", "3"}, {"4", "", ""}}),
            "| A | C |\n|---|---|\n| 1 | 3 |\n| 4 | |\n");
}

TEST(Markdown, BlockEndsItsText) {
  EXPECT_EQ(Block("yaml", "a: 1"), "```yaml\na: 1\n```\n");
  EXPECT_EQ(Block("", "a\n"), "```\na\n```\n");
}

TEST(ConfigurationPage, ExampleLoads) {
  std::vector<std::string> warnings;
  const auto loaded = config::LoadServeConfig(ExampleConfiguration(), "example.yaml", &warnings);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_THAT(warnings, IsEmpty());
  EXPECT_EQ(loaded->engines.size(), 3u);
}

TEST(ConfigurationPage, HasARowForEveryField) {
  const std::string page = ConfigurationPage();
  for (const config::FieldRow& row : config::Fields<config::ServeConfig>()) {
    EXPECT_THAT(page, HasSubstr("| `" + row.path + "` |"));
  }
  EXPECT_THAT(page, HasSubstr("\n## timeouts\n"));
  EXPECT_THAT(page, Not(HasSubstr("one of: ,")));
}

TEST(PluginsPage, HasEveryTypeAndPolicy) {
  const std::string page = PluginsPage(plugins::Builtins());
  for (const sched::PluginType& type : plugins::Builtins().types()) {
    EXPECT_THAT(page, HasSubstr("\n### " + std::string(type.type) + "\n"));
    for (const config::FieldRow& row : type.parameters()) EXPECT_THAT(page, HasSubstr(row.path));
  }
  for (const std::string_view name : sched::BuiltinPolicyNames()) {
    EXPECT_THAT(page, HasSubstr("\n### " + std::string(name) + "\n"));
  }
  EXPECT_THAT(page, HasSubstr("- Needs: `PrefixCacheMatchInfo`"));
  EXPECT_THAT(page, HasSubstr("- Produces: `SessionID`; has to be declared"));
}

TEST(PluginsPage, ListsNoTypeTwice) {
  const std::string page = PluginsPage(plugins::Builtins());
  const std::string others = page.substr(page.find("## Other types of llm-d"));
  for (const sched::PluginType& type : plugins::Builtins().types()) {
    EXPECT_THAT(others, Not(HasSubstr("| `" + std::string(type.type) + "` |")));
  }
}

// As a user would paste it: loads, wires, and only a deprecated type is warned about.
TEST(PluginExample, WorksAsItIs) {
  for (const sched::PluginType& type : plugins::Builtins().types()) {
    const std::string yaml = PluginExample(type, plugins::Builtins());
    SCOPED_TRACE(yaml);
    const auto tree = wire::ParseYaml(yaml, "example.yaml");
    ASSERT_TRUE(tree) << tree.error().message;
    const wire::YamlNode* profiles = tree->Find("schedulingProfiles");
    config::Diagnostics diagnostics{.file = "example.yaml"};
    sched::SchedulingSpec spec;
    EXPECT_TRUE(sched::LoadInlineScheduling(*tree->Find("plugins"),
                                            profiles == nullptr ? wire::YamlNode() : *profiles,
                                            plugins::Builtins(), &spec, &diagnostics));
    EXPECT_NE(sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics), nullptr);
    EXPECT_THAT(diagnostics.errors, IsEmpty());
    EXPECT_EQ(diagnostics.warnings.empty(), type.stability != sched::Stability::kDeprecated);
  }
}

TEST(MetricsPage, EscapesAndGroups) {
  const std::vector<telemetry::Registry::Row> rows = {
      {"llm_d_epp_request_total", "counter", "model_name, fairness_id", "Requests | all."},
      {"penstock_retries_total", "counter", "reason", "Retries."}};
  const std::string page = MetricsPage(rows);
  EXPECT_THAT(page, HasSubstr("## In llm-d's names"));
  EXPECT_THAT(page, HasSubstr("| `llm_d_epp_request_total` | counter | model_name, fairness_id | "
                              "Requests \\| all. |"));
  EXPECT_LT(page.find("llm_d_epp_request_total"), page.find("## Penstock's own"));
  EXPECT_GT(page.find("penstock_retries_total"), page.find("## Penstock's own"));
}

TEST(Pages, AreTheSameEveryTime) {
  EXPECT_EQ(ConfigurationPage(), ConfigurationPage());
  EXPECT_EQ(PluginsPage(plugins::Builtins()), PluginsPage(plugins::Builtins()));
}

}  // namespace
}  // namespace penstock::app
