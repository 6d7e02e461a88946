// Reads EndpointPickerConfig documents (both API groups) and the `scheduling` section of
// penstock.yaml, which has the same `plugins` and `schedulingProfiles`.
//
// SOURCE: llm-d-router apix/config/v1alpha1 (fields) and pkg/epp/config/loader (defaulting).
#pragma once

#include "sched/picker_settings.h"
#include "sched/registry.h"
#include "sched/scheduler.h"

namespace penstock::sched {

// Validates and applies llm-d's defaulting (single profile handler, picker, default profile).
// Fields and plugins whose machinery Penstock, or the program that `abilities` describes, does not
// have are an error that names the capability, never a silent no-op. Returns false when diagnostics
// has errors.
bool LoadEndpointPickerConfig(const wire::YamlNode& document, const Registry&,
                              const Abilities& abilities, SchedulingSpec* out,
                              PickerSettings* settings, config::Diagnostics*);
// The scheduling alone, for the gateway.
bool LoadEndpointPickerConfig(const wire::YamlNode& document, const Registry&, SchedulingSpec* out,
                              config::Diagnostics*);

// The same for the two lists alone, as penstock.yaml has them under `scheduling`. A null node is an
// absent list.
bool LoadInlineScheduling(const wire::YamlNode& plugins, const wire::YamlNode& scheduling_profiles,
                          const Registry&, SchedulingSpec* out, config::Diagnostics*);

// What `--policy` names; the default is "least-cost" (docs/policies.md).
// kNotFound names the known ones.
Result<SchedulingSpec> BuiltinPolicy(std::string_view name);
std::vector<std::string_view> BuiltinPolicyNames();
// What it is good for, in a sentence; "" when there is no such policy.
std::string_view BuiltinPolicyText(std::string_view name);

}  // namespace penstock::sched
