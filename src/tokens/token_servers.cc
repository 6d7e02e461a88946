#include "tokens/token_servers.h"

#include <algorithm>

namespace penstock::tokens {

bool TokenServers::Breaker::LetsThrough(Time now, uint32_t limit) {
  if (failures < limit) return true;
  if (now < until) return false;
  until = now + rest;  // whoever comes meanwhile waits for what becomes of this one
  is_tried = true;
  return true;
}

bool TokenServers::Breaker::OnFailure(Time now, uint32_t limit) {
  if (++failures < limit) return false;
  // Questions that were on their way when it began to rest say nothing new.
  const bool was_closed = failures > limit;
  if (was_closed && !is_tried) return false;
  is_tried = false;
  rest = rest == Duration() ? kFirstRest : std::min<Duration>(2 * rest, kLongestRest);
  until = now + rest;
  return !was_closed;
}

TokenServers::Server* TokenServers::Find(std::string_view address, Time now) {
  now_ = std::max(now_, now);
  auto found = servers_.find(address);
  if (found == servers_.end()) {
    if (servers_.size() >= kMaxServers) return nullptr;
    found = servers_.emplace(std::string(address), Server()).first;
  }
  found->second.asked = now;
  return &found->second;
}

std::expected<TokenRoute, TokenServers::WhyNot> TokenServers::Choose(std::string_view address,
                                                                     TokenEndpoint render,
                                                                     bool fits_tokenize, Time now) {
  MutexLock lock(mutex_);
  Server* const server = Find(address, now);
  TokenRoute route = TokenRoute::kRender;
  if (server != nullptr) {
    if (!server->Has(TokenEndpoint::kRender, now) || !server->Has(render, now)) {
      route = TokenRoute::kTokenize;
      if (!fits_tokenize || !server->Has(TokenEndpoint::kTokenize, now)) {
        return std::unexpected(WhyNot::kNoRoute);
      }
    }
    if (!server->breaker.LetsThrough(now, kFailures)) return std::unexpected(WhyNot::kResting);
  }
  if (!all_.LetsThrough(now, kFailuresOfAll)) return std::unexpected(WhyNot::kResting);
  return route;
}

void TokenServers::OnAnswer(std::string_view address, TokenEndpoint endpoint, Time now) {
  MutexLock lock(mutex_);
  all_.OnAnswer();
  Server* const server = Find(address, now);
  if (server == nullptr) return;
  server->breaker.OnAnswer();
  server->NoneUntil(endpoint) = Time();
}

bool TokenServers::OnNoRoute(std::string_view address, TokenEndpoint endpoint, Time now) {
  MutexLock lock(mutex_);
  all_.OnAnswer();
  Server* const server = Find(address, now);
  if (server == nullptr) return false;
  server->breaker.OnAnswer();
  Time& until = server->NoneUntil(endpoint);
  const bool is_news = until == Time();
  until = now + kNoRouteFor;
  return is_news;
}

bool TokenServers::OnFailure(std::string_view address, Time now) {
  MutexLock lock(mutex_);
  all_.OnFailure(now, kFailuresOfAll);
  Server* const server = Find(address, now);
  return server != nullptr && server->breaker.OnFailure(now, kFailures);
}

void TokenServers::OnTick(Time now) {
  MutexLock lock(mutex_);
  now_ = std::max(now_, now);
  std::erase_if(servers_, [&](const auto& entry) { return now - entry.second.asked > kForget; });
}

TokenServers::Counts TokenServers::counts() const {
  MutexLock lock(mutex_);
  Counts counts;
  const Time now = now_;
  for (const auto& [address, server] : servers_) {
    if (server.breaker.failures >= kFailures) {
      ++counts.resting;
    } else if (server.Has(TokenEndpoint::kRender, now)) {
      ++counts.render;
    } else if (server.Has(TokenEndpoint::kTokenize, now)) {
      ++counts.tokenize;
    } else {
      ++counts.none;
    }
  }
  return counts;
}

}  // namespace penstock::tokens
