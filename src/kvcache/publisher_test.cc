#include "kvcache/publisher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/random.h"
#include "wire/msgpack.h"

namespace penstock::kvcache {
namespace {

using State = PublisherState;
using Reason = PublisherReason;

constexpr Time kBegin = Time(seconds(1000));

// The blocks that the events leave, by their hashes.
class Blocks : public EventSink {
 public:
  void Apply(const KvEvent& event) override {
    switch (event.type) {
      case KvEvent::Type::kStored:
        held.insert(event.hashes.begin(), event.hashes.end());
        return;
      case KvEvent::Type::kRemoved:
        for (const uint64_t hash : event.hashes) held.erase(hash);
        return;
      case KvEvent::Type::kCleared:
        held.clear();
    }
  }
  void Clear() override { held.clear(); }
  void MarkGap(Time) override { ++gaps; }
  bool HasTurnedOver() const override { return turned_over; }

  std::set<uint64_t> held;
  int gaps = 0;
  bool turned_over = false;
};

// A batch of one event: stores or removes a block, or clears.
std::string Batch(const char* type, uint64_t hash, double timestamp = 1) {
  std::string out;
  wire::MsgpackWriter writer(&out);
  writer.Array(2);
  writer.Float(timestamp);
  writer.Array(1);
  const bool is_clear = std::string_view(type) == "AllBlocksCleared";
  writer.Array(is_clear ? 1 : 2);
  writer.String(type);
  if (is_clear) return out;
  writer.Array(1);
  writer.Uint(hash);
  return out;
}
std::string Store(uint64_t hash) { return Batch("BlockStored", hash); }
std::string StoreIn(const char* medium) {
  std::string out;
  wire::MsgpackWriter writer(&out);
  writer.Array(2);
  writer.Float(1);
  writer.Array(1);
  writer.Map(3);
  writer.String("type");
  writer.String("BlockStored");
  writer.String("block_hashes");
  writer.Array(1);
  writer.Uint(7);
  writer.String("medium");
  writer.String(medium);
  return out;
}
std::string Remove(uint64_t hash) { return Batch("BlockRemoved", hash); }

class PublisherTest : public ::testing::Test {
 protected:
  void Start(bool has_replay, size_t max_waiting_bytes = 1 << 20) {
    Publisher::Options options;
    options.has_replay = has_replay;
    options.max_waiting_bytes = max_waiting_bytes;
    publisher = std::make_unique<Publisher>(options, blocks);
    publisher->OnConnected(now);
  }
  void Expect(State state, Reason reason) const {
    EXPECT_EQ(PublisherStateName(publisher->state()), PublisherStateName(state));
    EXPECT_EQ(PublisherReasonName(publisher->reason()), PublisherReasonName(reason));
  }
  void ExpectHeld(const std::set<uint64_t>& want) const { EXPECT_EQ(blocks.held, want); }

