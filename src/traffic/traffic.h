// A fleet of chats against one gateway: chats begin as a Poisson process, as many as may be open at
// a time, until time, a number of requests, or the caller says stop. Then what runs may end.
//
// THREADS: loop-bound. OWNS: its chats and its connections.
// COST: a chat costs its history, ChatShape::max_context_tokens * 5 bytes at most.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/random.h"
#include "core/result.h"
#include "http/client.h"
#include "net/loop.h"
#include "traffic/chat_plan.h"
#include "traffic/chat_session.h"
#include "traffic/report.h"
#include "traffic/target.h"
#include "traffic/totals.h"

namespace penstock::traffic {

struct TrafficOptions {
  Target target;
  std::string model;
  ChatShape shape;
  double chats_per_s = 20;  // that begin, while fewer than max_chats are open
  uint32_t max_chats = 300;
  uint64_t max_requests = 0;         // 0: no limit
  Duration duration{0};              // 0: until Stop
  Duration end_limit = seconds(10);  // for answers to end, then they are cut off
};

// kOutOfRange names the option.
Result<> Check(const TrafficOptions& options);

class Traffic final : private ChatOwner {
 public:
  // REQUIRES: Check(options) is well. `on_end` is called once, on the loop, when all is over; the
  // object may not be destroyed inside.
  Traffic(net::Loop& loop, TrafficOptions options, std::function<void()> on_end);
  ~Traffic() override;
  void Start();
  // No new request; `on_end` follows when the answers under way have ended, at the latest after the
  // end limit. Again: the answers are cut off now.
  void Stop();

  const Totals& totals() const { return totals_; }
  ChatCounts counts() const;
  // From Start until now or the end.
  Duration elapsed() const;
  // What happened since the last call.
  struct Window {
    Totals totals;
    Duration length{0};
  };
  Window TakeWindow();

 private:
  bool MaySend() override;
  void OnTurn(const TurnRecord& record) override;
  void OnChatOver(uint64_t index) override;

  void OnArrival();
  void ScheduleArrival();
  void CutOff();
  void Sweep();

  net::Loop& loop_;
  const TrafficOptions options_;
  const Agents agents_;
  std::function<void()> on_end_;
  std::unique_ptr<http::Client> client_;
  const ChatContext context_;
  Random random_;  // of the arrivals

  std::unordered_map<uint64_t, std::unique_ptr<ChatSession>> chats_;
  // Chats that are over go when none of their callbacks can be running.
  std::vector<std::unique_ptr<ChatSession>> ended_chats_;
  uint64_t next_index_ = 0;
  uint64_t held_back_ = 0;
  uint64_t sent_ = 0;
  bool is_stopping_ = false;
  Time started_{}, ended_{}, window_began_{}, next_arrival_{};
  Totals totals_, window_;

  net::Timer arrival_timer_;
  net::Timer stop_timer_;  // the duration, then the end limit
  net::Timer sweep_timer_;
};

}  // namespace penstock::traffic
