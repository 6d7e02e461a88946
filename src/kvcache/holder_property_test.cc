// Random publishers against plain maps, with readers at work all the while.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <thread>

#include "core/random.h"
#include "kvcache/holder.h"
#include "kvcache/holder_model_testing.h"

namespace penstock::kvcache {
namespace {

constexpr uint32_t kIndexTokens = 16;
constexpr Time kNow{};

// Prompts that share beginnings: which way it goes on is chosen anew every 40 tokens.
void Grow(Random& random, size_t tokens, std::vector<uint32_t>* path) {
  for (size_t i = 0; i < tokens; ++i) {
    const auto at = static_cast<uint32_t>(path->size());
    const uint32_t way = at % 40 == 0 ? static_cast<uint32_t>(random.Below(3)) : path->back() % 3;
    path->push_back(at * 3 + way);
  }
}

struct Known {
  uint64_t hash;
  uint64_t name_space_index;
  std::vector<uint32_t> path;
};

// A publisher, what it ought to hold, and what it has told so far.
class Publisher {
 public:
  Publisher(ChainIndex& index, const ContentKeys& keys, uint64_t seed, std::vector<uint32_t> sizes)
      : index_(index), keys_(keys), random_(seed), seed_(seed), sizes_(std::move(sizes)) {
    Join();
  }

  void Step() {
    const uint64_t dice = random_.Below(1000);
    if (dice < 450 || known_.empty()) {
      StoreSome();
    } else if (dice < 520) {
      AddTierToSome();
    } else if (dice < 985) {
      RemoveSome();
    } else if (dice < 990) {
      SaveAndRestore();
    } else if (dice < 997) {
      holder_->Apply({.type = KvEvent::Type::kCleared}, kNow);
      model_.Clear();
    } else {
      holder_.reset();
      model_.Clear();
      known_.clear();
      Join();
    }
  }

  void Check(std::span<const std::vector<uint32_t>> prompts, std::span<const uint64_t> spaces,
             ChainIndex::Reader& reader) const {
    const HolderModel::Held held = model_.AllHeld();
    std::vector<PrefixHold> holds(index_.slot_limit());
    std::vector<uint32_t> lengths(index_.slot_limit());
    for (const std::vector<uint32_t>& prompt : prompts) {
      std::vector<uint64_t> prompt_keys;
      keys_.Append(prompt, {}, &prompt_keys);
      for (const uint64_t space : spaces) {
        reader.Match(space, prompt_keys, holds);
        const PrefixHold& got = holds[holder_->slot().index];
        const std::vector<uint64_t> prefixes = model_.Prefixes(space, prompt);
        const PrefixHold want = model_.Match(held, prefixes);
        ASSERT_EQ(got.blocks, want.blocks) << "seed " << seed_;
        ASSERT_EQ(got, want) << "seed " << seed_;
        for (size_t tier = 0; tier < kTiers; ++tier) {
          reader.MatchTier(static_cast<Tier>(tier), space, prompt_keys, lengths);
          ASSERT_EQ(lengths[holder_->slot().index],
                    model_.MatchTier(held, prefixes, static_cast<Tier>(tier)))
              << "tier " << tier << " seed " << seed_;
        }
      }
    }
  }

  const Holder& holder() const { return *holder_; }
  const HolderModel& model() const { return model_; }
  const std::vector<uint32_t>& SomePath(Random& random) const {
    return known_[random.Below(known_.size())].path;
  }
  bool knows_some() const { return !known_.empty(); }

 private:
  void Join() {
    const auto slot = index_.Join();
    ASSERT_TRUE(slot);
    Holder::Options options;
    options.model = "m";
    options.max_orphan_bytes = uint64_t{1} << 30;
    holder_ = std::make_unique<Holder>(index_, keys_, *slot, options);
  }

  // Another holder goes on where this one was.
  void SaveAndRestore() {
    std::string saved;
    holder_->Save(kNow, &saved);
    const size_t blocks = holder_->blocks();
    holder_.reset();
    Join();
    const auto restored = holder_->Restore(saved, kNow);
    ASSERT_TRUE(restored) << restored.error().message;
    EXPECT_EQ(holder_->blocks(), blocks);
    std::string again;
    holder_->Save(kNow, &again);
    EXPECT_EQ(again.size(), saved.size());
    model_.DropParked();
  }

