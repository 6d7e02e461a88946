// Policies as arms of a comparison: built-in ones, EndpointPickerConfig files, and variations of
// either.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"
#include "lab/compare.h"

namespace penstock::app {

// A built-in policy by name, or an EndpointPickerConfig (anything with '/' or ending in .yaml);
// with "+kv-events" behind it the engines tell what their caches hold.
// What is wrong with it shows itself when the arm makes its scheduler.
lab::Arm ArmOf(const std::string& policy);

// Every combination of the settings over the policy; at most 1,000. A setting is
// PLUGIN.PARAMETER=VALUE,VALUE,... or weight.PLUGIN=VALUE,VALUE,..., the plugin by its name.
// "+kv-events" as above. kInvalidArgument names the setting; a parameter that the plugin refuses is
// an error here, too.
Result<std::vector<lab::Arm>> SweepArms(const std::string& policy,
                                        const std::vector<std::string>& settings);

}  // namespace penstock::app
