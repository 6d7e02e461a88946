#include "sched/config_loader.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sched/known_types.h"

namespace penstock::sched {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

PluginType Type(std::string_view name, Kind kind, std::vector<std::string_view> aliases = {}) {
  PluginType type;
  type.type = name;
  type.kind = kind;
  type.aliases = std::move(aliases);
  return type;
}

// The loader never makes an instance, so types are names and kinds here.
const Registry& Types() {
  PluginType detector = Type("detector", Kind::kFilter);
  detector.detects_saturation = true;
  static const Registry registry({
      detector,
      Type("approx-prefix-cache-producer", Kind::kProducer),
      Type("header-handler", Kind::kProfileHandler),
      Type("kv-cache-utilization-scorer", Kind::kScorer),
      Type("label-selector-filter", Kind::kFilter),
      Type("max-score-picker", Kind::kPicker),
      Type("precise-prefix-cache-producer", Kind::kProducer),
      Type("prefix-cache-scorer", Kind::kScorer),
      Type("queue-scorer", Kind::kScorer),
      Type("random-picker", Kind::kPicker),
      Type("single-profile-handler", Kind::kProfileHandler),
      Type("token-producer", Kind::kProducer, {"tokenizer"}),
  });
  return registry;
}

struct Outcome {
  SchedulingSpec spec;
  PickerSettings settings;
  config::Diagnostics diagnostics{.file = "e.yaml"};
  bool ok = false;
};

Outcome LoadFor(const Abilities& abilities, std::string_view body) {
  Outcome outcome;
  const std::string text =
      "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n" + std::string(body);
  const Result<wire::YamlNode> tree = wire::ParseYaml(text, "e.yaml");
  if (!tree) {
    outcome.diagnostics.errors.push_back(tree.error().message);
    return outcome;
  }
  outcome.ok = LoadEndpointPickerConfig(*tree, Types(), abilities, &outcome.spec, &outcome.settings,
                                        &outcome.diagnostics);
  return outcome;
}

Outcome Load(std::string_view body) { return LoadFor(kGatewayAbilities, body); }

std::vector<std::string> ErrorsOf(std::string_view body) { return Load(body).diagnostics.errors; }

std::vector<std::string> Names(const SchedulingSpec& spec) {
  std::vector<std::string> names;
  for (const PluginSpec& plugin : spec.plugins) names.push_back(plugin.name + ":" + plugin.type);
  return names;
}

std::vector<std::string> Entries(const ProfileSpec& profile) {
  std::vector<std::string> entries;
  for (const ProfileEntry& entry : profile.plugins) entries.push_back(entry.plugin);
  return entries;
}

TEST(EndpointPickerConfig, AppliesEveryDefault) {
  const Outcome o = Load("plugins:\n- type: queue-scorer\n- type: label-selector-filter\n");
  ASSERT_TRUE(o.ok) << o.diagnostics.errors.front();
  EXPECT_THAT(Names(o.spec), ElementsAre("queue-scorer:queue-scorer",
                                         "label-selector-filter:label-selector-filter",
                                         "max-score-picker:max-score-picker",
                                         "single-profile-handler:single-profile-handler"));
  ASSERT_EQ(o.spec.profiles.size(), 1u);
  EXPECT_EQ(o.spec.profiles[0].name, "default");
  EXPECT_THAT(Entries(o.spec.profiles[0]),
              ElementsAre("queue-scorer", "label-selector-filter", "max-score-picker"));
  EXPECT_EQ(o.spec.file, "e.yaml");
}

TEST(EndpointPickerConfig, NothingConfiguredIsTheWeightedDefault) {
  const Outcome o = Load("");
  ASSERT_TRUE(o.ok);
  ASSERT_EQ(o.spec.profiles.size(), 1u);
  EXPECT_THAT(Entries(o.spec.profiles[0]),
              ElementsAre("queue-scorer", "kv-cache-utilization-scorer", "prefix-cache-scorer",
                          "max-score-picker"));
  EXPECT_EQ(o.spec.profiles[0].plugins[2].weight, 3.0);
}

TEST(EndpointPickerConfig, AProfileWithoutPickerTakesTheDeclaredOne) {
  const Outcome o = Load(R"(plugins:
- {type: random-picker, name: dice}
- type: queue-scorer
schedulingProfiles:
- name: p
  plugins: [{pluginRef: queue-scorer, weight: 2.5}]
)");
  ASSERT_TRUE(o.ok) << o.diagnostics.errors.front();
  EXPECT_THAT(Entries(o.spec.profiles[0]), ElementsAre("queue-scorer", "dice"));
  EXPECT_EQ(o.spec.profiles[0].plugins[0].weight, 2.5);
}

TEST(EndpointPickerConfig, ParametersKeepTheirPlaces) {
  const Outcome o = Load("plugins:\n- type: queue-scorer\n  parameters:\n    threshold: 5\n");
  ASSERT_TRUE(o.ok);
  ASSERT_NE(o.spec.plugins[0].parameters.Find("threshold"), nullptr);
  EXPECT_EQ(o.spec.plugins[0].parameters.Find("threshold")->line, 6u);
}

TEST(EndpointPickerConfig, AliasesLoadWithAWarning) {
  const Outcome o = Load("plugins:\n- type: tokenizer\n");
  ASSERT_TRUE(o.ok);
  EXPECT_EQ(o.spec.plugins[0].name, "tokenizer");
  EXPECT_EQ(o.spec.plugins[0].type, "token-producer");
  EXPECT_THAT(o.diagnostics.warnings,
              ElementsAre("e.yaml:4:9: plugin type 'tokenizer' is deprecated: use "
                          "'token-producer'"));
}

TEST(EndpointPickerConfig, TheOldGroupLoadsWithAWarning) {
  const auto tree = wire::ParseYaml(
      "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n", "e.yaml");
  SchedulingSpec spec;
  config::Diagnostics diagnostics{.file = "e.yaml"};
  EXPECT_TRUE(LoadEndpointPickerConfig(*tree, Types(), &spec, &diagnostics));
  EXPECT_THAT(diagnostics.warnings, ElementsAre(HasSubstr("e.yaml:1:13: apiVersion inference.")));
}

TEST(EndpointPickerConfig, NamesAndTypesAreStrict) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"plugins:\n- type: queue-scorr\n",
       "e.yaml:4:9: unknown plugin type 'queue-scorr', did you mean 'queue-scorer'?"},
      {"plugins:\n- type: queue-scorer\nprofiles: []\n", "e.yaml:5:1: unknown field 'profiles'"},
      {"plugins:\n- {type: queue-scorer}\n- {type: queue-scorer}\n",
       "e.yaml:5:10: plugin 'queue-scorer' is declared twice"},
      {"plugins:\n- {name: a}\n", "e.yaml:4:3: plugins[0].type is missing"},
      {"plugins:\n- {type: queue-scorer}\nschedulingProfiles:\n- name: p\n  plugins:\n"
       "  - {pluginRef: queue-score}\n",
       "e.yaml:8:17: no plugin is named 'queue-score', did you mean 'queue-scorer'?"},
      {"plugins:\n- {type: queue-scorer}\nschedulingProfiles:\n- {name: p}\n- {name: p}\n",
       "e.yaml:7:10: profile 'p' is declared twice"},
      {"plugins: [{type: random-picker}, {type: max-score-picker}]\nschedulingProfiles:\n"
       "- name: p\n  plugins: [{pluginRef: random-picker}, {pluginRef: max-score-picker}]\n",
       "e.yaml:6:53: profile 'p' has more than one picker"},
      {"plugins: [{type: random-picker}, {type: max-score-picker}]\n",
       "e.yaml:3:10: more than one picker is declared"},
      {"plugins: [{type: single-profile-handler}, {type: header-handler}]\n",
       "more than one profile handler is declared"},
      {"plugins: [{type: single-profile-handler}]\nschedulingProfiles: [{name: a}, {name: b}]\n",
       "e.yaml:4:21: single-profile-handler works with one profile, not 2"},
      {"plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: a}, {name: b}]\n",
       "e.yaml:4:21: 2 profiles need a profile handler"},
      {"plugins: [{type: queue-scorer, name: single-profile-handler}]\n",
       "the name 'single-profile-handler' is needed"},
      {"featureGates: [flowcontrol]\n",
       "e.yaml:3:16: unknown feature gate 'flowcontrol', did you mean 'flowControl'?"},
      {"featureGates: [flowControl=maybe]\n", "must be true or false"},
  };
  for (const auto& [body, expected] : cases) {
    EXPECT_THAT(ErrorsOf(body), ElementsAre(HasSubstr(std::string(expected)))) << body;
  }
}

