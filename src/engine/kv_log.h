// From the blocks that one engine stores and removes to batches of KV events, with the tokens that
// the engine itself does not know.
//
// THREADS: loop-bound, as the engine. OWNS: a batch that grows, and what the requests that run
// hold. SOURCE: vLLM v1/core/block_pool.py for when an event is made and what it says.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/block_listener.h"

namespace penstock::engine {

// How events are written: as vLLM up to 0.25 and SGLang, or as vLLM since 0.26.
enum class KvEncoding : uint8_t { kArray, kMap };

// What the blocks of a request will hold: its prompt and its answer.
struct KvContent {
  std::vector<uint64_t> hashes;  // of its full blocks
  std::vector<uint32_t> tokens;
  std::string adapter;  // "": the base model
  std::string salt;     // "": none
};

class KvLog : public BlockListener {
 public:
  KvLog(KvEncoding encoding, uint32_t block_size) : encoding_(encoding), block_size_(block_size) {}

  // A request begins, and ends. Its blocks may be stored in between.
  void Begin(std::shared_ptr<const KvContent> content);
  void End(const KvContent& content);

  void OnStored(uint64_t hash, Memory memory) override;
  void OnRemoved(uint64_t hash, Memory memory) override;
  // All blocks were removed at once; what is told of single ones before is left out.
  void OnCleared();

  bool empty() const { return events_.empty(); }
  // The batch so far, which is over with it. `timestamp`: seconds since 1970.
  std::string Take(double timestamp);

 private:
  struct Event {
    enum class Type : uint8_t { kStored, kRemoved, kCleared };
    Type type;
    Memory memory;
    std::vector<uint64_t> hashes;
    std::shared_ptr<const KvContent> content;  // kStored in the GPU's memory
    uint32_t first = 0;                        // block of the content
  };
  struct Place {
    std::shared_ptr<const KvContent> content;  // of any of those who have it
    uint32_t block;
    uint32_t users;
  };
  // The one that is open, if it is such and goes on.
  Event& Open(Event::Type type, Memory memory);
  void Append(const Event& event, std::string* out) const;
  void AppendStored(const Event& event, std::string* out) const;

  const KvEncoding encoding_;
  const uint32_t block_size_;
  boost::unordered_flat_map<uint64_t, Place> places_;  // by hash
  std::vector<Event> events_;
};

}  // namespace penstock::engine
