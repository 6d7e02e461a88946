// The keys of a prompt's blocks: each key follows from the bytes of its block and the key before
// it, so that equal keys mean equal prompts up to and including the block.
//
// COST: about 25 ns per block of 256 bytes; one short allocation where a block spans parts of the
// prompt. SOURCE: vLLM's prefix caching and llm-d's approximate prefix plugin, with XXH3 for the
// hash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "model/request.h"

namespace penstock::kvcache {

// What a chain of keys starts from. Other models, salts or block sizes give other keys.
uint64_t KeySeed(std::string_view model, std::string_view cache_salt, size_t block_bytes);

// Appends the keys of every prompt of a request to `keys`, and to `sequence_ends` where each prompt
// ends there. A block may span parts; the last block of a prompt may be shorter. At most
// `max_blocks` keys per prompt; the rest of it is ignored. Keys that are there behind the last
// sequence's end are those of the first prompt's first blocks, all of them full, and the rest
// follows from them.
// REQUIRES: block_bytes > 0; no more keys are there than the first prompt has full blocks
// and than max_blocks.
void AppendBlockKeys(std::span<const model::PromptPart> prompt, uint64_t seed, size_t block_bytes,
                     size_t max_blocks, std::vector<uint64_t>* keys,
                     std::vector<uint32_t>* sequence_ends);

}  // namespace penstock::kvcache
