// From the flags of `penstock epp` to what is to be run: configuration file, sources of endpoints,
// bounds. Without sockets.
#pragma once

#include <string>
#include <string_view>

#include "app/epp_flags.h"
#include "app/scheduling.h"
#include "config/serve_config.h"
#include "core/result.h"
#include "sched/picker_settings.h"

namespace penstock::app {

struct PickerPlan {
  config::ServeConfig config;  // as far as a gateway's settings are a picker's
  ChosenScheduler chosen;
  sched::PickerSettings settings;
  bool watches_endpoints_file = true;
};

// The error has a line for each mistake.
Result<PickerPlan> PlanPicker(const EppFlags& flags);

// The flag's, else that of the environment, else "default".
std::string PoolNamespace(const EppFlags& flags);

// What llm-d runs when it is given no configuration.
std::string_view DefaultPickerConfig();

}  // namespace penstock::app