TEST(EndpointPickerConfig, MissingCapabilitiesAreNamedOnce) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"plugins:\n- type: latency-scorer\n",
       "e.yaml:4:9: plugin type 'latency-scorer' needs latency prediction, which this version "
       "does not have"},
      {"featureGates: [flowControl]\nflowControl: {maxBytes: 1}\n",
       "e.yaml:3:16: feature gate 'flowControl' needs flow control, which this version does not "
       "have"},
      {"dataLayer: {crossReplicaSyncerPluginRef: x}\n", "needs replicas that share state"},
      // Several plugins of one capability make one sentence, where the first stands.
      {"plugins:\n- type: topology-extractor\n- type: topology-affinity-filter\n"
       "- type: topology-affinity-scorer\n",
       "e.yaml:4:9: plugin type 'topology-extractor', plugin type 'topology-affinity-filter' "
       "(line 5) and plugin type 'topology-affinity-scorer' (line 6) need topology labels from "
       "Kubernetes, which"},
      // A handler that is missing is not also reported as no handler at all.
      {"plugins: [{type: disagg-profile-handler}]\nschedulingProfiles: [{name: a}, {name: b}]\n",
       "needs prefill/decode disaggregation"},
  };
  for (const auto& [body, expected] : cases) {
    EXPECT_THAT(ErrorsOf(body), ElementsAre(HasSubstr(std::string(expected)))) << body;
    EXPECT_THAT(LoadFor(kPickerAbilities, body).diagnostics.errors,
                ElementsAre(HasSubstr(std::string(expected))))
        << body;
  }
}

