#include "sched/known_types.h"

#include <algorithm>
#include <array>

namespace penstock::sched {
namespace {

constexpr std::string_view kDisagg = "prefill/decode disaggregation";
constexpr std::string_view kFlow = "flow control";
constexpr std::string_view kEviction = "in-flight eviction";
constexpr std::string_view kEvents = "KV events";
constexpr std::string_view kLatency = "latency prediction";
constexpr std::string_view kTopology = "topology labels from Kubernetes";
constexpr std::string_view kKubernetes = "a Kubernetes API server connection";
constexpr std::string_view kCluster = "multi-cluster routing";
constexpr std::string_view kAttributes = "custom endpoint attributes";
constexpr std::string_view kGrpc = "gRPC requests";
constexpr std::string_view kMultimodal = "an encoder cache index";
constexpr std::string_view kAdmission = "admission plugins";
constexpr std::string_view kHeaders = "request header plugins";

constexpr std::array kTypes = {
    KnownType{"agent-identity", KnownRole::kMissing, kHeaders},
    KnownType{"always-disagg-multimodal-decider", KnownRole::kMissing, kDisagg},
    KnownType{"always-disagg-pd-decider", KnownRole::kMissing, kDisagg},
    KnownType{"anthropic-parser", KnownRole::kParser, {}},
    KnownType{"burst-prefix-cache-producer", KnownRole::kMissing, "batching of request bursts"},
    KnownType{"concurrency-detector", KnownRole::kMissing, kFlow},
    KnownType{"context-length-aware", KnownRole::kMissing, "context-length ranges"},
    KnownType{"core-metrics-extractor", KnownRole::kExtractor, {}},
    KnownType{"data-parallel-profile-handler", KnownRole::kMissing, "data-parallel headers",
              "list each rank as an endpoint"},
    KnownType{"dcgm-data-source", KnownRole::kMissing, "GPU metrics from DCGM"},
    KnownType{"dcgm-extractor", KnownRole::kMissing, "GPU metrics from DCGM"},
    KnownType{"destination-endpoint-served-verifier", KnownRole::kMissing, "Envoy's ext_proc"},
    KnownType{"disagg-headers-handler", KnownRole::kMissing, kDisagg},
    KnownType{"disagg-profile-handler", KnownRole::kMissing, kDisagg},
    KnownType{"disaggregatedset-rollout-screener", KnownRole::kMissing, kDisagg},
    KnownType{"edf-ordering-policy", KnownRole::kMissing, kFlow},
    KnownType{"encode-filter", KnownRole::kMissing, kDisagg},
    KnownType{"endpoint-attribute-filter", KnownRole::kMissing, kAttributes},
    KnownType{"endpoint-attribute-scorer", KnownRole::kMissing, kAttributes},
    KnownType{"endpoint-notification-source", KnownRole::kSource, {}},
    KnownType{"fcfs-ordering-policy", KnownRole::kMissing, kFlow},
    KnownType{"file-discovery", KnownRole::kDiscovery, "discovery plugins",
              "use endpointsFile of penstock.yaml", &Abilities::discovery},
    KnownType{"global-strict-fairness-policy", KnownRole::kMissing, kFlow},
    KnownType{"header-based-testing-filter", KnownRole::kMissing, kHeaders},
    KnownType{"header-label-affinity-scorer", KnownRole::kMissing, kHeaders},
    KnownType{"header-profile-handler", KnownRole::kMissing, "profiles chosen by a header"},
    KnownType{"k8s-notification-source", KnownRole::kMissing, kKubernetes},
    KnownType{"latency-scorer", KnownRole::kMissing, kLatency},
    KnownType{"latency-slo-admitter", KnownRole::kMissing, kLatency},
    KnownType{"metrics-data-source", KnownRole::kSource, {}},
    KnownType{"mm-embeddings-cache-producer", KnownRole::kMissing, kMultimodal},
    KnownType{"mm-embeddings-cache-scorer", KnownRole::kMissing, kMultimodal},
    KnownType{"models-data-extractor", KnownRole::kExtractor, {}},
    KnownType{"models-data-source", KnownRole::kSource, {}},
    KnownType{"multicluster-approx-prefix-cache-producer", KnownRole::kMissing, kCluster},
    KnownType{"multicluster-file-discovery", KnownRole::kMissing, kCluster},
    KnownType{"multicluster-kv-cache-utilization-scorer", KnownRole::kMissing, kCluster},
    KnownType{"multicluster-metrics-data-source", KnownRole::kMissing, kCluster},
    KnownType{"multicluster-metrics-extractor", KnownRole::kMissing, kCluster},
    KnownType{"multicluster-prefix-cache-scorer", KnownRole::kMissing, kCluster},
    KnownType{"multicluster-queue-scorer", KnownRole::kMissing, kCluster},
    KnownType{"multicluster-session-affinity-filter", KnownRole::kMissing, kCluster},
    KnownType{"openai-parser", KnownRole::kParser, {}},
    KnownType{"p2p-source-producer", KnownRole::kMissing, "KV transfer between engines"},
    KnownType{"passthrough-parser", KnownRole::kParser, {}},
    KnownType{"pd-profile-handler", KnownRole::kMissing, kDisagg},
    KnownType{"precise-prefix-cache-producer", KnownRole::kMissing, kEvents},
    KnownType{"precise-prefix-cache-scorer", KnownRole::kMissing, kEvents},
    KnownType{"predicted-latency-producer", KnownRole::kMissing, kLatency},
    KnownType{"prefill-filter", KnownRole::kMissing, kDisagg},
    KnownType{"prefill-header-handler", KnownRole::kMissing, kDisagg},
    KnownType{"prefix-based-pd-decider", KnownRole::kMissing, kDisagg},
    KnownType{"priority-holdback-policy", KnownRole::kMissing, kFlow},
    KnownType{"priority-then-time-eviction-order-policy", KnownRole::kMissing, kEviction},
    KnownType{"probabilistic-admitter", KnownRole::kMissing, kAdmission},
    KnownType{"program-aware-fairness", KnownRole::kMissing, kFlow},
    KnownType{"request-attribute-reporter", KnownRole::kMissing, "Envoy's ext_proc"},
    KnownType{"round-robin-fairness-policy", KnownRole::kMissing, kFlow},
    KnownType{"sglanghttp-parser",
              KnownRole::kParser,
              "SGLang's native /generate requests",
              {},
              &Abilities::sglang_requests},
    KnownType{"sheddable-eviction-filter", KnownRole::kMissing, kEviction},
    KnownType{"slo-deadline-ordering-policy", KnownRole::kMissing, kFlow},
    KnownType{"slo-headroom-tier-filter", KnownRole::kMissing, kLatency},
    KnownType{"soft-reflective-ceiling-policy", KnownRole::kMissing, kFlow},
    KnownType{"static-usage-limit-policy", KnownRole::kMissing, kFlow},
    KnownType{"topology-affinity-filter", KnownRole::kMissing, kTopology},
    KnownType{"topology-affinity-scorer", KnownRole::kMissing, kTopology},
    KnownType{"topology-extractor", KnownRole::kMissing, kTopology},
    KnownType{"utilization-detector", KnownRole::kMissing, kFlow},
    KnownType{"vertexai-parser", KnownRole::kParser, kGrpc, {}, &Abilities::grpc_requests},
    KnownType{"vllmgrpc-parser", KnownRole::kParser, kGrpc, {}, &Abilities::grpc_requests},
    KnownType{"vllmhttp-parser", KnownRole::kParser, {}},
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
