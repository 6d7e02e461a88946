// An attribute of endpoints that a plugin names: one of those that are scraped from every engine,
// or one that a configuration describes (customMetrics of core-metrics-extractor).
//
// THREADS: immutable once wired.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sched/plugin.h"

namespace penstock::plugins {

class EndpointAttribute {
 public:
  // `producer` supplies it; "": core-metrics-extractor.
  EndpointAttribute(std::string name, std::string producer);
  EndpointAttribute(const EndpointAttribute&) = delete;
  EndpointAttribute& operator=(const EndpointAttribute&) = delete;

  // Of the plugin that owns this. Whether anybody supplies it is found out when it is wired.
  sched::Need Need();
  // Of the endpoint in that column; NaN: not told.
  float Value(const model::EndpointColumns& columns, size_t i) const;

 private:
  const std::string name_;
  const std::string producer_;
  std::vector<float> model::EndpointColumns::*column_ = nullptr;  // null: a custom one
  sched::DataKey key_ = sched::DataKey::kAttribute;
  uint32_t index_ = 0;  // of a custom one
};

}  // namespace penstock::plugins