TEST(EndpointPickerConfig, ParametersOfMissingPluginsAreStrictToo) {
  EXPECT_THAT(
      ErrorsOf("plugins: [{type: disagg-profile-handler, parameters: "
               "{profiles: {prefil: x}}}]\n"),
      ElementsAre(HasSubstr("unknown field 'prefil' in disagg-profile-handler.profiles, did "
                            "you mean 'prefill'?"),
                  HasSubstr("needs prefill/decode disaggregation")));
  EXPECT_THAT(ErrorsOf("plugins: [{type: topology-affinity-filter, parameters: {minAffinity: "
                       "hots}}]\n"),
              ElementsAre(HasSubstr("did you mean 'host'?"), HasSubstr("needs topology labels")));
}

TEST(EndpointPickerConfig, AProducerThatHearsOfEndpointsMayStandAmongExtractors) {
  const auto errors = [](std::string_view extractor) {
    return ErrorsOf(
        "plugins: [{type: endpoint-notification-source}, {type: precise-prefix-cache-producer}, "
        "{type: token-producer}]\n"
        "dataLayer: {sources: [{pluginRef: endpoint-notification-source, extractors: "
        "[{pluginRef: " +
        std::string(extractor) + "}]}]}\n");
  };
  EXPECT_THAT(errors("precise-prefix-cache-producer"), IsEmpty());
  EXPECT_THAT(errors("token-producer"), ElementsAre(HasSubstr("is no extractor")));
}

