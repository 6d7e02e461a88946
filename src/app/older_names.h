// The names that llm-d's metrics had before, which dashboards and autoscalers still read.
//
// SOURCE: spec endpoint-picker 9.1; labels are those of llm-d-router pkg/epp/metrics.
#pragma once

#include "telemetry/metrics.h"

namespace penstock::app {

// A twin for each family of today that had another name.
void AddOlderNames(telemetry::Registry& registry);

}  // namespace penstock::app
