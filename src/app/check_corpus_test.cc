// Every configuration of tests/data/llm-d-configs, with what becomes of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <set>

#include "app/check_report.h"
#include "app/scheduling.h"
#include "config/serve_config.h"
#include "core/file.h"
#include "plugins/builtin.h"
#include "sched/config_loader.h"
#include "sched/spec_yaml.h"
#include "wire/yaml.h"

namespace penstock::app {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::string_view kFolder = "tests/data/llm-d-configs/";
constexpr std::string_view kDisagg = "prefill/decode disaggregation, which this version does not";
constexpr std::string_view kFlow = "flow control, which this version does not have";
constexpr std::string_view kAttribute = "wants the attribute 'custom.queue_depth', which no";

// The errors of all configurations in a file: none where it loads.
using Outcomes = std::map<std::string, std::vector<std::string_view>>;
const Outcomes& Expected() {
  static const Outcomes outcomes = {
      {"deploy/dp-epp-config.yaml", {}},
      {"deploy/epp-burst-prefix-cache-config.yaml",
       {"batching of request bursts, which this version does not have",
        "vllm: 'http://<vllm-service>.<namespace>.svc.cluster.local:8000'"}},
      {"deploy/epp-estimate-prefix-cache-config.yaml", {}},
      {"deploy/epp-mm-embeddings-cache-config.yaml",
       {"an encoder cache index, which this version does not have"}},
      {"deploy/pd-epp-config.yaml", {kDisagg}},
      {"deploy/pd-topology-epp-config.yaml",
       {"topology labels from Kubernetes, which this version does not have", kDisagg}},
      {"deploy/sim-e-p-d-epp-config.yaml", {kDisagg}},
      {"deploy/sim-e-pd-epp-config.yaml", {kDisagg}},
      {"deploy/sim-epp-gpu-config.yaml",
       {"GPU metrics from DCGM, which this version does not have"}},
      {"deploy/sim-epp-kvcache-config.yaml", {}},
      {"deploy/sim-epp-tokenizer-vllm-http-config.yaml", {}},
      {"deploy/sim-pd-epp-config.yaml", {kDisagg}},
      {"deploy/soft-reflective-ceiling-epp-config.yaml", {kFlow}},
      {"written/chart-default.yaml", {}},
      {"written/chart-latency-predictor.yaml",
       {"latency prediction, which this version does not have",
        "ttftSource latencyPredictor: latency prediction is not available"}},
      {"written/chart-payload-agnostic.yaml", {}},
      {"written/chart-triton-grpc-https.yaml", {}},
      {"written/chart-values-program-aware.yaml", {kFlow}},
      {"written/chart-values-two.yaml",
       {":16:15: unknown plugin type 'queue-scorr', did you mean 'queue-scorer'?"}},
      {"written/configmap-holdback.yaml", {kFlow}},
      {"written/coordinator-phases.yaml", {}},
      {"written/custom-attribute.yaml", {kAttribute}},
      {"written/file-discovery.yaml", {}},
      {"written/guide-context-length.yaml", {kDisagg}},
      {"written/guide-decode-bound.yaml", {}},
      {"written/guide-token-aware.yaml", {}},
      {"written/multicluster.yaml", {"multi-cluster routing, which this version does not have"}},
      {"written/old-group-labels.yaml", {}},
      {"written/old-group-pd.yaml", {kDisagg}},
      {"written/perf-optimized-baseline.yaml", {}},
      {"written/perf-random-passthrough.yaml", {}},
      {"written/probabilistic-admitter.yaml",
       {"request priorities, which this version does not have"}},
      {"written/rollout-screener.yaml", {kDisagg}},
      {"written/session-affinity.yaml", {}},
      {"written/sglang-engine-metrics.yaml", {}},
  };
  return outcomes;
}

std::vector<CheckReport> Check(const std::string& file) {
  const std::string path = std::string(kFolder) + file;
  const auto text = ReadFile(path, wire::kMaxYamlBytes);
  if (!text) {
    ADD_FAILURE() << text.error().message;
    return {};
  }
  return CheckConfiguration(*text, path);
}

// What the gateway makes of a penstock.yaml.
void ExpectSameScheduling(const CheckReport& report) {
  std::vector<std::string> warnings;
  const auto config = config::LoadServeConfig(report.penstock_yaml, "penstock.yaml", &warnings);
  ASSERT_TRUE(config) << config.error().message << "\n" << report.penstock_yaml;
  sched::SchedulingSpec spec;
  config::Diagnostics diagnostics{.file = "penstock.yaml"};
  EXPECT_TRUE(sched::LoadInlineScheduling(config->scheduling.plugins,
                                          config->scheduling.scheduling_profiles,
                                          plugins::Builtins(), &spec, &diagnostics));
  EXPECT_THAT(diagnostics.errors, IsEmpty()) << report.penstock_yaml;
  // Metric names of a configuration are the picker's alone, which the converted file says.
  sched::SchedulingSpec own = report.spec;
  own.attributes.clear();
  EXPECT_EQ(sched::ToYaml(spec), sched::ToYaml(own)) << report.penstock_yaml;
  EXPECT_TRUE(MakeScheduler(config->scheduling)) << report.penstock_yaml;
}

TEST(Corpus, EveryFileHasItsOutcome) {
  for (const auto& [file, expected] : Expected()) {
    std::vector<std::string> errors;
    for (const CheckReport& report : Check(file)) {
      EXPECT_EQ(report.errors.empty(), report.explanation.has_value()) << file;
      errors.insert(errors.end(), report.errors.begin(), report.errors.end());
    }
    EXPECT_THAT(errors, SizeIs(expected.size())) << file;
    for (size_t i = 0; i < std::min(errors.size(), expected.size()); ++i) {
      EXPECT_THAT(errors[i], HasSubstr(std::string(expected[i]))) << file;
      EXPECT_TRUE(errors[i].starts_with(std::string(kFolder) + file + ":")) << errors[i];
      const size_t place = kFolder.size() + file.size() + 1;
      EXPECT_TRUE(std::isdigit(static_cast<unsigned char>(errors[i][place])) != 0) << errors[i];
    }
  }
}

TEST(Corpus, EveryFileIsListed) {
  std::set<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kFolder)) {
    if (entry.path().extension() != ".yaml") continue;
    files.insert(std::filesystem::relative(entry.path(), kFolder).string());
  }
  for (const std::string& file : files) EXPECT_TRUE(Expected().contains(file)) << file;
  EXPECT_EQ(files.size(), Expected().size());
}

TEST(Corpus, WhatLoadsMeansTheSameAsPenstockYaml) {
  size_t loaded = 0;
  for (const auto& [file, expected] : Expected()) {
    for (const CheckReport& report : Check(file)) {
      if (!report.errors.empty()) {
        EXPECT_EQ(report.penstock_yaml, "") << file;
        continue;
      }
      SCOPED_TRACE(file);
      ExpectSameScheduling(report);
      ++loaded;
    }
  }
  EXPECT_GE(loaded, 13u);
}

}  // namespace
}  // namespace penstock::app
