#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "kvcache/exact_caches.h"
#include "kvcache/holder.h"
#include "plugins/testing.h"
#include "wire/msgpack.h"

namespace penstock::plugins {
namespace {

using kvcache::ExactCaches;
using kvcache::PublisherState;
using kvcache::SlotTable;
using model::MatchSource;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Made;
using testing::TestPool;

constexpr Time kNow = Time(seconds(1000));
constexpr std::string_view kType = "precise-prefix-cache-producer";

using Tokens = std::vector<uint32_t>;

Tokens Counting(uint32_t first, size_t count) {
  Tokens tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = first + static_cast<uint32_t>(i);
  return tokens;
}

// What one stored event says beside its blocks.
struct Told {
  std::string medium = "GPU";
  std::string adapter;
  std::string salt_key;  // among the extra keys of the first block
  uint32_t block_size = 16;
};

// An engine that publishes, and who listens to it.
class Engine : public kvcache::EventSink {
 public:
  explicit Engine(ExactCaches& caches)
      : holder_(caches.index(), caches.keys(), *caches.index().Join(), {}),
        publisher_(std::make_shared<kvcache::Publisher>(kvcache::Publisher::Options(), *this)) {
    publisher_->OnConnected(kNow);
    Publish([](wire::MsgpackWriter& out) {  // of a process that has nothing
      out.Array(1);
      out.String("AllBlocksCleared");
    });
  }
  ~Engine() override {
    while (!holder_.Leave(1000)) {
    }
  }
  void Apply(const kvcache::KvEvent& event) override { holder_.Apply(event, kNow); }
  void Clear() override { holder_.Apply({.type = kvcache::KvEvent::Type::kCleared}, kNow); }
  void MarkGap(Time now) override { holder_.MarkGap(now); }
  bool HasTurnedOver() const override { return false; }

  // Whole blocks of a prompt, from its beginning, as vLLM says it.
  void Store(const Tokens& tokens, const Told& told = {}) {
    const size_t blocks = tokens.size() / told.block_size;
    Publish([&](wire::MsgpackWriter& out) {
      out.Map(9);
      out.String("type");
      out.String("BlockStored");
      out.String("block_hashes");
      out.Array(static_cast<uint32_t>(blocks));
      for (size_t i = 0; i < blocks; ++i) out.Uint(++last_hash_);
      out.String("parent_block_hash");
      out.Nil();
      out.String("token_ids");
      out.Array(static_cast<uint32_t>(blocks * told.block_size));
      for (size_t i = 0; i < blocks * told.block_size; ++i) out.Uint(tokens[i]);
      out.String("block_size");
      out.Uint(told.block_size);
      out.String("lora_id");
      told.adapter.empty() ? out.Nil() : out.Uint(1);
      out.String("medium");
      out.String(told.medium);
      out.String("lora_name");
      told.adapter.empty() ? out.Nil() : out.String(told.adapter);
      out.String("extra_keys");
      out.Array(static_cast<uint32_t>(blocks));
      for (size_t i = 0; i < blocks; ++i) {
        const bool has_salt = i == 0 && !told.salt_key.empty();
        const uint32_t keys = (told.adapter.empty() ? 0 : 1) + (has_salt ? 1 : 0);
        if (keys == 0) {
          out.Nil();
          continue;
        }
        out.Array(keys);
        if (!told.adapter.empty()) out.String(told.adapter);
        if (has_salt) out.String(told.salt_key);
      }
    });
  }
  void LoseABatch() { ++sequence_; }

  SlotTable::Entry entry() const { return {true, holder_.slot(), publisher_}; }
  kvcache::Publisher& publisher() { return *publisher_; }

 private:
  template <class F>
  void Publish(F&& write) {
    std::string payload;
    wire::MsgpackWriter out(&payload);
    out.Array(2);
    out.Float(1);
    out.Array(1);
    write(out);
    publisher_->OnBatch(sequence_++, payload, kNow);
  }

  kvcache::Holder holder_;
  std::shared_ptr<kvcache::Publisher> publisher_;
  uint64_t sequence_ = 0;
  uint64_t last_hash_ = 0;
};

struct Request {
  Tokens tokens;
  std::string salt = "";
  std::string model = "llama";
  uint64_t extra_tokens = 0;
};

class PreciseTest : public ::testing::Test {
 protected:
  PreciseTest() { Start(); }

