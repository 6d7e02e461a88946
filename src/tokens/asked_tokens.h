// What asking others for prompts' tokens needs, between the producer that wants them and whoever
// speaks HTTP: the settings, what was told before, who may be asked, how many questions are out.
//
// THREADS: all methods from any thread. OWNS: what its parts own.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include "core/byte_budget.h"
#include "core/time.h"
#include "tokens/token_servers.h"
#include "tokens/told_tokens.h"

namespace penstock::tokens {

// What became of a question that could have been asked.
enum class AskResult : uint8_t {
  kTold,
  kNotOfUse,   // no engine tells what it holds, so that exact tokens are worth nothing
  kBusy,       // as many are out as may be, or they take all the memory there is for them
  kNobody,     // nobody who could be asked has the model
  kResting,    // whoever could be asked has failed, and rests
  kNoRoute,    // whoever could be asked has no endpoint for it
  kTimeout,    // no whole answer in time
  kUnreached,  // no connection, or it broke
  kFailed,     // it answered 5xx or 429
  kRefused,    // it answered 4xx: the engine would refuse the request, too
  kBadAnswer,  // it answered something else than tokens
  kTooLarge,   // the answer is larger than any honest one
};

class AskedTokens {
 public:
  static constexpr uint64_t kMaxAnswerBytes = uint64_t{64} << 20;  // of all that are being read
  static constexpr uint64_t kMaxBodyBytes = uint64_t{64} << 20;    // of all requests that wait

  struct Options {
    bool is_on = false;
    std::string host;  // of the render server; "": engines of the pool are asked
    uint16_t port = 0;
    std::string model_name;  // as the render server knows it; "": as engines do
    Duration timeout = milliseconds(250);
    Duration media_timeout =
        seconds(30);  // of prompts with media, for which the render server is asked
    size_t cache_bytes = size_t{64} << 20;
    uint32_t max_asking = 64;
    uint64_t secret = 0;
  };

  // One question's place among those that are out.
  class Place {
   public:
    Place() = default;
    Place(Place&& other) noexcept
        : asked_(std::exchange(other.asked_, nullptr)), body_bytes_(other.body_bytes_) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(asked_, other.asked_);
      std::swap(body_bytes_, other.body_bytes_);
      return *this;
    }
    ~Place() {
      if (asked_ != nullptr) asked_->Leave(body_bytes_);
    }
    explicit operator bool() const { return asked_ != nullptr; }

   private:
    friend class AskedTokens;
    Place(AskedTokens* asked, uint64_t body_bytes) : asked_(asked), body_bytes_(body_bytes) {}
    AskedTokens* asked_ = nullptr;
    uint64_t body_bytes_ = 0;
  };

  struct Counts {
    std::array<std::atomic<uint64_t>, kTokenRoutes> sent{};  // questions, by route
    std::atomic<uint64_t> abandoned{0};                      // of clients that left meanwhile
    std::atomic<uint64_t> micros{0};                         // from question to end, of all
  };

  explicit AskedTokens(Options options)
      : options_(std::move(options)), told_(options_.cache_bytes) {}

  const Options& options() const { return options_; }
  ToldTokens& told() { return told_; }
  TokenServers& servers() { return servers_; }
  ByteBudget& answers() { return answers_; }
  Counts& counts() { return counts_; }

  // From now on somebody asks for what producers leave open.
  void SetAsked() { is_asked_.store(true, std::memory_order_relaxed); }
  bool is_asked() const { return is_asked_.load(std::memory_order_relaxed); }

  // For a request with such a body. Nothing when there is no room.
  Place Enter(uint64_t body_bytes) {
    if (asking_.fetch_add(1, std::memory_order_relaxed) < options_.max_asking &&
        bodies_.TryTake(body_bytes)) {
      return {this, body_bytes};
    }
    asking_.fetch_sub(1, std::memory_order_relaxed);
    return {};
  }
  uint32_t asking() const { return asking_.load(std::memory_order_relaxed); }

 private:
  void Leave(uint64_t body_bytes) {
    bodies_.Give(body_bytes);
    asking_.fetch_sub(1, std::memory_order_relaxed);
  }

  const Options options_;
  ToldTokens told_;
  TokenServers servers_;
  ByteBudget answers_{kMaxAnswerBytes};
  ByteBudget bodies_{kMaxBodyBytes};
  Counts counts_;
  std::atomic<bool> is_asked_{false};
  std::atomic<uint32_t> asking_{0};
};

}  // namespace penstock::tokens
