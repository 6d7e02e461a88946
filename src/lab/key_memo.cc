#include "lab/key_memo.h"

#include <utility>

#include "lab/prompts.h"

namespace penstock::lab {

void KeyMemo::Beginning::Add(const workload::Piece& piece) {
  // Twice, so that what came before and the piece do not weigh alike: else a root and a piece could
  // change places.
  name = Mix(Mix(Mix(name) ^ Mix(piece.content)) + piece.tokens);
  tokens += piece.tokens;
}

void KeyMemo::Recall(std::span<const workload::Piece> prompt, uint64_t root,
                     sched::PrefixKeys* keys) {
  if (block_size_tokens_ == 0) return;
  keys->block_size_tokens = block_size_tokens_;
  Beginning beginning{.name = Mix(root)};
  for (const workload::Piece& piece : prompt) {
    beginning.Add(piece);
    if (beginning.tokens / block_size_tokens_ < keys->blocks.size() + kLeastBlocks) continue;
    const Keys* const known = Find(beginning.name);
    if (known == nullptr) break;
    keys->blocks.insert(keys->blocks.end(), known->begin(), known->end());
  }
  recalled_ += keys->blocks.size();
}

void KeyMemo::Remember(std::span<const workload::Piece> prompt, uint64_t root,
                       const sched::PrefixKeys& keys) {
  if (keys.block_size_tokens == 0) return;
  if (keys.block_size_tokens != block_size_tokens_) {
    young_.clear();
    old_.clear();
    young_keys_ = old_keys_ = 0;
    block_size_tokens_ = keys.block_size_tokens;
  }
  Beginning beginning{.name = Mix(root)};
  size_t done = 0;  // blocks
  for (const workload::Piece& piece : prompt) {
    beginning.Add(piece);
    const size_t blocks = beginning.tokens / block_size_tokens_;
    if (blocks < done + kLeastBlocks) continue;
    if (blocks > keys.blocks.size()) break;  // longer than the producer looks at
    if (Find(beginning.name) == nullptr) {
      Add(beginning.name, Keys(keys.blocks.begin() + static_cast<ptrdiff_t>(done),
                               keys.blocks.begin() + static_cast<ptrdiff_t>(blocks)));
    }
    done = blocks;
  }
}

const KeyMemo::Keys* KeyMemo::Find(uint64_t name) {
  if (const auto it = young_.find(name); it != young_.end()) return &it->second;
  const auto it = old_.find(name);
  if (it == old_.end()) return nullptr;
  Keys keys = std::move(it->second);
  old_.erase(it);
  old_keys_ -= keys.size();
  Add(name, std::move(keys));
  return &young_.find(name)->second;
}

void KeyMemo::Add(uint64_t name, Keys keys) {
  if (young_keys_ + keys.size() > max_keys_ && !young_.empty()) {
    old_ = std::exchange(young_, {});
    old_keys_ = std::exchange(young_keys_, 0);
  }
  young_keys_ += keys.size();
  young_.insert_or_assign(name, std::move(keys));
}

}  // namespace penstock::lab
