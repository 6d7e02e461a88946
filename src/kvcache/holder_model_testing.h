// A publisher as plain maps, to hold Holder and ChainIndex against. Everything is worked out anew
// from the blocks when asked.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <span>
#include <unordered_set>
#include <vector>

#include "kvcache/chain_index.h"
#include "kvcache/kv_event.h"

namespace penstock::kvcache {

class HolderModel {
 public:
  explicit HolderModel(uint32_t index_tokens) : index_tokens_(index_tokens) {}

  struct Store {
    uint64_t name_space = 0;
    std::optional<uint64_t> parent;
    std::vector<uint64_t> hashes;
    std::vector<uint32_t> tokens;
    uint32_t block_tokens = 0;
    Tier tier = Tier::kGpu;
  };

  void Apply(const Store& store) {
    if (store.parent && !IsLive(*store.parent)) {
      parked_.push_back({store, std::vector<bool>(store.hashes.size())});
      return;
    }
    std::vector<Parked> attached;
    std::vector<Store> ready{store};
    Place(store);
    std::vector<uint64_t> fresh = store.hashes;
    for (size_t f = 0; f < fresh.size(); ++f) {
      for (size_t i = 0; i < parked_.size();) {
        if (*parked_[i].store.parent != fresh[f]) {
          ++i;
          continue;
        }
        const Parked next = parked_[i];
        parked_.erase(parked_.begin() + static_cast<std::ptrdiff_t>(i));
        Place(next.store);
        attached.push_back(next);
        fresh.insert(fresh.end(), next.store.hashes.begin(), next.store.hashes.end());
      }
    }
    for (const Parked& next : attached) {
      for (size_t i = 0; i < next.removed.size(); ++i) {
        if (next.removed[i]) Remove(next.store.hashes[i], next.store.tier);
      }
    }
  }

  void Remove(uint64_t hash, Tier tier) {
    if (const auto it = blocks_.find(hash); it != blocks_.end()) {
      uint32_t& count = it->second.counts[static_cast<size_t>(tier)];
      if (count > 0) --count;
    }
    for (Parked& parked : parked_) {
      for (size_t i = 0; i < parked.store.hashes.size(); ++i) {
        if (parked.store.hashes[i] == hash && parked.store.tier == tier) parked.removed[i] = true;
      }
    }
  }

  void AddTier(uint64_t hash, Tier tier) {
    if (IsLive(hash)) ++blocks_[hash].counts[static_cast<size_t>(tier)];
  }

  void Clear() {
    blocks_.clear();
    parked_.clear();
    unit_ = 0;
    is_irregular_ = false;
  }

  void DropParked() { parked_.clear(); }

  bool IsLive(uint64_t hash) const {
    const auto it = blocks_.find(hash);
    return it != blocks_.end() &&
           std::any_of(std::begin(it->second.counts), std::end(it->second.counts),
                       [](uint32_t count) { return count > 0; });
  }

  size_t live_blocks() const {
    return static_cast<size_t>(std::count_if(
        blocks_.begin(), blocks_.end(), [&](const auto& entry) { return IsLive(entry.first); }));
  }

  // Every index block that is held, as a hash of its namespace and all tokens up to its end, per
  // tier.
  using Held = std::array<std::unordered_set<uint64_t>, kTiers>;
  Held AllHeld() const {
    Held held;
    for (const auto& [hash, block] : blocks_) {
      const auto end = static_cast<uint32_t>(block.path.size());
      const uint32_t start = end - block.block_tokens;
      for (uint32_t k = start / index_tokens_; k < end / index_tokens_; ++k) {
        for (size_t tier = 0; tier < kTiers; ++tier) {
          if (IsWhole(hash, k, tier)) held[tier].insert(block.prefixes[k]);
        }
      }
    }
    return held;
  }

