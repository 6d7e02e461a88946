// What `penstock check` finds out about one configuration, and how it says it.
//
// THREADS: pure functions, but for the files that a penstock.yaml names, which are read.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sched/explain.h"
#include "sched/scheduler.h"

namespace penstock::app {

struct CheckReport {
  std::string file;
  std::string title;                  // "an EndpointPickerConfig, for penstock epp"
  std::vector<std::string> errors;    // each "FILE:LINE:COLUMN: sentence"
  std::vector<std::string> warnings;  // likely mistakes, deprecated names
  std::vector<std::string> notes;     // good to know
  std::vector<std::pair<std::string, std::string>> facts;  // "Endpoints", "the file /e.yaml"
  sched::SchedulingSpec spec;
  std::optional<sched::Explanation> explanation;  // when there are no errors
  std::string penstock_yaml;                      // the same
};

// One report for a penstock.yaml or an EndpointPickerConfig; one for each EndpointPickerConfig that
// stands as a text in another document, a ConfigMap or a Helm chart's values. Never empty.
std::vector<CheckReport> CheckConfiguration(std::string_view text, const std::string& file_name);

// For people, without errors, and for machines: one line of JSON.
std::string ReportText(const CheckReport& report);
std::string ReportJson(const std::vector<CheckReport>& reports);

}  // namespace penstock::app
