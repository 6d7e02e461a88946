#include "traffic/traffic.h"

#include <fmt/format.h>

#include <utility>

namespace penstock::traffic {
namespace {

constexpr double kMaxChatsPerSecond = 10'000;
constexpr uint32_t kMaxChats = 20'000;

}  // namespace

Result<> Check(const TrafficOptions& options) {
  if (!(options.chats_per_s > 0 && options.chats_per_s <= kMaxChatsPerSecond)) {
    return Fail(Code::kOutOfRange, fmt::format("rate: {} chats a second is not above 0 and at most "
                                               "{}",
                                               options.chats_per_s, kMaxChatsPerSecond));
  }
  if (options.max_chats == 0 || options.max_chats > kMaxChats) {
    return Fail(Code::kOutOfRange,
                fmt::format("chats: {} is not between 1 and {}", options.max_chats, kMaxChats));
  }
  if (options.duration < Duration(0)) {
    return Fail(Code::kOutOfRange, "duration: it is negative");
  }
  if (options.model.empty()) return Fail(Code::kInvalidArgument, "model: it has no name");
  return Check(options.shape);
}

Traffic::Traffic(net::Loop& loop, TrafficOptions options, std::function<void()> on_end)
    : loop_(loop),
      options_(std::move(options)),
      agents_(options_.shape),
      on_end_(std::move(on_end)),
      client_(http::Client::Create(loop)),
      context_{loop, *client_, options_.target, options_.model, options_.shape, agents_},
      random_(options_.shape.seed),
      arrival_timer_(loop, [this] { OnArrival(); }),
      stop_timer_(loop, [this] { Stop(); }),
      sweep_timer_(loop, [this] { Sweep(); }) {}

Traffic::~Traffic() = default;

void Traffic::Start() {
  started_ = window_began_ = next_arrival_ = loop_.Now();
  if (options_.duration > Duration(0)) stop_timer_.Start(options_.duration);
  ScheduleArrival();
}

void Traffic::Stop() {
  if (std::exchange(is_stopping_, true)) return CutOff();
  arrival_timer_.Cancel();
  stop_timer_.Start(options_.end_limit);
  // A chat that is over leaves the map, so the map cannot be walked.
  std::vector<ChatSession*> open;
  for (const auto& [index, chat] : chats_) open.push_back(chat.get());
  for (ChatSession* chat : open) chat->EndSoon();
  sweep_timer_.Start(Duration(0));
}

void Traffic::CutOff() {
  for (auto& [index, chat] : chats_) {
    if (chat->is_waiting_for_answer()) ++totals_.cut_off;
    ended_chats_.push_back(std::move(chat));
  }
  chats_.clear();
  sweep_timer_.Start(Duration(0));
}

void Traffic::Sweep() {
  ended_chats_.clear();
  if (!is_stopping_ || !chats_.empty() || !on_end_) return;
  stop_timer_.Cancel();
  ended_ = loop_.Now();
  std::exchange(on_end_, nullptr)();
}

void Traffic::ScheduleArrival() {
  // From planned time to planned time, so that late timers do not lower the rate.
  next_arrival_ += FromSeconds(DrawExponential(random_, options_.chats_per_s));
  const Time now = loop_.Now();
  arrival_timer_.Start(next_arrival_ > now ? next_arrival_ - now : Duration(0));
}

void Traffic::OnArrival() {
  ScheduleArrival();
  if (chats_.size() >= options_.max_chats) {
    ++held_back_;
    return;
  }
  const uint64_t index = next_index_++;
  auto chat = std::make_unique<ChatSession>(context_, index, static_cast<ChatOwner&>(*this));
  ChatSession& started = *chat;
  chats_.emplace(index, std::move(chat));
  started.Start();
}

bool Traffic::MaySend() {
  if (is_stopping_ || (options_.max_requests > 0 && sent_ >= options_.max_requests)) return false;
  if (++sent_ == options_.max_requests) {
    arrival_timer_.Cancel();
    stop_timer_.Start(Duration(0));
  }
  return true;
}

void Traffic::OnTurn(const TurnRecord& record) {
  totals_.Add(record);
  window_.Add(record);
}

void Traffic::OnChatOver(uint64_t index) {
  const auto it = chats_.find(index);
  ended_chats_.push_back(std::move(it->second));
  chats_.erase(it);
  sweep_timer_.Start(Duration(0));
}

ChatCounts Traffic::counts() const {
  return {.begun = next_index_, .open = chats_.size(), .held_back = held_back_};
}

Duration Traffic::elapsed() const { return (ended_ == Time{} ? loop_.Now() : ended_) - started_; }

Traffic::Window Traffic::TakeWindow() {
  const Time now = loop_.Now();
  Window window{std::exchange(window_, Totals()), now - window_began_};
  window_began_ = now;
  return window;
}

}  // namespace penstock::traffic
