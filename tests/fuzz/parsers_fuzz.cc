// Any bytes as a path, with any parsers: a route that the gateway finds by the whole path is the
// one that the picker finds by its suffix, and a passthrough parser leaves nothing unclaimed.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "api/parsers.h"

namespace {

using namespace penstock::api;

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr auto kKinds = static_cast<size_t>(ParserKind::kPassthrough) + 1;
  if (size == 0) return 0;
  const size_t count = std::min<size_t>(data[0] % 8, size - 1);
  std::vector<ParserKind> kinds;
  for (size_t i = 1; i <= count; ++i) kinds.push_back(static_cast<ParserKind>(data[i] % kKinds));
  const std::string_view path(reinterpret_cast<const char*>(data + 1 + count), size - 1 - count);
  const ParserSet parsers(kinds);
  const auto route = parsers.Find(path);
  const auto whole = parsers.FindWhole(path);
  const bool passes = std::ranges::count(kinds, ParserKind::kPassthrough) > 0;
  if (passes) Check(route && whole);
  if (route) Check(std::ranges::count(kinds, route->parser) > 0);
  if (!whole || whole->parser == ParserKind::kPassthrough) return 0;
  Check(route && route->parser != ParserKind::kPassthrough);
  Check(route->api == whole->api && route->framing == whole->framing);
  return 0;
}
