#include "kvcache/prompt_extras.h"

#include <algorithm>

#include "kvcache/content_keys.h"

namespace penstock::kvcache {
namespace {

// Of the engine's blocks of the first `tokens` tokens.
std::vector<uint64_t> EngineExtras(std::span<const model::MediaSpan> media, std::string_view salt,
                                   uint64_t block_tokens, uint64_t tokens) {
  std::vector<uint64_t> extras((tokens + block_tokens - 1) / block_tokens, 0);
  size_t first = 0;  // that does not end before the block
  for (size_t i = 0; i < extras.size(); ++i) {
    const uint64_t begin = i * block_tokens;
    while (first < media.size() && uint64_t{media[first].offset} + media[first].length <= begin) {
      ++first;
    }
    for (size_t k = first; k < media.size() && media[k].offset < begin + block_tokens; ++k) {
      extras[i] = ContentKeys::FoldName(extras[i], media[k].name);
    }
  }
  if (!salt.empty() && !extras.empty()) extras[0] = ContentKeys::FoldName(extras[0], salt);
  return extras;
}

}  // namespace

std::vector<uint64_t> PromptExtras(std::span<const model::MediaSpan> media, std::string_view salt,
                                   const BlockSizes& sizes, size_t blocks) {
  const uint64_t index = sizes.index_tokens, engine = sizes.engine_tokens;
  uint64_t end = salt.empty() ? 0 : engine;
  if (!media.empty()) {
    end = std::max(end, uint64_t{media.back().offset} + media.back().length);
  }
  end = std::min(end, blocks * index);
  if (end == 0) return {};
  const std::vector<uint64_t> of_engine = EngineExtras(media, salt, engine, end);
  // The engine's last block may reach further.
  const uint64_t reach = std::max(end, of_engine.size() * engine);
  std::vector<uint64_t> extras(std::min<uint64_t>(blocks, (reach + index - 1) / index), 0);
  for (size_t i = 0; i < extras.size(); ++i) {
    for (uint64_t k = i * index / engine; k < of_engine.size() && k * engine < (i + 1) * index;
         ++k) {
      extras[i] = ContentKeys::FoldExtras(extras[i], of_engine[k]);
    }
  }
  return extras;
}

}  // namespace penstock::kvcache
