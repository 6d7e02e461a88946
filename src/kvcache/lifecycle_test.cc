// The lifecycle row of the compatibility matrix (event_decoder_test.cc has the encodings): what
// happens to engines and their endpoints while events are on their way. Each row is told to real
// publishers and holders, and what these hold is compared with plain maps of what the engine has.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kvcache/holder.h"
#include "kvcache/holder_model_testing.h"
#include "kvcache/publisher.h"
#include "wire/msgpack.h"

namespace penstock::kvcache {
namespace {

using State = PublisherState;
using Reason = PublisherReason;

constexpr uint32_t kBlock = 4;

std::vector<uint32_t> Tokens(uint32_t first, size_t blocks) {
  std::vector<uint32_t> tokens(blocks * kBlock);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = first + static_cast<uint32_t>(i);
  return tokens;
}

// A process that publishes: its batches, and what it has in truth.
class Process {
 public:
  Process(const ContentKeys& keys, double started) : keys_(keys), started_(started) {}

  // Blocks of a prompt of its own, from the root.
  void Store(uint32_t first, uint32_t blocks) {
    HolderModel::Store store{.name_space = keys_.Namespace("m", ""),
                             .parent = {},
                             .hashes = HashesOf(first, blocks),
                             .tokens = Tokens(first, blocks),
                             .block_tokens = kBlock};
    model.Apply(store);
    Batch([&](wire::MsgpackWriter& out) {
      out.Array(6);
      out.String("BlockStored");
      WriteHashes(store.hashes, &out);
      out.Nil();
      out.Array(static_cast<uint32_t>(store.tokens.size()));
      for (const uint32_t token : store.tokens) out.Uint(token);
      out.Uint(kBlock);
      out.Nil();
    });
  }
  // The last ones of the prompt.
  void Remove(uint32_t first, uint32_t blocks, uint32_t kept) {
    std::vector<uint64_t> hashes = HashesOf(first, blocks);
    hashes.erase(hashes.begin(), hashes.begin() + kept);
    for (const uint64_t hash : hashes) model.Remove(hash, Tier::kGpu);
    Batch([&](wire::MsgpackWriter& out) {
      out.Array(2);
      out.String("BlockRemoved");
      WriteHashes(hashes, &out);
    });
  }
  void Clear() {
    model.Clear();
    Batch([](wire::MsgpackWriter& out) {
      out.Array(1);
      out.String("AllBlocksCleared");
    });
  }

  HolderModel model{kBlock};
  std::vector<std::string> batches;
  size_t oldest = 0;  // that its history still has

 private:
  static std::vector<uint64_t> HashesOf(uint32_t first, uint32_t blocks) {
    std::vector<uint64_t> hashes(blocks);
    for (uint32_t i = 0; i < blocks; ++i) hashes[i] = uint64_t{first} * 1000 + i + 1;
    return hashes;
  }
  static void WriteHashes(const std::vector<uint64_t>& hashes, wire::MsgpackWriter* out) {
    out->Array(static_cast<uint32_t>(hashes.size()));
    for (const uint64_t hash : hashes) out->Uint(hash);
  }
  template <class F>
  void Batch(F&& event) {
    std::string bytes;
    wire::MsgpackWriter out(&bytes);
    out.Array(2);
    out.Float(started_ + static_cast<double>(batches.size()));
    out.Array(1);
    event(out);
    batches.push_back(std::move(bytes));
  }

  const ContentKeys& keys_;
  const double started_;
};

// One endpoint as the router sees it.
class Endpoint final : public EventSink {
 public:
  Endpoint(ChainIndex& index, const ContentKeys& keys, const Time& now)
      : now_(now),
        holder_(index, keys, *index.Join(), {.model = "m"}),
        publisher_({.has_replay = true}, *this) {}

  void Apply(const KvEvent& event) override { holder_.Apply(event, now_); }
  void Clear() override { holder_.Apply(KvEvent{}, now_); }
  void MarkGap(Time now) override { holder_.MarkGap(now); }
  bool HasTurnedOver() const override { return false; }

