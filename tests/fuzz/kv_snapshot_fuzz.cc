// Any bytes as a snapshot, and as one publisher's blocks: refused, or taken by a holder that then
// goes on; nothing breaks, and when it has left nothing is left of it.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "kvcache/holder.h"
#include "kvcache/snapshot.h"

namespace {

using namespace penstock::kvcache;  // NOLINT

constexpr uint32_t kBlock = 4;
constexpr penstock::Time kNow{};

void Check(bool holds) {
  if (!holds) std::abort();
}

void Restore(const ContentKeys& keys, std::string_view blocks) {
  ChainIndex index({.block_tokens = kBlock, .max_slots = 2, .max_bytes = 1'000'000});
  {
    Holder holder(index, keys, *index.Join(), {.model = "m"});
    if (!holder.Restore(blocks, kNow)) {
      Check(holder.blocks() == 0 && holder.gpu_blocks() == 0 && index.segments() == 0);
    }
    std::vector<uint64_t> hashes(8);
    for (uint64_t i = 0; i < hashes.size(); ++i) hashes[i] = i;
    std::vector<uint32_t> tokens(hashes.size() * 3, 1);
    holder.Apply(
        {.type = KvEvent::Type::kStored, .block_size = 3, .hashes = hashes, .tokens = tokens},
        kNow);
    holder.Apply({.type = KvEvent::Type::kRemoved, .hashes = hashes}, kNow);
    holder.MarkGap(kNow);
    std::string again;
    holder.Save(kNow, &again);
    Holder other(index, keys, *index.Join(), {.model = "m"});
    Check(other.Restore(again, kNow).has_value());
    holder.Tend(kNow + penstock::seconds(1000), 100);
  }
  index.Collect();
  Check(index.slots() == 0 && index.segments() == 0 && index.garbage_bytes() == 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const ContentKeys keys("the secret of the fuzzer", kBlock);
  if (auto snapshot = DecodeSnapshot(keys, bytes, 1 << 20)) {
    for (const SavedPublisher& publisher : snapshot->publishers) Restore(keys, publisher.blocks);
  } else {
    Check(!snapshot.error().message.empty());
  }
  Restore(keys, bytes);
  if (size % 16 != 0) return 0;  // compressing takes most of the time
  size_t left_out = 0;
  const auto whole =
      EncodeSnapshot(keys, {.publishers = {{.blocks = std::string(bytes)}}}, 1 << 20, &left_out);
  Check(whole && DecodeSnapshot(keys, *whole, 1 << 20).has_value());
  return 0;
}
