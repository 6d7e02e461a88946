// Who may be asked for tokens, and by which route: servers without the endpoint (404) are not asked
// there again for a while, and those that fail rest. A server is known from its first question on.
//
// A server that fails kFailures times in a row rests for a second, then for two, ... up to
// kLongestRest; then one question tries it. When many fail in a row, whichever they are, all rest.
//
// THREADS: all methods from any thread; one lock, held for a look-up. OWNS: at most kMaxServers
// servers; those beyond are asked without being known. Servers that were not asked for kForget are
// forgotten.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <string>
#include <string_view>

#include "core/mutex.h"
#include "core/time.h"
#include "tokens/token_question.h"

namespace penstock::tokens {

class TokenServers {
 public:
  static constexpr uint32_t kFailures = 3;
  static constexpr uint32_t kFailuresOfAll = 12;
  static constexpr Duration kFirstRest = seconds(1);
  static constexpr Duration kLongestRest = seconds(32);
  static constexpr Duration kNoRouteFor = seconds(60);
  static constexpr Duration kForget = seconds(600);
  static constexpr size_t kMaxServers = 4096;

  enum class WhyNot : uint8_t { kResting, kNoRoute };
  // By what they are good for at the moment.
  struct Counts {
    uint64_t render = 0;    // is asked to render, chats and texts at least
    uint64_t tokenize = 0;  // has no render endpoints
    uint64_t none = 0;      // has neither
    uint64_t resting = 0;
  };

  // How to ask the server, for a question that goes to that endpoint, or to /tokenize, if it fits
  // there. Whoever gets a route asks, and tells one of the following.
  std::expected<TokenRoute, WhyNot> Choose(std::string_view address, TokenEndpoint render,
                                           bool fits_tokenize, Time now);
  // It answered, if only that it refuses the question.
  void OnAnswer(std::string_view address, TokenEndpoint endpoint, Time now);
  // It has no such endpoint. True: that is news.
  bool OnNoRoute(std::string_view address, TokenEndpoint endpoint, Time now);
  // It failed. True: it rests from now on, and did not before.
  bool OnFailure(std::string_view address, Time now);

  // Forgets who was not asked for long. About once a second.
  void OnTick(Time now);
  Counts counts() const;

 private:
  struct Breaker {
    uint32_t failures = 0;
    Duration rest{};
    Time until{};
    bool is_tried = false;  // one question has been let through since it rests
    bool LetsThrough(Time now, uint32_t limit);
    void OnAnswer() { *this = {}; }
    // True: it closes.
    bool OnFailure(Time now, uint32_t limit);
  };
  struct Server {
    std::array<Time, kTokenEndpoints> no_endpoint_until{};
    Breaker breaker;
    Time asked;
    Time& NoneUntil(TokenEndpoint endpoint) {
      return no_endpoint_until[static_cast<size_t>(endpoint)];
    }
    bool Has(TokenEndpoint endpoint, Time now) const {
      return no_endpoint_until[static_cast<size_t>(endpoint)] <= now;
    }
  };
  Server* Find(std::string_view address, Time now) REQUIRES_LOCK(mutex_);

  // Taken by every question, twice.
  mutable Mutex mutex_;
  std::map<std::string, Server, std::less<>> servers_ GUARDED_BY(mutex_);
  Breaker all_ GUARDED_BY(mutex_);
  Time now_ GUARDED_BY(mutex_);  // as it was told last
};

}  // namespace penstock::tokens
