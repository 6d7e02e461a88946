// Endpoints and curves as JSON, for /debug/endpoints and /api/live. Numbers that are not known are
// null.
//
// THREADS: any; reads the fleet's atomics.
#pragma once

#include <cstddef>

#include "admin/live_stats.h"
#include "core/time.h"
#include "director/fleet.h"
#include "wire/json.h"

namespace penstock::admin {

// "endpoints": the first `limit` of the pool, as objects.
void WriteEndpoints(const model::PoolSnapshot& pool, const model::LiveColumns& live,
                    const LiveStats& stats, Time now, size_t limit, wire::JsonWriter* json);

// "series": one array per curve, oldest first, of equal length; "second" counts back from the
// newest point (0).
void WriteSeries(const std::vector<LivePoint>& points, wire::JsonWriter* json);

}  // namespace penstock::admin
