#include "recording/rerun.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <thread>

#include "core/random.h"
#include "kvcache/exact_caches.h"
#include "kvcache/holder.h"
#include "kvcache/publisher.h"
#include "plugins/builtin.h"
#include "recording/recorder.h"
#include "sched/config_loader.h"
#include "sched/spec_yaml.h"
#include "wire/json.h"
#include "wire/msgpack.h"
#include "wire/yaml.h"

namespace penstock::recording {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr std::string_view kSessions = R"(
plugins:
- type: session-affinity-scorer
  parameters:
    strategy: session_id
    sessionIdConfig: {sources: [{header: x-chat}]}
- type: active-request-scorer
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: session-affinity-scorer, weight: 2}
  - {pluginRef: active-request-scorer}
  - {pluginRef: max-score-picker}
)";
constexpr std::string_view kExactHits = R"(
plugins:
- type: precise-prefix-cache-producer
- type: approx-prefix-cache-producer
- type: prefix-cache-scorer
  parameters: {prefixMatchInfoProducerName: precise-prefix-cache-producer}
- type: prefix-cache-affinity-filter
  parameters: {prefixMatchInfoProducerName: approx-prefix-cache-producer}
- type: max-score-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: prefix-cache-affinity-filter}
  - {pluginRef: prefix-cache-scorer}
  - {pluginRef: max-score-picker}
)";
constexpr std::string_view kTokens = R"(
plugins:
- type: session-affinity-filter
- type: random-picker
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: session-affinity-filter}
  - {pluginRef: random-picker}
)";

std::string JsonString(std::string_view text) {
  std::string out;
  wire::AppendJsonString(text, &out);
  return out;
}

// A built-in policy, or one in YAML.
sched::SchedulingSpec SpecOf(std::string_view policy) {
  if (policy.find('\n') == std::string_view::npos) return *sched::BuiltinPolicy(policy);
  const auto tree = wire::ParseYaml(policy, "test");
  config::Diagnostics diagnostics;
  sched::SchedulingSpec spec;
  EXPECT_TRUE(sched::LoadInlineScheduling(*tree->Find("plugins"), *tree->Find("schedulingProfiles"),
                                          plugins::Builtins(), &spec, &diagnostics));
  return spec;
}

Result<std::unique_ptr<sched::Scheduler>> SchedulerOf(const Head& head) {
  const auto tree = wire::ParseYaml(head.scheduling, "scheduling");
  if (!tree) return std::unexpected(tree.error());
  config::Diagnostics diagnostics;
  sched::SchedulingSpec spec;
  if (tree->Find("plugins") == nullptr || tree->Find("schedulingProfiles") == nullptr) {
    return Fail(Code::kInvalidArgument, "no plugins");
  }
  sched::LoadInlineScheduling(*tree->Find("plugins"), *tree->Find("schedulingProfiles"),
                              plugins::Builtins(), &spec, &diagnostics);
  auto scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
  if (scheduler == nullptr) return Fail(Code::kInvalidArgument, "bad plugins");
  return scheduler;
}

