// The block keys of prompts' beginnings that came before, so that a beginning that many prompts
// share is hashed once. It holds what the director's plugins made of the text and nothing of its
// own: with or without it the keys are the same, bit for bit.
//
// A beginning is remembered at the end of a piece, where it has at least kLeastBlocks full blocks
// more than the last one that is.
//
// THREADS: none of its own; one owner. COST: 30 ns a piece, 1 ns a key; memory bounded by the
// number of keys, of which twice as many may be held for a moment.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sched/plugin.h"
#include "workload/workload.h"

namespace penstock::lab {

class KeyMemo {
 public:
  static constexpr size_t kLeastBlocks = 4;
  static constexpr size_t kMaxKeys = size_t{1} << 18;  // 2 MB, and once more in old ones

  explicit KeyMemo(size_t max_keys = kMaxKeys) : max_keys_(max_keys) {}

  // Puts the keys of the longest beginning that is known into `keys`, for a producer to go on from.
  // `root` names what else makes the keys: model, adapter, salt. REQUIRES: keys->blocks is empty.
  void Recall(std::span<const workload::Piece> prompt, uint64_t root, sched::PrefixKeys* keys);
  // Remembers the keys that a producer has made of a prompt.
  void Remember(std::span<const workload::Piece> prompt, uint64_t root,
                const sched::PrefixKeys& keys);

  size_t keys() const { return young_keys_ + old_keys_; }
  uint64_t recalled() const { return recalled_; }  // keys

 private:
  // Of the blocks since the beginning before.
  using Keys = std::vector<uint64_t>;
  using Map = boost::unordered_flat_map<uint64_t, Keys>;
  // The first pieces of a prompt.
  struct Beginning {
    uint64_t name = 0;
    uint64_t tokens = 0;
    void Add(const workload::Piece& piece);
  };
  const Keys* Find(uint64_t name);
  void Add(uint64_t name, Keys keys);

  const size_t max_keys_;
  uint32_t block_size_tokens_ = 0;
  // What was not looked at while the young ones became so many goes with the old ones.
  Map young_, old_;
  size_t young_keys_ = 0, old_keys_ = 0;
  uint64_t recalled_ = 0;
};

}  // namespace penstock::lab
