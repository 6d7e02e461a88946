// The factories of all built-in plugins, for the units that define them.
#pragma once

#include "sched/registry.h"

namespace penstock::plugins {

#define PENSTOCK_PLUGIN(Name) sched::PluginType Name##Type();
#include "plugins/builtin_filters.inc"
#include "plugins/builtin_pickers.inc"
#include "plugins/builtin_producers.inc"
#include "plugins/builtin_profiles.inc"
#include "plugins/builtin_scorers.inc"
#undef PENSTOCK_PLUGIN

}  // namespace penstock::plugins
