#include "app/check_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/file.h"
#include "sched/config_loader.h"
#include "sched/spec_yaml.h"
#include "wire/yaml.h"

namespace penstock::app {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

CheckReport CheckPicker(std::string_view body) {
  const std::string text =
      "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n" + std::string(body);
  return CheckConfiguration(text, "e.yaml").front();
}

CheckReport CheckServe(std::string_view text) { return CheckConfiguration(text, "p.yaml").front(); }

// One profile over what `plugins` declares; `entries` are its elements.
std::string Profile(std::string_view plugins, std::string_view entries) {
  return "plugins: [" + std::string(plugins) +
         "]\nschedulingProfiles:\n- name: default\n  plugins: [" + std::string(entries) + "]\n";
}

TEST(Explanation, TellsWhatAProfileDoes) {
  const CheckReport report = CheckPicker(R"(plugins:
- {type: prefix-cache-affinity-filter, name: sticky, parameters: {affinityThreshold: 0.9}}
- type: queue-scorer
- type: session-affinity-scorer
- type: max-score-picker
schedulingProfiles:
- name: main
  plugins:
  - pluginRef: sticky
  - {pluginRef: queue-scorer, weight: 3}
  - {pluginRef: session-affinity-scorer, weight: 1}
  - pluginRef: max-score-picker
)");
  ASSERT_THAT(report.errors, IsEmpty());
  const sched::Explanation& e = *report.explanation;
  EXPECT_EQ(e.handler.type, "single-profile-handler");
  EXPECT_TRUE(e.handler.is_implied);
  ASSERT_EQ(e.profiles.size(), 1u);
  const auto& profile = e.profiles[0];
  ASSERT_EQ(profile.filters.size(), 1u);
  EXPECT_EQ(profile.filters[0].name, "sticky");
  EXPECT_FALSE(profile.filters[0].is_implied);
  ASSERT_EQ(profile.filters[0].settings.size(), 1u);
  EXPECT_EQ(profile.filters[0].settings[0].value, "0.9");
  EXPECT_EQ(profile.filters[0].settings[0].default_value, "0.8");
  ASSERT_EQ(profile.scorers.size(), 2u);
  EXPECT_EQ(profile.scorers[0].share, 0.75);
  EXPECT_EQ(profile.picker.type, "max-score-picker");
  EXPECT_THAT(e.metrics, ElementsAre("waiting requests"));
  ASSERT_EQ(e.headers.size(), 1u);
  EXPECT_EQ(e.headers[0].name, "x-session-token");
  EXPECT_TRUE(e.reads_prompts);
  ASSERT_EQ(e.producers.size(), 3u);
  EXPECT_TRUE(e.producers[0].is_implied);

  const std::string text = ReportText(report);
  EXPECT_THAT(text, HasSubstr("e.yaml: an EndpointPickerConfig, for 'penstock epp'"));
  EXPECT_THAT(text, HasSubstr("score    75 %  queue-scorer, weight 3"));
  EXPECT_THAT(text, HasSubstr("affinityThreshold: 0.9 (instead of 0.8)"));
  EXPECT_THAT(text, HasSubstr("filter   sticky (prefix-cache-affinity-filter)"));
  EXPECT_THAT(text, HasSubstr("x-session-token: sends the request to the endpoint"));
  EXPECT_THAT(text, HasSubstr("The same for penstock.yaml"));
}

TEST(Explanation, PlacesAreShortInTheText) {
  const std::string text = ReportText(CheckPicker(R"(plugins: [{type: queue-scorer}]
schedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer, weight: 0}]}]
)"));
  EXPECT_THAT(text, HasSubstr("\nWarnings\n  line 4: 'queue-scorer' has weight 0"));
  EXPECT_THAT(text, HasSubstr("\n  profile 'a' names no picker"));
}

TEST(Explanation, APluginMayFilterAndScore) {
  const CheckReport report =
      CheckPicker(Profile("{type: context-length-aware, parameters: {enableFiltering: true}}",
                          "{pluginRef: context-length-aware, weight: 2}"));
  ASSERT_THAT(report.errors, IsEmpty());
  const auto& profile = report.explanation->profiles[0];
  ASSERT_EQ(profile.filters.size(), 1u);
  ASSERT_EQ(profile.scorers.size(), 1u);
  EXPECT_EQ(profile.scorers[0].weight, 2);
}

