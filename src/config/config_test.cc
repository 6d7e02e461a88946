#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/document.h"
#include "config/duration.h"
#include "config/parse.h"

namespace penstock::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

struct Item {
  std::string name;
  int32_t weight = 1;
  template <class V>
  void Describe(V& v) {
    v.Field("name", name, {.text = "What it is called.", .required = true});
    v.Field("weight", weight, {.text = "How much it counts.", .min = -10, .max = 10});
  }
};

struct Settings {
  bool on = false;
  uint32_t count = 3;
  uint64_t big = 0;
  int64_t offset = -1;
  double ratio = 0.5;
  std::string mode = "fast";
  Duration wait = seconds(60);
  std::vector<std::string> words = {"a", "b"};
  std::optional<uint32_t> limit;
  std::map<std::string, std::string> labels;
  Item item = {.name = "x"};
  std::vector<Item> items;
  wire::YamlNode raw;
  double old = 0;
  template <class V>
  void Describe(V& v) {
    v.Field("on", on, {.text = "Whether it works."});
    v.Field("count", count, {.text = "How many.", .unit = "requests", .min = 1, .max = 100});
    v.Field("big", big);
    v.Field("offset", offset);
    v.Field("ratio", ratio, {.text = "A share.", .min = 0, .max = 1, .reload = Reload::kLive});
    v.Field("mode", mode, {.text = "How.", .one_of = {"fast", "slow"}});
    v.Field("wait", wait, {.text = "How long.", .min = 0.05, .max = 300});
    v.Field("words", words);
    v.Field("limit", limit, {.text = "At most.", .min = 1});
    v.Field("labels", labels);
    v.Field("item", item);
    v.Field("items", items, {.text = "Several."});
    v.Field("raw", raw);
    v.Field("old", old, {.deprecated = "use ratio."});
  }
};

struct Outcome {
  Settings settings;
  Diagnostics diagnostics{.file = "f.yaml"};
  bool ok = false;
};

Outcome Read(std::string_view text) {
  Outcome outcome;
  const Result<wire::YamlNode> tree = wire::ParseYaml(text, "f.yaml");
  if (!tree) {
    outcome.diagnostics.errors.push_back(tree.error().message);
    return outcome;
  }
  outcome.ok = ParseInto(*tree, "", &outcome.settings, &outcome.diagnostics);
  return outcome;
}

std::vector<std::string> ErrorsOf(std::string_view text) { return Read(text).diagnostics.errors; }