  void Start(std::string_view parameters = "{}", size_t size = 3, std::string_view type = kType) {
    engines_.clear();
    producer_.reset();
    pool_ = std::make_unique<TestPool>(size);
    producer_ = std::make_unique<Made<sched::Producer>>(type, parameters);
    (*producer_)->SetIndex(sched::DataKey::kPrefixMatch, 0);
    pool_->columns.prefix.resize(1);
    for (const auto& endpoint : pool_->pool.endpoints) (*producer_)->OnEndpointChanged(endpoint);
  }
  sched::Producer& producer() { return **producer_; }
  ExactCaches& caches() { return producer().knows_caches()->caches(); }

  Engine& Listen(uint32_t column) {
    auto& engine = engines_[pool_->pool.slots[column]];
    engine = std::make_unique<Engine>(caches());
    auto table = std::make_shared<SlotTable>();
    for (const auto& [slot, listened] : engines_) {
      if (slot >= table->entries.size()) table->entries.resize(slot + 1);
      table->entries[slot] = listened->entry();
    }
    caches().SetTable(table);
    return *engine;
  }
  sched::RequestContext Prepare(const Request& request) {
    sched::RequestContext context;
    context.prefix_keys.resize(1);
    context.request.target_model = request.model;
    context.request.cache_salt = request.salt;
    context.request.extra_tokens = request.extra_tokens;
    context.tokens.are_known = true;
    context.tokens.ids = request.tokens;
    context.tokens.sequence_ends = {static_cast<uint32_t>(request.tokens.size())};
    // Four bytes a token.
    const std::string text(reinterpret_cast<const char*>(request.tokens.data()),
                           request.tokens.size() * sizeof(uint32_t));
    const model::PromptPart part{text, true};
    context.request.prompt = {&part, 1};
    producer().Prepare(context, kNow);
    context.request.prompt = {};
    context.tokens = {};
    return context;
  }
  const std::vector<float>& Match(const Request& request) { return Match(Prepare(request)); }
  const std::vector<float>& Match(const sched::RequestContext& context) {
    producer().Produce(context, pool_->columns);
    return column().matched_blocks;
  }
  const model::PrefixColumn& column() const { return pool_->columns.prefix[0]; }
  sched::RequestContext Send(const Request& request, uint32_t column, Time now = kNow) {
    sched::RequestContext context = Prepare(request);
    Resend(context, column, now);
    return context;
  }
  void Resend(sched::RequestContext& context, uint32_t column, Time now = kNow) {
    producer().Produce(context, pool_->columns);
    producer().OnPicked(context, pool_->columns, pool_->Pick(column, now));
  }
  // A whole request whose engine reports so many cached tokens.
  void Answer(const Request& request, uint32_t column, uint64_t cached,
              std::optional<uint64_t> input_tokens = {}) {
    sched::RequestContext context = Send(request, column);
    const uint32_t slot = pool_->pool.slots[column];
    producer().OnFirstChunk(context, slot, kNow);
    producer().OnEnded(context, {.slot = slot,
                                 .now = kNow,
                                 .has_answered = true,
                                 .input_tokens = input_tokens.value_or(request.tokens.size()),
                                 .cached_tokens = cached});
    // So that none of them is taken for what the next one finds.
    producer().OnTick(kNow + seconds(10));
  }
  double Stat(std::string_view name) {
    for (const sched::PluginStat& stat : producer().Stats()) {
      if (stat.metric == name) return stat.value;
    }
    ADD_FAILURE() << name;
    return -1;
  }

