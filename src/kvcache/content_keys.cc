#include "kvcache/content_keys.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <bit>
#include <string>

namespace penstock::kvcache {

static_assert(std::endian::native == std::endian::little, "token ids are hashed as they lie");

ContentKeys::ContentKeys(std::string_view secret, uint32_t block_tokens)
    : block_tokens_(block_tokens) {
  XXH3_generateSecret(secret_.data(), secret_.size(), secret.data(), secret.size());
}

uint64_t ContentKeys::Namespace(std::string_view model_or_adapter,
                                std::string_view cache_salt) const {
  const uint64_t length = model_or_adapter.size();  // so that no two pairs give the same bytes
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof length);
  bytes.append(model_or_adapter).append(cache_salt);
  return XXH3_64bits_withSecret(bytes.data(), bytes.size(), secret_.data(), secret_.size());
}

uint64_t ContentKeys::GroupNamespace(uint64_t name_space, uint16_t group) {
  return XXH3_64bits_withSeed(&name_space, sizeof name_space, uint64_t{1} + group);
}

uint64_t ContentKeys::Key(std::span<const uint32_t> tokens, uint64_t extras) const {
  const uint64_t key =
      XXH3_64bits_withSecret(tokens.data(), tokens.size_bytes(), secret_.data(), secret_.size());
  if (extras == 0) return key;
  const uint64_t both[2] = {key, extras};
  return XXH3_64bits_withSecret(both, sizeof both, secret_.data(), secret_.size());
}

void ContentKeys::Append(std::span<const uint32_t> tokens, std::span<const uint64_t> extras,
                         std::vector<uint64_t>* keys) const {
  const size_t blocks = tokens.size() / block_tokens_;
  keys->reserve(blocks);
  for (size_t i = keys->size(); i < blocks; ++i) {
    keys->push_back(
        Key(tokens.subspan(i * block_tokens_, block_tokens_), i < extras.size() ? extras[i] : 0));
  }
}

uint64_t ContentKeys::FoldExtras(uint64_t folded, uint64_t next) {
  if (folded == 0 || next == 0 || folded == next) return folded | next;
  const uint64_t both[2] = {folded, next};
  const uint64_t hash = XXH3_64bits(both, sizeof both);
  return hash == 0 ? 1 : hash;
}

uint64_t ContentKeys::FoldName(uint64_t folded, std::string_view name) {
  return XXH3_64bits_withSeed(name.data(), name.size(), folded + 1);
}

}  // namespace penstock::kvcache