  Blocks blocks;
  std::unique_ptr<Publisher> publisher;
  Time now = kBegin;
};

TEST_F(PublisherTest, FromTheFirstBatchOnItIsExact) {
  Start(false);
  Expect(State::kConnecting, Reason::kNone);
  publisher->OnBatch(0, Store(7), now);
  publisher->OnBatch(1, Store(8), now);
  publisher->OnBatch(2, Remove(7), now);
  Expect(State::kExact, Reason::kNone);
  ExpectHeld({8});
  EXPECT_EQ(publisher->last_sequence(), 2u);
}

TEST_F(PublisherTest, WhetherTheFirstIs1ItsHistoryTells) {
  Start(true);
  publisher->TakeRequest();
  publisher->OnReplayEnd(now);
  Expect(State::kExact, Reason::kNone);
  publisher->OnBatch(1, Store(7), now);
  EXPECT_EQ(publisher->TakeRequest(), 0u);
  publisher->OnReplayed(1, Store(7), now);
  publisher->OnReplayEnd(now);
  Expect(State::kExact, Reason::kNone);
  ExpectHeld({7});

  Start(true);
  publisher->TakeRequest();
  publisher->OnReplayEnd(now);
  publisher->OnBatch(1, Store(7), now);
  publisher->TakeRequest();
  publisher->OnReplayEnd(now);  // it has none after all
  Expect(State::kDegraded, Reason::kNoHistory);
  EXPECT_EQ(publisher->TakeRequest(), std::nullopt);
}

TEST_F(PublisherTest, WithoutHistoryALateListenerIsDegraded) {
  Start(false);
  publisher->OnBatch(40, Store(7), now);
  Expect(State::kDegraded, Reason::kNoHistory);
  ExpectHeld({7});
  publisher->OnBatch(41, Batch("AllBlocksCleared", 0), now);
  Expect(State::kExact, Reason::kNone);
  ExpectHeld({});
}

TEST_F(PublisherTest, HistoryComesFirstAndLiveBatchesWait) {
  Start(true);
  Expect(State::kSyncing, Reason::kNone);
  EXPECT_EQ(publisher->TakeRequest(), 0u);
  EXPECT_EQ(publisher->TakeRequest(), std::nullopt);
  publisher->OnBatch(2, Remove(7), now);
  ExpectHeld({});
  publisher->OnReplayed(0, Store(7), now);
  publisher->OnReplayed(1, Store(8), now);
  publisher->OnReplayed(2, Remove(7), now);
  publisher->OnBatch(3, Store(9), now);
  publisher->OnReplayEnd(now);
  Expect(State::kExact, Reason::kNone);
  ExpectHeld({8, 9});
  EXPECT_EQ(publisher->counts().repeated, 1u);
}

TEST_F(PublisherTest, AnEngineThatHasSaidNothingHasNothing) {
  Start(true);
  publisher->TakeRequest();
  publisher->OnReplayEnd(now);
  Expect(State::kExact, Reason::kNone);
  publisher->OnBatch(0, Store(7), now);
  Expect(State::kExact, Reason::kNone);
}

TEST_F(PublisherTest, TruncatedHistoryIsTakenForWhatItIs) {
  Start(true);
  publisher->TakeRequest();
  publisher->OnReplayed(500, Store(7), now);
  publisher->OnReplayed(501, Store(8), now);
  publisher->OnReplayEnd(now);
  Expect(State::kDegraded, Reason::kTruncatedHistory);
  ExpectHeld({7, 8});
  EXPECT_EQ(blocks.gaps, 1);
  publisher->OnBatch(502, Store(9), now);
  ExpectHeld({7, 8, 9});
  blocks.turned_over = true;
  publisher->OnTick(now, true);
  Expect(State::kExact, Reason::kNone);
}

TEST_F(PublisherTest, AGapIsAskedForAgain) {
  Start(true);
  publisher->TakeRequest();
  publisher->OnReplayEnd(now);
  publisher->OnBatch(0, Store(7), now);
  publisher->OnBatch(3, Store(9), now);
  Expect(State::kSyncing, Reason::kNone);
  EXPECT_EQ(publisher->TakeRequest(), 1u);
  publisher->OnReplayed(1, Store(8), now);
  publisher->OnReplayed(2, Remove(7), now);
  publisher->OnReplayed(3, Store(9), now);
  publisher->OnReplayEnd(now);
  Expect(State::kExact, Reason::kNone);
  ExpectHeld({8, 9});
  EXPECT_EQ(publisher->counts().gaps, 1u);
  EXPECT_EQ(publisher->counts().missed, 0u);
}

TEST_F(PublisherTest, AGapThatCannotBeHadAgainDegrades) {
  Start(false);
  publisher->OnBatch(0, Store(7), now);
  publisher->OnBatch(3, Store(9), now);
  Expect(State::kDegraded, Reason::kGap);
  ExpectHeld({7, 9});
  EXPECT_EQ(publisher->counts().missed, 2u);
  EXPECT_EQ(blocks.gaps, 1);
}

TEST_F(PublisherTest, WhoDoesNotAnswerIsGivenUpAndAskedAgainLater) {
  Start(true);
  EXPECT_EQ(publisher->TakeRequest(), 0u);
  publisher->OnBatch(9, Store(7), now);
  now += seconds(4);
  publisher->OnTick(now, false);
  Expect(State::kSyncing, Reason::kNone);
  now += seconds(2);
  publisher->OnTick(now, false);
  Expect(State::kDegraded, Reason::kNoReply);
  ExpectHeld({7});
  publisher->OnBatch(12, Store(8), now);
  Expect(State::kDegraded, Reason::kGap);
  EXPECT_EQ(publisher->TakeRequest(), std::nullopt) << "not that soon";
  now += seconds(31);
  publisher->OnBatch(15, Store(9), now);
  EXPECT_EQ(publisher->TakeRequest(), 13u);
}

TEST_F(PublisherTest, WhoKeepsNoHistoryIsKnownFromItsFirstBatchOn) {
  Start(true);  // nobody answers where history was asked for
  publisher->TakeRequest();
  now += seconds(6);
  publisher->OnTick(now, false);
  Expect(State::kConnecting, Reason::kNoReply);
  publisher->OnBatch(0, Store(7), now);
  Expect(State::kExact, Reason::kNone);
  publisher->OnBatch(1, Store(8), now);
  Expect(State::kExact, Reason::kNone);
  ExpectHeld({7, 8});
  // While it was asked.
  Start(true);
  publisher->TakeRequest();
  publisher->OnBatch(0, Store(7), now);
  now += seconds(6);
  publisher->OnTick(now, false);
  Expect(State::kExact, Reason::kNone);
}

TEST_F(PublisherTest, ARestartForgetsWhatWas) {
  for (const bool has_replay : {false, true}) {
    blocks.held.clear();
    Start(has_replay);
    if (has_replay) {
      publisher->TakeRequest();
      publisher->OnReplayEnd(now);
    }
    publisher->OnBatch(0, Store(7), now);
    publisher->OnBatch(1, Store(8), now);
    publisher->OnBatch(0, Store(9), now);
    if (has_replay) {
      EXPECT_EQ(publisher->TakeRequest(), 0u);
      publisher->OnReplayed(0, Store(9), now);
      publisher->OnReplayEnd(now);
    }
    Expect(State::kExact, Reason::kNone);
    ExpectHeld({9});
    EXPECT_EQ(publisher->counts().restarts, 1u);
  }
}

TEST_F(PublisherTest, ToldOfATierItKnowsSoUntilAnotherProcessIsThere) {
  Start(false);
  publisher->OnBatch(0, StoreIn("GPU"), now);
  EXPECT_FALSE(publisher->tells_tiers());
  publisher->OnBatch(1, StoreIn("CPU"), now);
  EXPECT_TRUE(publisher->tells_tiers());
  publisher->OnBatch(2, Batch("AllBlocksCleared", 0), now);
  EXPECT_TRUE(publisher->tells_tiers());
  publisher->OnBatch(0, StoreIn("GPU"), now);
  EXPECT_FALSE(publisher->tells_tiers());
  Start(false);
  publisher->Restore({.sequence = 5, .tells_tiers = true});
  EXPECT_TRUE(publisher->tells_tiers());
}

TEST_F(PublisherTest, AfterALostConnectionItAsksWhetherItIsTheSame) {
  Start(true);
  publisher->TakeRequest();
  publisher->OnReplayEnd(now);
  publisher->OnBatch(0, Store(7), now);
  publisher->OnBatch(1, Store(8), now);
  const auto reconnect = [&] {
    publisher->OnDisconnected(now);
    Expect(State::kConnecting, Reason::kNone);
    publisher->OnConnected(now);
    EXPECT_EQ(publisher->TakeRequest(), 1u) << "the last one that it has";
  };
  reconnect();
  publisher->OnReplayed(1, Store(8), now);
  publisher->OnReplayEnd(now);
  Expect(State::kExact, Reason::kNone);
  ExpectHeld({7, 8});
  EXPECT_EQ(publisher->counts().restarts, 0u);

  reconnect();  // another process, with another batch of that number
  publisher->OnReplayed(1, Store(9), now);
  EXPECT_EQ(publisher->TakeRequest(), 0u);
  publisher->OnReplayed(0, Store(6), now);
  publisher->OnReplayed(1, Store(9), now);
  publisher->OnReplayEnd(now);
  Expect(State::kExact, Reason::kNone);
  ExpectHeld({6, 9});

  reconnect();  // another process, which has not sent that many
  publisher->OnReplayEnd(now);
  EXPECT_EQ(publisher->TakeRequest(), 0u);
  publisher->OnReplayEnd(now);
  Expect(State::kExact, Reason::kNone);
  ExpectHeld({});
  EXPECT_EQ(publisher->counts().restarts, 2u);
}

TEST_F(PublisherTest, WithoutHistoryALostConnectionIsAGap) {
  Start(false);
  publisher->OnBatch(0, Store(7), now);
  publisher->OnDisconnected(now);
  publisher->OnConnected(now);
  Expect(State::kDegraded, Reason::kGap);
  ExpectHeld({7});
}

TEST_F(PublisherTest, NoMoreWaitsThanMay) {
  Start(true, 1000);
  publisher->TakeRequest();
  constexpr uint64_t kFirst = 5;  // that came live
  uint64_t sequence = kFirst;
  for (; publisher->state() == State::kSyncing && sequence < 1000; ++sequence) {
    publisher->OnBatch(sequence, Store(sequence), now);
  }
  EXPECT_LT(sequence, 100u);
  Expect(State::kDegraded, Reason::kOverflow);
  EXPECT_EQ(blocks.held.size(), sequence - kFirst) << "none of them is lost";
}

TEST_F(PublisherTest, WhatIsNotUnderstoodDegrades) {
  Start(false);
  publisher->OnBatch(0, Store(7), now);
  publisher->OnBatch(1, Batch("BlockMoved", 7), now);
  Expect(State::kDegraded, Reason::kUndecodable);
  EXPECT_EQ(publisher->counts().faults[static_cast<size_t>(EventFault::kUnknownType)], 1u);
  publisher->OnBatch(2, "\xc1", now);
  EXPECT_EQ(publisher->counts().broken, 1u);
  publisher->OnBatch(3, Store(8), now);
  ExpectHeld({7, 8});
}

TEST_F(PublisherTest, SilenceOfAnEngineThatWorksIsTold) {
  Start(false);
  publisher->OnBatch(0, Store(7), now);
  now += seconds(60);
  publisher->OnTick(now, false);
  Expect(State::kExact, Reason::kNone);
  publisher->OnTick(now, true);
  Expect(State::kStale, Reason::kSilent);
  publisher->OnBatch(1, Store(8), now);
  Expect(State::kExact, Reason::kNone);
}

TEST_F(PublisherTest, DriftDegradesUntilItIsOver) {
  Start(false);
  publisher->OnBatch(0, Store(7), now);
  publisher->OnDrift(true);
  Expect(State::kDegraded, Reason::kDrift);
  publisher->OnTick(now, true);
  Expect(State::kDegraded, Reason::kDrift);
  publisher->OnDrift(false);
  Expect(State::kExact, Reason::kNone);
}

TEST_F(PublisherTest, WhoIsGoneStaysSo) {
  Start(true);
  publisher->OnGone();
  publisher->OnBatch(0, Store(7), now);
  publisher->OnReplayed(0, Store(7), now);
  publisher->OnReplayEnd(now);
  publisher->OnConnected(now);
  publisher->OnDisconnected(now);
  publisher->OnTick(now, true);
  publisher->OnDrift(true);
  Expect(State::kGone, Reason::kNone);
  ExpectHeld({});
  EXPECT_EQ(publisher->TakeRequest(), std::nullopt);
}

TEST_F(PublisherTest, TheReservedNumberIsNoBatch) {
  Start(false);
  publisher->OnBatch(Publisher::kEndOfReplay, Store(7), now);
  Expect(State::kConnecting, Reason::kNone);
}

// --- against an engine that publishes over lines that lose

// An engine with a ring of its last batches.
struct Engine {
  explicit Engine(Random* r) : random(r) {}

