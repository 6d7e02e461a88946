#include "plugins/builtin.h"

#include "plugins/builtin_types.h"

namespace penstock::plugins {

const sched::Registry& Builtins() {
#define PENSTOCK_PLUGIN(Name) Name##Type(),
  static const sched::Registry registry({
#include "plugins/builtin_filters.inc"
#include "plugins/builtin_pickers.inc"
#include "plugins/builtin_producers.inc"
#include "plugins/builtin_profiles.inc"
#include "plugins/builtin_scorers.inc"
  });
#undef PENSTOCK_PLUGIN
  return registry;
}

}  // namespace penstock::plugins
