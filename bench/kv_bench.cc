// The exact index of KV blocks: lookups, live ingest, memory. In the same run what peers do: a map
// from chained hash to the set of its holders, probed once per block.
//
//   cmake --preset bench && cmake --build build/bench --target kv_bench
//   build/bench/bin/kv_bench
//   PENSTOCK_MOONCAKE=mooncake_conversation.jsonl build/bench/bin/kv_bench
//   --benchmark_filter=Mooncake
//
// p50 and p99 are of single lookups, in microseconds. "Cold": 8 MB are read between two lookups,
// so that nothing is left in the cores' own caches.
#include <benchmark/benchmark.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/unordered/unordered_flat_map.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "core/file.h"
#include "core/random.h"
#include "kvcache/holder.h"
#include "kvcache/prefix_index.h"
#include "kvcache/snapshot.h"
#include "workload/line_reader.h"

namespace {

std::atomic<int64_t> live_bytes{0};
std::atomic<int64_t> allocations{0};

void* Count(void* memory) {
  if (memory == nullptr) std::abort();
  // With the allocator's header.
  live_bytes.fetch_add(static_cast<int64_t>(malloc_usable_size(memory)) + 8,
                       std::memory_order_relaxed);
  allocations.fetch_add(1, std::memory_order_relaxed);
  return memory;
}

void Uncount(void* memory) {
  if (memory == nullptr) return;
  live_bytes.fetch_sub(static_cast<int64_t>(malloc_usable_size(memory)) + 8,
                       std::memory_order_relaxed);
  std::free(memory);
}

}  // namespace

