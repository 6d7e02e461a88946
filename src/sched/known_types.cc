#include "sched/known_types.h"

#include <algorithm>
#include <array>

#include "sched/known_parameters.h"

namespace penstock::sched {
namespace {

constexpr std::string_view kDisagg = "prefill/decode disaggregation";
constexpr std::string_view kFlow = "flow control";
constexpr std::string_view kLatency = "latency prediction";
constexpr std::string_view kTopology = "topology labels from Kubernetes";
constexpr std::string_view kCluster = "multi-cluster routing";
constexpr std::string_view kGpu = "GPU metrics from DCGM";
constexpr std::string_view kGrpc = "gRPC requests";
constexpr std::string_view kMultimodal = "an encoder cache index";

constexpr KnownType Missing(std::string_view type, std::string_view needs,
                            KnownType::Check check = known::Check<NoParameters>,
                            std::string_view instead = {}) {
  return {type, KnownRole::kMissing, needs, instead, nullptr, check};
}
constexpr KnownType Flow(std::string_view type,
                         KnownType::Check check = known::Check<NoParameters>) {
  return {type, KnownRole::kFlowPolicy, kFlow, {}, nullptr, check};
}
constexpr KnownType Parser(std::string_view type, std::string_view needs = {},
                           bool Abilities::*ability = nullptr) {
  return {type, KnownRole::kParser, needs, {}, ability, known::Check<NoParameters>};
}
// The reader of the picker's settings parses these itself.
constexpr KnownType Known(std::string_view type, KnownRole role) {
  return {type, role, {}, {}, nullptr, nullptr};
}

constexpr std::array kTypes = {
    Missing("agent-identity", kFlow, known::Check<known::AgentIdentity>),
    Missing("always-disagg-multimodal-decider", kDisagg),
    Missing("always-disagg-pd-decider", kDisagg),
    Parser("anthropic-parser"),
    Missing("burst-prefix-cache-producer", "batching of request bursts",
            known::Check<known::BurstPrefix>),
    Known("core-metrics-extractor", KnownRole::kExtractor),
    Missing("dcgm-data-source", kGpu, known::Check<known::DcgmSource>),
    Missing("dcgm-extractor", kGpu),
    Missing("destination-endpoint-served-verifier", "response metadata of Envoy"),
    Missing("disagg-headers-handler", kDisagg, known::Check<known::PdHeader>),
    Missing("disagg-profile-handler", kDisagg, known::Check<known::DisaggHandler>),
    Missing("disaggregatedset-rollout-screener", kDisagg, known::Check<known::RolloutScreener>),
    Flow("edf-ordering-policy"),
    Known("endpoint-notification-source", KnownRole::kSource),
    Flow("fcfs-ordering-policy"),
    KnownType{"file-discovery", KnownRole::kDiscovery, "discovery plugins",
              "use endpointsFile of penstock.yaml", &Abilities::discovery, nullptr},
    Flow("global-strict-fairness-policy"),
    Missing("k8s-notification-source", "a Kubernetes API server connection",
            known::Check<known::NotificationSource>),
    Missing("latency-scorer", kLatency, known::Check<known::LatencyScorer>),
    Missing("latency-slo-admitter", kLatency, known::Check<known::LatencyAdmitter>),
    Known("metrics-data-source", KnownRole::kSource),
    Missing("mm-embeddings-cache-producer", kMultimodal, known::Check<known::EmbeddingsProducer>),
    Missing("mm-embeddings-cache-scorer", kMultimodal, known::Check<known::EmbeddingsScorer>),
    Known("models-data-extractor", KnownRole::kExtractor),
    Known("models-data-source", KnownRole::kSource),
    Missing("multicluster-approx-prefix-cache-producer", kCluster,
            known::Check<known::ClusterPrefixProducer>),
    Missing("multicluster-file-discovery", kCluster, known::Check<FileDiscoveryParameters>),
    Missing("multicluster-kv-cache-utilization-scorer", kCluster),
    Missing("multicluster-metrics-data-source", kCluster, known::Check<SourceParameters>),
    Missing("multicluster-metrics-extractor", kCluster, known::Check<known::ClusterMetrics>),
    Missing("multicluster-prefix-cache-scorer", kCluster, known::Check<known::ClusterPrefixScorer>),
    Missing("multicluster-queue-scorer", kCluster),
    Missing("multicluster-session-affinity-filter", kCluster, known::Check<known::ClusterSession>),
    Parser("openai-parser"),
    Parser("passthrough-parser"),
    Missing("pd-profile-handler", kDisagg, known::Check<known::PdHandler>),
    Missing("predicted-latency-producer", kLatency, known::Check<known::PredictedLatency>),
    Missing("prefill-header-handler", kDisagg, known::Check<known::PdHeader>),
    Missing("prefix-based-pd-decider", kDisagg, known::Check<known::PrefixDecider>),
    Flow("priority-holdback-policy", known::Check<known::Holdback>),
    Flow("priority-then-time-eviction-order-policy"),
    Missing("probabilistic-admitter", "request priorities", known::Check<known::Admitter>),
    Flow("program-aware-fairness", known::Check<known::ProgramFairness>),
    Missing("request-attribute-reporter", "response metadata of Envoy",
            known::Check<known::AttributeReporter>),
    Flow("round-robin-fairness-policy"),
    Parser("sglanghttp-parser", "SGLang's native /generate requests", &Abilities::sglang_requests),
    Flow("sheddable-eviction-filter"),
    Flow("slo-deadline-ordering-policy"),
    Missing("slo-headroom-tier-filter", kLatency, known::Check<known::HeadroomFilter>),
    Flow("soft-reflective-ceiling-policy"),
    Flow("static-usage-limit-policy", known::Check<known::UsageLimit>),
    Missing("topology-affinity-filter", kTopology, known::Check<known::TopologyFilter>),
    Missing("topology-affinity-scorer", kTopology, known::Check<known::TopologyScorer>),
    Missing("topology-extractor", kTopology),
    Parser("vertexai-parser", kGrpc, &Abilities::grpc_requests),
    Parser("vllmgrpc-parser", kGrpc, &Abilities::grpc_requests),
    Parser("vllmhttp-parser"),
};

constexpr bool IsSorted() {
  for (size_t i = 1; i < kTypes.size(); ++i) {
    if (!(kTypes[i - 1].type < kTypes[i].type)) return false;
  }
  return true;
}
static_assert(IsSorted());

}  // namespace

std::span<const KnownType> KnownTypes() { return kTypes; }

const KnownType* FindKnownType(std::string_view type) {
  const auto it =
      std::lower_bound(kTypes.begin(), kTypes.end(), type,
                       [](const KnownType& t, std::string_view n) { return t.type < n; });
  return it != kTypes.end() && it->type == type ? &*it : nullptr;
}

}  // namespace penstock::sched