  void Step() {
    std::string batch;
    const uint64_t hash = random->Below(40);
    if (random->Below(50) == 0) {
      batch = Batch("AllBlocksCleared", 0, ++clock);
      held.clear();
    } else if (held.contains(hash)) {
      batch = Batch("BlockRemoved", hash, ++clock);
      held.erase(hash);
    } else {
      batch = Batch("BlockStored", hash, ++clock);
      held.insert(hash);
    }
    ring[next++] = batch;
    if (ring.size() > ring_size) ring.erase(ring.begin());
    // A history without the first batch alone looks as one that begins at 1.
    if (first == 0 && ring.begin()->first == 1) ring.erase(ring.begin());
  }
  void Restart() {
    held.clear();
    ring.clear();
    next = first;
  }

  Random* random;
  double clock = 0;
  uint64_t first = 0, next = 0;
  size_t ring_size = 20;
  std::map<uint64_t, std::string> ring;
  std::set<uint64_t> held;
};

// Whoever is called exact is so: whatever is lost, restarts, is asked for late or not at all.
TEST(PublisherProperty, ExactIsExact) {
  uint64_t exact = 0, rounds = 0;
  EXPECT_TRUE(rc::check([&] {
    Random random(*rc::gen::arbitrary<uint64_t>());
    Blocks blocks;
    Publisher::Options options;
    options.has_replay = random.Below(4) != 0;
    options.max_waiting_bytes = random.Below(2) == 0 ? 600 : 1 << 20;
    Publisher publisher(options, blocks);
    Engine engine(&random);
    engine.first = engine.next = random.Below(2);
    engine.ring_size = 2 + random.Below(40);
    Time now = kBegin;
    bool is_connected = false;
    std::deque<std::pair<uint64_t, std::string>> answer;  // on its way
    bool answers = false;
    for (int i = 0; i < 400; ++i) {
      now += milliseconds(random.Below(400));
      const uint64_t what = random.Below(100);
      if (what < 2) {
        engine.Restart();
        answers = false;
        if (is_connected) publisher.OnDisconnected(now);
        is_connected = false;
      } else if (what < 5) {
        if (is_connected) publisher.OnDisconnected(now);
        is_connected = false;
        answers = false;
      } else if (what < 15 && !is_connected) {
        is_connected = true;
        publisher.OnConnected(now);
      } else if (what < 60) {
        engine.Step();
        const uint64_t sequence = engine.next - 1;
        const bool is_lost = random.Below(15) == 0;
        if (is_connected && !is_lost) publisher.OnBatch(sequence, engine.ring.at(sequence), now);
      } else if (what < 62) {
        publisher.OnTick(now, false);
      }
      if (const auto from = publisher.TakeRequest()) {
        RC_ASSERT(is_connected);
        answer.clear();
        answers = random.Below(10) != 0;
        for (const auto& batch : engine.ring) {
          if (batch.first >= *from) answer.push_back(batch);
        }
      }
      if (answers && random.Below(3) == 0) {
        if (answer.empty()) {
          answers = false;
          publisher.OnReplayEnd(now);
        } else {
          const auto [sequence, payload] = answer.front();
          answer.pop_front();
          publisher.OnReplayed(sequence, payload, now);
        }
      }
      ++rounds;
      if (publisher.state() != State::kExact) continue;
      ++exact;
      // Lost batches at the end are not known to be missing yet.
      const auto last = publisher.last_sequence();
      if ((last ? *last + 1 : engine.first) != engine.next) continue;
      if (engine.next == engine.first) RC_ASSERT(blocks.held.empty());
      RC_ASSERT(blocks.held == engine.held);
    }
  }));
  EXPECT_GT(exact, rounds / 20) << "and they are not few";
}

}  // namespace
}  // namespace penstock::kvcache
