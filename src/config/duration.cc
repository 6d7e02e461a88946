#include "config/duration.h"

#include <array>
#include <cmath>
#include <cstdlib>

#include "core/text.h"

namespace penstock::config {
namespace {

struct Unit {
  std::string_view name;
  int64_t nanos;
};

// In the order of reading: a name stands before its prefixes.
constexpr std::array<Unit, 8> kUnits = {{{"ns", 1},
                                         {"us", 1'000},
                                         {"\xC2\xB5s", 1'000},  // U+00B5
                                         {"\xCE\xBCs", 1'000},  // U+03BC
                                         {"ms", 1'000'000},
                                         {"s", 1'000'000'000},
                                         {"m", 60'000'000'000},
                                         {"h", 3'600'000'000'000}}};

}  // namespace

std::optional<Duration> ParseDuration(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  if (text == "0") return Duration::zero();
  if (text.empty()) return std::nullopt;
  long double total = 0;
  while (!text.empty()) {
    const size_t digits = text.find_first_not_of("0123456789.");
    if (digits == 0 || digits == std::string_view::npos) return std::nullopt;
    const std::optional<double> number = ParseDouble(text.substr(0, digits));
    if (!number) return std::nullopt;
    text.remove_prefix(digits);
    const Unit* unit = nullptr;
    for (const Unit& candidate : kUnits) {
      if (text.starts_with(candidate.name)) {
        unit = &candidate;
        break;
      }
    }
    if (unit == nullptr) return std::nullopt;
    text.remove_prefix(unit->name.size());
    total += static_cast<long double>(*number) * unit->nanos;
  }
  constexpr long double kMaxNanos = 9.2e18L;
  if (total > kMaxNanos) return std::nullopt;
  const int64_t nanos = std::llround(total);
  return Duration(negative ? -nanos : nanos);
}

std::string FormatDuration(Duration duration) {
  int64_t nanos = duration.count();
  if (nanos == 0) return "0s";
  std::string out;
  if (nanos < 0) out += '-';
  uint64_t rest = nanos < 0 ? -static_cast<uint64_t>(nanos) : static_cast<uint64_t>(nanos);
  for (const auto& [name, unit] :
       {Unit{"h", 3'600'000'000'000}, Unit{"m", 60'000'000'000}, Unit{"s", 1'000'000'000},
        Unit{"ms", 1'000'000}, Unit{"us", 1'000}, Unit{"ns", 1}}) {
    const uint64_t count = rest / static_cast<uint64_t>(unit);
    if (count == 0) continue;
    out += std::to_string(count);
    out += name;
    rest %= static_cast<uint64_t>(unit);
  }
  return out;
}

}  // namespace penstock::config
