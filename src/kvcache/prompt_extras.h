// What the content of a prompt's blocks depends on beside its tokens, as an engine's events tell
// it: the names of images and, in the engine's first block, a salt that looks like such a name.
//
// Events give the names of an engine's block; the index has blocks of its own. A larger block of
// the engine gives all of its index blocks its names, smaller ones give theirs together. So engines
// of several block sizes do not meet in blocks with images: what is asked for is found where blocks
// are of the size that is asked with, and not elsewhere.
//
// THREADS: functions without state. COST: linear in the blocks up to the end of the last image.
// SOURCE: vLLM's generate_block_hash_extra_keys and to_event_extra_keys; Holder::LooseExtras.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "model/request.h"

namespace penstock::kvcache {

struct BlockSizes {
  uint32_t index_tokens = 16;
  uint32_t engine_tokens = 16;
};

// For each of at most `blocks` index blocks, none behind the last that has something. `media` in
// order and without overlap. `salt`: PlaceOfSalt folds it; "" otherwise. REQUIRES: sizes > 0.
std::vector<uint64_t> PromptExtras(std::span<const model::MediaSpan> media, std::string_view salt,
                                   const BlockSizes& sizes, size_t blocks);

}  // namespace penstock::kvcache