  std::unique_ptr<TestPool> pool_;
  std::unique_ptr<Made<sched::Producer>> producer_;
  std::map<uint32_t, std::unique_ptr<Engine>> engines_;  // before the producer goes
};

TEST_F(PreciseTest, MatchesWhatTheEngineTold) {
  Engine& engine = Listen(1);
  const Tokens tokens = Counting(1, 100);
  engine.Store(Tokens(tokens.begin(), tokens.begin() + 64));
  EXPECT_THAT(Match({tokens}), ElementsAre(0, 4, 0));
  EXPECT_EQ(column().total_blocks, 7u);
  EXPECT_EQ(column().block_size_tokens, 16u);
  EXPECT_THAT(column().sources, ElementsAre(MatchSource::kApproximate, MatchSource::kExact,
                                            MatchSource::kApproximate));
  EXPECT_THAT(column().told_blocks, ElementsAre(0, 4, 0));
  EXPECT_THAT(Match({Counting(2, 100)}), Each(0));
  EXPECT_EQ(Stat("exact_lookups_total"), 2);
  EXPECT_EQ(Stat("exact_answers_total"), 2);
  EXPECT_EQ(Stat("approximate_answers_total"), 4);
}

TEST_F(PreciseTest, SaysWhatLiesInTheHostsMemoryToWhoAsks) {
  constexpr float kNone = model::PrefixColumn::kNoTiers;
  const Tokens tokens = Counting(1, 100);
  const auto leading = [&](size_t blocks) {
    return Tokens(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(blocks * 16));
  };
  Listen(0).Store(leading(4));
  Engine& tiered = Listen(1);
  tiered.Store(leading(5));
  tiered.Store(leading(2), {.medium = "CPU"});
  Match({tokens});
  EXPECT_THAT(column().host_blocks, IsEmpty()) << "nobody asks";
  producer().WantHostBlocks();
  EXPECT_THAT(Match({tokens}), ElementsAre(4, 5, 0));
  EXPECT_THAT(column().host_blocks, ElementsAre(kNone, 2, kNone));
  Match({Counting(500, 100)});
  EXPECT_THAT(column().host_blocks, ElementsAre(kNone, 0, kNone));
  // The block with the last token is computed in any case.
  Match({leading(2)});
  EXPECT_THAT(column().host_blocks, ElementsAre(kNone, 1, kNone));
  caches().SetTable(std::make_shared<SlotTable>());
  Match({tokens});
  EXPECT_THAT(column().host_blocks, IsEmpty()) << "nobody is heard";
}

TEST_F(PreciseTest, TheBlockWithTheLastTokenIsComputedInAnyCase) {
  Engine& engine = Listen(1);
  const Tokens tokens = Counting(1, 128);
  engine.Store(tokens);
  EXPECT_THAT(Match({tokens}), ElementsAre(0, 7, 0));
  EXPECT_THAT(Match({Counting(1, 127)}), ElementsAre(0, 7, 0));
  EXPECT_THAT(Match({Counting(1, 129)}), ElementsAre(0, 8, 0));
  // Its blocks are four of the index.
  pool_->pool.endpoints[1].block_size_tokens = 64;
  producer().OnEndpointChanged(pool_->pool.endpoints[1]);
  EXPECT_THAT(Match({tokens}), ElementsAre(0, 4, 0));
}

TEST_F(PreciseTest, BlocksAreWholeOnesOfTheEngine) {
  Engine& engine = Listen(0);
  pool_->pool.endpoints[0].block_size_tokens = 64;
  producer().OnEndpointChanged(pool_->pool.endpoints[0]);
  engine.Store(Counting(1, 256), {.block_size = 64});
  Tokens other = Counting(1, 256);
  other[100] = 0;
  EXPECT_THAT(Match({other}), ElementsAre(4, 0, 0));
}

TEST_F(PreciseTest, SaltsAndAdaptersShareNothing) {
  Engine& engine = Listen(0);
  pool_->pool.endpoints[0].adapters = {"sql"};
  producer().OnEndpointChanged(pool_->pool.endpoints[0]);
  const Tokens tokens = Counting(1, 65);
  const std::string digest(64, 'a');
  engine.Store(tokens, {.salt_key = "tenant"});
  EXPECT_THAT(Match({tokens}), Each(0));
  EXPECT_THAT(Match({tokens, "tenant"}), ElementsAre(4, 0, 0));
  EXPECT_THAT(Match({tokens, "tenant", "sql"}), Each(0));
  EXPECT_THAT(Match({tokens, digest}), Each(0));
  // What cannot be told from the hash of an image.
  engine.Store(tokens, {.salt_key = digest});
  EXPECT_THAT(Match({tokens, digest}), ElementsAre(4, 0, 0));
  EXPECT_THAT(Match({tokens, std::string(64, 'b')}), Each(0));
  engine.Store(tokens, {.adapter = "sql"});
  EXPECT_THAT(Match({tokens}), Each(0));
  EXPECT_THAT(Match({tokens, "", "sql"}), ElementsAre(4, 0, 0));
  engine.Store(tokens, {.adapter = "sql", .salt_key = "tenant"});
  EXPECT_THAT(Match({tokens, "tenant", "sql"}), ElementsAre(4, 0, 0));
  // A model that is no adapter is the base model, whatever it is called.
  engine.Store(tokens);
  EXPECT_THAT(Match({tokens, "", "alias"}), ElementsAre(4, 0, 0));
}

TEST_F(PreciseTest, ADigestAsSaltBelongsToTheWholeFirstBlockOfTheEngine) {
  Engine& engine = Listen(0);
  pool_->pool.endpoints[0].block_size_tokens = 64;
  producer().OnEndpointChanged(pool_->pool.endpoints[0]);
  const std::string digest(64, 'a');
  engine.Store(Counting(1, 128), {.salt_key = digest, .block_size = 64});
  EXPECT_THAT(Match({Counting(1, 130), digest}), ElementsAre(8, 0, 0));
}

TEST_F(PreciseTest, SlowerTiersAreWorthLess) {
  const Tokens tokens = Counting(1, 161);
  const auto match = [&](std::string_view parameters, const std::string& medium) {
    Start(parameters);
    Listen(0).Store(tokens, {.medium = medium});
    return Match({tokens})[0];
  };
  EXPECT_EQ(match("{}", "GPU"), 10);
  EXPECT_THAT(match("{}", "CPU"), FloatNear(8, 0.01F));
  EXPECT_THAT(match("{}", "DISK"), FloatNear(2.54F, 0.01F));
  EXPECT_THAT(match("{tierTimes: {recompute: 100, cpu: 50}}", "CPU"), FloatNear(5, 0.01F));
  EXPECT_EQ(match("{tierTimes: {disk: 64}}", "DISK"), 0);
  const std::string_view weights =
      "{indexerConfig: {kvCacheBackendConfigs: [{name: gpu, weight: 1}, {name: cpu, weight: "
      "0.3}]}}";
  EXPECT_THAT(match(weights, "CPU"), FloatNear(3, 0.01F));
  EXPECT_THAT(column().told_blocks, ElementsAre(10, 0, 0));
}

TEST_F(PreciseTest, DoubtfulBlocksAreWorthLess) {
  Engine& engine = Listen(0);
  engine.Store(Counting(1, 64));
  engine.LoseABatch();
  engine.Store(Counting(1000, 64));
  EXPECT_THAT(Match({Counting(1, 65)}), ElementsAre(2, 0, 0));
  EXPECT_EQ(column().sources[0], MatchSource::kDegraded);
  EXPECT_EQ(column().told_blocks[0], 4);
  EXPECT_THAT(Match({Counting(1000, 65)}), ElementsAre(4, 0, 0));
}

TEST_F(PreciseTest, ASilentOrAbsentPublisherIsNotBelieved) {
  Engine& engine = Listen(0);
  engine.Store(Counting(1, 64));
  EXPECT_THAT(Match({Counting(1, 65)}), ElementsAre(4, 0, 0));
  engine.publisher().OnDisconnected(kNow);
  EXPECT_EQ(engine.publisher().state(), PublisherState::kConnecting);
  EXPECT_THAT(Match({Counting(1, 65)}), Each(0));
  EXPECT_THAT(column().sources, IsEmpty());
}

TEST_F(PreciseTest, OthersCountByTheirShareOfThePrompt) {
  Listen(1).Store(Counting(1, 128));
  Send({Counting(1, 128)}, 0);  // two of its blocks of 64
  EXPECT_THAT(Match({Counting(1, 256)}), ElementsAre(8, 8, 0));
  EXPECT_EQ(column().total_blocks, 16u);
}

// A queue of a quarter of what the cache has room for leaves half of it.
TEST_F(PreciseTest, ALongQueueTurnsTheCacheOver) {
  for (uint32_t column : {0U, 1U}) {
    pool_->pool.endpoints[column].gpu_blocks = 100;
    pool_->pool.endpoints[column].block_size_tokens = 16;
  }
  Listen(0).Store(Counting(1, 128));
  Listen(1);
  pool_->columns.in_flight_tokens = {400, 800, 0};
  EXPECT_THAT(Match({Counting(1, 129)}), ElementsAre(FloatNear(4, 1e-4F), 0, 0));
  EXPECT_THAT(column().told_blocks, ElementsAre(8, 0, 0)) << "what it told stays what it told";
  pool_->columns.in_flight_tokens = {5000, 0, 0};
  EXPECT_THAT(Match({Counting(1, 129)}), ElementsAre(0, 0, 0));
  // What is sent there now stands at the queue's end.
  Send({Counting(1, 129)}, 0);
  EXPECT_THAT(Match({Counting(1, 129)}), ElementsAre(FloatNear(8, 0.1F), 0, 0));
  pool_->columns.in_flight_tokens.clear();
  EXPECT_THAT(Match({Counting(1, 129)}), ElementsAre(8, 0, 0));
}

// What is pushed out of its memory is told of again, where it lies then.
TEST_F(PreciseTest, AnEngineWithASlowerTierKeepsMore) {
  pool_->pool.endpoints[0].gpu_blocks = 100;
  pool_->pool.endpoints[0].block_size_tokens = 16;
  Engine& engine = Listen(0);
  engine.Store(Counting(1, 128));
  engine.Store(Counting(5000, 16), {.medium = "CPU"});
  pool_->columns.in_flight_tokens = {5000, 0, 0};
  EXPECT_THAT(Match({Counting(1, 129)}), ElementsAre(8, 0, 0));
}

TEST_F(PreciseTest, PromptsWithMediaAndSeveralPromptsAreJudgedByWhatWasSent) {
  Listen(0).Store(Counting(1, 128));
  Match({Counting(1, 129), "", "llama", 500});
  EXPECT_THAT(column().sources, IsEmpty());
  EXPECT_EQ(column().block_size_tokens, 64u);
  sched::RequestContext context;
  context.prefix_keys.resize(1);
  context.tokens = {.are_known = true, .ids = Counting(1, 128), .sequence_ends = {64, 128}};
  producer().Prepare(context, kNow);
  Match(context);
  EXPECT_THAT(column().sources, IsEmpty());
}

TEST_F(PreciseTest, WithoutKvEventsItDecidesAsTheApproximateOneDoes) {
  Made<sched::Producer> approximate("approx-prefix-cache-producer");
  TestPool other(3);
  approximate->SetIndex(sched::DataKey::kPrefixMatch, 0);
  other.columns.prefix.resize(1);
  for (const auto& endpoint : other.pool.endpoints) approximate->OnEndpointChanged(endpoint);
  Random random(7);
  for (int i = 0; i < 500; ++i) {
    const std::string text(4 * (1 + random.Below(600)), random.Below(3) == 0 ? 'b' : 'a');
    const model::PromptPart part{text, true};
    sched::RequestContext one, two;
    for (sched::RequestContext* context : {&one, &two}) {
      context->prefix_keys.resize(1);
      context->request.prompt = {&part, 1};
    }
    if (random.Below(2) == 0) {
      one.tokens = {.are_known = true,
                    .ids = Counting(1, text.size() / 4),
                    .sequence_ends = {static_cast<uint32_t>(text.size() / 4)}};
    }
    producer().Prepare(one, kNow);
    approximate->Prepare(two, kNow);
    Match(one);
    approximate->Produce(two, other.columns);
    const model::PrefixColumn& expected = other.columns.prefix[0];
    ASSERT_EQ(column().matched_blocks, expected.matched_blocks);
    ASSERT_EQ(column().total_blocks, expected.total_blocks);
    ASSERT_EQ(column().block_size_tokens, expected.block_size_tokens);
    const auto to = static_cast<uint32_t>(random.Below(3));
    producer().OnPicked(one, pool_->columns, pool_->Pick(to, kNow));
    approximate->OnPicked(two, other.columns, other.Pick(to, kNow));
    if (random.Below(50) != 0) continue;
    producer().OnEndpointRestarted(pool_->pool.slots[to]);
    approximate->OnEndpointRestarted(pool_->pool.slots[to]);
  }
}

// --- claims

TEST_F(PreciseTest, TheSecondOfTwoAlikeSeesTheFirst) {
  Listen(0);
  Listen(1);
  sched::RequestContext first = Send({Counting(1, 130)}, 0);
  EXPECT_THAT(Match({Counting(1, 130)}), ElementsAre(8, 0, 0));
  EXPECT_THAT(column().told_blocks, Each(0));
  EXPECT_THAT(Match({Counting(1, 128)}), ElementsAre(7, 0, 0));
  EXPECT_EQ(Stat("cache_claims"), 1);
  producer().OnTick(kNow + seconds(200));
  EXPECT_THAT(Match({Counting(1, 130)}), ElementsAre(8, 0, 0));
  producer().OnFirstChunk(first, pool_->pool.slots[0], kNow + seconds(200));
  producer().OnEnded(first, {.slot = pool_->pool.slots[0], .now = kNow, .has_answered = true});
  EXPECT_THAT(Match({Counting(1, 130)}), ElementsAre(8, 0, 0));
  producer().OnTick(kNow + seconds(202));
  EXPECT_THAT(Match({Counting(1, 130)}), Each(0));
  EXPECT_EQ(Stat("cache_claims"), 0);
  EXPECT_EQ(Stat("cache_claims_confirmed_total"), 1);
  EXPECT_EQ(caches().index().slots(), 2u);
}

TEST_F(PreciseTest, AClaimGoesWithARequestThatGotNoAnswer) {
  Listen(0);
  Listen(1);
  sched::RequestContext context = Send({Counting(1, 130)}, 0);
  Resend(context, 1);
  EXPECT_THAT(Match({Counting(1, 130)}), ElementsAre(0, 8, 0));
  producer().OnEnded(context, {.slot = pool_->pool.slots[1], .now = kNow});
  EXPECT_THAT(Match({Counting(1, 130)}), Each(0));
  EXPECT_EQ(Stat("cache_claims_withdrawn_total"), 2);
}

TEST_F(PreciseTest, ClaimsGoWithTheirEndpoint) {
  const auto claim = [&] {
    sched::RequestContext context = Send({Counting(1, 130)}, 0);
    EXPECT_THAT(Match({Counting(1, 130)}), ElementsAre(8, 0, 0));
  };
  Listen(0);
  claim();
  producer().OnEndpointRestarted(pool_->pool.slots[0]);
  EXPECT_THAT(Match({Counting(1, 130)}), Each(0));
  claim();
  producer().OnEndpointRemoved(pool_->pool.slots[0]);
  EXPECT_THAT(Match({Counting(1, 130)}), Each(0));
  claim();  // of a decision that was under way
  pool_->pool.endpoints[0].address = "10.0.0.9:8000";
  producer().OnEndpointChanged(pool_->pool.endpoints[0]);
  EXPECT_THAT(Match({Counting(1, 130)}), Each(0));
  EXPECT_EQ(Stat("cache_claims_forgotten_total"), 3);
  EXPECT_EQ(caches().index().slots(), 1u);
  EXPECT_EQ(caches().index().segments(), 0u);
}

TEST_F(PreciseTest, ClaimsCanBeLeftOut) {
  for (const std::string_view parameters :
       {"{speculativeIndexing: false}", "{indexerConfig: {speculativeIndexing: false}}"}) {
    Start(parameters);
    Listen(0);
    Send({Counting(1, 130)}, 0);
    EXPECT_THAT(Match({Counting(1, 130)}), Each(0));
  }
  Start("{speculativeTTL: 7s}");
  Listen(0);
  sched::RequestContext context = Send({Counting(1, 130)}, 0);
  producer().OnFirstChunk(context, pool_->pool.slots[0], kNow);
  producer().OnTick(kNow + seconds(6));
  EXPECT_THAT(Match({Counting(1, 130)}), ElementsAre(8, 0, 0));
  producer().OnTick(kNow + seconds(7));
  EXPECT_THAT(Match({Counting(1, 130)}), Each(0));
}

// --- what engines report

TEST_F(PreciseTest, AnEngineThatCachesLessThanItSaidIsToldOf) {
  std::vector<std::pair<uint32_t, bool>> told;
  caches().SetDriftSink([&](uint32_t slot, bool differs) { told.emplace_back(slot, differs); });
  Engine& engine = Listen(0);
  const Tokens tokens = Counting(1, 161);
  engine.Store(tokens);
  for (int i = 0; i < 10; ++i) Answer({tokens}, 0, 0);
  const uint32_t slot = pool_->pool.slots[0];
  EXPECT_THAT(told, ElementsAre(std::pair(slot, true)));
  const auto views = producer().knows_caches()->drift();
  ASSERT_EQ(views.size(), 1u);
  EXPECT_EQ(views[0].slot, slot);
  EXPECT_TRUE(views[0].differs);
  EXPECT_EQ(Stat("cache_drifts"), 1);
  EXPECT_EQ(Stat("predicted_cached_tokens_total"), 1600);
  EXPECT_EQ(Stat("reported_cached_tokens_total"), 0);
  for (int i = 0; i < 60; ++i) Answer({tokens}, 0, 160);
  EXPECT_THAT(told, ElementsAre(std::pair(slot, true), std::pair(slot, false)));
  EXPECT_EQ(Stat("cache_drifts"), 0);
}

TEST_F(PreciseTest, AnEngineThatCachesMoreThanItEverSaysIsToldOf) {
  std::vector<bool> told;
  caches().SetDriftSink([&](uint32_t, bool differs) { told.push_back(differs); });
  Listen(0);
  for (int i = 0; i < 12; ++i) Answer({Counting(1, 161)}, 0, 160, 162);
  EXPECT_THAT(told, ElementsAre(true));
  EXPECT_THAT(producer().knows_caches()->drift().at(0).likely_cause, HasSubstr("tokenizer"));
}

TEST_F(PreciseTest, BlocksOfRequestsOnTheirWayAreNoDrift) {
  std::vector<bool> told;
  caches().SetDriftSink([&](uint32_t, bool differs) { told.push_back(differs); });
  Engine& engine = Listen(0);
  for (uint32_t i = 0; i < 12; ++i) {
    const Tokens tokens = Counting(1000 * i, 161);
    sched::RequestContext one = Send({tokens}, 0);
    sched::RequestContext two = Send({tokens}, 0);
    sched::RequestContext three = Send({tokens}, 0);
    const sched::Ended ended{.slot = pool_->pool.slots[0],
                             .now = kNow,
                             .has_answered = true,
                             .input_tokens = 161,
                             .cached_tokens = 160};
    producer().OnEnded(two, ended);  // the first one's claim was there
    engine.Store(tokens);
    producer().OnEnded(three, ended);
  }
  EXPECT_THAT(told, IsEmpty());
}

TEST_F(PreciseTest, ANewProcessStartsWithoutDrift) {
  std::vector<bool> told;
  caches().SetDriftSink([&](uint32_t, bool differs) { told.push_back(differs); });
  Engine& engine = Listen(0);
  engine.Store(Counting(1, 161));
  for (int i = 0; i < 10; ++i) Answer({Counting(1, 161)}, 0, 0);
  producer().OnEndpointRestarted(pool_->pool.slots[0]);
  EXPECT_THAT(told, ElementsAre(true, false));
}

// --- parameters

std::vector<std::string> WarningsOf(std::string_view parameters) {
  config::Diagnostics diagnostics;
  EXPECT_NE(testing::TryMake(kType, parameters, &diagnostics), nullptr);
  EXPECT_THAT(diagnostics.errors, IsEmpty());
  return diagnostics.warnings;
}

TEST(PreciseParameters, SayWhatHasNoMeaningHere) {
  EXPECT_THAT(WarningsOf("{}"), IsEmpty());
  EXPECT_THAT(WarningsOf("{tokenProcessorConfig: {blockSizeTokens: 64}, kvEventsConfig: "
                         "{topicFilter: 'kv@', engineType: vllm}, speculativeIndexing: true, "
                         "speculativeTTL: 2s}"),
              IsEmpty());
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"{tokenProcessorConfig: {hashSeed: '42'}}", "no effect"},
      {"{tokenProcessorConfig: {hashAlgorithm: xxh64}}", "no effect"},
      {"{tokenProcessorConfig: {blockSize: 64}}", "use blockSizeTokens"},
      {"{kvEventsConfig: {concurrency: 8}}", "no effect"},
      {"{indexerConfig: {kvBlockIndexConfig: {inMemoryConfig: {podCacheSize: 100}}}}", "no effect"},
      {"{indexerConfig: {kvBlockIndexConfig: {inMemoryConfig: {size: 100}}}}",
       "costAwareMemoryConfig.size"},
  };
  for (const auto& [parameters, text] : cases) {
    EXPECT_THAT(WarningsOf(parameters), ElementsAre(HasSubstr(text))) << parameters;
  }
}

