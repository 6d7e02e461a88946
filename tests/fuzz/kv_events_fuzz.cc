// Any bytes as a batch of KV events: whatever comes out is within bounds and fits together.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "kvcache/event_decoder.h"

namespace {

using namespace penstock::kvcache;

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  EventDecoder decoder;
  const std::string_view payload(reinterpret_cast<const char*>(data), size);
  Check(decoder.Begin(payload) == decoder.ok());
  if (decoder.ok()) decoder.FindRank();
  uint64_t sum = 0;
  for (KvEvent event; decoder.Next(&event);) {
    Check(event.hashes.size() <= EventDecoder::kMaxBlocks && event.hashes.size() <= size);
    Check((event.type == KvEvent::Type::kCleared) == event.hashes.empty());
    Check(event.tokens.empty() || event.tokens.size() == event.hashes.size() * event.block_size);
    Check(event.extras.empty() || event.extras.size() == event.hashes.size());
    for (const uint64_t hash : event.hashes) sum += hash;
    for (const uint32_t token : event.tokens) sum += token;
    for (const uint64_t extra : event.extras) sum += extra;
    sum += event.adapter.size() + event.salt.size();
    if (!event.adapter.empty()) sum += static_cast<uint8_t>(event.adapter.front());
  }
  if (!decoder.ok()) Check(!decoder.Complaint().empty());
  return sum == 42 ? 0 : 0;
}
