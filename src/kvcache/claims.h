// What engines will hold soon: prompts on their way to them, until their events tell the same. So
// the second of two identical prompts is drawn to where the first one went.
//
// Each endpoint's claims are held in the chain index by a slot of their own, its shadow, which it
// takes with its first claim and gives back when it has none. A claim lives until its request's
// first chunk and some time after, in which the events arrive. Claims of one endpoint overlap: what
// goes with one of them is what no other one covers.
//
// THREADS: any; a mutex per endpoint, since a slot is written by one thread at a time. ShadowOf
// takes none.
// OWNS: the shadows; borrows the index, which must outlive it.
// COST: 16 bytes a block and 300 a claim; making one compares its keys with ten others'.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "core/mutex.h"
#include "core/time.h"
#include "kvcache/chain_index.h"

namespace penstock::kvcache {

class Claims {
 public:
  struct Options {
    Duration after_first_chunk = seconds(2);
    Duration at_most = seconds(300);
    // Of one endpoint; beyond, the oldest go.
    size_t max_claims = 1024;
    size_t max_blocks = size_t{1} << 20;
  };
  // What became of them.
  struct Counts {
    std::atomic<uint64_t> live{0};
    std::atomic<uint64_t> confirmed{0};  // their first chunk came
    std::atomic<uint64_t> expired{0};    // it did not, for too long
    std::atomic<uint64_t> withdrawn{0};  // the request ended without an answer, or went elsewhere
    std::atomic<uint64_t> forgotten{0};  // the endpoint left or restarted
    std::atomic<uint64_t> displaced{0};  // by newer ones
    std::atomic<uint64_t> refused{0};    // no slot or no memory is left in the index
  };

  Claims(ChainIndex& index, const Options& options);
  ~Claims();
  Claims(const Claims&) = delete;
  Claims& operator=(const Claims&) = delete;

  // A prompt with these keys goes to the endpoint in that slot of the fleet, whose engine has
  // blocks of so many tokens (0: unknown). Returns the claim's number; 0 when it is refused.
  uint64_t Add(uint32_t slot, uint32_t engine_block, uint64_t name_space,
               std::span<const uint64_t> keys, Time now);
  // Its first chunk came. Nothing happens when the claim is gone.
  void Confirm(uint32_t slot, uint64_t claim, Time now);
  // It will not come, or not from there.
  void Withdraw(uint32_t slot, uint64_t claim);
  // The endpoint has left, or has nothing any more.
  void Forget(uint32_t slot);
  // Ends what is over, and gives back shadows without claims.
  void Tick(Time now);

  // The number in the index under which the endpoint's claims are held, one above; 0: there are
  // none.
  uint32_t ShadowOf(uint32_t slot) const {
    return slot < kMaxSlots ? shadows_[slot].load(std::memory_order_acquire) : 0;
  }
  const Counts& counts() const { return counts_; }

 private:
  static constexpr uint32_t kMaxSlots = 65536;  // of the fleet; those from here on have no claims

  struct Claim {
    uint64_t number;
    uint64_t name_space;
    std::vector<uint64_t> keys;
    ChainIndex::Node* node;  // pinned
    Time made, ends;
    bool is_confirmed = false;
  };
  struct ByKeys {
    bool operator()(const Claim* a, const Claim* b) const;
  };
  struct Endpoint {
    // A slot is written by one thread at a time.
    Mutex mutex;
    std::optional<ChainIndex::Slot> shadow GUARDED_BY(mutex);
    std::map<uint64_t, Claim> claims GUARDED_BY(mutex);  // by number, so the oldest is first
    // Neighbours share the longest prefixes.
    std::set<const Claim*, ByKeys> sorted GUARDED_BY(mutex);
    std::set<std::pair<Time, uint64_t>> ends GUARDED_BY(mutex);
    size_t blocks GUARDED_BY(mutex) = 0;
  };

  Endpoint* Find(uint32_t slot) const;
  Endpoint* FindOrMake(uint32_t slot);
  bool Join(uint32_t slot, Endpoint& endpoint, uint32_t engine_block) REQUIRES_LOCK(endpoint.mutex);
  void Leave(uint32_t slot, Endpoint& endpoint) REQUIRES_LOCK(endpoint.mutex);
  void Remove(Endpoint& endpoint, uint64_t claim) REQUIRES_LOCK(endpoint.mutex);
  void Expire(Endpoint& endpoint, Time now) REQUIRES_LOCK(endpoint.mutex);
  static uint64_t BytesOf(const Claim& claim);

  ChainIndex& index_;
  const Options options_;
  Counts counts_;
  std::atomic<uint64_t> last_{0};
  // By slot of the fleet: the shadow's number in the index, one above.
  const std::unique_ptr<std::atomic<uint32_t>[]> shadows_;
  // Held for a look-up; what it points to lives as long as this.
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_ GUARDED_BY(mutex_);  // by slot
};

}  // namespace penstock::kvcache
