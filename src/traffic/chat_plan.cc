#include "traffic/chat_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "wire/json.h"

namespace penstock::traffic {
namespace {

constexpr uint32_t kMostAgents = 10'000;

// Streams of random numbers that have nothing to do with each other.
uint64_t SeedOf(uint64_t seed, uint64_t stream) {
  Random mixer(seed ^ 0x70656e73746f636bULL);
  return mixer.Next() + stream * 0x9e3779b97f4a7c15ULL;
}

// Number of turns, 1 at least, geometric around the mean.
uint32_t DrawTurns(const ChatShape& shape, Random& random) {
  if (shape.mean_turns <= 1) return 1;
  const double stays = 1 - 1 / shape.mean_turns;
  const double turns = 1 + std::floor(std::log(1 - random.Uniform()) / std::log(stays));
  return static_cast<uint32_t>(std::clamp(turns, 1.0, static_cast<double>(shape.max_turns)));
}

Result<> CheckLengths(std::string_view name, const LogNormal& lengths, double least) {
  if (lengths.median > 0 && lengths.sigma >= 0 && lengths.least >= least &&
      lengths.least <= lengths.most && lengths.most <= 1e6) {
    return {};
  }
  return Fail(Code::kOutOfRange,
              fmt::format("{}: median {}, sigma {}, between {} and {} is no distribution of "
                          "positive numbers up to a million",
                          name, lengths.median, lengths.sigma, lengths.least, lengths.most));
}

}  // namespace

Result<> Check(const ChatShape& shape) {
  if (shape.agents == 0 || shape.agents > kMostAgents) {
    return Fail(Code::kOutOfRange,
                fmt::format("agents: {} is not between 1 and {}", shape.agents, kMostAgents));
  }
  if (shape.max_turns == 0) return Fail(Code::kOutOfRange, "max turns: 0 is below 1");
  for (const auto& [name, lengths, least] : {std::tuple{"system tokens", &shape.system_tokens, 1.0},
                                             std::tuple{"user tokens", &shape.user_tokens, 1.0},
                                             std::tuple{"answer tokens", &shape.answer_tokens, 1.0},
                                             std::tuple{"think time", &shape.think_s, 0.0}}) {
    if (Result<> ok = CheckLengths(name, *lengths, least); !ok) return ok;
  }
  return {};
}

Agents::Agents(const ChatShape& shape) {
  double sum = 0;
  for (uint32_t i = 0; i < shape.agents; ++i) {
    Random random(SeedOf(shape.seed, 2 * uint64_t{i}));
    // The name comes first: prompts differ from their first block on.
    std::string text = fmt::format(
        "You are agent {} of seed {}, an assistant with these instructions. ", i, shape.seed);
    text += Prose(random, static_cast<uint32_t>(shape.system_tokens.Draw(random)));
    std::string message = R"({"role":"system","content":)";
    wire::AppendJsonString(text, &message);
    message += '}';
    messages_.push_back(std::move(message));
    sum += std::pow(i + 1.0, -shape.agent_skew);
    up_to_.push_back(sum);
  }
  for (double& share : up_to_) share /= sum;
  up_to_.back() = 1;
}

uint32_t Agents::Pick(Random& random) const {
  const auto it = std::upper_bound(up_to_.begin(), up_to_.end(), random.Uniform());
  return static_cast<uint32_t>(it - up_to_.begin());
}

ChatPlan::ChatPlan(const ChatShape& shape, const Agents& agents, uint64_t index)
    : shape_(shape), agents_(agents), random_(SeedOf(shape.seed, 2 * index + 1)) {
  agent_ = agents_.Pick(random_);
  turns_left_ = DrawTurns(shape_, random_);
}

std::optional<Turn> ChatPlan::Next(uint64_t context_tokens) {
  if (turns_left_ == 0) return std::nullopt;
  --turns_left_;
  Turn turn;
  const double think_s = shape_.think_s.Draw(random_);
  if (has_begun_) turn.think = FromSeconds(think_s);
  const auto user_tokens = static_cast<uint32_t>(shape_.user_tokens.Draw(random_));
  turn.text = Prose(random_, user_tokens);
  turn.max_tokens = static_cast<uint32_t>(shape_.answer_tokens.Draw(random_));
  turn.is_streamed = random_.Uniform() < shape_.streamed_share;
  if (has_begun_ && context_tokens + user_tokens + turn.max_tokens > shape_.max_context_tokens) {
    turns_left_ = 0;
    return std::nullopt;
  }
  has_begun_ = true;
  return turn;
}

}  // namespace penstock::traffic