  Tier SomeTier() {
    return random_.Below(4) > 0 ? Tier::kGpu : static_cast<Tier>(random_.Below(kTiers));
  }

  void StoreSome() {
    HolderModel::Store store;
    store.block_tokens = sizes_[random_.Below(sizes_.size())];
    store.tier = SomeTier();
    const std::string salt = random_.Below(8) == 0 ? "s" : "";
    Known at{.hash = 0, .name_space_index = salt.size(), .path = {}};
    if (!known_.empty() && random_.Below(3) > 0) {
      at = known_[random_.Below(known_.size())];
      store.parent = at.hash;
    }
    const std::string_view told = at.name_space_index == 0 ? "" : "s";
    store.name_space = keys_.Namespace("m", told);
    const size_t before = at.path.size();
    const size_t count = 1 + random_.Below(random_.Below(4) == 0 ? 40 : 5);
    if (before + count * store.block_tokens > 1500) return;
    Grow(random_, count * store.block_tokens, &at.path);
    store.tokens.assign(at.path.begin() + static_cast<std::ptrdiff_t>(before), at.path.end());
    uint64_t hash = at.hash;
    for (size_t i = 0; i < count; ++i) {
      // As engines do it: of the block before and the tokens; so equal chains have equal hashes.
      hash = (hash ^ seed_ ^ told.size()) * 0x9e3779b97f4a7c15ULL + store.block_tokens;
      for (size_t t = 0; t < store.block_tokens; ++t) {
        hash = (hash ^ store.tokens[i * store.block_tokens + t]) * 0xd6e8feb86659fd93ULL;
        hash ^= hash >> 29;
      }
      store.hashes.push_back(hash);
      const size_t end = before + (i + 1) * store.block_tokens;
      Known next{.hash = hash,
                 .name_space_index = at.name_space_index,
                 .path = {at.path.begin(), at.path.begin() + static_cast<std::ptrdiff_t>(end)}};
      if (known_.size() < 400) {
        known_.push_back(std::move(next));
      } else {
        known_[random_.Below(known_.size())] = std::move(next);
      }
    }
    holder_->Apply({.type = KvEvent::Type::kStored,
                    .tier = store.tier,
                    .block_size = store.block_tokens,
                    .hashes = store.hashes,
                    .parent = store.parent,
                    .tokens = store.tokens,
                    .salt = told},
                   kNow);
    model_.Apply(store);
  }

  std::vector<uint64_t> SomeHashes() {
    std::vector<uint64_t> hashes;
    for (uint64_t n = 1 + random_.Below(12); n > 0; --n) {
      hashes.push_back(known_[random_.Below(known_.size())].hash);
    }
    return hashes;
  }

  void AddTierToSome() {
    const Tier tier = SomeTier();
    const std::vector<uint64_t> hashes = SomeHashes();
    holder_->Apply({.type = KvEvent::Type::kStored, .tier = tier, .hashes = hashes}, kNow);
    for (const uint64_t hash : hashes) model_.AddTier(hash, tier);
  }

  void RemoveSome() {
    const Tier tier = SomeTier();
    const std::vector<uint64_t> hashes = SomeHashes();
    holder_->Apply({.type = KvEvent::Type::kRemoved, .tier = tier, .hashes = hashes}, kNow);
    for (const uint64_t hash : hashes) model_.Remove(hash, tier);
  }

