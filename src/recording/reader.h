// Reads a recording's lines back into what the brain was told. Nothing in a line is trusted: what
// a brain must not hear is an error that names it.
//
// THREADS: pure functions. SOURCE: recorder.h writes them; docs/recordings.md has the fields.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "director/director.h"
#include "director/fleet.h"
#include "model/endpoint.h"
#include "sched/plugin.h"

namespace penstock::recording {

struct Head {
  std::string version;
  std::string policy;
  std::string scheduling;  // YAML, for sched::LoadInlineScheduling
  int64_t unix_micros = 0;
  Time start;
  uint32_t max_endpoints = 0;
  uint32_t max_tries = 0;
  double retry_budget_ratio = 0;
  std::vector<std::string> attributes;
};
// kInvalidArgument: "is no recording", or what is wrong with its head.
Result<Head> ReadHead(std::string_view line);

struct Event {
  enum class Kind : uint8_t {
    kLane,
    kArrive,
    kFail,
    kServed,
    kFirst,
    kEnd,
    kEndpoints,
    kScrape,
    kScrapeFailed,
    kModels,
    kTick,
    kClose,
  };
  Kind kind = Kind::kTick;
  Time at;
  uint64_t request = 0;
  uint32_t lane = 0;
  uint32_t slot = 0;
  uint64_t seed = 0;
  std::string to;  // kArrive, kFail, kServed: the endpoint, or ""
  int status = 0;
  // kArrive. Views in request.headers point into header_names and context.header_texts.
  sched::RequestContext context;
  std::vector<std::string> header_names;
  sched::PrefixKeys prompt;  // where no plugin had keys
  // kArrive, kFail, kServed: what the decision went by, by prefix producer.
  std::vector<std::optional<sched::ToldMatches>> told;
  director::TryFailure failure = director::TryFailure::kLocal;
  director::EndKind end = director::EndKind::kComplete;
  director::ReportedUsage usage;
  std::vector<model::EndpointSpec> endpoints;
  director::EngineSignals signals;
  std::string text;  // kScrapeFailed: the reason; kClose: why
  std::vector<std::string> models;
};
// Any line behind the head. `start` is the head's.
Result<Event> ReadEvent(std::string_view line, Time start);

}  // namespace penstock::recording
