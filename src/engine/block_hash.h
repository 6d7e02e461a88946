// Names the content of KV blocks: the hash of a full block covers its tokens and, through its
// parent, everything before it. Two sequences share a block exactly when its hash is the same.
//
// SOURCE: vLLM V1 prefix caching (chained block hashes); the hash itself is ours (XXH3, 64 bits).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace penstock::engine {

// The parent of a sequence's first block: sequences with another adapter or salt share nothing.
uint64_t RootHash(std::string_view lora, std::string_view cache_salt);

// The hashes of all full blocks of `tokens`, in order. REQUIRES: block_size > 0.
std::vector<uint64_t> HashBlocks(std::span<const uint32_t> tokens, uint32_t block_size,
                                 uint64_t root);

}  // namespace penstock::engine
