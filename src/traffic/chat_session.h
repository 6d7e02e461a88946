// One chat with a gateway: sends a turn, reads the answer, lets the user think, sends the next one
// with all that was said before. A turn that fails ends the chat.
//
// THREADS: loop-bound. OWNS: its call and its history; borrows everything it is made from.
// COST: the history's bytes once, max_context_tokens of the shape; sending copies nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "http/client.h"
#include "net/loop.h"
#include "traffic/answer.h"
#include "traffic/chat_plan.h"
#include "traffic/target.h"
#include "traffic/totals.h"

namespace penstock::traffic {

// What the fleet of chats decides and wants to know.
class ChatOwner {
 public:
  virtual ~ChatOwner() = default;
  // Asked before each request; false ends the chat.
  virtual bool MaySend() = 0;
  virtual void OnTurn(const TurnRecord& record) = 0;
  // The last word of a chat. It must be destroyed later, not inside.
  virtual void OnChatOver(uint64_t index) = 0;
};

// What all chats share.
struct ChatContext {
  net::Loop& loop;
  http::Client& client;
  const Target& target;
  const std::string& model;
  const ChatShape& shape;
  const Agents& agents;
};

class ChatSession final : private http::CallListener {
 public:
  ChatSession(const ChatContext& context, uint64_t index, ChatOwner& owner);
  // The first request goes out; the owner may be called inside.
  void Start();
  // No further turn: over at once when no answer is under way, else with its end.
  void EndSoon();
  bool is_waiting_for_answer() const { return call_ != nullptr; }

 private:
  void NextTurn();
  void SendTurn();
  void EndTurn(TurnRecord record);
  void Fail(std::string error, std::string_view detail);
  void Remember();
  TurnRecord Measure() const;

  void OnHead(const http::ResponseHead& head) override;
  void OnBody(std::string_view piece) override;
  void OnEnd() override;
  void OnFailure(http::CallFailure failure, std::string_view message) override;

  const ChatContext& context_;
  const uint64_t index_;
  ChatOwner& owner_;
  ChatPlan plan_;
  std::optional<Turn> turn_;  // the one that is thought about or answered
  bool ends_soon_ = false;
  bool is_over_ = false;
  net::Timer think_timer_;

  std::string opening_;  // of the body, up to the messages
  std::string history_;  // messages after the system prompt, each with a comma before it
  uint64_t context_tokens_ = 0;

  std::unique_ptr<http::Call> call_;
  std::optional<AnswerReader> answer_;  // of status 200
  int status_ = 0;
  std::string error_body_;
  Time sent_{}, first_output_{}, last_piece_{};
};

}  // namespace penstock::traffic
