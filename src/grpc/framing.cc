#include "grpc/framing.h"

#include <algorithm>
#include <array>

#include "core/text.h"

namespace penstock::grpc {
namespace {

uint32_t LengthOf(std::string_view prefix) {
  uint32_t length = 0;
  for (size_t i = 1; i < kPrefixBytes; ++i) {
    length = length << 8 | static_cast<unsigned char>(prefix[i]);
  }
  return length;
}

}  // namespace

void AppendMessage(std::string_view message, std::string* out) {
  const auto length = static_cast<uint32_t>(message.size());
  const char prefix[kPrefixBytes] = {0, static_cast<char>(length >> 24),
                                     static_cast<char>(length >> 16),
                                     static_cast<char>(length >> 8), static_cast<char>(length)};
  out->append(prefix, sizeof(prefix)).append(message);
}

MessageReader::Next MessageReader::Take(std::string_view* message) {
  if (is_handed_out_) {
    is_handed_out_ = false;
    pending_.clear();
    // One long message must not keep its memory for the life of a stream of short ones.
    if (pending_.capacity() > (64U << 10)) pending_.shrink_to_fit();
  }
  if (!pending_.empty() && pending_.size() < kPrefixBytes) {
    const size_t take = std::min(kPrefixBytes - pending_.size(), rest_.size());
    pending_.append(rest_.substr(0, take));
    rest_.remove_prefix(take);
    if (pending_.size() < kPrefixBytes) return Next::kMore;
  }
  const std::string_view prefix = pending_.empty() ? rest_ : std::string_view(pending_);
  if (prefix.size() < kPrefixBytes) {
    pending_.assign(rest_);
    rest_ = {};
    return Next::kMore;
  }
  if (prefix[0] != 0) return Next::kCompressed;
  const size_t length = LengthOf(prefix);
  if (length > max_bytes_) return Next::kTooLarge;
  if (pending_.empty() && rest_.size() >= kPrefixBytes + length) {
    *message = rest_.substr(kPrefixBytes, length);
    rest_.remove_prefix(kPrefixBytes + length);
    return Next::kMessage;
  }
  const size_t take = std::min(kPrefixBytes + length - pending_.size(), rest_.size());
  pending_.append(rest_.substr(0, take));
  rest_.remove_prefix(take);
  if (pending_.size() < kPrefixBytes + length) return Next::kMore;
  *message = std::string_view(pending_).substr(kPrefixBytes);
  is_handed_out_ = true;
  return Next::kMessage;
}

std::optional<Duration> ParseTimeout(std::string_view text) {
  constexpr std::array<std::pair<char, Duration>, 6> kUnits = {{{'H', std::chrono::hours(1)},
                                                                {'M', std::chrono::minutes(1)},
                                                                {'S', seconds(1)},
                                                                {'m', milliseconds(1)},
                                                                {'u', microseconds(1)},
                                                                {'n', Duration(1)}}};
  if (text.size() < 2 || text.size() > 9) return std::nullopt;  // at most eight digits
  const auto value = ParseUint(text.substr(0, text.size() - 1));
  const auto* const unit = std::find_if(kUnits.begin(), kUnits.end(),
                                        [&](const auto& u) { return u.first == text.back(); });
  if (!value || unit == kUnits.end()) return std::nullopt;
  // Eight digits of hours do not fit: nobody waits longer than a year.
  constexpr Duration kMost = std::chrono::hours(24 * 365);
  if (*value > static_cast<uint64_t>(kMost / unit->second)) return kMost;
  return unit->second * static_cast<int64_t>(*value);
}

std::string EncodeMessage(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte <= 0x7e && byte != '%') {
      out += c;
    } else {
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

}  // namespace penstock::grpc
