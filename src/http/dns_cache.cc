#include "http/dns_cache.h"

#include <utility>

namespace penstock::http {

const DnsCache::Answer* DnsCache::Find(std::string_view host, Done done) {
  const Time now = clock_();
  auto it = names_.find(host);
  if (it != names_.end()) {
    Name& name = it->second;
    if (name.is_pending) {
      name.waiting.push_back(std::move(done));
      return nullptr;
    }
    if (now < name.until) return &name.answer;
    names_.erase(it);
  }
  if (names_.size() >= kMaxNames && !MakeRoom(now)) return &full_;
  names_[std::string(host)].waiting.push_back(std::move(done));
  resolve_(std::string(host),
           [this, host = std::string(host)](Result<std::vector<net::Address>> found) {
             OnResolved(host, std::move(found));
           });
  return nullptr;
}

bool DnsCache::MakeRoom(Time now) {
  std::erase_if(names_, [now](const auto& entry) {
    return !entry.second.is_pending && entry.second.until <= now;
  });
  if (names_.size() < kMaxNames) return true;
  auto soonest = names_.end();
  for (auto it = names_.begin(); it != names_.end(); ++it) {
    if (it->second.is_pending) continue;
    if (soonest == names_.end() || it->second.until < soonest->second.until) soonest = it;
  }
  if (soonest == names_.end()) return false;
  names_.erase(soonest);
  return true;
}

void DnsCache::OnResolved(const std::string& host, Result<std::vector<net::Address>> found) {
  const auto it = names_.find(host);
  if (it == names_.end()) return;
  Name& name = it->second;
  name.is_pending = false;
  name.until = clock_() + (found ? kKeepFound : kKeepNotFound);
  if (found) {
    name.answer = std::make_shared<const std::vector<net::Address>>(std::move(*found));
  } else {
    name.answer = std::unexpected(std::move(found.error()));
  }
  // Whoever is called may look up other names, which moves the entries.
  const Answer answer = name.answer;
  for (Done& done : std::exchange(name.waiting, {})) done(answer);
}

}  // namespace penstock::http