TEST(Explanation, IsJsonForMachines) {
  const auto reports = CheckConfiguration(
      "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
      "plugins: [{type: queue-scorer}]\n",
      "e.yaml");
  const std::string json = ReportJson(reports);
  const auto tree = wire::ParseYaml(json, "json");
  ASSERT_TRUE(tree) << tree.error().message;
  ASSERT_EQ(tree->items.size(), 1u);
  EXPECT_EQ(tree->items[0].Find("ok")->scalar, "true");
  const wire::YamlNode& profile = tree->items[0].Find("profiles")->items[0];
  EXPECT_EQ(profile.Find("scorers")->items[0].Find("plugin")->Find("type")->scalar, "queue-scorer");
  EXPECT_EQ(profile.Find("picker")->Find("addedByDefault")->scalar, "true");
}

TEST(Errors, AllOfThemAtOnceWithTheirPlaces) {
  const CheckReport report = CheckPicker(R"(plugins:
- type: queue-scorr
- type: token-load-scorer
  parameters: {queueTresholdTokens: 5}
- type: disagg-profile-handler
  parameters: {profile: {}}
flowControl: {maxByte: 1}
)");
  EXPECT_THAT(report.errors,
              ::testing::UnorderedElementsAre(
                  HasSubstr("e.yaml:9:15: unknown field 'maxByte' in flowControl"),
                  HasSubstr("e.yaml:4:9: unknown plugin type 'queue-scorr'"),
                  HasSubstr("e.yaml:6:16: unknown field 'queueTresholdTokens'"),
                  HasSubstr("e.yaml:8:16: unknown field 'profile'"),
                  HasSubstr("e.yaml:7:9: plugin type 'disagg-profile-handler' needs")));
  EXPECT_FALSE(report.explanation);
}

struct Trap {
  std::string body;
  std::string_view text;  // "" for none
};

