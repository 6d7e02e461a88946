#include "kvcache/block_keys.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <string>

namespace penstock::kvcache {
namespace {

// Cuts one prompt into blocks. Bytes are hashed where they stand, except for blocks that span
// parts, which are put together in a buffer first.
class Chain {
 public:
  // The first `known` blocks are behind it already.
  Chain(uint64_t seed, size_t block_bytes, size_t max_blocks, size_t known,
        std::vector<uint64_t>* keys)
      : key_(known == 0 ? seed : keys->back()),
        block_bytes_(block_bytes),
        blocks_left_(max_blocks - known),
        known_bytes_(known * block_bytes),
        keys_(keys) {}

  void Add(std::string_view bytes) {
    const size_t skipped = std::min(known_bytes_, bytes.size());
    known_bytes_ -= skipped;
    bytes.remove_prefix(skipped);
    if (!pending_.empty()) {
      const size_t taken = std::min(block_bytes_ - pending_.size(), bytes.size());
      pending_.append(bytes.substr(0, taken));
      bytes.remove_prefix(taken);
      if (pending_.size() < block_bytes_) return;
      Emit(pending_);
      pending_.clear();
    }
    while (bytes.size() >= block_bytes_ && blocks_left_ > 0) {
      Emit(bytes.substr(0, block_bytes_));
      bytes.remove_prefix(block_bytes_);
    }
    if (blocks_left_ > 0) pending_.assign(bytes);
  }

  // The prompt's last part: the last block, which may be shorter, ends with it.
  void AddLast(std::string_view bytes) {
    if (pending_.empty() && known_bytes_ == 0) {
      for (; !bytes.empty() && blocks_left_ > 0;
           bytes.remove_prefix(std::min(block_bytes_, bytes.size()))) {
        Emit(bytes.substr(0, block_bytes_));
      }
      return;
    }
    Add(bytes);
    if (!pending_.empty()) Emit(pending_);
    pending_.clear();
  }

 private:
  void Emit(std::string_view block) {
    if (blocks_left_ == 0) return;
    --blocks_left_;
    key_ = XXH3_64bits_withSeed(block.data(), block.size(), key_);
    keys_->push_back(key_);
  }

  uint64_t key_;
  const size_t block_bytes_;
  size_t blocks_left_;
  size_t known_bytes_;  // to skip
  std::vector<uint64_t>* const keys_;
  std::string pending_;  // always less than a block
};

}  // namespace

uint64_t KeySeed(std::string_view model, std::string_view cache_salt, size_t block_bytes) {
  const uint64_t of_model = XXH3_64bits_withSeed(model.data(), model.size(), block_bytes);
  return XXH3_64bits_withSeed(cache_salt.data(), cache_salt.size(), of_model);
}

void AppendBlockKeys(std::span<const model::PromptPart> prompt, uint64_t seed, size_t block_bytes,
                     size_t max_blocks, std::vector<uint64_t>* keys,
                     std::vector<uint32_t>* sequence_ends) {
  size_t bytes = 0;
  for (const model::PromptPart& part : prompt) bytes += part.bytes.size();
  const size_t before_all = sequence_ends->empty() ? 0 : sequence_ends->back();
  if (max_blocks > 0) keys->reserve(before_all + std::min(max_blocks, bytes / block_bytes + 1));
  size_t next = 0;
  while (next < prompt.size()) {
    const size_t before = next == 0 ? before_all : keys->size();
    Chain chain(seed, block_bytes, max_blocks, keys->size() - before, keys);
    const auto is_last = [&] {
      return next + 1 == prompt.size() || prompt[next + 1].starts_sequence;
    };
    for (; !is_last(); ++next) chain.Add(prompt[next].bytes);
    chain.AddLast(prompt[next++].bytes);
    if (keys->size() > before) sequence_ends->push_back(static_cast<uint32_t>(keys->size()));
  }
}

}  // namespace penstock::kvcache
