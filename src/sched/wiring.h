// Turns a validated configuration into instances, and decides who produces what for whom. Private
// to the scheduler.
//
// Active are the profile handler, every plugin of a profile, whoever rules what requests are
// charged, and every producer that an active plugin needs. Only active plugins run and hear of
// events.
//
// SOURCE: llm-d-router's declared data dependencies: a consumer that names no producer gets the
// default one, which is made when nobody declared it. Where exactly one producer of the key is
// declared, it serves whatever its name.
#pragma once

#include <bitset>
#include <memory>
#include <string>
#include <vector>

#include "sched/plugin.h"
#include "sched/registry.h"
#include "sched/scheduler.h"

namespace penstock::sched {

struct WeightedScorer {
  const Scorer* scorer = nullptr;
  float weight = 1;
};

struct WiredProfile {
  std::string name;
  std::vector<const Filter*> filters;
  std::vector<WeightedScorer> scorers;
  const Picker* picker = nullptr;
};

struct Wiring {
  std::vector<std::unique_ptr<Plugin>> instances;  // declared, then made on demand
  std::vector<Plugin*> active;
  std::vector<Producer*> producers;  // active, each after those whose data it reads
  std::vector<WiredProfile> profiles;
  std::vector<std::string> profile_names;
  const ProfileHandler* handler = nullptr;
  const ChargeRule* charge = nullptr;  // may be null
  uint32_t prefix_columns = 0;
  std::vector<std::string> attributes;  // that active plugins need, in the columns' order
  std::bitset<16> keys;                 // DataKey: what active plugins need

  bool Needs(DataKey key) const { return keys.test(static_cast<size_t>(key)); }
};

// False when diagnostics got errors; `out` is then unusable.
bool Wire(const SchedulingSpec& spec, const Registry& registry, config::Diagnostics* diagnostics,
          Wiring* out);

}  // namespace penstock::sched