class RerunTest : public ::testing::Test {
 protected:
  RerunTest()
      : folder_(std::filesystem::temp_directory_path() /
                ("rerun" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) +
                 ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~RerunTest() override { std::filesystem::remove_all(folder_); }

  std::string path() const { return (folder_ / "a.rec").string(); }

  std::unique_ptr<Recorder> Record(const sched::SchedulingSpec& spec, const sched::Scheduler& made,
                                   uint64_t max_bytes = 1 << 30,
                                   size_t max_waiting_bytes = 64 << 20) {
    RecorderOptions options;
    options.path = path();
    options.max_bytes = max_bytes;
    options.max_waiting_bytes = max_waiting_bytes;
    options.version = "test";
    options.policy = "the test's";
    options.scheduling = sched::ToYaml(spec);
    options.max_endpoints = 16;
    options.start = Time(seconds(1000));
    options.headers = made.HeadersRead();
    auto recorder = Recorder::Open(std::move(options));
    EXPECT_TRUE(recorder) << recorder.error().message;
    EXPECT_TRUE((*recorder)->Keep());
    return std::move(*recorder);
  }

  // The lines of the recording.
  std::vector<std::string> Lines() const {
    auto reader = workload::LineReader::Open(path(), kMaxLineBytes);
    std::vector<std::string> lines;
    std::string_view line;
    while (reader->Read(&line) == workload::LineReader::Next::kLine) lines.emplace_back(line);
    return lines;
  }

  static Result<RerunReport> RerunText(const std::string& text) {
    return Rerun(workload::LineReader::OfText(text, "t"), SchedulerOf);
  }

  const std::filesystem::path folder_;
};

// One of a few openings and some of what may follow it; as token ids, too.
std::string RandomPrompt(Random& random) {
  std::string prompt = "secret-prompt...";
  for (uint64_t piece = random.Below(6) + 1; piece > 0; --piece) {
    prompt += std::string(300, static_cast<char>('a' + random.Below(3)));
  }
  return prompt;
}

// An engine that tells what it holds, and whoever hears it.
class TellingEngine : public kvcache::EventSink {
 public:
  explicit TellingEngine(kvcache::ExactCaches& caches)
      : holder_(caches.index(), caches.keys(), *caches.index().Join(), {}),
        publisher_(std::make_shared<kvcache::Publisher>(kvcache::Publisher::Options(), *this)) {}
  ~TellingEngine() override {
    while (!holder_.Leave(1000)) {
    }
  }
  void Apply(const kvcache::KvEvent& event) override { holder_.Apply(event, kNow); }
  void Clear() override { holder_.Apply({.type = kvcache::KvEvent::Type::kCleared}, kNow); }
  void MarkGap(Time now) override { holder_.MarkGap(now); }
  bool HasTurnedOver() const override { return false; }

  // Stores, forgets all, loses a batch, or is gone for a while.
  void Step(Random& random) {
    switch (random.Below(12)) {
      case 0:
        publisher_->OnDisconnected(kNow);
        return;
      case 1:
        ++sequence_;
        return;
      case 2:
      case 3:
        publisher_->OnConnected(kNow);
        return Publish([](wire::MsgpackWriter& out) {
          out.Array(1);
          out.String("AllBlocksCleared");
        });
      default:
        return Store(RandomPrompt(random));
    }
  }
  kvcache::SlotTable::Entry entry() const { return {true, holder_.slot(), publisher_}; }

 private:
  static constexpr Time kNow = Time(seconds(1001));

  void Store(const std::string& prompt) {
    constexpr uint32_t kBlock = 16;
    const auto blocks = static_cast<uint32_t>(prompt.size() / sizeof(uint32_t) / kBlock);
    Publish([&](wire::MsgpackWriter& out) {
      out.Array(6);
      out.String("BlockStored");
      out.Array(blocks);
      for (uint32_t i = 0; i < blocks; ++i) out.Uint(++last_hash_);
      out.Nil();
      out.Array(blocks * kBlock);
      for (size_t i = 0; i < size_t{blocks} * kBlock; ++i) {
        uint32_t id = 0;
        std::memcpy(&id, prompt.data() + i * sizeof(id), sizeof(id));
        out.Uint(id);
      }
      out.Uint(kBlock);
      out.Nil();
    });
  }
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

// Five of the six engines; nothing when the policy does not listen.
class TellingEngines {
 public:
  explicit TellingEngines(sched::KnowsCaches* knows) {
    if (knows == nullptr) return;
    auto table = std::make_shared<kvcache::SlotTable>();
    for (int i = 0; i < 5; ++i) {
      engines_.push_back(std::make_unique<TellingEngine>(knows->caches()));
      table->entries.push_back(engines_.back()->entry());
    }
    knows->caches().SetTable(std::move(table));
  }
  void Step(Random& random) {
    if (!engines_.empty()) engines_[random.Below(engines_.size())]->Step(random);
  }

 private:
  std::vector<std::unique_ptr<TellingEngine>> engines_;
};

// What one loop of a gateway does: requests come, some of a session, some are tried again, some
// break off. Each thread has a clock of its own that is a little off.
class Loop {
 public:
  Loop(director::Director& director, uint64_t seed) : lane_(director, seed), random_(seed) {}