TEST(EndpointPickerConfig, PoliciesOfFlowControlAreIdleWhileItsGateIsOff) {
  const std::string_view body =
      "plugins: [{type: fcfs-ordering-policy}, {type: program-aware-fairness}]\n";
  const Outcome off = Load(body);
  EXPECT_TRUE(off.ok);
  EXPECT_THAT(off.diagnostics.warnings,
              ElementsAre(HasSubstr("'fcfs-ordering-policy' has no effect: the feature gate"),
                          HasSubstr("'program-aware-fairness' has no effect")));
  EXPECT_THAT(ErrorsOf("featureGates: [flowControl]\n" + std::string(body)),
              ElementsAre(HasSubstr("feature gate 'flowControl', plugin type "
                                    "'fcfs-ordering-policy' (line 4) and plugin type "
                                    "'program-aware-fairness' (line 4) need flow control")));
}

TEST(EndpointPickerConfig, TheSaturationDetectorCountsWithoutTheGate) {
  for (const std::string_view body :
       {"plugins: [{type: detector, name: full}]\nflowControl: {saturationDetector: {pluginRef: "
        "full}}\n",
        "plugins: [{type: detector, name: full}]\nsaturationDetector: {pluginRef: full}\n"}) {
    const Outcome o = Load(body);
    EXPECT_TRUE(o.ok);
    EXPECT_EQ(o.settings.saturation_detector, "full");
    EXPECT_THAT(o.diagnostics.warnings,
                ::testing::Contains(HasSubstr("saturation detector 'full' refuses nothing")));
  }
}

TEST(EndpointPickerConfig, WhatOnlyTheProgramLacksNamesTheProgram) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"plugins: [{type: file-discovery, name: x, parameters: {path: /e.yaml}}]\n"
       "dataLayer: {discovery: {pluginRef: x}}\n",
       "e.yaml:3:18: plugin type 'file-discovery' and dataLayer.discovery (line 4) need discovery "
       "plugins, which 'penstock serve' does not have; use endpointsFile of penstock.yaml"},
      {"plugins: [{type: metrics-data-source, parameters: {scheme: https}}]\n",
       "metrics-data-source over https needs a scheme for the metrics of all engines, which "
       "'penstock serve' does not have; write https:// in the url of each engine"},
      {"plugins: [{type: metrics-data-source, parameters: {path: /m}}]\n",
       "needs metrics paths other than /metrics"},
      {"plugins: [{type: core-metrics-extractor, parameters: {engineConfigs: [{name: a}]}}]\n",
       "engineConfigs needs metric names from the configuration"},
      {"plugins: [{type: core-metrics-extractor, parameters: {defaultEngine: triton}}]\n",
       "needs metrics of engines other than vllm and sglang"},
      {"requestHandler: {parsers: [{pluginRef: vllmgrpc-parser}]}\n",
       "plugin type 'vllmgrpc-parser' needs gRPC requests"},
      {"plugins: [{type: sglanghttp-parser}]\n", "needs SGLang's native /generate requests"},
  };
  for (const auto& [body, expected] : cases) {
    EXPECT_THAT(ErrorsOf(body), ElementsAre(HasSubstr(std::string(expected)))) << body;
    EXPECT_THAT(LoadFor(kPickerAbilities, body).diagnostics.errors, IsEmpty()) << body;
  }
  EXPECT_THAT(LoadFor(kPickerAbilities,
                      "plugins: [{type: metrics-data-source, parameters: {scheme: https}}]\n")
                  .diagnostics.errors,
              IsEmpty());
}

