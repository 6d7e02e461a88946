// Remembers for a while what names resolve to, also that they do not, and asks once for all who
// want the same name at the same time.
//
// THREADS: loop-bound. OWNS: the answers, at most kMaxNames; the one that ends soonest makes room.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "net/address.h"

namespace penstock::http {

class DnsCache {
 public:
  static constexpr size_t kMaxNames = 1024;
  static constexpr Duration kKeepFound = seconds(30);
  static constexpr Duration kKeepNotFound = seconds(1);

  // A snapshot, since it may leave the cache while its user still tries the addresses. The ports
  // are 0.
  using Answer = Result<std::shared_ptr<const std::vector<net::Address>>>;
  using Done = std::move_only_function<void(const Answer&)>;
  // Looks a name up and calls back later, never inside.
  using Resolve = std::move_only_function<void(std::string host, net::Resolver::Done done)>;
  using Clock = std::move_only_function<Time()>;

  DnsCache(Resolve resolve, Clock clock) : resolve_(std::move(resolve)), clock_(std::move(clock)) {}
  DnsCache(const DnsCache&) = delete;
  DnsCache& operator=(const DnsCache&) = delete;

  // The answer when it is known now, valid until the next call; else nothing, and `done` is called
  // later.
  const Answer* Find(std::string_view host, Done done);
  size_t size() const { return names_.size(); }

 private:
  struct Name {
    Answer answer;
    bool is_pending = true;
    Time until{};
    std::vector<Done> waiting;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
  };

  // Whether there is room for one more name now.
  bool MakeRoom(Time now);
  void OnResolved(const std::string& host, Result<std::vector<net::Address>> found);

  Resolve resolve_;
  Clock clock_;
  std::unordered_map<std::string, Name, Hash, std::equal_to<>> names_;
  const Answer full_ =
      Fail(Code::kResourceExhausted, "too many host names are being resolved at the same time");
};

}  // namespace penstock::http