TEST(Parse, ReadsEveryType) {
  const Outcome o = Read(R"(on: true
count: 0x10
big: 18446744073709551615
offset: -42
ratio: 1e-1
mode: "slow"
wait: 1m30s
words: [x, "7"]
limit: 9
labels: {gpu: h100, rank: "0"}
item: {name: first, weight: -3}
items:
  - name: second
  - {name: third, weight: 2}
raw: {anything: [1, 2]}
)");
  ASSERT_TRUE(o.ok) << o.diagnostics.errors.front();
  const Settings& s = o.settings;
  EXPECT_TRUE(s.on);
  EXPECT_EQ(s.count, 16u);
  EXPECT_EQ(s.big, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(s.offset, -42);
  EXPECT_DOUBLE_EQ(s.ratio, 0.1);
  EXPECT_EQ(s.mode, "slow");
  EXPECT_EQ(s.wait, seconds(90));
  EXPECT_THAT(s.words, ElementsAre("x", "7"));
  EXPECT_EQ(s.limit, 9u);
  EXPECT_THAT(s.labels, ElementsAre(Pair("gpu", "h100"), Pair("rank", "0")));
  EXPECT_EQ(s.item.name, "first");
  EXPECT_EQ(s.item.weight, -3);
  ASSERT_EQ(s.items.size(), 2u);
  EXPECT_EQ(s.items[0].weight, 1);
  EXPECT_EQ(s.items[1].weight, 2);
  ASSERT_NE(s.raw.Find("anything"), nullptr);
  EXPECT_THAT(o.diagnostics.warnings, IsEmpty());
}

TEST(Parse, AbsentAndNullFieldsKeepTheirValues) {
  for (std::string_view text : {"", "count:\nmode: null\nwords: ~\nitem:\n"}) {
    const Outcome o = Read(text);
    ASSERT_TRUE(o.ok) << o.diagnostics.errors.front();
    EXPECT_EQ(o.settings.count, 3u);
    EXPECT_EQ(o.settings.mode, "fast");
    EXPECT_THAT(o.settings.words, ElementsAre("a", "b"));
    EXPECT_EQ(o.settings.item.name, "x");
    EXPECT_FALSE(o.settings.limit.has_value());
  }
}

TEST(Parse, ReportsEverythingThatIsWrongWithItsPlace) {
  EXPECT_THAT(ErrorsOf("on: yes\ncount: 101\nitems:\n  - weight: 11\n  - 7\nmod: fast\n"),
              ElementsAre("f.yaml:1:5: on: must be true or false, not 'yes'",
                          "f.yaml:2:8: count: '101' is above the maximum 100",
                          "f.yaml:4:5: items[0].name is missing",
                          "f.yaml:4:13: items[0].weight: '11' is above the maximum 10",
                          "f.yaml:5:5: items[1]: must be a map, not '7'",
                          "f.yaml:6:1: unknown field 'mod', did you mean 'mode'?"));
  EXPECT_THAT(ErrorsOf("item: {name: a, wieght: 1}"),
              ElementsAre("f.yaml:1:17: unknown field 'wieght' in item, did you mean 'weight'?"));
  EXPECT_THAT(ErrorsOf("[1]"), ElementsAre("f.yaml:1:1: must be a map, not a list"));
}

TEST(Parse, RequiredFieldsOfAnAbsentMapAreMissing) {
  Item item;
  Diagnostics diagnostics{.file = "f.yaml"};
  EXPECT_FALSE(ParseInto(wire::YamlNode(), "parameters", &item, &diagnostics));
  EXPECT_THAT(diagnostics.errors, ElementsAre("f.yaml: parameters.name is missing"));
}

TEST(Parse, TypesAreStrict) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"on: True", "must be true or false"},
      {"on: \"true\"", "must be true or false, not \"true\""},
      {"on: 1", "must be true or false"},
      {"count: \"5\"", "must be a whole number, not \"5\""},
      {"count: 5.0", "must be a whole number"},
      {"count: 1e1", "must be a whole number"},
      {"count: 010", "must be a whole number"},
      {"count: 1_000", "must be a whole number"},
      {"count: -1", "must be 0 or a positive whole number"},
      {"count: 4294967296", "4294967296 is above 4294967295"},
      {"big: 18446744073709551616", "must be a whole number"},
      {"offset: 9223372036854775808", "must be a whole number"},
      {"count: [1]", "must be a whole number, not a list"},
      {"ratio: \"0.5\"", "must be a number, not \"0.5\""},
      {"ratio: .nan", "must be a number"},
      {"ratio: nan", "must be a number"},
      {"ratio: inf", "must be a number"},
      {"ratio: +-1", "must be a number"},
      {"ratio: -0.1", "below the minimum 0"},
      {"ratio: 1.1", "above the maximum 1"},
      {"mode: medium", "'medium' is not one of 'fast', 'slow'"},
      {"mode: slwo", "did you mean 'slow'?"},
      {"mode: 5", "must be a text, not '5'; write \"5\""},
      {"mode: true", "must be a text"},
      {"mode: {}", "must be a text, not a map"},
      {"wait: soon", "must be a duration such as"},
      {"wait: \"60\"", "must be a duration"},
      {"wait: -5s", "below the minimum 0.05s"},
      {"wait: 10ms", "below the minimum 0.05s"},
      {"wait: 6m", "above the maximum 300s"},
      {"wait: 1e300", "must be a duration"},
      {"words: a", "must be a list, not 'a'"},
      {"words: [a, 1]", "words[1]: must be a text"},
      {"words: [a, ]\nlabels: [a]", "must be a map of texts"},
      {"words: [null]", "words[0]: must be a text, not nothing"},
      {"labels: {a: 1}", "labels.a: must be a text, not '1'; write \"1\""},
      {"limit: 0", "below the minimum 1"},
  };
  for (const auto& [text, expected] : cases) {
    EXPECT_THAT(ErrorsOf(text), ElementsAre(HasSubstr(std::string(expected)))) << text;
  }
}

TEST(Parse, LongValuesAreCutInMessages) {
  const auto errors = ErrorsOf("on: " + std::string(5000, 'x'));
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_LT(errors[0].size(), 200u);
}