TEST(PreciseParameters, RefuseWhatSomebodyWouldRelyOn) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"{kvSnapshot: {siblings: ['http://10.0.0.2:9090']}}",
       "kvSnapshot: siblings need secretFile"},
      {"{kvSnapshot: {siblings: ['https://10.0.0.2:9090'], secretFile: s}}",
       "'https://10.0.0.2:9090' is no admin port of a router; write http://HOST:PORT"},
      {"{kvSnapshot: {secretFile: /nowhere/secret}}",
       "kvSnapshot.secretFile: /nowhere/secret: cannot be read"},
      {"{kvSnapshot: {file: /tmp, secretFile: /dev/null}}", "/dev/null: is not a file"},
      {"{indexerConfig: {kvBlockIndexConfig: {redisConfig: {address: 'redis://a:1'}}}}",
       "redisConfig: routers do not share an index here; leave it out"},
      {"{indexerConfig: {kvBlockIndexConfig: {valkeyConfig: {}}}}", "valkeyConfig"},
      {"{indexerConfig: {kvCacheBackendConfigs: [{name: tape}]}}", "'tape' is no tier"},
      {"{indexerConfig: {kvCacheBackendConfigs: [{name: cpu, weight: 2}]}}", "above the maximum"},
      {"{kvEventsConfig: {discoverPods: false}}", "no event can be heard"},
      {"{kvEventsConfig: {zmqEndpont: x}}", "did you mean 'zmqEndpoint'"},
  };
  for (const auto& [parameters, text] : cases) {
    EXPECT_THAT(ErrorsOf(kType, parameters), ElementsAre(HasSubstr(text))) << parameters;
  }
}

