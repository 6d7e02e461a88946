#include "tokens/token_cache.h"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <boost/unordered/unordered_flat_map.hpp>
#include <list>
#include <string>
#include <utility>

#include "core/mutex.h"

namespace penstock::tokens {

struct TokenCache::Key {
  uint64_t low = 0;
  uint64_t high = 0;
  bool operator==(const Key&) const = default;
};

// The tokens between the cut of the block before and this block's.
struct TokenCache::Entry {
  size_t begin = 0;  // of the text
  Cut cut;           // cut.tokens counts from the text's begin
  std::vector<uint32_t> tokens;

  // With what list, map and allocator need beside it.
  size_t bytes() const { return sizeof(Entry) + tokens.size() * sizeof(uint32_t) + 160; }
};

struct TokenCache::Part {
  struct Used {
    Key key;
    std::shared_ptr<const Entry> entry;
  };
  struct Hash {
    size_t operator()(const Key& key) const { return key.low; }
  };

  mutable Mutex mutex;                     // requests on all loops share the cache
  std::list<Used> used GUARDED_BY(mutex);  // the latest first
  boost::unordered_flat_map<Key, std::list<Used>::iterator, Hash> entries GUARDED_BY(mutex);
  size_t bytes GUARDED_BY(mutex) = 0;
  uint64_t evicted GUARDED_BY(mutex) = 0;
};

TokenCache::TokenCache(const Tokenizer& tokenizer, size_t max_bytes, uint64_t secret)
    : tokenizer_(tokenizer),
      max_part_bytes_(max_bytes / kParts),
      secret_(secret),
      parts_(std::make_unique<Part[]>(kParts)) {}

TokenCache::~TokenCache() = default;

std::vector<TokenCache::Key> TokenCache::KeysOf(std::string_view text) const {
  std::vector<Key> keys;
  keys.reserve(text.size() / kBlockBytes);
  XXH3_state_t state;
  XXH3_128bits_reset_withSeed(&state, secret_);
  for (size_t at = 0; at + kBlockBytes <= text.size(); at += kBlockBytes) {
    XXH3_128bits_update(&state, text.data() + at, kBlockBytes);
    const XXH128_hash_t hash = XXH3_128bits_digest(&state);
    keys.push_back({hash.low64, hash.high64});
  }
  return keys;
}

std::shared_ptr<const TokenCache::Entry> TokenCache::Find(const Key& key) {
  Part& part = parts_[key.high % kParts];
  const MutexLock lock(part.mutex);
  const auto found = part.entries.find(key);
  if (found == part.entries.end()) return nullptr;
  return found->second->entry;
}

void TokenCache::Touch(const Key& key) {
  Part& part = parts_[key.high % kParts];
  const MutexLock lock(part.mutex);
  const auto found = part.entries.find(key);
  if (found != part.entries.end()) {
    part.used.splice(part.used.begin(), part.used, found->second);
  }
}

void TokenCache::Store(const Key& key, std::shared_ptr<const Entry> entry) {
  const size_t bytes = entry->bytes();
  if (bytes > max_part_bytes_) return;
  std::list<Part::Used> gone;  // freed after the lock
  Part& part = parts_[key.high % kParts];
  const MutexLock lock(part.mutex);
  const auto [place, is_new] = part.entries.try_emplace(key);
  if (!is_new) {
    Part::Used& used = *place->second;
    if (used.entry->begin == entry->begin) return;  // another thread was faster with the same
    // It went on from a block that was evicted, and whose successor was cut elsewhere.
    part.bytes -= used.entry->bytes();
    gone.splice(gone.begin(), part.used, place->second);
  }
  part.used.push_front({key, std::move(entry)});
  place->second = part.used.begin();
  part.bytes += bytes;
  while (part.bytes > max_part_bytes_) {
    part.bytes -= part.used.back().entry->bytes();
    part.entries.erase(part.used.back().key);
    gone.splice(gone.begin(), part.used, std::prev(part.used.end()));
    ++part.evicted;
  }
}

// Stores the blocks from number `known` on. `from` is the cut that was gone on from, `cuts` are
// those behind it in order; their counts index `tokens`.
void TokenCache::StoreBlocks(const std::vector<Key>& keys, size_t known, Cut from,
                             const std::vector<Cut>& cuts, const std::vector<uint32_t>& tokens) {
  std::vector<std::shared_ptr<const Entry>> entries;
  size_t next = 0;
  for (size_t block = known; block < keys.size(); ++block) {
    const size_t end = (block + 1) * kBlockBytes;
    Cut last = from;
    while (next < cuts.size() && cuts[next].settled <= end) last = cuts[next++];
    auto entry = std::make_shared<Entry>();
    entry->begin = from.offset;
    entry->cut = last;
    entry->tokens.assign(tokens.begin() + static_cast<ptrdiff_t>(from.tokens),
                         tokens.begin() + static_cast<ptrdiff_t>(last.tokens));
    entries.push_back(std::move(entry));
    from = last;
  }
  // The first blocks are to outlive those behind them, which are worth nothing alone; and what is
  // new shall not push out what it goes on from.
  const auto touch_known = [&] {
    for (size_t block = known; block > 0; --block) Touch(keys[block - 1]);
  };
  touch_known();
  if (entries.empty()) return;
  for (; !entries.empty(); entries.pop_back()) {
    Store(keys[known + entries.size() - 1], std::move(entries.back()));
  }
  touch_known();
}

Result<> TokenCache::Encode(std::string_view text, SpecialTokens special,
                            std::vector<uint32_t>* tokens) {
  if (text.size() > Tokenizer::kMaxTextBytes) return tokenizer_.Encode(text, special, tokens);
  std::string scratch;
  text = AsUtf8(text, &scratch);
  const std::vector<Key> keys = KeysOf(text);
  std::vector<std::shared_ptr<const Entry>> known;
  Cut from;
  size_t known_tokens = 0;
  for (const Key& key : keys) {
    auto entry = Find(key);
    if (entry == nullptr || entry->begin != from.offset) break;
    from = entry->cut;
    known_tokens += entry->tokens.size();
    known.push_back(std::move(entry));
  }

  const size_t before = tokens->size();
  tokens->reserve(before + known_tokens + (text.size() - from.offset) / 3 + 16);
  if (special == SpecialTokens::kAdd) {
    tokens->insert(tokens->end(), tokenizer_.prefix().begin(), tokenizer_.prefix().end());
  }
  for (const auto& entry : known) {
    tokens->insert(tokens->end(), entry->tokens.begin(), entry->tokens.end());
  }
  from.tokens = tokens->size();
  std::vector<Cut> cuts;
  const bool is_new = known.size() < keys.size();
  auto done =
      tokenizer_.EncodeFrom(text, from.offset, from.is_in_text, tokens, is_new ? &cuts : nullptr);
  if (!done) {
    tokens->resize(before);
    return done;
  }
  StoreBlocks(keys, known.size(), from, cuts, *tokens);
  if (special == SpecialTokens::kAdd) {
    tokens->insert(tokens->end(), tokenizer_.suffix().begin(), tokenizer_.suffix().end());
  }
  texts_.fetch_add(1, std::memory_order_relaxed);
  text_bytes_.fetch_add(text.size(), std::memory_order_relaxed);
  reused_bytes_.fetch_add(from.offset, std::memory_order_relaxed);
  return {};
}

TokenCache::Stats TokenCache::stats() const {
  Stats stats;
  stats.texts = texts_.load(std::memory_order_relaxed);
  stats.text_bytes = text_bytes_.load(std::memory_order_relaxed);
  stats.reused_bytes = reused_bytes_.load(std::memory_order_relaxed);
  for (size_t i = 0; i < kParts; ++i) {
    const Part& part = parts_[i];
    const MutexLock lock(part.mutex);
    stats.entries += part.entries.size();
    stats.bytes += part.bytes;
    stats.evicted += part.evicted;
  }
  return stats;
}

}  // namespace penstock::tokens