TEST(Traps, AreFoundInPickerConfigs) {
  const Trap traps[] = {
      {Profile("{type: precise-prefix-cache-producer}, {type: prefix-cache-scorer}",
               "{pluginRef: prefix-cache-scorer}"),
       "cached prefixes are known exactly where engines publish KV events"},
      {Profile("{type: token-producer, parameters: {vllm: {}}}, {type: token-load-scorer}",
               "{pluginRef: token-load-scorer}"),
       "the render server is asked only where engines tell what they hold"},
      {Profile("{type: prefix-cache-affinity-filter}, {type: token-load-scorer}",
               "{pluginRef: prefix-cache-affinity-filter}, {pluginRef: token-load-scorer}"),
       "sticky only for prompts of which 80 % are cached"},
      {Profile("{type: prefix-cache-affinity-filter}", "{pluginRef: prefix-cache-affinity-filter}"),
       "286,704 tokens more in flight than another one (18,000 ms at 15,928 tokens/s)"},
      {Profile("{type: prefix-cache-affinity-filter}", "{pluginRef: prefix-cache-affinity-filter}"),
       "set peakPrefillThroughput to your engines'"},
      {Profile("{type: prefix-cache-affinity-filter, parameters: {affinityThreshold: 0}}",
               "{pluginRef: prefix-cache-affinity-filter}"),
       "turned off by affinityThreshold 0"},
      {Profile("{type: prefix-cache-affinity-filter, parameters: {maxTTFTPenaltyMs: 0}}",
               "{pluginRef: prefix-cache-affinity-filter}"),
       "has no way out (maxTTFTPenaltyMs 0)"},
      {Profile("{type: queue-scorer}", "{pluginRef: queue-scorer}"),
       "'queue-scorer' gives everyone 1 while all are equal, which idle endpoints are, so chance"},
      {Profile("{type: queue-scorer}, {type: random-picker}",
               "{pluginRef: queue-scorer}, {pluginRef: random-picker}"),
       "e.yaml:6:52: 'random-picker' does not look at scores: the scorer of profile 'default' "
       "changes nothing"},
      {Profile("{type: queue-scorer}", "{pluginRef: queue-scorer}"),
       "profile 'default' names no picker: 'max-score-picker' is used"},
      {Profile("{type: decode-filter}", "{pluginRef: decode-filter}"),
       "profile 'default' has no scorer: chance decides"},
      {Profile("{type: queue-scorer}", "{pluginRef: queue-scorer, weight: 0}"), "has weight 0"},
      {Profile("{type: queue-scorer}", "{pluginRef: queue-scorer, weight: -1}"),
       "prefers what it is meant to avoid"},
      {Profile("{type: queue-scorer}", "{pluginRef: queue-scorer, weight: 7}"),
       "the weight 7 of 'queue-scorer' changes nothing"},
      {Profile("{type: queue-scorer}", "{pluginRef: queue-scorer}, {pluginRef: queue-scorer}"),
       "names 'queue-scorer' twice"},
      {Profile("{type: no-hit-lru-scorer}, {type: queue-scorer}",
               "{pluginRef: no-hit-lru-scorer}, {pluginRef: queue-scorer}"),
       "nothing in profile 'default' sends the others to where they are cached"},
      {Profile("{type: no-hit-lru-scorer}", "{pluginRef: no-hit-lru-scorer}"),
       "added, because plugins need what they produce: 'token-producer', "
       "'approx-prefix-cache-producer'"},
      {Profile("{type: active-request-scorer}", "{pluginRef: active-request-scorer}"),
       "no plugin looks at engine metrics, which are read every 50ms"},
      {Profile("{type: load-aware-scorer}, {type: kv-cache-utilization-scorer}",
               "{pluginRef: load-aware-scorer}, {pluginRef: kv-cache-utilization-scorer}"),
       "never gives more than 0.5"},
      {Profile("{type: token-load-scorer}, {type: prefix-cache-scorer}",
               "{pluginRef: token-load-scorer}, {pluginRef: prefix-cache-scorer}"),
       "changes by 0.0024 for 10,000 tokens"},
      {Profile("{type: session-affinity-scorer}, {type: queue-scorer}",
               "{pluginRef: session-affinity-scorer}, {pluginRef: queue-scorer, weight: 3}"),
       "has 25 % of the weights, so the other scorers can outvote"},
      {Profile("{type: session-affinity-scorer}", "{pluginRef: session-affinity-scorer}"),
       "llm-d's picker starts with it only under --allow-experimental-plugins"},
      {Profile("{type: utilization-detector}, {type: metrics-data-source, parameters: {interval: "
               "5s}}",
               "{pluginRef: utilization-detector}"),
       "takes metrics older than 200ms for stale, and they are read every 5s"},
      {Profile("{type: concurrency-detector}", "{pluginRef: concurrency-detector}"),
       "has no way out: when every endpoint is at its limit"},
      {Profile("{type: header-based-testing-filter}", "{pluginRef: header-based-testing-filter}"),
       "is for conformance tests"},
      {Profile("{type: prefill-filter}", "{pluginRef: prefill-filter}"),
       "takes out endpoints without the label"},
      {Profile("{type: header-profile-handler}, {type: queue-scorer}", "{pluginRef: queue-scorer}"),
       "there is no profile 'decode', its defaultProfile"},
      {Profile("{type: queue-scorer}, {type: kv-cache-utilization-scorer, name: kv}",
               "{pluginRef: queue-scorer}"),
       "'kv' is declared and nothing uses it"},
      {Profile("{type: max-score-picker, parameters: {maxNumOfEndpoints: 3}}, {type: queue-scorer}",
               "{pluginRef: queue-scorer}, {pluginRef: max-score-picker}"),
       "an Envoy cluster of type ORIGINAL_DST understands a single one"},
      {Profile("{type: approx-prefix-cache-producer, parameters: {blockSizeTokens: 16}}, {type: "
               "prefix-cache-scorer}",
               "{pluginRef: prefix-cache-scorer}"),
       "blockSizeTokens 16 is raised to 64"},
      {Profile("{type: approx-prefix-cache-producer, parameters: {lruCapacityPerServer: 9}}, "
               "{type: prefix-cache-scorer}",
               "{pluginRef: prefix-cache-scorer}"),
       "lruCapacityPerServer counts only for engines that do not report"},
      {"requestHandler: {parsers: [{pluginRef: passthrough-parser}]}\n" +
           Profile("{type: prefix-cache-scorer}", "{pluginRef: prefix-cache-scorer}"),
       "the passthrough-parser reads no prompt"},
      {"featureGates: [flowControl=false]\nflowControl: {maxBytes: 1}\n" +
           Profile("{type: queue-scorer}", "{pluginRef: queue-scorer}"),
       "flowControl is ignored"},
      {Profile("{type: tokenizer}, {type: prefix-cache-scorer}",
               "{pluginRef: prefix-cache-scorer}"),
       "plugin type 'tokenizer' is deprecated: use 'token-producer'"},
  };
  for (const Trap& trap : traps) {
    const CheckReport report = CheckPicker(trap.body);
    EXPECT_THAT(report.errors, IsEmpty()) << trap.body;
    std::vector<std::string> all = report.warnings;
    all.insert(all.end(), report.notes.begin(), report.notes.end());
    EXPECT_THAT(all, Contains(HasSubstr(std::string(trap.text)))) << trap.body;
  }
}

