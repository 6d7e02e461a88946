// What is known of the engines' caches and of those who tell, as JSON: for /debug/kv and the live
// page. Numbers that are not known are null.
//
// THREADS: any.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
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

// What became of snapshots of the caches.
struct SnapshotStats {
  uint64_t written = 0;                 // to the file
  uint64_t served = 0;                  // to other routers
  uint64_t left_out = 0;                // publishers for which there was no room
  uint64_t bytes = 0;                   // of the last one
  uint64_t publishers = 0, blocks = 0;  // that it has
  double seconds = 0;                   // that it took
  double age_s = -1;                    // since it was taken; below 0: there is none yet
  // How often one could not be used or made.
  uint64_t unreadable = 0;   // the file
  uint64_t unreachable = 0;  // a sibling
  uint64_t refused = 0;      // another secret, block size or version
  uint64_t broken = 0;
  uint64_t unwritable = 0;
};

// By why one could not be used or made, for counters.
inline constexpr size_t kSnapshotFailures = 6;
std::array<std::pair<std::string_view, uint64_t>, kSnapshotFailures> SnapshotFailures(
    const SnapshotStats& stats, const events::RestoreCounts& restored);

// Makes snapshots. From any thread.
class SnapshotMaker {
 public:
  virtual ~SnapshotMaker() = default;
  using Bytes = std::shared_ptr<const std::string>;
  // Hands one to `done`, soon, on a thread of its own; null: none could be made. False: too many
  // wait already.
  virtual bool Make(std::move_only_function<void(Bytes)> done) = 0;
  virtual SnapshotStats stats() const = 0;
};

// Who knows the caches, and who listens for it. All outlive the admin port.
struct HeardCaches {
  sched::KnowsCaches* knows = nullptr;  // null: nobody asks for KV events
  const events::Ingest* ingest = nullptr;
  std::function<std::shared_ptr<const std::vector<UnheardEndpoint>>()> unheard;
  SnapshotMaker* snapshots = nullptr;  // null: none are made
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
