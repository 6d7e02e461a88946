#include "lab/prompts.h"

#include <algorithm>
#include <cstring>

namespace penstock::lab {
namespace {

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Chains the hashes of blocks over the pieces that it is given one after the other.
class Chain {
 public:
  Chain(uint32_t block_size, uint64_t root, std::vector<uint64_t>* out)
      : block_size_(block_size), hash_(root), out_(out) {}

  void Add(const workload::Piece& piece) {
    if (piece.tokens == 0) return;
    // Which text it is, behind which; where in it a block ends says which tokens it has. Counting
    // up costs less than hashing on, and a cache that keeps neighbours together (BlockPool) gains.
    const uint64_t text = Mix(hash_ + Mix(piece.content));
    const uint64_t blocks = (uint64_t{fill_} + piece.tokens) / block_size_;
    for (uint64_t i = 0; i < blocks; ++i) out_->push_back(text + i);
    fill_ = static_cast<uint32_t>((uint64_t{fill_} + piece.tokens) % block_size_);
    hash_ = Mix(~text + piece.tokens);
  }

 private:
  const uint32_t block_size_;
  uint64_t hash_;  // of all pieces so far
  uint32_t fill_ = 0;
  std::vector<uint64_t>* out_;
};

}  // namespace

void RenderPrompt(std::span<const workload::Piece> prompt, std::string* bytes) {
  uint64_t tokens = 0;
  for (const workload::Piece& piece : prompt) tokens += piece.tokens;
  bytes->resize(tokens * 4);
  char* at = bytes->data();
  for (const workload::Piece& piece : prompt) {
    const uint64_t text = Mix(piece.content + 0x9e3779b97f4a7c15ULL);
    const auto low = static_cast<uint32_t>(text);
    const auto high = static_cast<uint32_t>(text >> 32);
    for (uint32_t i = 0; i < piece.tokens; ++i, at += 4) {
      const uint32_t token = ((i & 1) != 0 ? high : low) ^ (i * 0x9e3779b1U);
      std::memcpy(at, &token, sizeof(token));
    }
  }
}

std::vector<uint64_t> BlockHashes(const workload::Job& job, uint32_t block_size, uint64_t root) {
  std::vector<uint64_t> hashes;
  hashes.reserve((job.prompt_tokens() + job.output_tokens) / block_size);
  Chain chain(block_size, root, &hashes);
  for (const workload::Piece& piece : job.prompt) chain.Add(piece);
  chain.Add({job.output_content, job.output_tokens});
  return hashes;
}

}  // namespace penstock::lab
