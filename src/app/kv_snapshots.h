// Snapshots of what is known of the engines' caches: read at start from other routers or from a
// file, written from time to time and at the end, and made for other routers that start.
//
// THREADS: Start and the destructor on one thread, which waits; Make and stats from any.
// OWNS: a loop on a thread of its own, where snapshots are made and written. REQUIRES: the caches
// and the ingest outlive it.
// COST: a twentieth of a core at most: after each snapshot a pause of 19 times what it took.
// SOURCE: docs/design/0005-exact-caches.md.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "admin/caches_json.h"
#include "core/mutex.h"
#include "core/result.h"
#include "core/time.h"
#include "events/ingest.h"
#include "kvcache/exact_caches.h"
#include "kvcache/snapshot.h"
#include "net/loop.h"
#include "sched/plugin.h"

namespace penstock::app {

class KvSnapshots final : public admin::SnapshotMaker {
 public:
  // Reads what there is and gives it to the ingest: of siblings the first that answers, and the
  // file for publishers that it does not know. What cannot be used is told of and counted. Errors:
  // the secret cannot be kept.
  // REQUIRES: settings.is_on(); nobody is listened to yet.
  static Result<std::unique_ptr<KvSnapshots>> Start(const kvcache::ExactCaches& caches,
                                                    events::Ingest& ingest,
                                                    const sched::KvSnapshotSettings& settings);
  // Writes a last one.
  ~KvSnapshots() override;

  bool Make(std::move_only_function<void(Bytes)> done) override;
  admin::SnapshotStats stats() const override;
  // For the log at start.
  std::string Describe() const;

 private:
  using Saved = events::Ingest::Saved;
  static constexpr int kMaxWaiting = 64;

  KvSnapshots(const kvcache::ExactCaches& caches, events::Ingest& ingest,
              const sched::KvSnapshotSettings& settings);
  Result<> KeepSecret() const;
  void Load();
  // False: it cannot be used.
  bool Use(const std::string& from, std::string_view bytes, Saved* saved);
  Bytes Encode(Saved saved);
  void Write(const std::string& bytes);

  // On the loop.
  void Begin();
  void OnSaved(Saved saved);
  void OnPauseOver();
  void OnInterval();

  template <class F>
  void Count(F&& count) const {
    MutexLock lock(mutex_);
    count(stats_);
  }

  const kvcache::ExactCaches& caches_;
  events::Ingest& ingest_;
  const sched::KvSnapshotSettings settings_;
  const size_t max_bytes_;  // decompressed
  std::string loaded_;      // what was loaded, for people

  // Of both. Taken once per snapshot.
  mutable Mutex mutex_;
  mutable admin::SnapshotStats stats_ GUARDED_BY(mutex_);
  Time taken_ GUARDED_BY(mutex_){};
  std::atomic<int> waiting_{0};

  // Whoever has not answered yet holds it, too; what is posted after the end never runs.
  const std::shared_ptr<net::LoopPool> loops_;
  // The loop's.
  std::vector<std::move_only_function<void(Bytes)>> requests_;
  bool is_making_ = false;
  bool is_write_due_ = false;
  Time began_{};
  Bytes last_;  // until the pause after it is over
  std::unique_ptr<net::Timer> pause_, interval_;
};

}  // namespace penstock::app