TEST(Traps, AreNotSeenWhereThereAreNone) {
  const CheckReport report = CheckPicker(R"(plugins:
- type: active-request-scorer
- type: max-score-picker
- {type: metrics-data-source, parameters: {interval: 1s}}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: active-request-scorer}, {pluginRef: max-score-picker}]
)");
  EXPECT_THAT(report.errors, IsEmpty());
  EXPECT_THAT(report.warnings, IsEmpty());
  EXPECT_THAT(report.notes, Not(Contains(HasSubstr("no plugin looks at engine metrics"))));
}

TEST(Traps, ASaturationDetectorIsInUse) {
  const CheckReport report = CheckPicker(
      "plugins: [{type: concurrency-detector}, {type: queue-scorer}]\n"
      "flowControl: {saturationDetector: {pluginRef: concurrency-detector}}\n"
      "schedulingProfiles: [{name: a, plugins: [{pluginRef: queue-scorer}]}]\n");
  EXPECT_THAT(report.errors, IsEmpty());
  EXPECT_THAT(report.warnings, ElementsAre(HasSubstr("refuses nothing")));
}

TEST(Traps, AreSaidOnceForAllProfiles) {
  const CheckReport report =
      CheckPicker(R"(plugins: [{type: header-profile-handler}, {type: queue-scorer}]
schedulingProfiles:
- {name: decode, plugins: [{pluginRef: queue-scorer}]}
- {name: prefill, plugins: [{pluginRef: queue-scorer}]}
)");
  EXPECT_EQ(std::count_if(report.notes.begin(), report.notes.end(),
                          [](const std::string& note) {
                            return note.find("gives everyone 1") != std::string::npos;
                          }),
            1);
}

TEST(PickerConfig, TellsWhatServeRefusesAndLeavesItOut) {
  const CheckReport report = CheckPicker(R"(plugins:
- {type: metrics-data-source, parameters: {path: /m, interval: 200ms}}
- {type: file-discovery, parameters: {path: "/etc/e: 1.yaml", watchFile: true}}
- type: queue-scorer
dataLayer: {discovery: {pluginRef: file-discovery}}
)");
  ASSERT_THAT(report.errors, IsEmpty());
  EXPECT_THAT(report.notes,
              Contains(HasSubstr("'penstock serve' refuses it: "
                                 "metrics-data-source.path '/m' needs metrics paths")));
  EXPECT_THAT(report.penstock_yaml, HasSubstr("# Not carried over: metrics-data-source.path '/m'"));
  EXPECT_THAT(report.penstock_yaml, HasSubstr("endpointsFile: \"/etc/e: 1.yaml\"\n"));
  EXPECT_THAT(report.penstock_yaml, HasSubstr("scrape:\n  interval: 200ms\n"));
  EXPECT_THAT(report.penstock_yaml, Not(HasSubstr("file-discovery")));
  EXPECT_THAT(ReportText(report), HasSubstr("Endpoints: the file /etc/e: 1.yaml, watched"));
}