  void Run(int requests) {
    std::vector<std::unique_ptr<director::Flight>> flights;
    Time now = Time(seconds(1001)) + Duration(random_.Below(1'000'000));
    for (int i = 0; i < requests; ++i) {
      now += Duration(random_.Below(2'000'000));
      std::this_thread::yield();  // so that they alternate however few processors there are
      Arrive(now, &flights);
      for (auto& flight : flights) Follow(now, &flight);
      std::erase_if(flights, [](const auto& flight) { return flight == nullptr; });
    }
  }

 private:
  void Arrive(Time now, std::vector<std::unique_ptr<director::Flight>>* flights) {
    model::Request request;
    request.id = "secret-id";
    request.api = model::Api::kChatCompletions;
    request.model = request.target_model = random_.Below(30) == 0 ? "unknown" : "m";
    request.stream = true;
    if (random_.Below(4) == 0) request.subset = {"10.0.0.1", "10.0.0.2"};
    const std::string session = "secret-session-" + std::to_string(random_.Below(20));
    request.headers = {{"X-Chat", session}, {"X-Other", "secret-other"}};
    const std::string prompt = RandomPrompt(random_);
    request.source.holds_ids = random_.Below(4) != 0;
    const model::PromptPart part{prompt, true};
    request.prompt = {&part, 1};
    request.body_bytes = prompt.size();
    auto arrival = lane_.Arrive(std::move(request), now, 0);
    if (arrival.flight != nullptr) flights->push_back(std::move(arrival.flight));
  }

  void Follow(Time now, std::unique_ptr<director::Flight>* flight) {
    switch (random_.Below(12)) {
      case 0:
        if (!(*flight)->OnTryFailed(static_cast<director::TryFailure>(random_.Below(7)), now)) {
          (*flight)->OnEnd(director::EndKind::kEngineGone, 502, "gone", {}, now);
          flight->reset();
        }
        return;
      case 7:
        (*flight)->OnServedBy("10.0.0." + std::to_string(random_.Below(6)) + ":8000", now);
        return;
      case 1:
        flight->reset();  // the client has gone
        return;
      case 2:
      case 3:
      case 4:
        (*flight)->OnFirstChunk(now);
        return;
      case 5:
      case 6:
        (*flight)->OnEnd(director::EndKind::kComplete, 200, "", {true, 100, 20, true, 64}, now);
        flight->reset();
        return;
      default:
        return;
    }
  }

