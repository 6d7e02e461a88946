// What a scheduling configuration will do, in plain words: profile by profile, which data it is
// made of, which headers change it, and the traps that it walks into.
//
// THREADS: pure functions; what they return borrows nothing.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/parse.h"
#include "core/time.h"
#include "sched/registry.h"
#include "sched/scheduler.h"

namespace penstock::sched {

struct Explanation {
  struct Setting {
    std::string name;
    std::string value;          // as YAML
    std::string default_value;  // "" when there is none
  };
  // One plugin of a profile, or the profile handler, or a producer.
  struct Part {
    std::string name;
    std::string type;
    std::string_view text;     // what it does
    std::string_view formula;  // or ""
    std::vector<Setting> settings;
    double weight = 1;        // scorers
    double share = 0;         // scorers: of all weights of the profile, 0 to 1
    std::string produces;     // producers: names of the data, comma separated
    bool is_implied = false;  // nobody declared it
  };
  struct Profile {
    std::string name;
    std::vector<Part> filters;
    std::vector<Part> scorers;
    Part picker;
  };
  struct Header {
    std::string name;
    std::string plugin;
    std::string_view effect;
  };
  Part handler;
  std::vector<Profile> profiles;
  std::vector<Part> producers;
  std::vector<std::string> metrics;  // data that is scraped from engines
  std::vector<Header> headers;
  std::vector<std::string> unused;  // declared plugins that nothing uses
  bool reads_prompts = false;
};

// Nothing, with errors in the diagnostics, when the configuration cannot run.
std::optional<Explanation> Explain(const SchedulingSpec& spec, const Registry& registry,
                                   config::Diagnostics* diagnostics);

// What is wrong with the plugins' parameters, also of a configuration that has other errors.
void CheckParameters(const SchedulingSpec& spec, const Registry& registry,
                     config::Diagnostics* diagnostics);

}  // namespace penstock::sched
