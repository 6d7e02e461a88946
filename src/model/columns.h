// What a decision looks at: one element per endpoint of the pool snapshot, plain floats, gathered
// once per decision from LiveColumns and filled by producers. Only the columns that some active
// plugin declared a need for are filled; the others are empty.
//
// THREADS: belongs to one decision on one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/time.h"
#include "model/endpoint.h"

namespace penstock::model {

// How a match came about.
enum class MatchSource : uint8_t {
  kApproximate,  // from what was sent there
  kExact,        // from what its engine told
  kDegraded,     // likewise, of which something was missed
};

// How much of this request's prompt each endpoint is believed to hold.
struct PrefixColumn {
  std::vector<float> matched_blocks;  // per endpoint, leading blocks
  uint32_t total_blocks = 0;          // of this request's prompt, a partial last one included
  uint32_t block_size_tokens = 0;
  // Per endpoint; empty: all are approximate.
  std::vector<MatchSource> sources;
  // Per endpoint, leading blocks that its engine said it holds and will use, whatever they are
  // worth; of the approximate ones 0. Empty as above.
  std::vector<float> told_blocks;
  // Per endpoint, those of told_blocks from the start that lie in its host's memory, from where
  // others can fetch them; kNoTiers where its engine has told of the GPU's memory alone. Only for
  // who asks (sched::Need::host_blocks); empty: all are approximate, or of a recording.
  static constexpr float kNoTiers = -1;
  std::vector<float> host_blocks;
};

struct EndpointColumns {
  const PoolSnapshot* pool = nullptr;
  Time now;
  std::vector<float> waiting;             // requests
  std::vector<float> running;             // requests
  std::vector<float> kv_usage;            // 0..1
  std::vector<float> metrics_age_s;       // seconds since the last good scrape; +inf when never
  std::vector<float> in_flight_requests;  // requests
  std::vector<float> in_flight_tokens;    // uncached tokens not yet prefilled
  std::vector<float> uncached_tokens;     // of this request, on each endpoint
  std::vector<PrefixColumn> prefix;       // one per prefix producer, in the producers' order
  // Of engine metrics that a configuration names, one per attribute that plugins need, in the order
  // of their first need; NaN: not told.
  std::vector<std::vector<float>> attributes;

  size_t size() const { return pool->endpoints.size(); }
};

}  // namespace penstock::model
