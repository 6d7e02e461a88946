#include "events/ingest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <numeric>
#include <thread>

#include "core/mutex.h"
#include "events/source.h"
#include "net/zmq.h"
#include "wire/msgpack.h"

namespace penstock::events {
namespace {

using kvcache::PublisherReason;
using kvcache::PublisherState;
using net::ZmqSocket;
using ::testing::HasSubstr;

constexpr uint32_t kBlock = 16;

std::string BigEndian(uint64_t value) {
  std::string out(8, '\0');
  for (size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(value >> (56 - 8 * i));
  return out;
}

// Tokens first, first + 1, ...
std::vector<uint32_t> Tokens(uint32_t first, size_t blocks) {
  std::vector<uint32_t> tokens(blocks * kBlock);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// A batch with one event: those blocks, from the root, with hashes that follow from the first
// token.
std::string Stored(uint32_t first, uint32_t blocks) {
  std::string out;
  wire::MsgpackWriter writer(&out);
  writer.Array(2);
  writer.Float(1);
  writer.Array(1);
  writer.Array(6);
  writer.String("BlockStored");
  writer.Array(blocks);
  for (uint32_t i = 0; i < blocks; ++i) writer.Uint(uint64_t{first} * 1000 + i + 1);
  writer.Nil();
  writer.Array(blocks * kBlock);
  for (const uint32_t token : Tokens(first, blocks)) writer.Uint(token);
  writer.Uint(kBlock);
  writer.Nil();
  return out;
}

// An engine that publishes; keeps all of its batches.
class Engine {
 public:
  explicit Engine(std::string events = "tcp://127.0.0.1:*", std::string replay = "") {
    Open(std::move(events), std::move(replay));
  }
  ~Engine() { Close(); }

  void Publish(const std::string& batch) {
    MutexLock lock(mutex_);
    Send(history_.size(), batch);
    history_.push_back(batch);
  }
  // Only history knows of it.
  void Lose(const std::string& batch) {
    MutexLock lock(mutex_);
    history_.push_back(batch);
  }
  // Another process in its place.
  void Restart() {
    const std::string events = events_, replay = replay_;
    Close();
    {
      MutexLock lock(mutex_);
      history_.clear();
    }
    Open(events, replay);
  }
  EventSource Describe(const std::string& name, uint32_t slot, bool has_replay) const {
    EventSource source;
    source.name = name;
    source.slot = slot;
    source.events = events_;
    if (has_replay) source.replay = replay_;
    return source;
  }
  int asked() const { return asked_.load(); }
  void AnswersShort() { answers_short_.store(true); }

 private:
  void Open(std::string events, std::string replay) {
    context_ = std::make_unique<net::ZmqContext>();
    live_ = ZmqSocket::Open(*context_, ZmqSocket::Type::kPublish, {}).value();
    router_ = ZmqSocket::Open(*context_, ZmqSocket::Type::kRouter, {}).value();
    Bind(*live_, events);
    Bind(*router_, replay.empty() ? "tcp://127.0.0.1:*" : replay);
    events_ = live_->bound_endpoint();
    replay_ = router_->bound_endpoint();
    stopping_.store(false);
    thread_ = std::thread([this] {
      while (!stopping_.load()) {
        Answer();
        ::poll(nullptr, 0, 5);
      }
    });
  }
  // The port may be taken for a moment still.
  static void Bind(ZmqSocket& socket, const std::string& endpoint) {
    for (int i = 0; i < 1000 && !socket.Bind(endpoint); ++i) ::poll(nullptr, 0, 10);
    ASSERT_NE(socket.bound_endpoint(), "");
  }
  void Close() {
    stopping_.store(true);
    if (thread_.joinable()) thread_.join();
    live_.reset();
    router_.reset();
    context_.reset();
  }
  void Send(uint64_t sequence, const std::string& batch) {
    const std::string number = BigEndian(sequence);
    live_->Send(std::vector<std::string_view>{"kv@e@m", number, batch});
  }
  void Answer() {
    for (std::vector<std::string> frames; router_->Receive(&frames);) {
      if (frames.size() != 3) continue;
      ++asked_;
      const std::string from = frames[2];
      MutexLock lock(mutex_);
      for (uint64_t i = 0; i < history_.size(); ++i) {
        const std::string number = BigEndian(i);
        if (number < from) continue;
        Reply(frames[0], "kv@e@m", number, history_[i]);
      }
      Reply(frames[0], "", BigEndian(~uint64_t{0}), "");
    }
  }
  void Reply(const std::string& who, std::string_view topic, const std::string& number,
             const std::string& batch) {
    std::vector<std::string_view> frames = {who, ""};
    if (!answers_short_.load()) frames.push_back(topic);
    frames.push_back(number);
    frames.push_back(batch);
    router_->Send(frames);
  }

  std::unique_ptr<net::ZmqContext> context_;
  std::unique_ptr<ZmqSocket> live_, router_;
  std::string events_, replay_;
  Mutex mutex_;
  std::vector<std::string> history_ GUARDED_BY(mutex_);
  std::atomic<int> asked_{0};
  std::atomic<bool> stopping_{false}, answers_short_{false};
  std::thread thread_;
};

bool Until(const std::function<bool()>& holds) {
  for (int i = 0; i < 3'000; ++i) {
    if (holds()) return true;
    ::poll(nullptr, 0, 10);
  }
  return false;
}

class IngestTest : public ::testing::Test {
 protected:
  void Start(Ingest::Options options = {}) {
    options.tick = milliseconds(20);
    auto started = Ingest::Start(caches, std::move(options));
    ASSERT_TRUE(started.has_value());
    ingest = std::move(*started);
  }
  SourceView ViewOf(const std::string& name) const {
    const auto views = ingest->Views();
    for (const SourceView& view : *views) {
      if (view.source.name == name) return view;
    }
    return {};
  }
  bool Becomes(const std::string& name, PublisherState state,
               PublisherReason reason = PublisherReason::kNone) const {
    return Until([&] {
      const SourceView view = ViewOf(name);
      return view.state == state && view.reason == reason;
    });
  }
  // Blocks of that prompt that the fleet's slot holds.
  uint32_t Held(uint32_t slot, uint32_t first, size_t blocks) {
    kvcache::ExactCaches::Asking asking(caches);
    const auto& entries = asking.table().entries;
    if (slot >= entries.size() || !entries[slot].is_known) return 0;
    std::vector<uint64_t> prompt;
    caches.keys().Append(Tokens(first, blocks), {}, &prompt);
    return asking.Match(caches.keys().Namespace("m", ""), prompt)[entries[slot].slot.index].blocks;
  }
  bool Holds(uint32_t slot, uint32_t first, uint32_t blocks) {
    return Until([&] { return Held(slot, first, blocks) == blocks; });
  }
  Ingest::Saved SaveAll() {
    std::promise<Ingest::Saved> all;
    ingest->Save([&](Ingest::Saved saved) { all.set_value(std::move(saved)); });
    return all.get_future().get();
  }
  Ingest::Options Named() const {
    Ingest::Options options;
    options.model = "m";
    return options;
  }

  kvcache::ExactCaches caches{{.index = {.block_tokens = kBlock, .max_slots = 8}}};
  std::unique_ptr<Ingest> ingest;
};

TEST_F(IngestTest, HistoryAndWhatFollowsAreInTheIndex) {
  for (const bool is_short : {false, true}) {
    Engine engine;
    if (is_short) engine.AnswersShort();
    engine.Lose(Stored(1000, 3));
    Ingest::Options options = Named();
    options.topic_filter = "of the bound socket alone";
    Start(std::move(options));
    ingest->SetEndpoints({engine.Describe("a", 5, true)});
    ASSERT_TRUE(Becomes("a", PublisherState::kExact));
    EXPECT_TRUE(Holds(5, 1000, 3));
    EXPECT_EQ(ViewOf("a").connections, 1u);
    EXPECT_FALSE(ViewOf("a").lag_s.has_value()) << "history is always old";
    engine.Publish(Stored(2000, 2));
    EXPECT_TRUE(Holds(5, 2000, 2));
    EXPECT_TRUE(Until([&] { return ViewOf("a").lag_s.value_or(0) > 1e9; })) << "it says 1970";
    EXPECT_EQ(Held(5, 3000, 2), 0u);
    EXPECT_TRUE(Until([&] { return ViewOf("a").tier_blocks[0] == 5; }));
    const auto table = caches.table();
    EXPECT_EQ(table->entries[5].publisher->state(), PublisherState::kExact);
    ingest.reset();
    EXPECT_EQ(caches.index().slots(), 0u) << "nothing stays behind";
  }
}

TEST_F(IngestTest, ALostBatchIsHadAgain) {
  Engine engine;
  Start(Named());
  ingest->SetEndpoints({engine.Describe("a", 0, true)});
  ASSERT_TRUE(Becomes("a", PublisherState::kExact));
  engine.Publish(Stored(1000, 1));
  ASSERT_TRUE(Holds(0, 1000, 1));
  engine.Lose(Stored(2000, 2));
  engine.Publish(Stored(3000, 1));
  EXPECT_TRUE(Holds(0, 2000, 2));
  EXPECT_TRUE(Holds(0, 3000, 1));
  EXPECT_TRUE(Becomes("a", PublisherState::kExact));
  EXPECT_TRUE(Until([&] { return ViewOf("a").gaps == 1; }));
}

TEST_F(IngestTest, WithoutHistoryALateListenerSaysSo) {
  Engine engine;
  engine.Lose(Stored(1000, 3));
  Start(Named());
  ingest->SetEndpoints({engine.Describe("a", 0, false)});
  ASSERT_TRUE(Until([&] {
    engine.Publish(Stored(2000, 2));
    ::poll(nullptr, 0, 20);
    return Held(0, 2000, 2) == 2;
  }));
  EXPECT_TRUE(Becomes("a", PublisherState::kDegraded, PublisherReason::kNoHistory));
  EXPECT_EQ(engine.asked(), 0);
}

TEST_F(IngestTest, AnEngineThatRestartsHasNothing) {
  Engine engine;
  engine.Lose(Stored(1000, 3));
  engine.Lose(Stored(2000, 3));
  Start(Named());
  ingest->SetEndpoints({engine.Describe("a", 0, true)});
  ASSERT_TRUE(Holds(0, 2000, 3));
  engine.Restart();
  EXPECT_TRUE(Until([&] { return Held(0, 1000, 3) == 0; }));
  EXPECT_TRUE(Becomes("a", PublisherState::kExact));
  engine.Publish(Stored(3000, 1));
  EXPECT_TRUE(Holds(0, 3000, 1));
  EXPECT_TRUE(Until([&] { return ViewOf("a").restarts == 1; }));
}

TEST_F(IngestTest, WhoIsNoPublisherIsTriedAgainWithPauses) {
  auto context = std::make_unique<net::ZmqContext>();
  auto other = ZmqSocket::Open(*context, ZmqSocket::Type::kRouter, {}).value();
  ASSERT_TRUE(other->Bind("tcp://127.0.0.1:*"));
  EventSource source;
  source.name = "a";
  source.events = other->bound_endpoint();
  source.is_guess = true;
  Start(Named());
  ingest->SetEndpoints({source});
  ASSERT_TRUE(Until([&] { return ViewOf("a").refused >= 2; }));
  EXPECT_EQ(ViewOf("a").state, PublisherState::kConnecting);
  EXPECT_EQ(ViewOf("a").connections, 0u);
  other.reset();
  context.reset();
  Engine engine(source.events);
  ASSERT_TRUE(Until([&] { return ViewOf("a").connections == 1; }));
  EXPECT_LT(ViewOf("a").refused, 10u) << "200 ms, 400 ms, ...";
  engine.Publish(Stored(1000, 1));
  EXPECT_TRUE(Holds(0, 1000, 1));
  EXPECT_TRUE(Becomes("a", PublisherState::kExact));
}

TEST_F(IngestTest, EndpointsComeAndGo) {
  Engine first, second;
  first.Lose(Stored(1000, 2));
  second.Lose(Stored(1000, 4));
  Start(Named());
  ingest->SetEndpoints({first.Describe("a", 0, true), second.Describe("b", 1, true)});
  ASSERT_TRUE(Holds(0, 1000, 2));
  ASSERT_TRUE(Holds(1, 1000, 4));
  ingest->SetEndpoints({second.Describe("b", 1, true)});
  EXPECT_TRUE(Until([&] { return caches.index().slots() == 1 && Held(0, 1000, 2) == 0; }));
  EXPECT_EQ(Held(1, 1000, 4), 4u) << "the other one's stays";
  // Somebody else in its slot.
  ingest->SetEndpoints({second.Describe("c", 1, true)});
  EXPECT_TRUE(Becomes("c", PublisherState::kExact));
  EXPECT_TRUE(Until([&] { return caches.index().slots() == 1; }));
  EXPECT_TRUE(Holds(1, 1000, 4));
  ingest->SetEndpoints({});
  EXPECT_TRUE(Until([&] { return caches.index().slots() == 0; }));
}

TEST_F(IngestTest, AnotherListenerGoesOnFromWhatWasSaved) {
  Engine first, second;
  first.Publish(Stored(1000, 3));
  second.Publish(Stored(2000, 2));
  const std::vector<EventSource> sources = {first.Describe("a", 0, true),
                                            second.Describe("b", 1, true)};
  Start(Named());
  ingest->SetEndpoints(sources);
  ASSERT_TRUE(Holds(0, 1000, 3));
  ASSERT_TRUE(Holds(1, 2000, 2));
  ASSERT_TRUE(Becomes("a", PublisherState::kExact));
  ASSERT_TRUE(Becomes("b", PublisherState::kExact));
  Ingest::Saved saved = SaveAll();
  ASSERT_EQ(saved.size(), 2u);
  EXPECT_EQ(saved[0].name, "a");
  EXPECT_EQ(saved[0].position.sequence, 0u);
  EXPECT_EQ(saved[0].block_count, 3u);
  ingest.reset();

  first.Lose(Stored(3000, 1));
  second.Restart();
  second.Lose(Stored(4000, 1));
  saved.push_back({.name = "c", .events = "tcp://10.0.0.9:1"});
  Start(Named());
  ingest->Restore(std::move(saved));
  ingest->SetEndpoints(sources);
  ASSERT_TRUE(Becomes("a", PublisherState::kExact));
  EXPECT_TRUE(Holds(0, 1000, 3));
  EXPECT_TRUE(Holds(0, 3000, 1));
  EXPECT_EQ(ViewOf("a").restored, 3u);
  EXPECT_EQ(ViewOf("a").batches, 1u) << "the one that came since";
  EXPECT_TRUE(Holds(1, 4000, 1)) << "another process";
  EXPECT_TRUE(Becomes("b", PublisherState::kExact));
  EXPECT_EQ(Held(1, 2000, 2), 0u);
  EXPECT_EQ(ingest->restored().publishers, 2u);
  EXPECT_EQ(ingest->restored().blocks, 5u);
  EXPECT_EQ(ingest->restored().refused, 0u);
}

TEST_F(IngestTest, WhatWasSavedOfAnotherPlaceOrIsBrokenIsNotUsed) {
  Engine engine;
  engine.Publish(Stored(1000, 3));
  const EventSource source = engine.Describe("a", 0, true);
  for (const bool is_broken : {false, true}) {
    Start(Named());
    kvcache::SavedPublisher saved{.name = "a", .events = "tcp://10.0.0.9:1", .blocks = "broken"};
    if (is_broken) saved.events = source.events;
    ingest->Restore({saved});
    ingest->SetEndpoints({source});
    ASSERT_TRUE(Holds(0, 1000, 3));
    ASSERT_TRUE(Becomes("a", PublisherState::kExact));
    EXPECT_EQ(ingest->restored().publishers, 0u);
    EXPECT_EQ(ingest->restored().refused, is_broken ? 1u : 0u);
    ingest.reset();
  }
}

TEST_F(IngestTest, SeveralMaySaveAtOnceAndNothingIsThereToSave) {
  Start(Named());
  std::atomic<int> saved{0};
  for (int i = 0; i < 5; ++i) {
    ingest->Save([&](Ingest::Saved all) { saved += all.empty() ? 1 : 100; });
  }
  EXPECT_TRUE(Until([&] { return saved.load() == 5; }));
}

TEST_F(IngestTest, MoreThanTheIndexHasSlotsForAreLeftOut) {
  Engine engine;
  Start(Named());
  std::vector<EventSource> sources;
  for (uint32_t i = 0; i < 10; ++i) {
    sources.push_back(engine.Describe("e" + std::to_string(i), i, true));
  }
  ingest->SetEndpoints(sources);
  EXPECT_TRUE(Until([&] { return ingest->Views()->size() == 8; }));
}

TEST_F(IngestTest, SilenceDriftAndCapacityAreTold) {
  std::atomic<bool> is_busy{false};
  Ingest::Options options = Named();
  options.publisher.stale_after = milliseconds(50);
  options.is_busy = [&](uint32_t) { return is_busy.load(); };
  Engine engine;
  Start(std::move(options));
  ingest->SetEndpoints({engine.Describe("a", 3, true)});
  ASSERT_TRUE(Becomes("a", PublisherState::kExact));
  is_busy.store(true);
  EXPECT_TRUE(Becomes("a", PublisherState::kStale, PublisherReason::kSilent));
  is_busy.store(false);
  engine.Publish(Stored(1000, 3));
  EXPECT_TRUE(Becomes("a", PublisherState::kExact));
  caches.TellDrift(3, true);
  EXPECT_TRUE(Becomes("a", PublisherState::kDegraded, PublisherReason::kDrift));
  caches.TellDrift(3, false);
  EXPECT_TRUE(Becomes("a", PublisherState::kExact));
}

TEST_F(IngestTest, EnginesMayConnectToTheRouter) {
  Ingest::Options options = Named();
  options.bind = "tcp://127.0.0.1:*";
  options.topic_filter = "kv@";
  Start(std::move(options));
  EventSource source;
  source.name = "a";
  source.address = "10.0.0.7:8000";
  ingest->SetEndpoints({source});
  net::ZmqContext context;
  const auto engine = ZmqSocket::Open(context, ZmqSocket::Type::kPublish, {}).value();
  ASSERT_TRUE(engine->Connect(ingest->bound_endpoint()));
  uint64_t sequence = 0;
  const auto send = [&](std::string_view topic, size_t number_bytes) {
    const std::string number = BigEndian(sequence).substr(8 - number_bytes);
    engine->Send(std::vector<std::string_view>{topic, number, Stored(1000, 2)});
  };
  ASSERT_TRUE(Until([&] {
    send("kv@10.0.0.7:8000@org/model@v1", 8);
    ++sequence;
    ::poll(nullptr, 0, 10);
    return Held(0, 1000, 2) == 2;
  }));
  send("kv@10.0.0.8:8000@m", 8);
  EXPECT_TRUE(Until([&] { return ingest->unknown_topics() == 1; }));
  send("kv@10.0.0.7:8000@m", 4);
  EXPECT_TRUE(Until([&] { return ingest->malformed_messages() == 1; }));
}

TEST_F(IngestTest, ABadAddressToBindIsNamed) {
  Ingest::Options options;
  options.bind = "tcp://nowhere";
  EXPECT_THAT(Ingest::Start(caches, options).error().message, HasSubstr("tcp://nowhere"));
}

TEST(Topics, NameAnAddress) {
  EXPECT_EQ(AddressOf("kv@10.0.0.7:8000@model"), "10.0.0.7:8000");
  EXPECT_EQ(AddressOf("kv@10.0.0.7:8000@org/model@v1"), "10.0.0.7:8000");
  EXPECT_EQ(AddressOf("kv@pod"), "kv@pod");
  EXPECT_EQ(AddressOf(""), "");
}

}  // namespace
}  // namespace penstock::events
