#include "kvcache/exact_caches.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>
#include <thread>

#include "kvcache/holder.h"

namespace penstock::kvcache {
namespace {

constexpr uint32_t kBlock = 4;
constexpr size_t kBlocks = 20;

class ExactCachesTest : public ::testing::Test {
 protected:
  ExactCachesTest() {
    std::iota(tokens.begin(), tokens.end(), 100);
    std::iota(hashes.begin(), hashes.end(), 1);
  }
  std::vector<uint64_t> Keys() const {
    std::vector<uint64_t> made;
    caches.keys().Append(tokens, {}, &made);
    return made;
  }
  KvEvent Stored(size_t first, size_t blocks) const {
    return {.type = KvEvent::Type::kStored,
            .block_size = kBlock,
            .hashes = std::span(hashes).subspan(first, blocks),
            .parent = first == 0 ? std::nullopt : std::optional(hashes[first - 1]),
            .tokens = std::span(tokens).subspan(first * kBlock, blocks * kBlock)};
  }

  ExactCaches caches{{.index = {.block_tokens = kBlock, .max_slots = 8}}};
  std::vector<uint32_t> tokens = std::vector<uint32_t>(kBlocks * kBlock);
  std::vector<uint64_t> hashes = std::vector<uint64_t>(kBlocks);
};

TEST_F(ExactCachesTest, AnswersWhileBlocksComeAndGo) {
  const ChainIndex::Slot slot = *caches.index().Join();
  auto table = std::make_shared<SlotTable>();
  table->entries.push_back({true, slot, nullptr});
  Holder holder(caches.index(), caches.keys(), slot, {});
  std::atomic<bool> is_over{false};
  std::atomic<uint64_t> answers{0}, wrong{0};
  const std::vector<uint64_t> keys = Keys();
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      while (!is_over.load()) {
        ExactCaches::Asking asking(caches);
        const bool is_known = !asking.table().entries.empty();
        const auto holds = asking.Match(caches.keys().Namespace("", ""), keys);
        const uint32_t held = is_known && slot.index < holds.size() ? holds[slot.index].blocks : 0;
        if (held > kBlocks) wrong.fetch_add(1);
        answers.fetch_add(1);
      }
    });
  }
  for (int round = 0; round < 200 || answers.load() < 1000; ++round) {
    for (size_t i = 0; i < kBlocks; i += 5) holder.Apply(Stored(i, 5), Time{});
    caches.SetTable(round % 2 == 0 ? table : std::make_shared<SlotTable>());
    holder.Apply({.type = KvEvent::Type::kCleared}, Time{});
  }
  holder.Apply(Stored(0, kBlocks), Time{});
  is_over.store(true);
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong.load(), 0u);
  {
    ExactCaches::Asking asking(caches);
    EXPECT_EQ(asking.Match(caches.keys().Namespace("", ""), keys)[slot.index].blocks, kBlocks);
    EXPECT_EQ(asking.Match(caches.keys().Namespace("", "salt"), keys)[slot.index].blocks, 0u);
  }
  while (!holder.Leave(std::numeric_limits<size_t>::max())) {
  }
  EXPECT_EQ(caches.index().slots(), 0u);
}

TEST_F(ExactCachesTest, SecretsDiffer) {
  const ExactCaches other({.index = {.block_tokens = kBlock}});
  std::vector<uint64_t> made;
  other.keys().Append(tokens, {}, &made);
  EXPECT_NE(made, Keys()) << "nobody else can make our keys";
  const ExactCaches first({.index = {.block_tokens = kBlock}, .secret = "shared by two routers"});
  const ExactCaches second({.index = {.block_tokens = kBlock}, .secret = "shared by two routers"});
  EXPECT_EQ(first.keys().Namespace("m", "s"), second.keys().Namespace("m", "s"));
}

TEST_F(ExactCachesTest, DriftIsToldToWhoListens) {
  std::vector<std::pair<uint32_t, bool>> told;
  caches.TellDrift(1, true);  // nobody listens
  caches.SetDriftSink([&](uint32_t slot, bool differs) { told.emplace_back(slot, differs); });
  caches.TellDrift(2, true);
  caches.TellDrift(2, false);
  caches.SetDriftSink({});
  caches.TellDrift(3, true);
  EXPECT_EQ(told, (std::vector<std::pair<uint32_t, bool>>{{2, true}, {2, false}}));
}

}  // namespace
}  // namespace penstock::kvcache
