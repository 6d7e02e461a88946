// An endpoint is one schedulable server: an address and a data-parallel rank. What changes rarely
// (names, labels, models, health) stands in an immutable PoolSnapshot; what changes with every
// request or scrape stands in LiveColumns, one element per slot.
//
// A *slot* is an endpoint's number in LiveColumns and in every index; it stays the same for the
// endpoint's life. A *column index* is its position in one PoolSnapshot.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/mask.h"

namespace penstock::model {

using Labels = std::vector<std::pair<std::string, std::string>>;  // sorted by key

inline constexpr std::string_view kRoleLabel = "llm-d.ai/role";
inline constexpr std::string_view kEngineTypeLabel = "llm-d.ai/engine-type";

// How an engine is spoken to.
enum class Scheme : uint8_t { kHttp, kHttps };

// What discovery says about an endpoint.
struct EndpointSpec {
  std::string name;  // unique in the pool; "host:port" when the source gives none
  std::string host;  // an address literal or a DNS name, without brackets
  uint16_t port = 0;
  uint16_t metrics_port = 0;  // 0: the same as `port`
  Labels labels;
  // No decision rests on what follows, so that recordings do not hold it.
  Scheme scheme = Scheme::kHttp;
  uint16_t rank = 0;  // data-parallel, among those of its host
  // Where it publishes KV events and keeps their history; 0: nowhere; none: nobody said.
  std::optional<uint16_t> kv_events_port;
  std::optional<uint16_t> kv_replay_port;
  bool operator==(const EndpointSpec&) const = default;
};

// "NAMESPACE/NAME" apart, as (namespace, name); a name without a namespace is in `usual`.
std::pair<std::string_view, std::string_view> NamespaceAndName(std::string_view name,
                                                               std::string_view usual);

// LoRA adapters as the engine reports them.
struct LoraState {
  std::vector<std::string> running;
  std::vector<std::string> waiting;
  uint32_t max_adapters = 0;
  bool operator==(const LoraState&) const = default;
};

enum class Health : uint8_t {
  kUnknown,  // never reached yet; not a candidate
  kHealthy,
  kFailed,  // failed to connect or failed its scrape; comes back after a good scrape
};

struct EndpointInfo {
  uint32_t slot = 0;
  EndpointSpec spec;
  std::string address;  // "host:port", IPv6 in brackets: key of connection pools
  Health health = Health::kUnknown;
  std::string health_reason;        // why it is not healthy, for people
  bool models_known = false;        // false: /v1/models has not been read; serves any model
  std::vector<std::string> models;  // base models and adapters, sorted
  // Those of them that the engine names as adapters of another one, sorted.
  std::vector<std::string> adapters;
  std::string models_json;  // elements of the engine's /v1/models "data" array, comma separated
  LoraState lora;
  uint32_t block_size_tokens = 0;  // 0: not reported
  uint32_t gpu_blocks = 0;         // 0: not reported
};

// Immutable. `endpoints[i]` is column index i; the masks are over column indices and are worked out
// once, when the snapshot is made, so that a decision over 1,000 endpoints starts with a copy of 16
// words.
struct PoolSnapshot {
  uint64_t version = 0;
  std::vector<EndpointInfo> endpoints;
  // Unique among all snapshots of the process, so that what was worked out from one can be kept
  // and found again; 0 before Index().
  uint64_t id = 0;
  std::vector<uint32_t> slots;  // of each endpoint, packed for the scan that gathers columns
  Mask healthy;
  // Every known model, sorted by name, with the healthy endpoints that serve it (those whose models
  // are not known included).
  std::vector<std::pair<std::string, Mask>> models;
  // Healthy endpoints whose models are not known: they may serve any.
  Mask models_unknown;
  size_t bytes = 0;  // of memory, about

  // Fills everything that follows from `endpoints`, and gives the snapshot a new id.
  void Index();
  // The healthy endpoints for `model`, or nullptr when no endpoint is known to serve it.
  const Mask* Serving(std::string_view model) const;
};

// The pool's live state as atomic columns, indexed by slot.
//
// THREADS: every element may be read and written from any thread, relaxed: a decision tolerates a
// value that is a few hundred nanoseconds old.
// COST: 64 bytes a slot for the whole capacity, and 4 for each attribute, allocated once.
struct LiveColumns {
  explicit LiveColumns(size_t slots, std::vector<std::string> attributes = {})
      : capacity(slots),
        attribute_names(std::move(attributes)),
        in_flight_requests(new std::atomic<int64_t>[slots]()),
        in_flight_tokens(new std::atomic<int64_t>[slots]()),
        waiting(new std::atomic<float>[slots]()),
        running(new std::atomic<float>[slots]()),
        kv_usage(new std::atomic<float>[slots]()),
        scraped_at_nanos(new std::atomic<int64_t>[slots]()),
        attributes(new std::atomic<float>[slots * attribute_names.size()]()) {
    for (size_t slot = 0; slot < slots; ++slot) SetAttributes(static_cast<uint32_t>(slot), {});
  }

  // The value of attribute_names[i]; NaN: not told.
  float Attribute(uint32_t slot, size_t i) const {
    return attributes[slot * attribute_names.size() + i].load(std::memory_order_relaxed);
  }
  // In the order of attribute_names; those that are left out become NaN.
  void SetAttributes(uint32_t slot, std::span<const float> values) {
    for (size_t i = 0; i < attribute_names.size(); ++i) {
      const float value = i < values.size() ? values[i] : std::numeric_limits<float>::quiet_NaN();
      attributes[slot * attribute_names.size() + i].store(value, std::memory_order_relaxed);
    }
  }

  const size_t capacity;
  const std::vector<std::string> attribute_names;  // of engine metrics beside the usual ones
  std::unique_ptr<std::atomic<int64_t>[]> in_flight_requests;  // sent by us, not yet ended
  std::unique_ptr<std::atomic<int64_t>[]>
      in_flight_tokens;                            // uncached tokens sent, first chunk not seen
  std::unique_ptr<std::atomic<float>[]> waiting;   // engine's queue, requests
  std::unique_ptr<std::atomic<float>[]> running;   // engine's batch, requests
  std::unique_ptr<std::atomic<float>[]> kv_usage;  // 0..1
  std::unique_ptr<std::atomic<int64_t>[]> scraped_at_nanos;  // 0: never
  std::unique_ptr<std::atomic<float>[]> attributes;          // see Attribute
};

}  // namespace penstock::model
