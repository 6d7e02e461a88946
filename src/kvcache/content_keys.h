// The content key of a block: a keyed hash of its token ids and of what else its content depends
// on, and of nothing that stands before it. So the keys of a prompt are made in one pass, grow with
// it, and a chain of them is compared in sequence.
//
// Without the secret nobody can make two blocks with one key. Routers that share it, share keys.
//
// THREADS: immutable after construction.
// COST: 10 ns per block of 16 tokens.
// SOURCE: XXH3-64 with a secret of 192 bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace penstock::kvcache {

class ContentKeys {
 public:
  // Of how keys and namespaces are made: those of another one do not meet.
  static constexpr uint32_t kVersion = 1;

  // `secret`: at least 16 random bytes; shorter ones work, and are easier to guess.
  // REQUIRES: block_tokens > 0.
  ContentKeys(std::string_view secret, uint32_t block_tokens);

  uint32_t block_tokens() const { return block_tokens_; }

  // The number of the forest in which a model's (or adapter's) blocks stand, and those of each
  // cache salt apart.
  uint64_t Namespace(std::string_view model_or_adapter, std::string_view cache_salt) const;
  // Of the forest for another group of layers of the same model.
  static uint64_t GroupNamespace(uint64_t name_space, uint16_t group);

  // REQUIRES: tokens.size() == block_tokens().
  uint64_t Key(std::span<const uint32_t> tokens, uint64_t extras) const;

  // Appends the keys of the whole blocks of `tokens`; the last, partial block has none. Keys that
  // are there already are those of the first blocks, and are not made again. `extras`: one per
  // block, 0 for nothing; blocks beyond its end have none.
  void Append(std::span<const uint32_t> tokens, std::span<const uint64_t> extras,
              std::vector<uint64_t>* keys) const;

  // What several things that a block's content depends on make together. 0 is nothing; the same
  // thing again adds nothing.
  static uint64_t FoldExtras(uint64_t folded, uint64_t next);
  // The extras of one of the engine's blocks, with one name more.
  static uint64_t FoldName(uint64_t folded, std::string_view name);

 private:
  const uint32_t block_tokens_;
  alignas(64) std::array<unsigned char, 192> secret_;
};

}  // namespace penstock::kvcache