// g++ 12 takes the inlined pair for two kinds of allocation.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
void* operator new(size_t bytes) { return Count(std::malloc(bytes)); }
void* operator new(size_t bytes, std::align_val_t align) {
  return Count(std::aligned_alloc(
      static_cast<size_t>(align),
      (bytes + static_cast<size_t>(align) - 1) & ~(static_cast<size_t>(align) - 1)));
}
void operator delete(void* memory) noexcept { Uncount(memory); }
void operator delete(void* memory, size_t) noexcept { Uncount(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { Uncount(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { Uncount(memory); }

namespace penstock::kvcache {
namespace {

constexpr uint32_t kBlock = 16;
constexpr Time kNow{};
using Clock = std::chrono::steady_clock;

std::vector<uint32_t> TokensOf(uint64_t seed, size_t blocks) {
  Random random(seed);
  std::vector<uint32_t> tokens(blocks * kBlock);
  for (uint32_t& token : tokens) token = static_cast<uint32_t>(random.Next() % 150'000);
  return tokens;
}

std::vector<uint64_t> HashesOf(uint64_t seed, size_t blocks) {
  Random random(seed ^ 0x5eed);
  std::vector<uint64_t> hashes(blocks);
  for (uint64_t& hash : hashes) hash = random.Next();
  return hashes;
}

struct Fleet {
  explicit Fleet(size_t holder_count, uint32_t capacity = 0)
      : keys("the secret of the benchmark", kBlock),
        index({.block_tokens = kBlock, .max_slots = 512, .max_bytes = uint64_t{1} << 40}),
        name_space(keys.Namespace("model", "")) {
    for (size_t i = 0; i < holder_count; ++i) {
      Holder::Options options;
      options.model = "model";
      holders.push_back(std::make_unique<Holder>(index, keys, *index.Join(), options));
      if (capacity > 0) holders.back()->SetCapacity(capacity);
    }
  }

  // The blocks in events of 64.
  void Store(size_t holder, std::span<const uint64_t> hashes, std::span<const uint32_t> tokens,
             std::optional<uint64_t> parent = {}) {
    for (size_t i = 0; i < hashes.size(); i += 64) {
      const size_t n = std::min<size_t>(64, hashes.size() - i);
      holders[holder]->Apply({.type = KvEvent::Type::kStored,
                              .block_size = kBlock,
                              .hashes = hashes.subspan(i, n),
                              .parent = i == 0 ? parent : std::optional(hashes[i - 1]),
                              .tokens = tokens.subspan(i * kBlock, n * kBlock)},
                             kNow);
    }
  }
  void Remove(size_t holder, std::span<const uint64_t> hashes) {
    holders[holder]->Apply({.type = KvEvent::Type::kRemoved, .hashes = hashes}, kNow);
  }

  ContentKeys keys;
  ChainIndex index;
  uint64_t name_space;
  std::vector<std::unique_ptr<Holder>> holders;
};

// How much of a chain each of its holders has.
enum class Shape { kWhole, kUneven, kHoles };

struct Chains {
  Chains(Fleet& fleet, size_t count, size_t blocks, Shape shape) {
    Random random(7);
    for (size_t c = 0; c < count; ++c) {
      const std::vector<uint32_t> tokens = TokensOf(c, blocks);
      const std::vector<uint64_t> hashes = HashesOf(c, blocks);
      fleet.keys.Append(tokens, {}, &keys.emplace_back());
      for (size_t h = 0; h < fleet.holders.size(); ++h) {
        const size_t held = shape == Shape::kUneven ? 1 + random.Below(blocks) : blocks;
        fleet.Store(h, std::span(hashes).first(held), std::span(tokens).first(held * kBlock));
        if (shape != Shape::kHoles) continue;
        std::vector<uint64_t> removed;
        for (const uint64_t hash : hashes) {
          if (random.Below(50) == 0) removed.push_back(hash);
        }
        fleet.Remove(h, removed);
      }
    }
  }
  std::vector<std::vector<uint64_t>> keys;
};

void Report(benchmark::State& state, std::vector<double>& micros) {
  std::sort(micros.begin(), micros.end());
  if (micros.empty()) return;
  state.counters["p50"] = micros[micros.size() / 2];
  state.counters["p99"] = micros[micros.size() * 99 / 100];
}

template <class F>
double Micros(F&& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

void ReadOther() {
  static std::vector<uint64_t> other(1 << 20);
  uint64_t sum = 0;
  for (size_t i = 0; i < other.size(); i += 8) sum += other[i]++;
  benchmark::DoNotOptimize(sum);
}

void ReadKeys(std::span<const uint64_t> keys) {
  uint64_t sum = 0;
  for (const uint64_t key : keys) sum += key;
  benchmark::DoNotOptimize(sum);
}

template <class W, class F>
void Lookups(benchmark::State& state, size_t chains, bool is_cold, W&& warm, F&& lookup) {
  std::vector<double> micros;
  size_t i = 0;
  const int64_t before = allocations.load();
  int64_t others = 0;
  for (auto _ : state) {
    if (is_cold) ReadOther();
    warm(i % chains);  // the prompt's keys were made just now
    const int64_t own = allocations.load();
    const double took = Micros([&] { lookup(i++ % chains); });
    others += allocations.load() - own;
    micros.push_back(took);
    state.SetIterationTime(took / 1e6);
  }
  state.counters["allocations"] = static_cast<double>(others);
  benchmark::DoNotOptimize(before);
  Report(state, micros);
}

void BM_Match(benchmark::State& state, size_t blocks, size_t holders, Shape shape, bool is_cold) {
  Fleet fleet(holders);
  const Chains chains(fleet, 16, blocks, shape);
  ChainIndex::Reader reader(fleet.index);
  std::vector<PrefixHold> holds(holders);
  reader.Match(fleet.name_space, chains.keys[0], holds);
  Lookups(
      state, chains.keys.size(), is_cold, [&](size_t c) { ReadKeys(chains.keys[c]); },
      [&](size_t c) {
        benchmark::DoNotOptimize(reader.Match(fleet.name_space, chains.keys[c], holds));
      });
}
#define MATCH(name, ...) \
  BENCHMARK_CAPTURE(BM_Match, name, __VA_ARGS__)->UseManualTime()->Iterations(500)
MATCH(1024x256_whole_cold, 1024, 256, Shape::kWhole, true);
MATCH(1024x256_uneven_cold, 1024, 256, Shape::kUneven, true);
MATCH(1024x256_holes_cold, 1024, 256, Shape::kHoles, true);
MATCH(1024x256_uneven_warm, 1024, 256, Shape::kUneven, false);
MATCH(1024x256_whole_warm, 1024, 256, Shape::kWhole, false);
MATCH(3750x96_whole_cold, 3750, 96, Shape::kWhole, true);
MATCH(3750x96_uneven_cold, 3750, 96, Shape::kUneven, true);
MATCH(3750x96_holes_cold, 3750, 96, Shape::kHoles, true);

// What a peer's map would be at its best: open addressing, holders as bits.
void BM_ProbePerBlock(benchmark::State& state, size_t blocks, size_t holders) {
  using Bits = std::array<uint64_t, 4>;
  boost::unordered_flat_map<uint64_t, Bits> map;
  std::vector<std::vector<uint64_t>> chains;
  for (size_t c = 0; c < 16; ++c) {
    chains.push_back(HashesOf(c, blocks));
    for (const uint64_t hash : chains.back()) {
      for (size_t h = 0; h < holders; ++h) map[hash][h / 64] |= uint64_t{1} << (h % 64);
    }
  }
  std::vector<uint32_t> depths(holders);
  Lookups(
      state, chains.size(), true, [&](size_t c) { ReadKeys(chains[c]); },
      [&](size_t c) {
        Bits alive;
        alive.fill(~uint64_t{0});
        uint32_t depth = 0;
        for (const uint64_t hash : chains[c]) {
          const auto it = map.find(hash);
          if (it == map.end()) break;
          uint64_t any = 0;
          for (size_t w = 0; w < 4; ++w) {
            for (uint64_t gone = alive[w] & ~it->second[w]; gone != 0; gone &= gone - 1) {
              const size_t slot = w * 64 + static_cast<size_t>(std::countr_zero(gone));
              if (slot < depths.size()) depths[slot] = depth;
            }
            any |= alive[w] &= it->second[w];
          }
          if (any == 0) break;
          ++depth;
        }
        benchmark::DoNotOptimize(depth);
      });
}
BENCHMARK_CAPTURE(BM_ProbePerBlock, 1024x256_cold, 1024, 256)->UseManualTime()->Iterations(500);
BENCHMARK_CAPTURE(BM_ProbePerBlock, 3750x96_cold, 3750, 96)->UseManualTime()->Iterations(500);

void BM_PrefixIndex(benchmark::State& state, size_t blocks, size_t holders) {
  PrefixIndex index(1 << 20);
  std::vector<std::vector<uint64_t>> chains;
  for (size_t c = 0; c < 4; ++c) {
    chains.push_back(HashesOf(c, blocks));
    for (uint32_t h = 0; h < holders; ++h) index.Insert(h, chains.back());
  }
  std::vector<float> counts(holders);
  Lookups(
      state, chains.size(), true, [&](size_t c) { ReadKeys(chains[c]); },
      [&](size_t c) { benchmark::DoNotOptimize(index.Count(chains[c], counts)); });
}
BENCHMARK_CAPTURE(BM_PrefixIndex, 1024x256_cold, 1024, 256)->UseManualTime()->Iterations(300);

// 64 readers of 263 blocks and 40 endpoints, while a lane stores and removes as fast as it can.
void BM_Readers(benchmark::State& state) {
  constexpr size_t kReaders = 64;
  Fleet fleet(40);
  const Chains chains(fleet, 64, 263, Shape::kUneven);
  for (auto _ : state) {
    std::atomic<bool> stop{false};
    std::vector<std::vector<double>> micros(kReaders);
    std::vector<std::thread> threads;
    for (size_t r = 0; r < kReaders; ++r) {
      threads.emplace_back([&, r] {
        ChainIndex::Reader reader(fleet.index);
        std::vector<PrefixHold> holds(fleet.index.slot_limit());
        micros[r].reserve(4000);
        for (size_t i = 0; i < 4000; ++i) {
          micros[r].push_back(Micros([&] {
            reader.Match(fleet.name_space, chains.keys[(i * 7 + r) % chains.keys.size()], holds);
          }));
          if (i % 64 == 0) std::this_thread::yield();
        }
      });
    }
    uint64_t applied = 0;
    const auto start = Clock::now();
    std::thread lane([&] {
      for (uint64_t seed = 1000; !stop; ++seed) {
        const std::vector<uint32_t> tokens = TokensOf(seed, 256);
        const std::vector<uint64_t> hashes = HashesOf(seed, 256);
        fleet.Store(seed % 40, hashes, tokens);
        fleet.Remove(seed % 40, hashes);
        applied += 512;
      }
    });
    for (std::thread& thread : threads) thread.join();
    stop = true;
    lane.join();
    std::vector<double> all;
    for (const auto& some : micros) all.insert(all.end(), some.begin(), some.end());
    const double took = std::chrono::duration<double>(Clock::now() - start).count();
    state.counters["applied_per_s"] = static_cast<double>(applied) / took;
    state.counters["lookups_per_s"] = static_cast<double>(all.size()) / took;
    Report(state, all);
  }
}
BENCHMARK(BM_Readers)->Iterations(1)->Unit(benchmark::kMillisecond);

// One lane: chains of 256 blocks stored by 64 publishers in events of state.range(0) blocks, and
// removed again, tail first, when a publisher has 16,384.
void BM_Apply(benchmark::State& state) {
  const auto per_event = static_cast<size_t>(state.range(0));
  constexpr size_t kChain = 256;
  constexpr size_t kKept = 64;
  Fleet fleet(64);
  std::vector<std::vector<uint32_t>> tokens;
  for (uint64_t c = 0; c < 64; ++c) tokens.push_back(TokensOf(c, kChain));
  std::vector<std::vector<uint64_t>> hashes(64 * kKept);
  int64_t stored = 0;
  int64_t removed = 0;
  std::chrono::duration<double> in_stores{0};
  uint64_t seed = 0;
  for (auto _ : state) {
    state.PauseTiming();
    const size_t holder = seed % 64;
    std::vector<uint64_t>& own = hashes[seed % hashes.size()];
    std::vector<uint64_t> gone(own.rbegin(), own.rend());
    own = HashesOf(seed, kChain);
    // Prompts that are all different, from the first block on.
    std::vector<uint32_t>& text = tokens[seed % tokens.size()];
    text[0] = static_cast<uint32_t>(seed);
    ++seed;
    state.ResumeTiming();
    for (size_t i = 0; i < gone.size(); i += per_event) {
      fleet.Remove(holder, std::span(gone).subspan(i, std::min(per_event, gone.size() - i)));
    }
    const auto start = Clock::now();
    for (size_t i = 0; i < kChain; i += per_event) {
      const size_t n = std::min(per_event, kChain - i);
      fleet.holders[holder]->Apply({.type = KvEvent::Type::kStored,
                                    .block_size = kBlock,
                                    .hashes = std::span(own).subspan(i, n),
                                    .parent = i == 0 ? std::nullopt : std::optional(own[i - 1]),
                                    .tokens = std::span(text).subspan(i * kBlock, n * kBlock)},
                                   kNow);
    }
    in_stores += Clock::now() - start;
    stored += kChain;
    removed += static_cast<int64_t>(gone.size());
  }
  state.SetItemsProcessed(stored + removed);
  state.counters["stored_per_s"] = static_cast<double>(stored) / in_stores.count();
}
BENCHMARK(BM_Apply)->Arg(64)->Arg(8)->Arg(1)->Iterations(20'000)->Unit(benchmark::kMicrosecond);

// 12.8 million holder-blocks of 256 holders: all different, or each chain held by 16 of them, not
// all to its end.
void BM_Bytes(benchmark::State& state, size_t sharers) {
  constexpr size_t kHolders = 256;
  constexpr size_t kBlocks = 50'000;
  constexpr size_t kChain = 250;
  for (auto _ : state) {
    const int64_t before = live_bytes;
    Fleet fleet(kHolders, kBlocks);
    Random random(3);
    std::vector<size_t> left(kHolders, kBlocks);
    uint64_t total = 0;
    for (uint64_t seed = 0; total < kHolders * kBlocks * 99 / 100; ++seed) {
      const std::vector<uint32_t> tokens = TokensOf(seed, kChain);
      const std::vector<uint64_t> hashes = HashesOf(seed, kChain);
      for (size_t s = 0; s < sharers; ++s) {
        const size_t holder = (seed * sharers + s) % kHolders;
        size_t held = sharers == 1 ? kChain : kChain / 2 + random.Below(kChain / 2);
        held = std::min(held, left[holder]);
        fleet.Store(holder, std::span(hashes).first(held), std::span(tokens).first(held * kBlock));
        left[holder] -= held;
        total += held;
      }
    }
    fleet.index.Collect();
    state.counters["bytes_per_holder_block"] =
        static_cast<double>(live_bytes - before) / static_cast<double>(total);
    state.counters["own_count"] =
        static_cast<double>(fleet.index.bytes()) / static_cast<double>(total);
    state.counters["holder_blocks"] = static_cast<double>(total);
    state.counters["segments"] = static_cast<double>(fleet.index.segments());
  }
}
BENCHMARK_CAPTURE(BM_Bytes, all_different, 1)->Iterations(1)->Unit(benchmark::kSecond);
BENCHMARK_CAPTURE(BM_Bytes, shared_by_16, 16)->Iterations(1)->Unit(benchmark::kSecond);

// A router that starts anew: a million blocks of a hundred publishers, all different or each chain
// held by `sharers`, written to a file and read again. Warm: of the blocks, those that a look-up
// finds afterwards.
void BM_Snapshot(benchmark::State& state, size_t sharers) {
  constexpr size_t kHolders = 100;
  constexpr size_t kChain = 250;
  constexpr size_t kBlocks = 1'000'000;
  const std::string path = "/tmp/penstock-kv-bench." + std::to_string(getpid());
  for (auto _ : state) {
    Fleet before(kHolders);
    std::vector<std::vector<uint64_t>> keys;
    for (size_t stored = 0; stored < kBlocks; stored += kChain * sharers) {
      const std::vector<uint32_t> tokens = TokensOf(keys.size(), kChain);
      const std::vector<uint64_t> hashes = HashesOf(keys.size(), kChain);
      for (size_t s = 0; s < sharers; ++s) {
        before.Store((keys.size() * sharers + s) % kHolders, hashes, tokens);
      }
      before.keys.Append(tokens, {}, &keys.emplace_back());
    }
    double longest = 0;
    std::string bytes;
    const double saved = Micros([&] {
      Snapshot snapshot;
      for (const auto& holder : before.holders) {
        SavedPublisher& publisher = snapshot.publishers.emplace_back();
        longest = std::max(longest, Micros([&] { holder->Save(kNow, &publisher.blocks); }));
      }
      size_t left_out = 0;
      bytes = *EncodeSnapshot(before.keys, snapshot, size_t{1} << 30, &left_out);
      if (!WriteFile(path, bytes)) state.SkipWithError("the file cannot be written");
    });
    Fleet after(kHolders);
    const double loaded = Micros([&] {
      const auto text = ReadFile(path, size_t{1} << 30);
      const auto snapshot = DecodeSnapshot(after.keys, *text, size_t{1} << 30);
      for (size_t i = 0; i < kHolders; ++i) {
        if (!after.holders[i]->Restore(snapshot->publishers[i].blocks, kNow)) {
          state.SkipWithError("a holder refuses its blocks");
        }
      }
    });
    std::remove(path.c_str());
    ChainIndex::Reader reader(after.index);
    std::vector<PrefixHold> holds(kHolders);
    uint64_t found = 0;
    for (const std::vector<uint64_t>& chain : keys) {
      reader.Match(after.name_space, chain, holds);
      for (const PrefixHold& hold : holds) found += hold.blocks;
    }
    state.counters["save_s"] = saved / 1e6;
    state.counters["longest_publisher_us"] = longest;
    state.counters["load_s"] = loaded / 1e6;
    state.counters["bytes_per_block"] = static_cast<double>(bytes.size()) / kBlocks;
    state.counters["warm"] = static_cast<double>(found) / kBlocks;
    state.counters["index_growth"] =
        static_cast<double>(after.index.bytes()) / static_cast<double>(before.index.bytes());
  }
}
BENCHMARK_CAPTURE(BM_Snapshot, all_different, 1)->Iterations(3)->Unit(benchmark::kSecond);
BENCHMARK_CAPTURE(BM_Snapshot, shared_by_10, 10)->Iterations(3)->Unit(benchmark::kSecond);

// The prompts of a recorded day on 64 engines of 16,384 blocks: each looked up, then stored where
// most of it is. An id of the trace is 512 tokens.
void BM_Mooncake(benchmark::State& state) {
  const char* const path = std::getenv("PENSTOCK_MOONCAKE");
  if (path == nullptr) {
    state.SkipWithError("PENSTOCK_MOONCAKE names no trace");
    return;
  }
  auto lines = workload::LineReader::Open(path);
  if (!lines) {
    state.SkipWithError(lines.error().message.c_str());
    return;
  }
  std::vector<std::vector<uint64_t>> prompts;
  for (std::string_view text; lines->Read(&text) == workload::LineReader::Next::kLine;) {
    const std::string line(text);
    size_t at = line.find("\"hash_ids\"");
    if (at == std::string::npos) continue;
    std::vector<uint64_t>& ids = prompts.emplace_back();
    at = line.find('[', at);
    while (at < line.size() && line[at] != ']') {
      ids.push_back(std::strtoull(line.c_str() + at + 1, nullptr, 10));
      at = line.find_first_of(",]", at + 1);
    }
  }
  constexpr size_t kPerId = 512 / kBlock;
  for (auto _ : state) {
    Fleet fleet(64, 16'384);
    ChainIndex::Reader reader(fleet.index);
    std::vector<PrefixHold> holds(64);
    std::vector<double> micros;
    std::chrono::duration<double> in_stores{0};
    uint64_t stored = 0;
    uint64_t matched = 0;
    uint64_t total = 0;
    size_t turn = 0;
    for (const std::vector<uint64_t>& ids : prompts) {
      std::vector<uint32_t> tokens;
      std::vector<uint64_t> hashes;
      std::vector<uint64_t> keys;
      uint64_t chained = 0;
      for (const uint64_t id : ids) {
        const std::vector<uint32_t> text = TokensOf(id, kPerId);
        tokens.insert(tokens.end(), text.begin(), text.end());
        for (size_t i = 0; i < kPerId; ++i) {
          chained = (chained ^ (id * kPerId + i + 1)) * 0x9e3779b97f4a7c15ULL;
          chained ^= chained >> 31;
          hashes.push_back(chained);
        }
      }
      fleet.keys.Append(tokens, {}, &keys);
      micros.push_back(Micros([&] { reader.Match(fleet.name_space, keys, holds); }));
      const auto best =
          std::max_element(holds.begin(), holds.end(),
                           [](const auto& a, const auto& b) { return a.blocks < b.blocks; });
      const bool is_new = best->blocks < kPerId * 2;
      const size_t holder = is_new ? turn++ % 64 : static_cast<size_t>(best - holds.begin());
      const size_t known = holds[holder].blocks;
      matched += known;
      total += keys.size();
      const auto start = Clock::now();
      fleet.Store(holder, std::span(hashes).subspan(known),
                  std::span(tokens).subspan(known * kBlock),
                  known == 0 ? std::nullopt : std::optional(hashes[known - 1]));
      in_stores += Clock::now() - start;
      stored += keys.size() - known;
    }
    Report(state, micros);
    state.counters["stored_per_s"] = static_cast<double>(stored) / in_stores.count();
    state.counters["matched"] = static_cast<double>(matched) / static_cast<double>(total);
    state.counters["segments"] = static_cast<double>(fleet.index.segments());
    uint64_t held = 0;
    for (const auto& holder : fleet.holders) held += holder->gpu_blocks();
    state.counters["bytes_per_holder_block"] =
        static_cast<double>(fleet.index.bytes()) / static_cast<double>(held);
  }
}
BENCHMARK(BM_Mooncake)->Iterations(1)->Unit(benchmark::kSecond);

}  // namespace
}  // namespace penstock::kvcache