TEST(Parse, DeprecatedFieldsWarn) {
  const Outcome o = Read("old: 1\n");
  EXPECT_TRUE(o.ok);
  EXPECT_THAT(o.diagnostics.warnings, ElementsAre("f.yaml:1:6: old is deprecated: use ratio."));
}

TEST(Duration, ReadsWhatPeopleAndGoWrite) {
  EXPECT_EQ(ParseDuration("250ms"), milliseconds(250));
  EXPECT_EQ(ParseDuration("1.5s"), milliseconds(1500));
  EXPECT_EQ(ParseDuration("5m"), seconds(300));
  EXPECT_EQ(ParseDuration("1h"), seconds(3600));
  EXPECT_EQ(ParseDuration("1h2m3s4ms5us6ns"), Duration(3'723'004'005'006));
  EXPECT_EQ(ParseDuration("7\xC2\xB5s"), microseconds(7));
  EXPECT_EQ(ParseDuration("-2s"), seconds(-2));
  EXPECT_EQ(ParseDuration("0"), Duration::zero());
  for (std::string_view bad :
       {"", "-", "s", "5", "5 s", "1.2.3s", "5x", "1s2", "--1s", "9999999999h", "1e3s", "."}) {
    EXPECT_EQ(ParseDuration(bad), std::nullopt) << bad;
  }
}

TEST(Duration, WrittenFormReadsBack) {
  for (const Duration d : {Duration(0), Duration(1), Duration(milliseconds(250)),
                           Duration(seconds(90)), Duration(-seconds(3601))}) {
    EXPECT_EQ(ParseDuration(FormatDuration(d)), d) << FormatDuration(d);
  }
  EXPECT_EQ(FormatDuration(seconds(90)), "1m30s");
}

TEST(Fields, ListEveryFieldInOrder) {
  const std::vector<FieldRow> rows = Fields<Settings>("top");
  std::vector<std::string> paths;
  for (const FieldRow& row : rows) paths.push_back(row.path);
  EXPECT_THAT(paths, ElementsAre("top.on", "top.count", "top.big", "top.offset", "top.ratio",
                                 "top.mode", "top.wait", "top.words", "top.limit", "top.labels",
                                 "top.item", "top.item.name", "top.item.weight", "top.items",
                                 "top.items[].name", "top.items[].weight", "top.raw", "top.old"));
  EXPECT_EQ(rows[1].type, "whole number");
  EXPECT_EQ(rows[1].default_value, "3");
  EXPECT_EQ(rows[1].bounds, "1 to 100");
  EXPECT_EQ(rows[1].unit, "requests");
  EXPECT_TRUE(rows[4].live);
  EXPECT_EQ(rows[5].bounds, "one of: fast, slow");
  EXPECT_EQ(rows[5].default_value, "\"fast\"");
  EXPECT_EQ(rows[6].default_value, "1m");
  EXPECT_EQ(rows[6].bounds, "50ms to 5m");
  EXPECT_EQ(rows[7].default_value, "[\"a\", \"b\"]");
  EXPECT_EQ(rows[8].default_value, "");
  EXPECT_TRUE(rows[11].required);
  EXPECT_EQ(rows[13].type, "list of map");
  EXPECT_EQ(rows[17].deprecated, "use ratio.");
}

TEST(JsonSchema, IsJsonAndSaysWhatTheFieldsSay) {
  const std::string schema = JsonSchema<Settings>("settings");
  const Result<wire::YamlNode> tree = wire::ParseYaml(schema, "schema.json");
  ASSERT_TRUE(tree) << tree.error().message;
  const wire::YamlNode* properties = tree->Find("properties");
  ASSERT_NE(properties, nullptr);
  EXPECT_EQ(properties->entries.size(), 14u);
  EXPECT_EQ(properties->Find("count")->Find("maximum")->scalar, "100");
  EXPECT_EQ(properties->Find("big")->Find("minimum")->scalar, "0");
  EXPECT_EQ(properties->Find("mode")->Find("enum")->items.size(), 2u);
  EXPECT_EQ(properties->Find("items")->Find("items")->Find("required")->items[0].scalar, "name");
  EXPECT_EQ(properties->Find("wait")->Find("default")->scalar, "1m");
  EXPECT_EQ(tree->Find("additionalProperties")->scalar, "false");
}

}  // namespace
}  // namespace penstock::config
