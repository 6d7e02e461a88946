#include "sched/spec_json.h"

#include <gtest/gtest.h>

#include "wire/yaml.h"

namespace penstock::sched {
namespace {

TEST(SpecJson, KeepsWhatEveryScalarMeans) {
  SchedulingSpec spec;
  const auto parameters = wire::ParseYaml(
      R"({number: 1.5, yes: true, none: null, text: abc, quoted: "12", duration: 5s, octal: 012,)"
      R"( list: [1, {a: b}], odd: "a\"b"})",
      "t");
  ASSERT_TRUE(parameters) << parameters.error().message;
  spec.plugins = {{"mine", "queue-scorer", *parameters}, {"picker", "max-score-picker", {}}};
  spec.profiles = {{"default", {{"mine", 2.5}, {"picker", 1}}}};
  EXPECT_EQ(ToJson(spec),
            R"({"plugins":[{"name":"mine","type":"queue-scorer","parameters":{"number":1.5,)"
            R"("yes":true,"none":null,"text":"abc","quoted":"12","duration":"5s","octal":"012",)"
            R"("list":[1,{"a":"b"}],"odd":"a\"b"}},{"name":"picker","type":"max-score-picker"}],)"
            R"("schedulingProfiles":[{"name":"default","plugins":[)"
            R"({"pluginRef":"mine","weight":2.5},{"pluginRef":"picker","weight":1}]}]})");
}

}  // namespace
}  // namespace penstock::sched
