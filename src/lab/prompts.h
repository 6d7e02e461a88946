// What a job's pieces mean to those who hash: bytes for the director's plugins, block hashes for
// the engine. Equal pieces give equal bytes and hashes, different content different ones.
//
// THREADS: pure functions. COST: 1 ns a token for the bytes, 10 ns a block for the hashes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "workload/workload.h"

namespace penstock::lab {

// Four bytes for each token, as token ids are packed; replaces what `bytes` held.
void RenderPrompt(std::span<const workload::Piece> prompt, std::string* bytes);

// The chained hashes of the full blocks of prompt and answer. `root`: adapter and salt.
// REQUIRES: block_size > 0.
std::vector<uint64_t> BlockHashes(const workload::Job& job, uint32_t block_size, uint64_t root);

}  // namespace penstock::lab
