#include "traffic/target.h"

#include <fmt/format.h>
#include <netinet/in.h>

#include <optional>

#include "config/serve_config.h"
#include "core/text.h"
#include "net/address.h"

namespace penstock::traffic {
namespace {

bool IsLoopback(const net::Address& address) {
  if (address.is_ipv6()) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address.storage);
    return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
  }
  const auto& v4 = reinterpret_cast<const sockaddr_in&>(address.storage);
  return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
}

}  // namespace

Result<Target> ParseTarget(std::string_view url) {
  const Result<config::EngineUrl> parsed = config::ParseEngineUrl(url);
  if (!parsed || parsed->scheme != model::Scheme::kHttp) {
    return Fail(Code::kInvalidArgument,
                fmt::format("'{}' is no gateway address; write http://127.0.0.1:PORT", url));
  }
  const std::string host = EqualsIgnoreCase(parsed->host, "localhost") ? "127.0.0.1" : parsed->host;
  const std::optional<net::Address> address = net::ParseAddress(host, parsed->port);
  if (!address || !IsLoopback(*address)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("'{}' is not on this machine; traffic goes to loopback addresses only "
                            "(127.0.0.0/8, ::1, localhost)",
                            url));
  }
  return Target{address->host(), parsed->port};
}

std::string AddressOf(const Target& target) {
  return target.host.find(':') == std::string::npos
             ? fmt::format("{}:{}", target.host, target.port)
             : fmt::format("[{}]:{}", target.host, target.port);
}

}  // namespace penstock::traffic
