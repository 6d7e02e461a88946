// What is said in simulated chats: who talks, with which system prompt, how long each message is,
// how long the user thinks, when the chat ends. No I/O, no clock: the same seed gives the same
// chats, whatever the gateway answers and however long it takes.
//
// THREADS: Agents is const from any thread; a ChatPlan belongs to its caller.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/random.h"
#include "core/result.h"
#include "core/time.h"
#include "traffic/prose.h"

namespace penstock::traffic {

struct ChatShape {
  uint64_t seed = 1;
  uint32_t agents = 96;  // distinct system prompts
  // Popularity of agent i is 1 / (i + 1)^agent_skew; 0 makes all alike.
  double agent_skew = 0.4;
  // Prompts are long and messages short, as in support and agent chats: a turn adds less than a
  // fifth to the prompt. Longer messages make prefix-affine policies that ask for a match of 80 %
  // give up an engine that holds most of the chat.
  LogNormal system_tokens{.median = 3000, .sigma = 0.25, .least = 2400, .most = 4000};
  LogNormal user_tokens{.median = 100, .sigma = 0.8, .least = 8, .most = 320};
  LogNormal answer_tokens{.median = 160, .sigma = 0.6, .least = 16, .most = 320};  // max_tokens
  LogNormal think_s{.median = 8, .sigma = 0.5, .least = 1, .most = 30};
  double mean_turns = 6;
  uint32_t max_turns = 14;
  uint32_t max_context_tokens = 16'000;  // the chat ends before a turn that would go beyond
  double streamed_share = 0.9;
};

// kOutOfRange names the field that no traffic can be made of.
Result<> Check(const ChatShape& shape);

// The agents' system prompts, written once and shared by all chats. COST: system_tokens * 5 bytes
// each.
class Agents {
 public:
  // REQUIRES: Check(shape) is well.
  explicit Agents(const ChatShape& shape);
  size_t size() const { return messages_.size(); }
  // {"role":"system","content":"..."}
  std::string_view message(uint32_t agent) const { return messages_[agent]; }
  uint32_t Pick(Random& random) const;

 private:
  std::vector<std::string> messages_;
  std::vector<double> up_to_;  // cumulative popularity, the last one is 1
};

struct Turn {
  Duration think{0};  // before it is sent; 0 for the first one
  std::string text;   // the user's message
  uint32_t max_tokens = 0;
  bool is_streamed = true;
};

class ChatPlan {
 public:
  // The chat number `index` of the shape's seed. Both are borrowed.
  ChatPlan(const ChatShape& shape, const Agents& agents, uint64_t index);
  std::string_view system_message() const { return agents_.message(agent_); }
  uint32_t agent() const { return agent_; }
  // `context_tokens`: how long prompt and answer of the turn before were, 0 at first. Nothing when
  // the chat is over.
  std::optional<Turn> Next(uint64_t context_tokens);

 private:
  const ChatShape& shape_;
  const Agents& agents_;
  Random random_;
  uint32_t agent_ = 0;
  uint32_t turns_left_ = 0;
  bool has_begun_ = false;
};

}  // namespace penstock::traffic
