// The endpoint attributes that plugins can name: those that are scraped from every engine.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sched/plugin.h"

namespace penstock::plugins {

struct EndpointAttribute {
  std::string_view name;  // llm-d's
  sched::DataKey key;
  std::vector<float> model::EndpointColumns::*column;
};

// nullptr: not one of them.
const EndpointAttribute* FindEndpointAttribute(std::string_view name);
// What is wrong with such a reference, or "".
std::string EndpointAttributeProblem(std::string_view field, std::string_view name,
                                     std::string_view producer);

}  // namespace penstock::plugins
