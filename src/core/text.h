// Small helpers over text that several modules need.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace penstock {

// ASCII case-insensitive equality, as header names need it.
bool EqualsIgnoreCase(std::string_view a, std::string_view b);
std::string_view TrimSpace(std::string_view s);
// The whole of `s` as a decimal number; nothing for an empty text, a sign, other characters or
// overflow.
std::optional<uint64_t> ParseUint(std::string_view s);
// The whole of `s` as a finite floating-point number.
std::optional<double> ParseDouble(std::string_view s);
// The candidate that is closest to `word` by edit distance, or "" when none is near enough to be a
// likely typing mistake (more than a third of its letters differ).
std::string_view Nearest(std::string_view word, std::span<const std::string_view> candidates);
// ", did you mean 'queue-scorer'?" or "".
std::string DidYouMean(std::string_view word, std::span<const std::string_view> candidates);
// The longest prefix of `s` that has at most `max_bytes` and does not cut a UTF-8 sequence.
std::string_view Utf8Prefix(std::string_view s, size_t max_bytes);
// Length of the valid UTF-8 sequence that `s` begins with; 0 when there is none.
size_t Utf8SequenceLength(std::string_view s);
// `s` with every %XX as the byte it stands for; a "%" without two digits stays.
std::string PercentDecoded(std::string_view s);
// `s` as text, or as a value between double quotes, of HTML and SVG.
std::string MarkupEscaped(std::string_view s);
// Appends `s` with U+FFFD in place of every byte that is not UTF-8.
void AppendValidUtf8(std::string_view s, std::string* out);

}  // namespace penstock
