// Hears which KV blocks an engine holds, as they come and go: what real engines publish as KV
// events.
//
// THREADS: called by the engine's owner, within the engine's methods; must not call it back.
#pragma once

#include <cstdint>

namespace penstock::engine {

enum class Memory : uint8_t { kGpu, kHost };

class BlockListener {
 public:
  virtual ~BlockListener() = default;
  // A full block of this content (block_hash.h) can be found from now on. Another copy of what is
  // there is not told.
  virtual void OnStored(uint64_t hash, Memory memory) = 0;
  virtual void OnRemoved(uint64_t hash, Memory memory) = 0;
};

}  // namespace penstock::engine