  void Connect() { publisher_.OnConnected(now_); }
  void Disconnect() { publisher_.OnDisconnected(now_); }
  // A batch of the process comes.
  void Hear(const Process& process, size_t number) {
    publisher_.OnBatch(number, process.batches[number], now_);
  }
  void HearFrom(const Process& process, size_t number) {
    for (; number < process.batches.size(); ++number) Hear(process, number);
  }
  // The answer to what was asked for, but for its end: up to batch `end`. Asked anew, the answer
  // begins anew.
  void Replay(const Process& process, size_t end) {
    Ask(process);
    while (next_ < end) {
      const size_t number = next_++;
      publisher_.OnReplayed(number, process.batches[number], now_);
      Ask(process);
    }
  }
  void EndReplay() { publisher_.OnReplayEnd(now_); }
  void Sync(const Process& process) {
    Replay(process, process.batches.size());
    EndReplay();
    if (!Ask(process)) return;
    Replay(process, process.batches.size());
    EndReplay();
  }
  // The endpoint leaves the pool; what is on its way to it still comes. True when its slot is free.
  void Delete() { publisher_.OnGone(); }
  bool Leave() { return holder_.Leave(~size_t{0}); }

  void Save(std::string* blocks, Publisher::Position* position) const {
    holder_.Save(now_, blocks);
    *position = *publisher_.position();
  }
  void Restore(const std::string& blocks, const Publisher::Position& position) {
    ASSERT_TRUE(holder_.Restore(blocks, now_));
    publisher_.Restore(position);
  }

  const Holder& holder() const { return holder_; }
  const Publisher& publisher() const { return publisher_; }

 private:
  bool Ask(const Process& process) {
    const auto from = publisher_.TakeRequest();
    if (from) next_ = std::max<size_t>(*from, process.oldest);
    return from.has_value();
  }

  const Time& now_;
  Holder holder_;
  Publisher publisher_;
  size_t next_ = 0;  // batch of the answer
};

struct World {
  Process& Start() {
    processes.push_back(std::make_unique<Process>(keys, 1e6 * static_cast<double>(++started)));
    return *processes.back();
  }
  Endpoint& Join() {
    endpoints.push_back(std::make_unique<Endpoint>(index, keys, now));
    return *endpoints.back();
  }
  PrefixHold Held(const Endpoint& endpoint, uint32_t first) {
    std::vector<uint64_t> prompt;
    keys.Append(Tokens(first, 8), {}, &prompt);
    std::vector<PrefixHold> holds(index.slot_limit());
    ChainIndex::Reader(index).Match(keys.Namespace("m", ""), prompt, holds);
    return holds[endpoint.holder().slot().index];
  }
  // What counts is what the process has; where that is not known, nothing else counts for sure.
  void Expect(const Endpoint& endpoint, const Process& process, State state,
              Reason reason = Reason::kNone) {
    EXPECT_EQ(PublisherStateName(endpoint.publisher().state()), PublisherStateName(state));
    EXPECT_EQ(PublisherReasonName(endpoint.publisher().reason()), PublisherReasonName(reason));
    if (state != State::kExact && state != State::kDegraded) return;
    const HolderModel::Held held = process.model.AllHeld();
    for (const uint32_t first : {1000U, 2000U, 3000U, 4000U}) {
      const auto prefixes = process.model.Prefixes(keys.Namespace("m", ""), Tokens(first, 8));
      const PrefixHold want = process.model.Match(held, prefixes);
      const PrefixHold got = Held(endpoint, first);
      if (state == State::kExact) {
        EXPECT_EQ(got, want) << first;
      } else {
        EXPECT_LE(got.sure, want.blocks) << first;
      }
    }
    if (state == State::kExact) {
      EXPECT_EQ(endpoint.holder().blocks(), process.model.live_blocks());
    }
  }

