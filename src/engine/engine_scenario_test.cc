// What the tier and the roles are for, in virtual time: engines with a profile's numbers, and a
// driver that gives them requests and moves KV between them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/random.h"
#include "engine/block_hash.h"
#include "engine/engine.h"
#include "engine/profile.h"
#include "engine/testing.h"

namespace penstock::engine {
namespace {

struct Arrival {
  Time at;
  Request request;
};

struct Latencies {
  std::vector<double> ttft, itl;  // seconds
  static double Mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  }
  static double P99(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() * 99 / 100];
  }
};

// Engines that take turns, or one that prefills and one that decodes.
class Cluster {
 public:
  enum class Roles : uint8_t { kMixed, kPrefillAndDecode };
  static constexpr size_t kPrefill = 0, kDecode = 1;

  Cluster(size_t engines, const EngineOptions& options, Roles roles) : roles_(roles) {
    for (size_t i = 0; i < engines; ++i) nodes_.push_back({Make(options)});
  }

  EngineStats Stats(size_t engine) const { return nodes_[engine].engine->Stats(); }

  Latencies Run(const std::vector<Arrival>& arrivals) {
    for (size_t next = 0;;) {
      const auto first =
          std::min_element(nodes_.begin(), nodes_.end(),
                           [](const Node& a, const Node& b) { return a.step_end < b.step_end; });
      if (next < arrivals.size() && arrivals[next].at <= first->step_end) {
        now_ = arrivals[next].at;
        Arrive(arrivals[next], next);
        ++next;
      } else if (first->step_end != Time::max()) {
        now_ = first->step_end;
        End(static_cast<size_t>(first - nodes_.begin()));
      } else {
        return std::move(latencies_);
      }
    }
  }

 private:
  struct Node {
    std::unique_ptr<Engine> engine;
    Time step_end = Time::max();
    bool is_stepping = false;
  };
  struct Flight {
    Request request;
    Time arrived, last_token;
  };

  void Arrive(const Arrival& arrival, size_t number) {
    flights_[arrival.request.id] = {arrival.request, now_, {}};
    if (roles_ == Roles::kMixed) return Submit(number % nodes_.size(), arrival.request);
    Request prefill = arrival.request;
    prefill.output_tokens = 1;
    prefill.hold = seconds(30);
    Submit(kPrefill, std::move(prefill));
  }

  void Submit(size_t index, Request request) {
    ASSERT_TRUE(nodes_[index].engine->Submit(std::move(request)));
    Begin(index);
  }

  void Begin(size_t index) {
    Node& node = nodes_[index];
    if (node.is_stepping) return;
    node.step_end = Time::max();
    if (!node.engine->HasWork()) return;
    const Step step = node.engine->BeginStep(now_);
    node.is_stepping = step.load.sequences > 0;
    node.step_end = now_ + step.duration;
    for (const Event& event : step.events) {
      if (roles_ == Roles::kPrefillAndDecode && index == kDecode) Follow(event);
    }
    if (!node.is_stepping) node.engine->EndStep();
  }

  // What the decode engine says makes the prefill engine give its KV, and its blocks free.
  void Follow(const Event& event) {
    Engine& prefill = *nodes_[kPrefill].engine;
    Engine& decode = *nodes_[kDecode].engine;
    if (event.kind == Event::Kind::kLoading) {
      const Request& request = flights_.at(event.id).request;
      const auto sent = prefill.ConsumeHold(
          event.id, PrefixHash(request, decode.options().block_size), event.count, now_);
      ASSERT_TRUE(sent) << sent.error().message;
      ASSERT_TRUE(decode.DelayLoad(event.id, *sent));
    } else if (event.kind == Event::Kind::kScheduled) {
      prefill.ReleaseHold(event.id, now_);
      Begin(kPrefill);
    }
  }

  void End(size_t index) {
    Node& node = nodes_[index];
    if (!node.is_stepping) return Begin(index);
    node.is_stepping = false;
    std::vector<uint64_t> prefilled;
    for (const Event& event : node.engine->EndStep()) {
      if (roles_ == Roles::kPrefillAndDecode && index == kPrefill) {
        if (event.kind == Event::Kind::kFinished) prefilled.push_back(event.id);
      } else if (event.kind == Event::Kind::kToken) {
        Token(event);
      }
    }
    Begin(index);
    for (const uint64_t id : prefilled) {
      Request request = flights_.at(id).request;
      request.remote_tokens = request.prompt_tokens;
      Submit(kDecode, std::move(request));
    }
  }

  void Token(const Event& event) {
    Flight& flight = flights_.at(event.id);
    if (event.count == 1) {
      latencies_.ttft.push_back(ToSeconds(now_ - flight.arrived));
    } else {
      latencies_.itl.push_back(ToSeconds(now_ - flight.last_token));
    }
    flight.last_token = now_;
  }

