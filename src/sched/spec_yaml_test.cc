#include "sched/spec_yaml.h"

#include <gtest/gtest.h>

#include "wire/yaml.h"

namespace penstock::sched {
namespace {

TEST(SpecYaml, KeepsWhatEveryScalarMeans) {
  SchedulingSpec spec;
  const auto parameters = wire::ParseYaml(
      R"({number: 1.5, yes: true, none: null, text: abc, quoted: "12", duration: 5s, half: .5,)"
      R"( hex: 0x400, plus: +1, list: [1, {a: b}], odd: "a\"b", path: /a:b, empty: ""})",
      "t");
  ASSERT_TRUE(parameters) << parameters.error().message;
  spec.plugins = {{"mine", "queue-scorer", *parameters}, {"picker", "max-score-picker", {}}};
  spec.profiles = {{"default", {{"mine", 2.5}, {"picker", 1}}}};
  const std::string text = ToYaml(spec);
  EXPECT_EQ(
      text,
      R"({"plugins":[{"name":"mine","type":"queue-scorer","parameters":{"number":1.5,)"
      R"("yes":true,"none":null,"text":abc,"quoted":"12","duration":5s,"half":.5,"hex":0x400,)"
      R"("plus":+1,"list":[1,{"a":b}],"odd":"a\"b","path":"/a:b","empty":""}},)"
      R"({"name":"picker","type":"max-score-picker"}],"schedulingProfiles":[)"
      R"({"name":"default","plugins":[{"pluginRef":"mine","weight":2.5},)"
      R"({"pluginRef":"picker","weight":1}]}]})");
  const auto again = wire::ParseYaml(text, "t");
  ASSERT_TRUE(again) << again.error().message;
  const wire::YamlNode& read = *again->Find("plugins")->items[0].Find("parameters");
  ASSERT_EQ(read.entries.size(), parameters->entries.size());
  for (size_t i = 0; i < read.entries.size(); ++i) {
    EXPECT_EQ(read.entries[i].first.scalar, parameters->entries[i].first.scalar);
    EXPECT_EQ(read.entries[i].second.kind, parameters->entries[i].second.kind);
    EXPECT_EQ(read.entries[i].second.scalar, parameters->entries[i].second.scalar);
  }
}

TEST(SpecYaml, NamesTheAttributesThatEnginesTell) {
  SchedulingSpec spec;
  spec.extractor = "mine";
  EXPECT_EQ(ToYaml(spec), R"({"plugins":[],"schedulingProfiles":[]})");
  spec.attributes = {"Depth", "Heat"};
  EXPECT_EQ(ToYaml(spec), R"({"plugins":[],"attributes":["Depth","Heat"],"extractor":"mine",)"
                          R"("schedulingProfiles":[]})");
}

TEST(SpecYaml, TheLinesReadBackAsTheSame) {
  SchedulingSpec spec;
  const auto parameters = wire::ParseYaml(
      R"({number: 1.5, yes: true, quoted: "12", word: "true", empty: "", odd: "a: b", none: null,)"
      R"( list: [1, {a: b}], map: {k: {deep: [x]}, "a b": 1}, nothing: {}, no: []})",
      "t");
  ASSERT_TRUE(parameters) << parameters.error().message;
  spec.plugins = {{"mine: 1", "queue-scorer", *parameters},
                  {"max-score-picker", "max-score-picker", {}},
                  {"12", "token-producer", *wire::ParseYaml("{}", "t")}};
  spec.profiles = {{"true", {{"mine: 1", 0.1}, {"max-score-picker", 1}}}};
  const std::string lines = ToYamlLines(spec, 2);
  EXPECT_TRUE(
      lines.starts_with("  plugins:\n  - type: queue-scorer\n    name: \"mine: 1\"\n"
                        "    parameters:\n      number: 1.5\n"))
      << lines;
  const auto again = wire::ParseYaml("scheduling:\n" + lines, "t");
  ASSERT_TRUE(again) << again.error().message << "\n" << lines;
  const wire::YamlNode& plugins = *again->Find("scheduling")->Find("plugins");
  ASSERT_EQ(plugins.items.size(), 3u);
  EXPECT_EQ(ToYaml(*plugins.items[0].Find("parameters")), ToYaml(*parameters)) << lines;
  EXPECT_EQ(plugins.items[1].Find("name"), nullptr);
  EXPECT_EQ(plugins.items[2].Find("name")->scalar, "12");
  EXPECT_EQ(plugins.items[2].Find("parameters")->kind, wire::YamlNode::Kind::kMap);
  const wire::YamlNode& profile = again->Find("scheduling")->Find("schedulingProfiles")->items[0];
  EXPECT_TRUE(profile.Find("name")->quoted);
  EXPECT_EQ(profile.Find("plugins")->items[0].Find("weight")->scalar, "0.1");
  EXPECT_EQ(profile.Find("plugins")->items[1].Find("weight"), nullptr);
}

}  // namespace
}  // namespace penstock::sched
