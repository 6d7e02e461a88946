#include "lab/prompts.h"

#include <algorithm>
#include <cstring>

#include "model/request.h"

namespace penstock::lab {
namespace {

static_assert(model::kBytesPerToken == sizeof(uint32_t));

// Four words at once, which every processor that we build for can do: a fifth of the time.
typedef uint32_t Words __attribute__((vector_size(16)));
constexpr uint32_t kStep = 0x9e3779b1U;  // from token to token

// Text `text` up to `tokens`; returns its end. Token i is half a text's name, the lower one where i
// is even, with i * kStep.
char* RenderText(uint64_t text, uint32_t tokens, char* at) {
  const auto low = static_cast<uint32_t>(text);
  const auto high = static_cast<uint32_t>(text >> 32);
  const Words halves = {low, high, low, high};
  Words steps = {0, kStep, 2 * kStep, 3 * kStep};
  const uint32_t whole = tokens / 4 * 4;
  for (uint32_t i = 0; i < whole; i += 4, at += sizeof(Words)) {
    const Words words = halves ^ steps;
    std::memcpy(at, &words, sizeof(words));
    steps += 4 * kStep;
  }
  const Words words = halves ^ steps;
  const size_t rest = (tokens - whole) * sizeof(uint32_t);
  std::memcpy(at, &words, rest);
  return at + rest;
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
  bytes->resize(tokens * model::kBytesPerToken);
  char* at = bytes->data();
  for (const workload::Piece& piece : prompt) {
    at = RenderText(Mix(piece.content + 0x9e3779b97f4a7c15ULL), piece.tokens, at);
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
