#include "kvcache/exact_caches.h"

#include <algorithm>
#include <random>
#include <thread>
#include <utility>

namespace penstock::kvcache {
namespace {

// Nobody else can make keys that collide. A text, so that it can be kept as one.
std::string RandomSecret() {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::random_device entropy;
  std::string secret;
  for (int i = 0; i < 8; ++i) {
    uint32_t word = entropy();
    for (int k = 0; k < 8; ++k, word >>= 4) secret += kDigits[word & 15];
  }
  return secret;
}

}  // namespace

struct ExactCaches::Scratch {
  Scratch(const ChainIndex& index, size_t number) : reader(index), place(number) {}

  ChainIndex::Reader reader;
  SnapshotCell<SlotTable>::Reader table_reader;
  std::shared_ptr<const SlotTable> table;
  std::vector<PrefixHold> holds;
  std::vector<uint32_t> lengths;
  const size_t place;
};

ExactCaches::ExactCaches(const Options& options)
    : secret_(options.secret.empty() ? RandomSecret() : options.secret),
      keys_(secret_, options.index.block_tokens),
      index_(options.index) {}

ExactCaches::~ExactCaches() {
  for (const std::atomic<Scratch*>& scratch : scratch_) delete scratch.load();
}

ExactCaches::Scratch& ExactCaches::Take() const {
  // Where this thread found a place last time.
  thread_local size_t place = std::hash<std::thread::id>()(std::this_thread::get_id());
  for (size_t tries = 1;; ++tries) {
    place %= kMaxAsking;
    if (!is_taken_[place].exchange(true, std::memory_order_acquire)) break;
    ++place;
    if (tries % kMaxAsking == 0) std::this_thread::yield();
  }
  Scratch* scratch = scratch_[place].load(std::memory_order_relaxed);
  if (scratch == nullptr) {
    scratch = new Scratch(index_, place);
    scratch_[place].store(scratch, std::memory_order_relaxed);
  }
  return *scratch;
}

ExactCaches::Asking::Asking(const ExactCaches& caches) : caches_(caches), scratch_(caches.Take()) {
  scratch_.table = scratch_.table_reader.Load(caches_.table_);
}

ExactCaches::Asking::~Asking() {
  caches_.is_taken_[scratch_.place].store(false, std::memory_order_release);
}

const SlotTable& ExactCaches::Asking::table() const { return *scratch_.table; }

std::span<const PrefixHold> ExactCaches::Asking::Match(uint64_t name_space,
                                                       std::span<const uint64_t> keys) {
  scratch_.holds.resize(caches_.index_.slot_limit());
  scratch_.reader.Match(name_space, keys, scratch_.holds);
  return scratch_.holds;
}

std::span<const uint32_t> ExactCaches::Asking::MatchTier(Tier tier, uint64_t name_space,
                                                         std::span<const uint64_t> keys) {
  scratch_.lengths.resize(caches_.index_.slot_limit());
  scratch_.reader.MatchTier(tier, name_space, keys, scratch_.lengths);
  return scratch_.lengths;
}

void ExactCaches::TellDrift(uint32_t slot, bool differs) {
  MutexLock lock(drift_mutex_);
  if (drift_sink_) drift_sink_(slot, differs);
}

void ExactCaches::SetDriftSink(std::function<void(uint32_t, bool)> sink) {
  MutexLock lock(drift_mutex_);
  drift_sink_ = std::move(sink);
}

}  // namespace penstock::kvcache