TEST(EndpointPickerConfig, CertificatesWithoutHttpsAreIgnoredWithAWarning) {
  Outcome o = LoadFor(kPickerAbilities,
                      "plugins: [{type: metrics-data-source, parameters: {caCertPath: /ca}}]\n");
  EXPECT_THAT(o.diagnostics.warnings,
              ElementsAre(HasSubstr("counts for engines alone that are named with https://")));
  o = LoadFor(kPickerAbilities,
              "plugins: [{type: metrics-data-source, parameters: {scheme: https, caCertPath: /ca, "
              "insecureSkipVerify: true}}]\n");
  EXPECT_THAT(o.diagnostics.warnings,
              ElementsAre(HasSubstr("caCertPath is ignored: insecureSkipVerify is true")));
  o = LoadFor(kPickerAbilities,
              "plugins: [{type: metrics-data-source, parameters: {scheme: http, caCertPath: /ca, "
              "clientCertPath: /c, clientKeyPath: /k}}]\n");
  EXPECT_TRUE(o.ok);
  EXPECT_THAT(o.diagnostics.warnings,
              ElementsAre(HasSubstr("metrics-data-source.caCertPath is ignored: scheme is http"),
                          HasSubstr("clientCertPath is ignored")));
}

TEST(EndpointPickerConfig, AttributesAreListedOnceForAllEngines) {
  const Outcome o = LoadFor(
      kPickerAbilities,
      "plugins: [{type: core-metrics-extractor, parameters: {engineConfigs: [{name: a, "
      "customMetrics: [{attributeKey: Heat, metricSpec: heat}]}, {name: b, cacheInfoSpec: info, "
      "customMetrics: [{attributeKey: Heat, metricSpec: warmth}]}]}}]\n");
  EXPECT_TRUE(o.ok);
  EXPECT_THAT(o.spec.attributes, ElementsAre("Heat"));
  EXPECT_EQ(o.spec.extractor, "core-metrics-extractor");
  EXPECT_THAT(o.diagnostics.warnings,
              ElementsAre(HasSubstr("engineConfigs 'b': cacheInfoSpec tells nothing without")));
}

TEST(EndpointPickerConfig, AttributesAreBounded) {
  std::string many;
  for (size_t i = 0; i <= kMaxAttributes; ++i) {
    many += fmt::format("{{attributeKey: k{}, metricSpec: m}}, ", i);
  }
  const auto load = [](const std::string& custom) {
    return LoadFor(kPickerAbilities,
                   "plugins: [{type: core-metrics-extractor, parameters: {engineConfigs: [{name: "
                   "a, customMetrics: [" +
                       custom + "]}]}}]\n")
        .diagnostics.errors;
  };
  EXPECT_THAT(load(many),
              ElementsAre(HasSubstr("customMetrics have more than 64 different attributes")));
  EXPECT_THAT(load("{attributeKey: k, metricSpec: m}, {attributeKey: k, metricSpec: n}"),
              ElementsAre(HasSubstr("engineConfigs 'a': attribute 'k' has two metrics")));
}

TEST(EndpointPickerConfig, ThePickersSettingsAreStrict) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"plugins: [{type: metrics-data-source, parameters: {prot: 1}}]\n", "did you mean 'port'?"},
      {"plugins: [{type: metrics-data-source, parameters: {path: m}}]\n",
       "'m' does not begin with a slash"},
      {"plugins: [{type: metrics-data-source, parameters: {clientCertPath: /c}}]\n",
       "clientCertPath and clientKeyPath go together"},
      {"plugins: [{type: metrics-data-source}, {type: metrics-data-source, name: b}]\n",
       "a second metrics-data-source is declared"},
      {"plugins: [{type: core-metrics-extractor, parameters: {defaultEngine: sglan}}]\n",
       "no engine is called 'sglan', did you mean 'sglang'?"},
      {"plugins: [{type: core-metrics-extractor, parameters: {engineConfigs: [{name: a, "
       "kvUsageSpec: 'a{b'}]}}]\n",
       "engineConfigs 'a': 'a{b' is no metric; write NAME or NAME{LABEL=VALUE}"},
      {"plugins: [{type: file-discovery}]\n", "file-discovery.path is missing"},
      {"plugins: [{type: queue-scorer}]\ndataLayer: {discovery: {pluginRef: queue-scorer}}\n",
       "'queue-scorer' is no discovery plugin"},
      {"dataLayer: {discovery: {pluginRef: x}}\n", "no plugin is named 'x'"},
      {"flowControl: {maxBites: 1}\n",
       "e.yaml:3:15: unknown field 'maxBites' in flowControl, did "
       "you mean 'maxBytes'?"},
      {"plugins: [{type: queue-scorer}]\n"
       "flowControl: {saturationDetector: {pluginRef: queue-scorer}}\n",
       "'queue-scorer' is no saturation detector"},
      {"saturationDetector: {pluginRef: x}\n", "no plugin is named 'x'"},
  };
  for (const auto& [body, expected] : cases) {
    EXPECT_THAT(LoadFor(kPickerAbilities, body).diagnostics.errors,
                ElementsAre(HasSubstr(std::string(expected))))
        << body;
  }
}