  director::Lane lane_;
  Random random_;
};

// Engines come, go, report and fall silent, for so many rounds and until everybody has ended.
void RunFleet(director::Fleet& fleet, director::Director& director, TellingEngines& engines,
              int rounds, const std::atomic<int>& running) {
  Random random(99);
  Time now = Time(seconds(1001));
  for (int i = 0; i < rounds || running > 0; ++i) {
    std::this_thread::yield();
    engines.Step(random);
    now += Duration(random.Below(1'000'000));
    const auto slot = static_cast<uint32_t>(random.Below(6));
    if (random.Below(40) == 0) {
      std::vector<model::EndpointSpec> specs;
      for (int e = 0; e < 6; ++e) {
        if (random.Below(5) == 0 && e > 0) continue;
        model::EndpointSpec& spec = specs.emplace_back();
        spec.name = "e" + std::to_string(e);
        spec.host = "10.0.0." + std::to_string(e);
        spec.port = 8000;
        spec.labels = {{"zone", "z" + std::to_string(random.Below(2))}};
      }
      ASSERT_TRUE(fleet.Replace(std::move(specs)));
    } else if (random.Below(30) == 0) {
      fleet.ScrapeFailed(slot, "silence", now);
    } else if (random.Below(10) == 0) {
      fleet.ModelsRead(slot, {"m"}, "{}");
    } else if (random.Below(20) == 0) {
      director.Tick(now);
    } else {
      director::EngineSignals signals;
      signals.waiting = static_cast<float>(random.Below(5));
      signals.running = static_cast<float>(random.Below(50));
      signals.kv_usage = static_cast<float>(random.Uniform());
      signals.block_size_tokens = random.Below(60) == 0 ? 32 : 16;
      signals.gpu_blocks = 400;
      signals.started_at = random.Below(100) == 0 ? static_cast<double>(i) : 1.5;
      if (random.Below(3) == 0) signals.lora = model::LoraState{{"a"}, {"b"}, 4};
      fleet.Scraped(slot, signals, now);
    }
  }
}

// A gateway of two loops under the policy, recorded.
class GatewayTest : public RerunTest {
 protected:
  void RunGateway(std::string_view policy) {
    const sched::SchedulingSpec spec = SpecOf(policy);
    config::Diagnostics diagnostics;
    auto scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
    const auto recorder = Record(spec, *scheduler);
    director::Fleet fleet(16, recorder.get());
    director::Director director(fleet, std::move(scheduler), {.max_tries = 2});
    TellingEngines engines(director.scheduler().knows_caches());
    std::atomic<int> running{0};
    Loop first(director, 1), second(director, 2);
    first.Run(3);  // while there is no engine
    RunFleet(fleet, director, engines, 80, running);
    running = 2;
    const auto run = [&](Loop& loop) {
      loop.Run(200);
      --running;
    };
    std::thread one([&] { run(first); });
    std::thread two([&] { run(second); });
    RunFleet(fleet, director, engines, 200, running);
    one.join();
    two.join();
    EXPECT_TRUE(recorder->is_open());
    EXPECT_GT(recorder->Stats().events, 600);
  }
};

class RerunOfPolicy : public GatewayTest, public ::testing::WithParamInterface<std::string_view> {};

TEST_P(RerunOfPolicy, DecidesTheSameWhateverTheThreadsDid) {
  RunGateway(GetParam());
  std::map<std::string, int> went_to;
  const auto report =
      RerunFile(path(), SchedulerOf, [&](uint64_t, const director::DecisionRecord& record) {
        ++went_to[std::string(record.attempts.front().endpoint)];
      });
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_THAT(report->differences, IsEmpty());
  EXPECT_EQ(report->differing, 0);
  EXPECT_EQ(report->arrivals, 403);
  EXPECT_GE(report->rejections, 3);
  EXPECT_GT(report->retries, 0);
  EXPECT_EQ(report->ended, "stopped");
  EXPECT_GT(went_to.size(), 3U);  // or it would prove little

  const std::vector<std::string> lines = Lines();
  for (const std::string& line : lines) ASSERT_THAT(line, Not(HasSubstr("secret"))) << line;

  // And it sees a decision that is not what was decided.
  std::string text, went, goes;
  constexpr std::string_view kTo = R"("to":")";
  for (std::string line : lines) {
    const size_t to = line.find(kTo);
    if (went.empty() && line.starts_with(R"({"e":"arrive")") && to != std::string::npos) {
      const size_t name = to + kTo.size();
      went = line.substr(name, line.find('"', name) - name);
      goes = went_to.begin()->first == went ? went_to.rbegin()->first : went_to.begin()->first;
      line.replace(name, went.size(), goes);
    }
    text += line + "\n";
  }
  ASSERT_FALSE(went.empty());
  const auto other = RerunText(text);
  ASSERT_TRUE(other) << other.error().message;
  EXPECT_EQ(other->differing, 1);
  ASSERT_EQ(other->differences.size(), 1U);
  EXPECT_THAT(other->differences[0],
              HasSubstr("went to " + goes + "; told the same, it went to " + went));
}

INSTANTIATE_TEST_SUITE_P(Policies, RerunOfPolicy,
                         ::testing::Values("least-cost", kExactHits, "sticky", "weighted-lru",
                                           "power-of-two", "round-robin", "random", kSessions,
                                           kTokens),
                         [](const auto& test) { return "Policy" + std::to_string(test.index); });

TEST_F(GatewayTest, DecidesByWhatEnginesHadToldThen) {
  RunGateway(kExactHits);
  const std::vector<std::string> lines = Lines();
  std::map<std::string, int> told;  // lines with it, by event
  std::string all, stripped;
  for (const std::string& line : lines) {
    all += line;
    if (line.find(R"("told":)") != std::string::npos) ++told[line.substr(6, line.find('"', 6) - 6)];
    stripped += std::regex_replace(line, std::regex(R"(,"told":\[\{[^}]*\}\])"), "") + "\n";
  }
  EXPECT_GT(told["arrive"], 100);
  EXPECT_GT(told["fail"], 3);
  EXPECT_GT(told["served"], 3);
  EXPECT_EQ(told.size(), 3U);
  EXPECT_TRUE(std::regex_search(all, std::regex(R"("by":"[ade]*e[ade]*","holds":\[\[)")));
  EXPECT_TRUE(std::regex_search(all, std::regex(R"("by":"[ade]*d)")));
  EXPECT_TRUE(std::regex_search(all, std::regex(R"("by":"[ade]*a)")));

  bool is_explained = false;
  const auto same =
      RerunFile(path(), SchedulerOf, [&](uint64_t, const director::DecisionRecord& record) {
        const director::Attempt& attempt = record.attempts.back();
        is_explained |= std::ranges::count(attempt.match_sources, model::MatchSource::kExact) > 0 &&
                        std::ranges::any_of(attempt.told_blocks, [](float b) { return b > 0; });
      });
  ASSERT_TRUE(same) << same.error().message;
  EXPECT_THAT(same->differences, IsEmpty());
  EXPECT_TRUE(is_explained);
  const auto without = RerunText(stripped);
  ASSERT_TRUE(without) << without.error().message;
  EXPECT_GT(without->differing, 10U) << "or what was told was of no account";
}

TEST_F(GatewayTest, SeesThatAMatchWasTamperedWith) {
  RunGateway(kExactHits);
  std::vector<std::string> lines = Lines();
  const auto text_of = [&] {
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    return text;
  };
  // Another endpoint, which told something too, holds all of the prompt instead.
  const std::regex told(R"rx("by":"([ade]*)","holds":(\[.*?\])\}\])rx");
  int tampered = 0;
  for (size_t i = 0; i < lines.size() && tampered < 3; ++i) {
    const std::string before = lines[i];
    std::smatch found;
    if (!before.starts_with(R"({"e":"arrive")") || !std::regex_search(before, found, told)) {
      continue;
    }
    const std::string by = found[1];
    for (size_t other = 0; other < by.size(); ++other) {
      if (by[other] == 'a') continue;
      lines[i] = found.prefix().str() + R"("by":")" + by + R"(","holds":[[)" +
                 std::to_string(other) + ",1000,1000]]}]" + found.suffix().str();
      const auto report = RerunText(text_of());
      ASSERT_TRUE(report) << report.error().message;
      if (report->differing == 0) continue;  // it went there, or could not
      EXPECT_THAT(report->differences[0],
                  ::testing::StartsWith("t:" + std::to_string(i + 1) + ": request "));
      ++tampered;
      break;
    }
    lines[i] = before;
  }
  EXPECT_EQ(tampered, 3);
}

TEST_F(RerunTest, EqualPromptsHaveEqualKeysAndOthersDoNot) {
  const sched::SchedulingSpec spec = SpecOf("random");  // without a producer of keys
  config::Diagnostics diagnostics;
  auto scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
  const auto recorder = Record(spec, *scheduler);
  const auto keys_of = [&](const std::string& prompt) {
    sched::RequestContext context;
    const model::PromptPart part{prompt, true};
    context.request.prompt = {&part, 1};
    std::smatch found;
    const std::string text = recorder->Describe(&context);
    EXPECT_TRUE(std::regex_search(text, found, std::regex("\"keys\":\"([0-9a-f]*)\"")));
    return found[1].str();
  };
  const std::string opening(512, 'x');  // two blocks of 64 estimated tokens
  const std::string one = keys_of(opening + "one");
  const std::string two = keys_of(opening + "two");
  EXPECT_EQ(one.size(), 48U);
  EXPECT_EQ(one.substr(0, 32), two.substr(0, 32));
  EXPECT_NE(one, two);
  EXPECT_EQ(one, keys_of(opening + "one"));
}

// Lanes with arrivals until the recorder has had enough.
void Fill(Recorder* recorder, int requests) {
  Random random(5);
  director::DecisionRecord record;
  record.attempts.emplace_back().endpoint = "e0";
  recorder->OnLane(1);
  sched::RequestContext context;
  context.prefix_keys.emplace_back().block_size_tokens = 64;
  for (int k = 0; k < 500; ++k) context.prefix_keys[0].blocks.push_back(random.Next());
  for (int i = 0; i < requests; ++i) {
    for (uint64_t& key : context.prefix_keys[0].blocks) key = random.Next();
    recorder->OnArrived(0, recorder->Describe(&context), record, 0, {}, Time(seconds(1001)));
  }
}

TEST_F(RerunTest, EndsAtItsBoundAndSaysSo) {
  const sched::SchedulingSpec spec = SpecOf("sticky");
  config::Diagnostics diagnostics;
  auto scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
  {
    const auto recorder = Record(spec, *scheduler, 1 << 20);
    Fill(recorder.get(), 1000);  // 4 MB of keys that do not compress
    while (recorder->Stats().ended.empty()) std::this_thread::yield();
    EXPECT_EQ(recorder->Stats().ended, "full");
    EXPECT_FALSE(recorder->Stats().is_open);
  }
  EXPECT_LE(std::filesystem::file_size(path()), 1U << 20);
  EXPECT_GT(std::filesystem::file_size(path()), 800U << 10);
  const std::vector<std::string> lines = Lines();
  EXPECT_EQ(lines.back(), R"({"e":"close","why":"full"})");
  for (size_t i = 2; i + 1 < lines.size(); ++i) EXPECT_EQ(lines[i].back(), '}') << i;
}

TEST_F(RerunTest, EndsRatherThanHaveAHoleWhenTheDiskIsSlow) {
  const sched::SchedulingSpec spec = SpecOf("sticky");
  config::Diagnostics diagnostics;
  auto scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
  const auto recorder = Record(spec, *scheduler, 1 << 30, 20'000);
  Fill(recorder.get(), 100);  // 8 kB each, faster than once a second
  while (recorder->Stats().ended.empty()) std::this_thread::yield();
  EXPECT_EQ(recorder->Stats().ended, "the disk is too slow");
  EXPECT_FALSE(recorder->is_open());
  const uint64_t events = recorder->Stats().events;
  Fill(recorder.get(), 10);
  EXPECT_EQ(recorder->Stats().events, events);
}

TEST_F(RerunTest, KeepsTheOneBefore) {
  const sched::SchedulingSpec spec = SpecOf("sticky");
  config::Diagnostics diagnostics;
  auto scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
  Record(spec, *scheduler)->OnTick(Time(seconds(1001)));
  const auto first = std::filesystem::file_size(path());
  Record(spec, *scheduler).reset();
  EXPECT_EQ(std::filesystem::file_size(path() + ".1"), first);
  EXPECT_LT(std::filesystem::file_size(path()), first);
}

TEST_F(RerunTest, TakesNothingAwayThatItIsNotToReplace) {
  const auto open = [&](const std::filesystem::path& where) {
    RecorderOptions options;
    options.path = where.string();
    options.scheduling = "{}";
    return Recorder::Open(std::move(options));
  };
  std::ofstream(path()) << "of the run before";
  { EXPECT_TRUE(open(path())); }  // a gateway that could not start
  EXPECT_EQ(std::filesystem::file_size(path()), 17U);
  EXPECT_FALSE(std::filesystem::exists(path() + ".1"));
  EXPECT_FALSE(std::filesystem::exists(path() + ".part"));
  {
    const auto running = open(path());
    ASSERT_TRUE(running);
    EXPECT_THAT(open(path()).error().message, HasSubstr("a.rec.part: another gateway records"));
    ASSERT_TRUE((*running)->Keep());
    EXPECT_THAT(open(path()).error().message, HasSubstr("a.rec: another gateway records there"));
  }
  EXPECT_EQ(std::filesystem::file_size(path() + ".1"), 17U);
  EXPECT_THAT(open(folder_).error().message, HasSubstr("is not a file"));
  EXPECT_THAT(open("/dev/null").error().message, HasSubstr("/dev/null: is not a file"));
  // The recording goes where a link leads.
  const auto link = folder_ / "link.rec";
  std::filesystem::create_symlink(path(), link);
  ASSERT_TRUE((*open(link))->Keep());
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_NE(std::filesystem::file_size(path() + ".1"), 17U);
}

TEST_F(RerunTest, SessionsKeepTheirNamesWhenTheRecordingEnds) {
  const sched::SchedulingSpec spec = SpecOf(kSessions);
  config::Diagnostics diagnostics;
  auto scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
  const auto recorder = Record(spec, *scheduler, 1 << 20);
  const auto name_of = [&](std::string_view session) {
    sched::RequestContext context;
    context.request.headers = {{"X-Chat", session}};
    recorder->Describe(&context);
    return std::string(context.request.Header("x-chat"));
  };
  const std::string before = name_of("one");
  EXPECT_EQ(before.size(), 16U);
  EXPECT_NE(before, name_of("two"));
  EXPECT_EQ(name_of(""), "") << "no session must not become one";
  EXPECT_EQ(name_of("  "), "");
  Fill(recorder.get(), 1000);
  while (recorder->is_open()) std::this_thread::yield();
  EXPECT_EQ(name_of("one"), before);
}

// A request that was prepared beside the loop brings its own texts.
TEST_F(RerunTest, ShortHeadersAreToldBesideTextsThatAreThereAlready) {
  RecorderOptions options;
  options.path = path();
  options.scheduling = "{}";
  for (const char* name : {"x-a", "x-b", "x-c"}) options.headers.push_back({name, false});
  const auto recorder = Recorder::Open(std::move(options));
  ASSERT_TRUE(recorder);
  sched::RequestContext context;
  context.header_texts.emplace_back("x-a one x-b two x-c three, as they came");
  const std::string_view texts = context.header_texts.front();
  context.request.headers = {
      {"x-a", texts.substr(4, 3)}, {"x-b", texts.substr(12, 3)}, {"x-c", texts.substr(20, 5)}};
  (*recorder)->Describe(&context);
  EXPECT_EQ(context.request.Header("x-a"), "one");
  EXPECT_EQ(context.request.Header("x-b"), "two");
  EXPECT_EQ(context.request.Header("x-c"), "three");
}

TEST_F(RerunTest, RoundNumbersOfBlocksAreNumbersStill) {
  const sched::SchedulingSpec spec = SpecOf("sticky");
  config::Diagnostics diagnostics;
  auto scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
  {
    const auto recorder = Record(spec, *scheduler);
    director::EngineSignals signals;
    signals.waiting = 100'000;
    signals.kv_usage = 1e-7F;
    signals.gpu_blocks = 1'000'000;
    signals.started_at = 1e9;
    signals.attributes = {0.1F, std::numeric_limits<float>::quiet_NaN()};
    recorder->OnScraped(1, signals, Time(seconds(1001)));
  }
  const auto report = RerunFile(path(), SchedulerOf);
  ASSERT_TRUE(report) << report.error().message;
  const auto event = ReadEvent(Lines().at(1), Time());
  ASSERT_TRUE(event);
  EXPECT_EQ(event->signals.gpu_blocks, 1'000'000U);
  EXPECT_EQ(event->signals.waiting, 100'000.0F);
  EXPECT_EQ(event->signals.kv_usage, 1e-7F);
  ASSERT_EQ(event->signals.attributes.size(), 2U);
  EXPECT_EQ(event->signals.attributes[0], 0.1F);
  EXPECT_TRUE(std::isnan(event->signals.attributes[1]));
}

TEST_F(RerunTest, WhatIsCutOffIsReadAsFarAsItGoes) {
  const sched::SchedulingSpec spec = SpecOf("sticky");
  config::Diagnostics diagnostics;
  auto scheduler = sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
  {
    const auto recorder = Record(spec, *scheduler);
    for (int i = 0; i < 200'000; ++i) recorder->OnTick(Time(seconds(1001)) + seconds(i));
  }
  const auto whole = RerunFile(path(), SchedulerOf);
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->events, 200'001);
  std::filesystem::resize_file(path(), std::filesystem::file_size(path()) / 2);
  const auto half = RerunFile(path(), SchedulerOf);
  ASSERT_TRUE(half) << half.error().message;
  EXPECT_EQ(half->ended, "");
  EXPECT_GT(half->events, 1'000);
  EXPECT_LT(half->events, 200'000);
}

TEST_F(RerunTest, TrustsNoLine) {
  const std::string head =
      R"({"penstock_recording":1,"version":"t","unix_micros":0,"start":1000,"max_endpoints":4,)"
      R"("max_tries":2,"retry_budget_ratio":0.2,"policy":"p","scheduling":)" +
      JsonString(sched::ToYaml(SpecOf("sticky"))) + "}\n";
  const std::string lane = "{\"e\":\"lane\",\"lane\":0,\"seed\":1}\n";
  const std::string arrive = R"({"e":"arrive","t":1,"n":0,"lane":0,"status":503,"prefixes":)";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "t: is empty"},
      {"{}\n", "t:1: is no recording"},
      {"nonsense\n", "t:1: is no recording"},
      {R"({"penstock_recording":2})", "t:1: has format 2; this version reads 1"},
      {R"({"penstock_recording":1,"scheduling":"{}"})", "t:1: no plugins"},
      {head + "{\"e\":\"what\"}\n", "t:2: e: 'what' is no event"},
      {head + "{\"t\":1}\n", "t:2: the first field"},
      {head + "{}\n", "t:2: no event"},
      {head + "{\"e\":\"tick\",\"t\":1.5}\n", "t:2: t: '1.5' is no time"},
      {head + "{\"e\":\"tick\",\"t\":1", "t:2: expected"},
      {head + "{\"e\":\"lane\",\"lane\":1,\"seed\":1}\n", "t:2: lanes do not count up"},
      {head + arrive + "[]}\n", "t:2: there is no lane 0"},
      {head + lane + arrive + "[]}\n",
       "t:3: keys of 0 prefix producers, but the configuration has 1"},
      {head + lane + arrive + R"([{"size":64,"ends":[2],"keys":"0000000000000001"}]})",
       "t:3: ends: not rising"},
      {head + lane + arrive + R"([{"size":0,"ends":[],"keys":""}]})", "t:3: size: 0 tokens"},
      {head + lane + arrive + R"([{"size":64,"ends":[],"keys":"xyz"}]})",
       "t:3: keys: not up to 65536 hexa"},
      {head + lane + arrive + R"([{"size":64,"ends":[],"keys":""}],"told":[{"of":1,"size":1}]})",
       "t:3: told: of prefix producer 1, but the configuration has 1"},
      {head + lane + arrive + R"([{"size":64,"ends":[],"keys":""}],"told":[{"of":256,"size":1}]})",
       "t:3: of: '256' is no whole number up to 255"},
      {head + lane + arrive +
           R"([{"size":64,"ends":[],"keys":""}],"told":[{"of":0,"size":1,"by":"ea"}]})",
       "t:3: told: by 2 endpoints, but the pool has 0"},
      {head + lane + arrive + R"([],"told":[{"of":0,"size":1,"by":"ex"}]})", "t:3: by: letters"},
      {head + lane + arrive + R"([],"told":[{"of":0,"by":"e"}]})", "t:3: told: size: 0 tokens"},
      {head + lane + arrive + R"([],"told":[{"size":1,"by":"ea","holds":[[1,2,2]]}]})",
       "t:3: told: holds: not rising, or of endpoints that told nothing"},
      {head + lane + arrive + R"([],"told":[{"size":1,"by":"ee","holds":[[1,2,2],[0,1,1]]}]})",
       "t:3: told: holds: not rising"},
      {head + lane + arrive + R"([],"told":[{"size":1,"by":"ee","holds":[[2,1,1]]}]})",
       "t:3: told: holds: not rising"},
      {head + lane + arrive + R"([],"told":[{"size":1,"by":"ee","holds":[[0,1]]}]})",
       "t:3: holds: not three numbers each"},
      {head + lane + arrive + R"([],"told":[{"size":1,"by":"ee","holds":[[0,-1,0]]}]})",
       "t:3: holds: below 0"},
      {head + "{\"e\":\"first\",\"t\":1,\"n\":7}\n", "t:2: request 7 is not running"},
      {head + "{\"e\":\"end\",\"t\":1,\"n\":7,\"kind\":\"happy\"}\n", "t:2: kind: 'happy'"},
      {head + "{\"e\":\"scrape\",\"t\":1,\"slot\":\"x\"}\n", "t:2: expected"},
  };
  for (const auto& [text, complaint] : cases) {
    const auto report = RerunText(text);
    ASSERT_FALSE(report) << text;
    EXPECT_THAT(report.error().message, HasSubstr(complaint)) << text;
  }
  // Slots and endpoints that make no sense are the fleet's to refuse.
  EXPECT_TRUE(RerunText(head + R"({"e":"scrape","t":1,"slot":4000000000,"kv":7})" + "\n" +
                        R"({"e":"endpoints","endpoints":[{"name":"a"},{"name":"a"}]})" + "\n"));
}

}  // namespace
}  // namespace penstock::recording