  ChainIndex& index_;
  const ContentKeys& keys_;
  Random random_;
  const uint64_t seed_;
  const std::vector<uint32_t> sizes_;
  std::unique_ptr<Holder> holder_;
  HolderModel model_{kIndexTokens};
  std::vector<Known> known_;
};

void ReadUntil(const std::atomic<bool>& stop, const ChainIndex& index, const ContentKeys& keys,
               uint64_t seed) {
  ChainIndex::Reader reader(index);
  Random random(seed);
  std::vector<PrefixHold> holds;
  std::vector<uint32_t> lengths;
  while (!stop.load(std::memory_order_relaxed)) {
    std::vector<uint32_t> prompt;
    Grow(random, random.Below(1500), &prompt);
    std::vector<uint64_t> prompt_keys;
    keys.Append(prompt, {}, &prompt_keys);
    holds.resize(index.slot_limit());
    reader.Match(keys.Namespace("m", ""), prompt_keys, holds);
    for (const PrefixHold& hold : holds) {
      ASSERT_LE(hold.blocks, prompt_keys.size());
      ASSERT_LE(hold.gpu, hold.blocks);
      ASSERT_LE(hold.sure, hold.blocks);
      ASSERT_EQ(hold.in_tier[0] + hold.in_tier[1] + hold.in_tier[2] + hold.in_tier[3], hold.blocks);
    }
    lengths.resize(index.slot_limit());
    reader.MatchTier(Tier::kCpu, keys.Namespace("m", ""), prompt_keys, lengths);
    for (const uint32_t length : lengths) ASSERT_LE(length, prompt_keys.size());
  }
}

size_t Steps(size_t usual) {
  const char* const more = std::getenv("PENSTOCK_INDEX_STEPS");
  return more == nullptr ? usual : std::strtoull(more, nullptr, 10);
}

// Lanes work side by side; between rounds everything is compared.
void RunModel(std::vector<std::vector<uint32_t>> sizes, size_t lanes, size_t steps, uint64_t seed) {
  const ContentKeys keys("the secret of the property test", kIndexTokens);
  ChainIndex index({.block_tokens = kIndexTokens, .max_slots = 200});
  {
    std::vector<std::unique_ptr<Publisher>> publishers;
    for (size_t i = 0; i < sizes.size(); ++i) {
      publishers.push_back(std::make_unique<Publisher>(index, keys, seed * 1000 + i, sizes[i]));
    }
    std::atomic<bool> stop{false};
    std::vector<std::thread> readers;
    for (uint64_t r = 0; r < 2; ++r) {
      readers.emplace_back([&, r] { ReadUntil(stop, index, keys, seed + r); });
    }
    Random random(seed);
    ChainIndex::Reader reader(index);
    const std::vector<uint64_t> spaces{keys.Namespace("m", ""), keys.Namespace("m", "s")};
    constexpr size_t kRound = 60;
    for (size_t done = 0; done < steps && !testing::Test::HasFatalFailure();
         done += kRound * publishers.size()) {
      std::vector<std::thread> writers;
      for (size_t lane = 0; lane < lanes; ++lane) {
        writers.emplace_back([&, lane] {
          for (size_t i = 0; i < kRound; ++i) {
            for (size_t p = lane; p < publishers.size(); p += lanes) publishers[p]->Step();
          }
        });
      }
      for (std::thread& writer : writers) writer.join();
      std::vector<std::vector<uint32_t>> prompts(3);
      for (auto& prompt : prompts) {
        const Publisher& some = *publishers[random.Below(publishers.size())];
        if (some.knows_some()) prompt = some.SomePath(random);
        Grow(random, random.Below(100), &prompt);
      }
      for (const auto& publisher : publishers) publisher->Check(prompts, spaces, reader);
    }
    stop = true;
    for (std::thread& thread : readers) thread.join();
  }
  index.Collect();
  EXPECT_EQ(index.slots(), 0u);
  EXPECT_EQ(index.segments(), 0u);
  EXPECT_EQ(index.garbage_bytes(), 0u);
}

TEST(HolderProperty, WholeIndexBlocksAreAsInTheModel) {
  RunModel({{16}, {16}, {16}, {32}, {64}, {16, 32, 64}, {16}}, 1, Steps(20'000), 1);
}
TEST(HolderProperty, SmallerBlocksAreAsInTheModel) {
  RunModel({{1}, {4}, {8}, {8, 16}}, 1, Steps(8'000), 2);
}
TEST(HolderProperty, BlocksThatFitNothingAreAsInTheModel) {
  RunModel({{24}, {10}, {7, 16, 40}, {48, 24}, {1, 16, 64}}, 1, Steps(8'000), 3);
}
TEST(HolderProperty, SeveralLanesAtOnceAreAsInTheModel) {
  RunModel({{16}, {16}, {32}, {8}, {16}, {64}, {16}, {24}, {16, 64}}, 3, Steps(20'000), 4);
}
TEST(HolderProperty, ManyHoldersAreAsInTheModel) {
  RunModel(std::vector<std::vector<uint32_t>>(90, {16}), 2, Steps(20'000), 5);
}

}  // namespace
}  // namespace penstock::kvcache
