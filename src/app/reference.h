// The pages of the generated reference, made from the declarations of fields, plugins and metrics.
//
// THREADS: pure functions.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "sched/registry.h"
#include "telemetry/metrics.h"

namespace penstock::app {

// A complete penstock.yaml; the reference shows it and a test loads it.
std::string_view ExampleConfiguration();
// A `plugins` list, and profiles where the type belongs into one, that work as they are.
// REQUIRES: a type of `registry`.
std::string PluginExample(const sched::PluginType& type, const sched::Registry& registry);

// Markdown, each page with its heading.
std::string ConfigurationPage();
std::string PluginsPage(const sched::Registry& registry);
std::string MetricsPage(std::span<const telemetry::Registry::Row> rows);

}  // namespace penstock::app
