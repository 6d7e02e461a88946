// Tokens of texts that grow: a chat's next turn costs its new tail, not the whole of it.
//
// A text is seen in blocks of kBlockBytes. For each whole block an entry, under a hash of all text
// up to the block's end, holds the tokens up to the last place in it where the text may be cut
// (Cut): these are certain, whatever follows. A text that begins in the same way takes them and
// tokenises from that place on; the result is what tokenising the whole gives. A template that
// rewrites the end of a prompt costs the blocks that it changed.
//
// Keys are 128-bit hashes of the whole text before, under a secret: nobody can make two texts
// collide on purpose, and by chance they do not.
//
// THREADS: all methods from any thread; a lock of one of 16 parts is held for a look-up, never
// while text is tokenised or hashed. OWNS: entries of at most `max_bytes`, the least recently used
// go first. Borrows the tokenizer. COST: hashing the text and copying its tokens, about 0.3 ms for
// 200 thousand; then the tail.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "tokens/tokenizer.h"

namespace penstock::tokens {

class TokenCache {
 public:
  static constexpr size_t kBlockBytes = 2048;

  struct Stats {
    uint64_t texts = 0;         // encoded
    uint64_t text_bytes = 0;    // of these
    uint64_t reused_bytes = 0;  // of these, whose tokens were known
    uint64_t entries = 0;       // now
    uint64_t bytes = 0;         // now
    uint64_t evicted = 0;       // entries that made room for others
  };

  // `secret` keeps the hashes from being guessed; draw it at random. The tokenizer must outlive the
  // cache.
  TokenCache(const Tokenizer& tokenizer, size_t max_bytes, uint64_t secret);
  ~TokenCache();
  TokenCache(const TokenCache&) = delete;
  TokenCache& operator=(const TokenCache&) = delete;

  // What Tokenizer::Encode does, and the same errors.
  Result<> Encode(std::string_view text, SpecialTokens special, std::vector<uint32_t>* tokens);

  Stats stats() const;

 private:
  struct Key;
  struct Entry;
  struct Part;
  static constexpr size_t kParts = 16;

  std::vector<Key> KeysOf(std::string_view text) const;
  std::shared_ptr<const Entry> Find(const Key& key);
  void Touch(const Key& key);
  void Store(const Key& key, std::shared_ptr<const Entry> entry);
  void StoreBlocks(const std::vector<Key>& keys, size_t known, Cut from,
                   const std::vector<Cut>& cuts, const std::vector<uint32_t>& tokens);

  const Tokenizer& tokenizer_;
  const size_t max_part_bytes_;
  const uint64_t secret_;
  const std::unique_ptr<Part[]> parts_;
  std::atomic<uint64_t> texts_{0};
  std::atomic<uint64_t> text_bytes_{0};
  std::atomic<uint64_t> reused_bytes_{0};
};

}  // namespace penstock::tokens