  const Roles roles_;
  std::vector<Node> nodes_;
  std::map<uint64_t, Flight> flights_;
  Latencies latencies_;
  Time now_{};
};

EngineOptions H100Tp2() {
  const auto profile = LoadProfile("h100-qwen3-32b-tp2");
  EXPECT_TRUE(profile) << profile.error().message;
  return profile->Options();
}

// Sessions of 8,000 tokens come again and again, each time with another question.
Latencies RunSessions(int sessions, uint32_t cpu_blocks) {
  EngineOptions options = H100Tp2();
  options.num_blocks = 5000;  // 10 sessions
  options.max_model_len = 20'000;
  options.cpu_blocks = cpu_blocks;
  std::vector<Arrival> arrivals;
  for (int i = 0; i < 40 * sessions; ++i) {
    const auto session = static_cast<uint32_t>(i % sessions);
    std::vector<uint64_t> hashes = Hashes(session * 100'000, 8000, options.block_size);
    arrivals.push_back(
        {Time(milliseconds(400) * i), Ask(static_cast<uint64_t>(i), 8100, 20, std::move(hashes))});
  }
  Cluster cluster(1, options, Cluster::Roles::kMixed);
  return cluster.Run(arrivals);
}

TEST(EngineScenario, TheTierPaysWhenTheSessionsAreMoreThanTheCacheHolds) {
  const double without = Latencies::Mean(RunSessions(25, 0).ttft);
  const double with = Latencies::Mean(RunSessions(25, 20'000).ttft);
  EXPECT_GT(without, 5 * with) << without << " s against " << with << " s";
  RecordProperty("without_ms", std::to_string(without * 1e3));
  RecordProperty("with_ms", std::to_string(with * 1e3));
}

TEST(EngineScenario, TheTierChangesNothingWhenTheyFit) {
  const Latencies without = RunSessions(6, 0);
  const Latencies with = RunSessions(6, 20'000);
  EXPECT_EQ(without.ttft, with.ttft);
  EXPECT_EQ(without.itl, with.itl);
}

// Prompts of 8,000 tokens, answers of 200, at random moments.
std::vector<Arrival> LongPrompts(Duration mean_gap) {
  Random random(7);
  std::vector<Arrival> arrivals;
  Time at{};
  for (uint64_t i = 0; i < 200; ++i) {
    at += FromSeconds(-std::log(1 - random.Uniform()) * ToSeconds(mean_gap));
    arrivals.push_back(
        {at, Ask(i, 8000, 200, Hashes(static_cast<uint32_t>(i) * 10'000, 8000, 16))});
  }
  return arrivals;
}

TEST(EngineScenario, PrefillsOfTheirOwnKeepDecodesEvenAndCostATransfer) {
  const std::vector<Arrival> arrivals = LongPrompts(milliseconds(700));
  Cluster mixed(2, H100Tp2(), Cluster::Roles::kMixed);
  const Latencies together = mixed.Run(arrivals);
  Cluster split(2, H100Tp2(), Cluster::Roles::kPrefillAndDecode);
  const Latencies apart = split.Run(arrivals);
  ASSERT_EQ(together.ttft.size(), arrivals.size());
  ASSERT_EQ(apart.ttft.size(), arrivals.size());
  EXPECT_GT(Latencies::P99(together.itl), 2 * Latencies::P99(apart.itl));
  EXPECT_GT(Latencies::Mean(together.itl), Latencies::Mean(apart.itl));
  EXPECT_LT(Latencies::Mean(together.ttft), Latencies::Mean(apart.ttft));
  RecordProperty("mixed", std::to_string(Latencies::P99(together.itl) * 1e3) + " ms ITL p99, " +
                              std::to_string(Latencies::Mean(together.ttft) * 1e3) + " ms TTFT");
  RecordProperty("split", std::to_string(Latencies::P99(apart.itl) * 1e3) + " ms ITL p99, " +
                              std::to_string(Latencies::Mean(apart.ttft) * 1e3) + " ms TTFT");
  // All was read once, in time, and given back; the decode engine computed one token a prompt.
  const EngineStats prefill = split.Stats(Cluster::kPrefill);
  EXPECT_EQ(prefill.holds.taken, arrivals.size());
  EXPECT_EQ(prefill.holds.consumed, arrivals.size());
  EXPECT_EQ(prefill.holds.expired + prefill.holds.stale_reads + prefill.holds.double_reads, 0u);
  EXPECT_EQ(prefill.used_blocks, 0u);
  const EngineStats decode = split.Stats(Cluster::kDecode);
  EXPECT_EQ(decode.external_hit_tokens, arrivals.size() * 7999);
  EXPECT_EQ(decode.failed_loads, 0u);
}

}  // namespace
}  // namespace penstock::engine