TEST(PreciseParameters, SayWhereToListen) {
  const auto settings = [](std::string_view parameters) {
    Made<sched::Producer> producer(kType, parameters);
    return producer->knows_caches()->kv_events();
  };
  EXPECT_EQ(settings("{}").bind, "");
  EXPECT_TRUE(settings("{}").dials);
  EXPECT_EQ(settings("{}").port, 5557);
  EXPECT_EQ(settings("{}").replay_port, 0);
  EXPECT_FALSE(settings("{}").only_sole);
  EXPECT_TRUE(
      settings("{kvEventsConfig: {podDiscoveryConfig: {soleEndpointsOnly: true}}}").only_sole);
  EXPECT_EQ(settings("{}").topic_filter, "");
  EXPECT_FALSE(settings("{kvEventsConfig: {zmqEndpoint: 'tcp://*:5557'}}").dials);
  EXPECT_EQ(settings("{kvEventsConfig: {zmqEndpoint: 'tcp://*:5557'}}").bind, "tcp://*:5557");
  EXPECT_TRUE(settings("{kvEventsConfig: {zmqEndpoint: 'tcp://*:1', discoverPods: true}}").dials);
  EXPECT_EQ(
      settings("{kvEventsConfig: {podDiscoveryConfig: {replaySocketPort: 5600}}}").replay_port,
      5600);
}

