// One KV cache event of an engine, as data: what was stored, removed or cleared.
//
// THREADS: plain data. The spans point into the decoder's buffers, until its next batch.
// SOURCE: vLLM's vllm/distributed/kv_events.py, SGLang's kv_events.py, Dynamo's and ATOM's
// extensions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace penstock::kvcache {

// Where a block lies, fastest first.
enum class Tier : uint8_t { kGpu, kCpu, kDisk, kStorage };
inline constexpr size_t kTiers = 4;

// How a group of layers uses its blocks: by all of the prefix, by the last tokens of it, or by a
// checkpoint at its end.
enum class CacheKind : uint8_t { kUnknown, kFull, kWindow, kCheckpoint, kOther };

struct KvEvent {
  enum class Type : uint8_t { kStored, kRemoved, kCleared };

  Type type = Type::kCleared;
  Tier tier = Tier::kGpu;
  CacheKind kind = CacheKind::kUnknown;
  bool remote = false;  // not private to the engine that tells: shared storage
  uint16_t group = 0;   // of layers, in hybrid models
  bool has_group = false;
  uint32_t window_tokens = 0;
  uint32_t block_size = 0;  // tokens per hash; 0: not told

  // The engine's handles, in chain order. Bytes longer than eight are hashed to 64 bits.
  std::span<const uint64_t> hashes;
  std::optional<uint64_t> parent;  // the block before the first one; none at the root
  // Of all blocks, one after the other; empty where only a place changes (offload).
  std::span<const uint32_t> tokens;
  // Per block what else its content depends on (images), folded; empty: nothing.
  std::span<const uint64_t> extras;
  std::string_view adapter;  // LoRA name; empty: the base model
  std::string_view salt;     // cache_salt of the first block; empty: none, or as the parent's
  std::optional<uint64_t> token_offset;  // of the first token, where the engine tells it
};

}  // namespace penstock::kvcache