  // Of every whole index block's end.
  std::vector<uint64_t> Prefixes(uint64_t name_space, std::span<const uint32_t> tokens) const {
    std::vector<uint64_t> prefixes;
    uint64_t hash = name_space;
    for (size_t i = 0; i < tokens.size(); ++i) {
      hash = (hash ^ tokens[i]) * 0x9e3779b97f4a7c15ULL;
      hash ^= hash >> 31;
      if ((i + 1) % index_tokens_ == 0) prefixes.push_back(hash);
    }
    return prefixes;
  }

  PrefixHold Match(const Held& held, std::span<const uint64_t> prefixes) const {
    PrefixHold hold;
    bool in_gpu = true;
    for (const uint64_t prefix : prefixes) {
      size_t tier = 0;
      while (tier < kTiers && !held[tier].contains(prefix)) ++tier;
      if (tier == kTiers) break;
      ++hold.blocks;
      ++hold.in_tier[tier];
      in_gpu = in_gpu && tier == 0;
      if (in_gpu) ++hold.gpu;
    }
    uint32_t cut = hold.blocks - Round(hold.blocks);
    hold.blocks -= cut;
    hold.gpu = Round(hold.gpu);
    for (size_t tier = kTiers - 1; tier > 0; --tier) {
      const uint32_t part = std::min(cut, hold.in_tier[tier]);
      hold.in_tier[tier] -= part;
      cut -= part;
    }
    hold.in_tier[0] -= cut;
    hold.sure = hold.blocks;
    hold.reusable = hold.blocks;
    return hold;
  }

  uint32_t MatchTier(const Held& held, std::span<const uint64_t> prefixes, Tier tier) const {
    uint32_t blocks = 0;
    while (blocks < prefixes.size() && held[static_cast<size_t>(tier)].contains(prefixes[blocks])) {
      ++blocks;
    }
    return Round(blocks);
  }

 private:
  struct Block {
    uint64_t name_space = 0;
    std::optional<uint64_t> parent;
    std::vector<uint32_t> path;  // all tokens up to its end
    std::vector<uint64_t> prefixes;
    uint32_t block_tokens = 0;
    uint32_t counts[kTiers] = {};
  };
  struct Parked {
    Store store;
    std::vector<bool> removed;
  };

  void Place(const Store& store) {
    if (unit_ != 0 &&
        std::max(unit_, store.block_tokens) % std::min(unit_, store.block_tokens) != 0)
      is_irregular_ = true;
    unit_ = std::max(unit_, store.block_tokens);
    std::vector<uint32_t> path;
    if (store.parent) path = blocks_[*store.parent].path;
    std::optional<uint64_t> parent = store.parent;
    for (size_t i = 0; i < store.hashes.size(); ++i) {
      const auto first = store.tokens.begin() + static_cast<std::ptrdiff_t>(i * store.block_tokens);
      path.insert(path.end(), first, first + store.block_tokens);
      Block& block = blocks_[store.hashes[i]];
      block.name_space = store.name_space;
      block.parent = parent;
      block.path = path;
      block.prefixes = Prefixes(store.name_space, path);
      block.block_tokens = store.block_tokens;
      ++block.counts[static_cast<size_t>(store.tier)];
      parent = store.hashes[i];
    }
  }

  bool IsWhole(uint64_t hash, uint32_t index_block, size_t tier) const {
    for (;;) {
      const auto it = blocks_.find(hash);
      if (it == blocks_.end() || it->second.counts[tier] == 0) return false;
      if (it->second.path.size() - it->second.block_tokens <= index_block * index_tokens_)
        return true;
      hash = *it->second.parent;
    }
  }

  uint32_t Round(uint32_t blocks) const {
    if (unit_ == 0) return blocks;
    const uint32_t tokens = blocks * index_tokens_;
    const uint32_t excess = is_irregular_ ? std::min(tokens, unit_ - 1) : tokens % unit_;
    return (tokens - excess) / index_tokens_;
  }

  const uint32_t index_tokens_;
  std::map<uint64_t, Block> blocks_;
  std::vector<Parked> parked_;
  uint32_t unit_ = 0;
  bool is_irregular_ = false;
};

}  // namespace penstock::kvcache
