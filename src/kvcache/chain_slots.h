// The slots of a chain index. Internal to kvcache/chain_*.cc.
#pragma once

#include <atomic>
#include <cstdint>

#include "kvcache/chain_index.h"

namespace penstock::kvcache {

struct ChainIndex::SlotInfo {
  std::atomic<uint32_t> generation{0};  // odd: taken
  // Of the engine's largest block, and kIrregular.
  std::atomic<uint32_t> engine_block{0};
  // Blocks of sizes that do not divide each other: their boundaries are not multiples of anything.
  static constexpr uint32_t kIrregular = 1U << 31;
  // Packed groups; 0: none.
  std::atomic<uint64_t> groups[kMaxGroups]{};

  static uint64_t Pack(const Group& group) {
    return uint64_t{1} << 63 | uint64_t{group.group} << 40 |
           uint64_t{static_cast<uint8_t>(group.kind)} << 32 | group.window_blocks;
  }
  static Group Unpack(uint64_t word) {
    return {.group = static_cast<uint16_t>(word >> 40),
            .kind = static_cast<CacheKind>(word >> 32 & 0xff),
            .window_blocks = static_cast<uint32_t>(word)};
  }
};

}  // namespace penstock::kvcache
