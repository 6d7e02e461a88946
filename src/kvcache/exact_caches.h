// What is known exactly of the engines' caches, between whoever hears it (KV events) and whoever
// asks (a decision): the keys, the index, and which of its slots stands for which endpoint.
//
// THREADS: any. OWNS: the index and the keys.
// COST: Read takes one exchange; a thread that asks first makes its scratch memory.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/mutex.h"
#include "core/snapshot.h"
#include "kvcache/chain_index.h"
#include "kvcache/content_keys.h"
#include "kvcache/publisher.h"

namespace penstock::kvcache {

// Whose blocks stand where, by the fleet's slots.
struct SlotTable {
  struct Entry {
    bool is_known = false;
    ChainIndex::Slot slot;
    // Changes on its own. Never null where is_known.
    std::shared_ptr<const Publisher> publisher;
  };
  std::vector<Entry> entries;
};

class ExactCaches {
  struct Scratch;

 public:
  struct Options {
    ChainIndex::Options index;
    std::string secret;  // of the keys; "": a random one
  };
  explicit ExactCaches(const Options& options);
  ~ExactCaches();
  ExactCaches(const ExactCaches&) = delete;
  ExactCaches& operator=(const ExactCaches&) = delete;

  ChainIndex& index() { return index_; }
  const ChainIndex& index() const { return index_; }
  const ContentKeys& keys() const { return keys_; }
  // Of the keys: whoever has it can make the same.
  const std::string& secret() const { return secret_; }

  // Of who listens: replaces the table.
  void SetTable(std::shared_ptr<const SlotTable> table) { table_.Store(std::move(table)); }
  std::shared_ptr<const SlotTable> table() const { return table_.Get(); }

  // What one thread needs to ask, for as long as it lives. Not nested.
  class Asking {
   public:
    explicit Asking(const ExactCaches& caches);
    ~Asking();
    Asking(const Asking&) = delete;
    Asking& operator=(const Asking&) = delete;

    const SlotTable& table() const;
    // What each slot of the index holds of the prompt, by its number; valid until the next call.
    std::span<const PrefixHold> Match(uint64_t name_space, std::span<const uint64_t> keys);
    // How many blocks from the start each slot holds in this tier; likewise. What Match gave stays
    // valid.
    std::span<const uint32_t> MatchTier(Tier tier, uint64_t name_space,
                                        std::span<const uint64_t> keys);

   private:
    const ExactCaches& caches_;
    Scratch& scratch_;
  };

  // What an engine reported of cached tokens differs from what was expected, or does no longer;
  // goes to whoever listens for the endpoint in that slot of the fleet.
  void TellDrift(uint32_t slot, bool differs);
  // By who listens; empty: nobody does any more.
  void SetDriftSink(std::function<void(uint32_t slot, bool differs)> sink);

 private:
  static constexpr size_t kMaxAsking = 256;  // threads at once; others wait
  Scratch& Take() const;

  const std::string secret_;
  const ContentKeys keys_;
  ChainIndex index_;
  SnapshotCell<SlotTable> table_{std::make_shared<SlotTable>()};
  mutable std::array<std::atomic<Scratch*>, kMaxAsking> scratch_{};
  mutable std::array<std::atomic<bool>, kMaxAsking> is_taken_{};
  // Held while the sink is called.
  Mutex drift_mutex_;
  std::function<void(uint32_t, bool)> drift_sink_ GUARDED_BY(drift_mutex_);
};

}  // namespace penstock::kvcache