TEST(PreciseParameters, SizeTheIndex) {
  const auto caches = [](std::string_view parameters, const auto& look) {
    Made<sched::Producer> producer(kType, parameters);
    return look(producer->knows_caches()->caches());
  };
  const auto block = [](ExactCaches& c) { return c.keys().block_tokens(); };
  EXPECT_EQ(caches("{}", block), 16u);
  EXPECT_EQ(caches("{tokenProcessorConfig: {blockSizeTokens: 64}}", block), 64u);
  EXPECT_EQ(caches("{tokenProcessorConfig: {blockSize: 64}}", block), 64u);
  EXPECT_EQ(caches("{indexerConfig: {tokenProcessorConfig: {blockSize: 32}}}", block), 32u);
  EXPECT_EQ(caches("{indexerConfig: {kvBlockIndexConfig: {costAwareMemoryConfig: {size: 64MiB}}}}",
                   [](ExactCaches& c) { return c.index().max_bytes(); }),
            uint64_t{64} << 20);
}

TEST_F(PreciseTest, LooksAtAsMuchAsItIsTold) {
  Start("{indexerConfig: {kvBlockIndexConfig: {maxPrefixTokensToMatch: 40}}}");
  Listen(0).Store(Counting(1, 128));
  EXPECT_THAT(Match({Counting(1, 200)}), ElementsAre(2, 0, 0));
}

TEST_F(PreciseTest, TheScorerOfThatNameIsBothInOne) {
  Start("{}", 3, "precise-prefix-cache-scorer");
  Listen(1).Store(Counting(1, 64));
  Match({Counting(1, 128)});
  EXPECT_THAT(testing::Scores(dynamic_cast<const sched::Scorer&>(producer()), *pool_),
              ElementsAre(0, 0.5, 0));
}

}  // namespace
}  // namespace penstock::plugins