  Time now = Time(seconds(1000));
  ContentKeys keys{"a secret of the test", kBlock};
  ChainIndex index{{.block_tokens = kBlock, .max_slots = 8}};
  int started = 0;
  std::vector<std::unique_ptr<Process>> processes;
  std::vector<std::unique_ptr<Endpoint>> endpoints;
};

// Two prompts, of 4 and of 2 blocks, and one that is gone from its third block on.
Process& Working(World& world) {
  Process& process = world.Start();
  process.Store(1000, 4);
  process.Store(2000, 2);
  process.Store(3000, 6);
  process.Remove(3000, 6, 2);
  return process;
}

struct Row {
  const char* name;
  std::function<void(World&)> happens;
};

const Row kRows[] = {
    {"RestartInPlaceIsSeenByTheConnection",
     [](World& world) {
       const Process& before = Working(world);
       Endpoint& endpoint = world.Join();
       endpoint.Connect();
       endpoint.Sync(before);
       world.Expect(endpoint, before, State::kExact);
       endpoint.Disconnect();
       Process& after = world.Start();
       after.Store(1000, 1);
       endpoint.Connect();
       endpoint.Sync(after);  // asked from batch 3 on, it has none: it is another one
       world.Expect(endpoint, after, State::kExact);
       EXPECT_EQ(endpoint.publisher().counts().restarts, 1u);
     }},
    {"RestartInPlaceThatHasSentAsMuchIsSeenByTheBatch",
     [](World& world) {
       const Process& before = Working(world);
       Endpoint& endpoint = world.Join();
       endpoint.Connect();
       endpoint.Sync(before);
       endpoint.Disconnect();
       Process& after = world.Start();
       for (uint32_t i = 0; i < 6; ++i) after.Store(4000, i + 1);
       endpoint.Connect();
       endpoint.Sync(after);
       world.Expect(endpoint, after, State::kExact);
       EXPECT_EQ(endpoint.publisher().counts().restarts, 1u);
     }},
    {"RestartInPlaceIsSeenByTheSequence",
     [](World& world) {
       Process& before = Working(world);
       Endpoint& endpoint = world.Join();
       endpoint.Connect();
       endpoint.Sync(before);
       before.Store(4000, 8);
       endpoint.HearFrom(before, 4);
       world.Expect(endpoint, before, State::kExact);
       Process& after = world.Start();
       after.Store(2000, 1);
       after.Store(4000, 3);
       endpoint.HearFrom(after, 0);  // counts from 0 again, on the same connection
       endpoint.Sync(after);
       world.Expect(endpoint, after, State::kExact);
       EXPECT_EQ(endpoint.publisher().counts().restarts, 1u);
     }},
    {"RestartBehindASnapshotDropsIt",
     [](World& world) {
       const Process& before = Working(world);
       Endpoint& first = world.Join();
       first.Connect();
       first.Sync(before);
       std::string blocks;
       Publisher::Position position;
       first.Save(&blocks, &position);
       Process& after = world.Start();
       after.Store(1000, 2);
       Endpoint& second = world.Join();
       second.Restore(blocks, position);
       world.Expect(second, before, State::kConnecting);
       second.Connect();
       world.Expect(second, before, State::kSyncing);
       second.Sync(after);
       world.Expect(second, after, State::kExact);
     }},
    {"ASnapshotGoesOnWhereHistoryDoes",
     [](World& world) {
       Process& process = Working(world);
       Endpoint& first = world.Join();
       first.Connect();
       first.Sync(process);
       std::string blocks;
       Publisher::Position position;
       first.Save(&blocks, &position);
       process.Store(4000, 5);
       process.Remove(1000, 4, 1);
       process.oldest = 3;  // only the batch that the snapshot ends with, and what follows
       Endpoint& second = world.Join();
       second.Restore(blocks, position);
       second.Connect();
       process.Store(2000, 8);
       second.Hear(process, 6);
       second.Replay(process, 6);
       second.EndReplay();
       world.Expect(second, process, State::kExact);
       EXPECT_EQ(second.publisher().counts().missed, 0u);
     }},
    {"ASnapshotThatHistoryDoesNotReachIsDoubtful",
     [](World& world) {
       Process& process = Working(world);
       Endpoint& first = world.Join();
       first.Connect();
       first.Sync(process);
       std::string blocks;
       Publisher::Position position;
       first.Save(&blocks, &position);
       process.Remove(1000, 4, 1);
       process.Store(4000, 5);
       process.Store(4000, 6);
       process.oldest = 5;
       Endpoint& second = world.Join();
       second.Restore(blocks, position);
       second.Connect();
       second.Sync(process);
       world.Expect(second, process, State::kDegraded, Reason::kTruncatedHistory);
       EXPECT_EQ(world.Held(second, 1000).blocks, 4u) << "known from before, at less worth";
       EXPECT_EQ(world.Held(second, 4000).sure, 6u);
       EXPECT_EQ(second.publisher().counts().missed, 1u);
     }},
    {"ASnapshotOfALaterTimeMeansAnotherProcess",
     [](World& world) {
       Process& process = Working(world);
       Endpoint& first = world.Join();
       first.Connect();
       first.Sync(process);
       std::string blocks;
       Publisher::Position position;
       first.Save(&blocks, &position);
       position.sequence += 10;  // more than the engine has sent
       Endpoint& second = world.Join();
       second.Restore(blocks, position);
       second.Connect();
       second.Sync(process);
       world.Expect(second, process, State::kExact);
       EXPECT_EQ(second.publisher().counts().restarts, 1u);
     }},
    {"IpReuseByAnotherPodBeginsWithNothing",
     [](World& world) {
       const Process& before = Working(world);
       Endpoint& old = world.Join();
       old.Connect();
       old.Sync(before);
       const ChainIndex::Slot slot = old.holder().slot();
       old.Delete();
       ASSERT_TRUE(old.Leave());
       Process& after = world.Start();
       after.Store(1000, 1);
       after.Store(4000, 3);
       Endpoint& fresh = world.Join();
       EXPECT_EQ(fresh.holder().slot().index, slot.index) << "the same place, another turn";
       EXPECT_NE(fresh.holder().slot().generation, slot.generation);
       fresh.Connect();
       fresh.Sync(after);
       old.HearFrom(before, 0);  // late ones of the pod before
       world.Expect(fresh, after, State::kExact);
       EXPECT_EQ(old.holder().blocks(), 0u);
       EXPECT_EQ(old.publisher().state(), State::kGone);
     }},
    {"IpReuseBeforeTheEndpointHasLeftKeepsThemApart",
     [](World& world) {
       const Process& before = Working(world);
       Endpoint& old = world.Join();
       old.Connect();
       old.Sync(before);
       old.Delete();
       Process& after = world.Start();
       after.Store(1000, 2);
       Endpoint& fresh = world.Join();  // the old one still gives its blocks back
       fresh.Connect();
       fresh.Sync(after);
       world.Expect(fresh, after, State::kExact);
       ASSERT_TRUE(old.Leave());
       world.Expect(fresh, after, State::kExact);
       EXPECT_EQ(world.index.slots(), 1u);
     }},
    {"MoreRanksAreMorePublishers",
     [](World& world) {
       const Process& rank0 = Working(world);
       Endpoint& first = world.Join();
       first.Connect();
       first.Sync(rank0);
       Process& rank1 = world.Start();
       rank1.Store(1000, 2);
       Endpoint& second = world.Join();
       second.Connect();
       second.Sync(rank1);
       rank1.Remove(1000, 2, 1);
       second.HearFrom(rank1, 1);
       world.Expect(first, rank0, State::kExact);
       world.Expect(second, rank1, State::kExact);
     }},
    {"FewerRanksTakeTheirBlocksAlongAndNoOthers",
     [](World& world) {
       const Process& rank0 = Working(world);
       const Process& rank1 = Working(world);  // the same blocks
       Endpoint& first = world.Join();
       Endpoint& second = world.Join();
       for (Endpoint* endpoint : {&first, &second}) endpoint->Connect();
       first.Sync(rank0);
       second.Sync(rank1);
       second.Delete();
       ASSERT_TRUE(second.Leave());
       world.Expect(first, rank0, State::kExact);
       EXPECT_EQ(world.Held(second, 1000).blocks, 0u);
       EXPECT_EQ(world.index.slots(), 1u);
     }},
    {"AnotherRankCountIsAnotherProcessAtEachPort",
     [](World& world) {
       const Process& before = Working(world);
       Endpoint& first = world.Join();
       first.Connect();
       first.Sync(before);
       first.Disconnect();
       Process& rank0 = world.Start();
       Process& rank1 = world.Start();
       rank0.Store(1000, 3);
       rank1.Store(2000, 2);
       Endpoint& second = world.Join();
       first.Connect();
       second.Connect();
       first.Sync(rank0);
       second.Sync(rank1);
       world.Expect(first, rank0, State::kExact);
       world.Expect(second, rank1, State::kExact);
     }},
    {"ClearWithinTheHistory",
     [](World& world) {
       Process& process = Working(world);
       process.Clear();
       process.Store(4000, 2);
       Endpoint& endpoint = world.Join();
       endpoint.Connect();
       endpoint.Sync(process);
       world.Expect(endpoint, process, State::kExact);
     }},
    {"ClearDuringReplayComesInItsTurn",
     [](World& world) {
       Process& process = Working(world);
       Endpoint& endpoint = world.Join();
       endpoint.Connect();
       endpoint.Replay(process, 2);
       process.Clear();
       endpoint.Hear(process, 4);  // live, while history is half read
       process.Store(4000, 3);
       endpoint.Hear(process, 5);
       world.Expect(endpoint, process, State::kSyncing);
       endpoint.Replay(process, 4);
       endpoint.EndReplay();
       world.Expect(endpoint, process, State::kExact);
       EXPECT_EQ(world.Held(endpoint, 1000).blocks, 0u);
     }},
    {"ClearDuringReplayThatAlsoHasIt",
     [](World& world) {
       Process& process = Working(world);
       Endpoint& endpoint = world.Join();
       endpoint.Connect();
       endpoint.Replay(process, 2);
       process.Clear();
       endpoint.Hear(process, 4);
       process.Store(1000, 3);
       endpoint.Sync(process);
       endpoint.Hear(process, 5);
       world.Expect(endpoint, process, State::kExact);
       EXPECT_EQ(endpoint.publisher().counts().repeated, 2u) << "applied once";
     }},
    {"ClearDuringReplayThatNeverEnds",
     [](World& world) {
       Process& process = Working(world);
       process.oldest = 2;
       Endpoint& endpoint = world.Join();
       endpoint.Connect();
       endpoint.Replay(process, 3);
       process.Clear();
       endpoint.Hear(process, 4);
       process.Store(4000, 3);
       endpoint.Hear(process, 5);
       endpoint.Disconnect();  // what waits is taken; the clear makes it whole
       endpoint.Connect();
       endpoint.Sync(process);
       world.Expect(endpoint, process, State::kExact);
     }},
    {"DeleteWithQueuedEvents",
     [](World& world) {
       Process& process = Working(world);
       Endpoint& endpoint = world.Join();
       endpoint.Connect();
       endpoint.Replay(process, 2);
       process.Store(4000, 3);
       endpoint.Hear(process, 4);  // waits for history
       endpoint.Delete();
       endpoint.Replay(process, 4);
       endpoint.EndReplay();
       process.Store(4000, 5);
       endpoint.Hear(process, 5);
       EXPECT_EQ(endpoint.publisher().state(), State::kGone);
       EXPECT_EQ(endpoint.publisher().counts().batches, 2u) << "those before";
       ASSERT_TRUE(endpoint.Leave());
       endpoint.Connect();
       EXPECT_EQ(endpoint.publisher().state(), State::kGone);
       EXPECT_EQ(world.index.slots(), 0u);
       EXPECT_EQ(world.index.segments(), 0u);
     }},
    {"DeleteWithQueuedEventsAndAnotherInTheSlot",
     [](World& world) {
       Process& process = Working(world);
       Endpoint& old = world.Join();
       old.Connect();
       old.Replay(process, 1);
       old.Hear(process, 3);
       old.Delete();
       ASSERT_TRUE(old.Leave());
       Process& other = world.Start();
       other.Store(2000, 1);
       Endpoint& fresh = world.Join();
       EXPECT_EQ(fresh.holder().slot().index, old.holder().slot().index);
       fresh.Connect();
       fresh.Sync(other);
       old.Replay(process, 4);
       old.EndReplay();
       world.Expect(fresh, other, State::kExact);
     }},
};

class Lifecycle : public ::testing::TestWithParam<Row> {};

TEST_P(Lifecycle, WhatIsKnownIsWhatTheEngineHas) {
  World world;
  GetParam().happens(world);
  for (auto& endpoint : world.endpoints) endpoint.reset();
  world.index.Collect();
  EXPECT_EQ(world.index.slots(), 0u);
  EXPECT_EQ(world.index.segments(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Rows, Lifecycle, ::testing::ValuesIn(kRows),
                         [](const auto& row) { return std::string(row.param.name); });

}  // namespace
}  // namespace penstock::kvcache
