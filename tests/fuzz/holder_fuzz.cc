// Any sequence of events at two publishers: nothing breaks, counts agree, and when they have left
// nothing is left of them.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "kvcache/holder.h"

namespace {

using namespace penstock::kvcache;  // NOLINT

void Check(bool holds) {
  if (!holds) std::abort();
}

struct Bytes {
  const uint8_t* data;
  size_t size;
  uint8_t Next() {
    if (size == 0) return 0;
    --size;
    return *data++;
  }
};

// A few hashes and tokens only, so that events meet.
KvEvent MakeEvent(Bytes& bytes, std::vector<uint64_t>& hashes, std::vector<uint32_t>& tokens,
                  std::vector<uint64_t>& extras) {
  KvEvent event;
  const uint8_t what = bytes.Next();
  event.type = what % 16 == 0  ? KvEvent::Type::kCleared
               : what % 3 == 0 ? KvEvent::Type::kRemoved
                               : KvEvent::Type::kStored;
  event.tier = static_cast<Tier>(what >> 4 & 3);
  event.remote = what == 255;
  const uint8_t more = bytes.Next();
  event.has_group = (more & 1) != 0;
  event.group = more >> 1 & 3;
  event.kind = static_cast<CacheKind>((more >> 3 & 7) % 5);
  event.window_tokens = more;
  constexpr uint32_t kSizes[] = {0, 1, 3, 4, 6, 8, 16, 5};
  event.block_size = kSizes[more >> 5];
  if ((what & 64) != 0) event.salt = "s";
  if ((what & 128) != 0) event.parent = bytes.Next() % 32;
  hashes.clear();
  for (size_t n = bytes.Next() % 40; n > 0; --n) hashes.push_back(bytes.Next() % 64);
  tokens.clear();
  if (more % 7 != 0) {
    const uint8_t token = bytes.Next();
    for (size_t i = 0; i < hashes.size() * event.block_size; ++i) {
      tokens.push_back(token / 2 + (i > token ? 1U : 0U));
    }
  }
  extras.clear();
  if (what % 5 == 0) extras.assign(hashes.size(), what % 2);
  event.hashes = hashes;
  event.tokens = tokens;
  event.extras = extras;
  return event;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const ContentKeys keys("the secret of the fuzzer", 4);
  ChainIndex index({.block_tokens = 4, .max_slots = 4, .max_bytes = 200'000});
  Bytes bytes{data, size};
  {
    std::vector<std::unique_ptr<Holder>> holders;
    Holder::Options options;
    options.model = "m";
    options.max_orphan_bytes = 5000;
    for (int i = 0; i < 2; ++i) {
      holders.push_back(std::make_unique<Holder>(index, keys, *index.Join(), options));
    }
    ChainIndex::Reader reader(index);
    std::vector<PrefixHold> holds(2);
    std::vector<uint64_t> hashes;
    std::vector<uint32_t> tokens;
    std::vector<uint64_t> extras;
    penstock::Time now{};
    while (bytes.size > 0) {
      Holder& holder = *holders[bytes.Next() % 2];
      const uint8_t step = bytes.Next();
      now += penstock::seconds(step % 8);
      if (step == 250) holder.MarkGap(now);
      if (step == 251) holder.SetCapacity(bytes.Next());
      if (step == 252) holder.Tend(now + penstock::seconds(10 * bytes.Next()), 20);
      holder.Apply(MakeEvent(bytes, hashes, tokens, extras), now);
      std::vector<uint64_t> prompt;
      keys.Append(tokens, {}, &prompt);
      reader.Match(keys.Namespace("m", ""), prompt, holds);
      for (const PrefixHold& hold : holds) {
        Check(hold.blocks <= prompt.size() && hold.gpu <= hold.blocks && hold.sure <= hold.blocks);
        Check(hold.reusable <= hold.blocks);
        Check(hold.in_tier[0] + hold.in_tier[1] + hold.in_tier[2] + hold.in_tier[3] == hold.blocks);
      }
      Check(holder.bytes() < 10'000'000);
    }
  }
  index.Collect();
  Check(index.slots() == 0 && index.segments() == 0 && index.garbage_bytes() == 0);
  return 0;
}