TEST(EndpointPickerConfig, FillsThePickersSettings) {
  const Outcome o = LoadFor(kPickerAbilities, R"(featureGates: [haPopulateNonLeaderDatastore=false]
plugins:
- {type: file-discovery, name: files, parameters: {path: /etc/e.yaml, watchFile: true}}
- type: metrics-data-source
  name: tls
  parameters: {scheme: https, path: /m, port: 8443, insecureSkipVerify: false, caCertPath: /ca,
               clientCertPath: /c, clientKeyPath: /k, interval: 200ms}
- {type: models-data-source, parameters: {interval: 5s}}
- type: core-metrics-extractor
  parameters:
    engineLabelKey: engine
    defaultEngine: mine
    engineConfigs:
    - name: mine
      queuedRequestsSpec: my_queue{kind=waiting, pool="a,b"}
      kvUsageSpec: my:kv
      cacheInfoSpec: my_cache
      cacheBlockSizeLabelName: bs
      cacheNumBlocksSpec: blocks
      customMetrics: [{attributeKey: Heat, metricSpec: heat}]
- type: queue-scorer
dataLayer: {discovery: {pluginRef: files}}
requestHandler:
  parsers: [{pluginRef: vllmgrpc-parser}, {pluginRef: openai-parser}]
)");
  ASSERT_TRUE(o.ok) << o.diagnostics.errors.front();
  EXPECT_THAT(o.diagnostics.warnings, IsEmpty());
  const PickerSettings& s = o.settings;
  EXPECT_FALSE(s.gates.ha_populate_non_leader_datastore);
  ASSERT_TRUE(s.discovery);
  EXPECT_EQ(s.discovery->path, "/etc/e.yaml");
  EXPECT_TRUE(s.discovery->watch_file);
  EXPECT_EQ(s.metrics.name, "tls");
  EXPECT_EQ(s.metrics.scheme, "https");
  EXPECT_EQ(s.metrics.path, "/m");
  EXPECT_EQ(s.metrics.port, 8443);
  EXPECT_EQ(s.metrics.insecure_skip_verify, false);
  EXPECT_EQ(s.metrics.ca_cert_path + s.metrics.client_cert_path + s.metrics.client_key_path,
            "/ca/c/k");
  EXPECT_EQ(s.metrics.interval, milliseconds(200));
  ASSERT_TRUE(s.models);
  EXPECT_EQ(s.models->path, "/v1/models");
  EXPECT_EQ(s.models->interval, seconds(5));
  EXPECT_EQ(s.extractor.engine_label_key, "engine");
  EXPECT_EQ(s.extractor.default_engine, "mine");
  ASSERT_EQ(s.extractor.engines.size(), 1u);
  const EngineMetrics& engine = s.extractor.engines[0];
  EXPECT_EQ(engine.waiting, (MetricSpec{"my_queue", {{"kind", "waiting"}, {"pool", "a,b"}}}));
  EXPECT_EQ(engine.kv_usage, (MetricSpec{"my:kv", {}}));
  EXPECT_FALSE(engine.running);
  EXPECT_EQ(engine.block_size_label, "bs");
  EXPECT_EQ(engine.block_count, (MetricSpec{"blocks", {}}));
  ASSERT_EQ(engine.custom.size(), 1u);
  EXPECT_EQ(engine.custom[0].attribute_key, "Heat");
  EXPECT_THAT(s.parsers, ElementsAre("vllmgrpc-parser", "openai-parser"));
}