TEST(Embedded, ConfigurationsAreFoundWithPlacesOfTheFile) {
  const auto reports = CheckConfiguration(R"(data:
  other: text
  a.yaml: |
    # first
    apiVersion: llm-d.ai/v1alpha1
    kind: EndpointPickerConfig
    plugins:
    - type: nope
  b.yaml: "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
)",
                                          "values.yaml");
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_THAT(reports[0].errors, ElementsAre(HasSubstr("values.yaml:8:13: unknown plugin type")));
  EXPECT_THAT(reports[1].errors, IsEmpty());
}

TEST(Unreadable, SaysWhatItMightBe) {
  EXPECT_THAT(CheckConfiguration("a: {{ .Values.x }}\nb: [", "t.yaml").front().errors,
              Contains(HasSubstr("a Helm template? render it first")));
}

TEST(PenstockYaml, IsExplainedWithItsPolicySpelledOut) {
  const CheckReport report = CheckServe("scheduling: {policy: weighted}\n");
  ASSERT_THAT(report.errors, IsEmpty());
  EXPECT_EQ(report.title, "a penstock.yaml, for 'penstock serve'");
  EXPECT_THAT(report.penstock_yaml, HasSubstr("  - pluginRef: prefix-cache-scorer\n"
                                              "      weight: 3\n"));
  EXPECT_THAT(report.notes, Contains(HasSubstr("no engines")));
  EXPECT_EQ(report.explanation->profiles[0].scorers.size(), 3u);
}

TEST(PenstockYaml, AllErrorsAtOnce) {
  const CheckReport report = CheckServe(R"(listn: 1
scheduling:
  plugins:
  - type: queue-scorr
  - {type: token-load-scorer, parameters: {x: 1}}
)");
  EXPECT_THAT(report.errors,
              ElementsAre(HasSubstr("p.yaml:1:1: unknown field 'listn'"),
                          HasSubstr("p.yaml:4:11: unknown plugin type 'queue-scorr'"),
                          HasSubstr("p.yaml:5:44: unknown field 'x'")));
}

TEST(PenstockYaml, FollowsTheFilesThatItNames) {
  const std::string folder = ::testing::TempDir() + "/check_report_test";
  std::filesystem::create_directories(folder);
  ASSERT_TRUE(WriteFile(folder + "/epp.yaml",
                        "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
                        "plugins: [{type: nope}]\n"));
  ASSERT_TRUE(WriteFile(folder + "/endpoints.yaml", "endpoints: [{url: ftp://a}]\n"));
  const CheckReport report =
      CheckServe("endpointsFile: " + folder + "/endpoints.yaml\nscheduling: {file: " + folder +
                 "/epp.yaml}\n");
  EXPECT_THAT(report.errors, ElementsAre(HasSubstr("epp.yaml:3:18: unknown plugin type 'nope'"),
                                         HasSubstr("endpoints.yaml:1:")));
  const CheckReport missing =
      CheckServe("endpointsFile: /nowhere/e.yaml\nscheduling: {file: /nowhere/s.yaml}\n");
  EXPECT_THAT(missing.errors, ElementsAre(HasSubstr("scheduling.file: /nowhere/s.yaml")));
  EXPECT_THAT(missing.warnings, Contains(HasSubstr("endpointsFile: /nowhere/e.yaml")));
}

TEST(PenstockYaml, WarnsOfAnOpenAdminPort) {
  EXPECT_THAT(CheckServe("adminListen: 0.0.0.0:9090\n").warnings,
              Contains(HasSubstr("there is no authentication")));
  EXPECT_THAT(CheckServe("limits: {maxBodyBytes: 4GiB}\n").errors,
              Contains(HasSubstr("less than twice limits.maxBodyBytes")));
}

}  // namespace
}  // namespace penstock::app
