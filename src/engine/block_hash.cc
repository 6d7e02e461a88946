#include "engine/block_hash.h"

#include <xxhash.h>

namespace penstock::engine {

uint64_t RootHash(std::string_view lora, std::string_view cache_salt) {
  return XXH3_64bits_withSeed(cache_salt.data(), cache_salt.size(),
                              XXH3_64bits(lora.data(), lora.size()));
}

std::vector<uint64_t> HashBlocks(std::span<const uint32_t> tokens, uint32_t block_size,
                                 uint64_t root) {
  std::vector<uint64_t> hashes;
  hashes.reserve(tokens.size() / block_size);
  uint64_t parent = root;
  for (size_t at = 0; at + block_size <= tokens.size(); at += block_size) {
    parent = XXH3_64bits_withSeed(tokens.data() + at, block_size * sizeof(uint32_t), parent);
    hashes.push_back(parent);
  }
  return hashes;
}

}  // namespace penstock::engine