TEST(EndpointPickerConfig, ThePickersSettingsHaveLlmdsDefaults) {
  const PickerSettings s = LoadFor(kPickerAbilities, "").settings;
  EXPECT_FALSE(s.gates.flow_control);
  EXPECT_TRUE(s.gates.ha_populate_non_leader_datastore);
  EXPECT_FALSE(s.discovery);
  EXPECT_FALSE(s.models);
  EXPECT_EQ(s.metrics.scheme + s.metrics.path, "/metrics");
  EXPECT_FALSE(s.metrics.insecure_skip_verify);
  EXPECT_FALSE(s.metrics.interval);
  EXPECT_EQ(s.extractor.default_engine, "vllm");
  EXPECT_THAT(s.parsers, ElementsAre("openai-parser", "anthropic-parser", "vllmhttp-parser",
                                     "passthrough-parser"));
}

TEST(EndpointPickerConfig, ADiscoveryPluginThatNobodyNamesWarns) {
  const Outcome o =
      LoadFor(kPickerAbilities, "plugins: [{type: file-discovery, parameters: {path: /e.yaml}}]\n");
  EXPECT_FALSE(o.settings.discovery);
  EXPECT_THAT(o.diagnostics.warnings,
              ElementsAre(HasSubstr("'file-discovery' is not used: dataLayer.discovery does not")));
}

TEST(EndpointPickerConfig, FlowControlWithoutItsGateIsIgnoredWithAWarning) {
  for (const std::string_view gates : {"", "featureGates: [flowControl=false]\n"}) {
    const Outcome o = Load(std::string(gates) + "flowControl: {maxBytes: 1, priorityBands: []}\n");
    EXPECT_TRUE(o.ok);
    EXPECT_THAT(o.diagnostics.warnings,
                ElementsAre(HasSubstr("the feature gate 'flowControl' is off")));
  }
}

TEST(EndpointPickerConfig, BuiltInPartsMayBeNamed) {
  const Outcome o = Load(R"(featureGates: [haPopulateNonLeaderDatastore, flowControl=false]
plugins:
- {type: metrics-data-source, name: source, parameters: {path: /metrics, interval: 1s}}
- type: core-metrics-extractor
- type: openai-parser
- type: queue-scorer
dataLayer:
  sources:
  - pluginRef: source
    extractors: [{pluginRef: core-metrics-extractor}]
requestHandler:
  parsers: [{pluginRef: openai-parser}, {pluginRef: passthrough-parser}]
)");
  EXPECT_TRUE(o.ok) << o.diagnostics.errors.front();
  EXPECT_THAT(o.diagnostics.warnings, ElementsAre(HasSubstr("interval is ignored")));
  EXPECT_THAT(Names(o.spec),
              ElementsAre("queue-scorer:queue-scorer", "max-score-picker:max-score-picker",
                          "single-profile-handler:single-profile-handler"));
}

