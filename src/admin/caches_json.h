// What is known of the engines' caches and of those who tell, as JSON: for /debug/kv and the live
// page. Numbers that are not known are null.
//
// THREADS: any.
#pragma once

#include <compare>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "events/ingest.h"
#include "sched/plugin.h"
#include "wire/json.h"

namespace penstock::admin {

// An endpoint whose KV events nobody listens to, and why.
struct UnheardEndpoint {
  std::string name;
  std::string reason;
  auto operator<=>(const UnheardEndpoint&) const = default;
};

// Who knows the caches, and who listens for it. All outlive the admin port.
struct HeardCaches {
  sched::KnowsCaches* knows = nullptr;  // null: nobody asks for KV events
  const events::Ingest* ingest = nullptr;
  std::function<std::shared_ptr<const std::vector<UnheardEndpoint>>()> unheard;
};

// Why a publisher is in its state and what helps, in a sentence.
std::string ExplainPublisher(const events::SourceView& view);

// One object: settings, index, and at most `limit` publishers, all or those of one endpoint.
// REQUIRES: heard.knows.
void WriteCaches(const HeardCaches& heard, std::string_view endpoint, size_t limit,
                 wire::JsonWriter* json);

// One object for the live page, or null: at most `limit` publishers, without what it does not show.
void WriteLiveCaches(const HeardCaches& heard, size_t limit, wire::JsonWriter* json);

// What each endpoint holds of a prompt: {"token_ids": [...], "model": "", "salt": ""}. The model is
// an adapter's name, or none.
// REQUIRES: heard.knows. Errors: a body that is no such object.
Result<> WriteMatch(const HeardCaches& heard, std::string_view body, wire::JsonWriter* json);

}  // namespace penstock::admin