TEST(EndpointPickerConfig, ReferencesMustBeOfTheRightKind) {
  EXPECT_THAT(ErrorsOf("plugins: [{type: queue-scorer}]\ndataLayer: {sources: [{pluginRef: "
                       "queue-scorer}]}\n"),
              ElementsAre(HasSubstr("'queue-scorer' is no data source")));
  EXPECT_THAT(ErrorsOf("plugins: [{type: queue-scorer}]\nrequestHandler: {parsers: [{pluginRef: "
                       "queue-scorer}]}\n"),
              ElementsAre(HasSubstr("'queue-scorer' is no request parser")));
  EXPECT_THAT(ErrorsOf("requestHandler: {parsers: [{pluginRef: openai-parsr}]}\n"),
              ElementsAre(HasSubstr("no plugin is named 'openai-parsr'")));
}

TEST(EndpointPickerConfig, WhatHasNoEffectInAProfileWarns) {
  const Outcome o = Load(R"(plugins: [{type: token-producer}, {type: label-selector-filter}]
schedulingProfiles:
- name: p
  plugins: [{pluginRef: token-producer}, {pluginRef: label-selector-filter, weight: 2}]
)");
  EXPECT_TRUE(o.ok);
  EXPECT_THAT(o.diagnostics.warnings, ElementsAre(HasSubstr("takes no part in profile 'p'"),
                                                  HasSubstr("only scorers have one")));
}

TEST(InlineScheduling, ReadsTheTwoLists) {
  const auto tree = wire::ParseYaml(
      "plugins: [{type: queue-scorer}]\nschedulingProfiles: [{name: p, plugins: [{pluginRef: "
      "queue-scorer}]}]\n",
      "p.yaml");
  ASSERT_TRUE(tree);
  SchedulingSpec spec;
  config::Diagnostics diagnostics{.file = "p.yaml"};
  ASSERT_TRUE(LoadInlineScheduling(*tree->Find("plugins"), *tree->Find("schedulingProfiles"),
                                   Types(), &spec, &diagnostics));
  EXPECT_THAT(Entries(spec.profiles[0]), ElementsAre("queue-scorer", "max-score-picker"));

  config::Diagnostics bad{.file = "p.yaml"};
  EXPECT_FALSE(LoadInlineScheduling(*tree, wire::YamlNode(), Types(), &spec, &bad));
  EXPECT_THAT(bad.errors, ElementsAre("p.yaml:1:1: scheduling.plugins: must be a list, not a map"));
}

TEST(BuiltinPolicy, KnowsItsNames) {
  for (const std::string_view name : BuiltinPolicyNames()) {
    const auto spec = BuiltinPolicy(name);
    ASSERT_TRUE(spec) << name;
    EXPECT_TRUE(BuiltinPolicyText(name).ends_with('.')) << name;
    ASSERT_EQ(spec->profiles.size(), 1u);
    for (const ProfileEntry& entry : spec->profiles[0].plugins) {
      EXPECT_TRUE(std::any_of(spec->plugins.begin(), spec->plugins.end(), [&](const PluginSpec& p) {
        return p.name == entry.plugin;
      })) << entry.plugin;
    }
  }
  EXPECT_EQ(BuiltinPolicyText("stickyy"), "");
  const auto unknown = BuiltinPolicy("stickyy");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, Code::kNotFound);
  EXPECT_THAT(unknown.error().message, HasSubstr("least-cost, sticky, weighted, "
                                                 "weighted-lru, least-requests, power-of-two, "
                                                 "round-robin, random"));
}

TEST(KnownTypes, EveryMissingTypeSaysWhatItNeeds) {
  for (const KnownType& known : KnownTypes()) {
    const bool is_lacking =
        known.role == KnownRole::kMissing || known.role == KnownRole::kFlowPolicy;
    EXPECT_EQ(is_lacking || known.ability != nullptr, !known.needs.empty()) << known.type;
    EXPECT_FALSE(is_lacking && known.ability != nullptr) << known.type;
    if (is_lacking) {
      EXPECT_NE(known.check, nullptr) << known.type;
    }
    EXPECT_EQ(FindKnownType(known.type), &known);
  }
  EXPECT_EQ(FindKnownType("queue-scorer"), nullptr);
}

}  // namespace
}  // namespace penstock::sched
