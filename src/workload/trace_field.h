// Numbers in trace lines, for the formats.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/text.h"
#include "wire/json_scan.h"
#include "workload/trace_source.h"

namespace penstock::workload {

inline constexpr uint32_t kMostTraceTokens = 100'000'000;  // of a prompt or an answer
inline constexpr std::string_view kNotJson = "not a JSON object";
inline constexpr std::string_view kMissing = "a field is missing";
inline constexpr std::string_view kBadNumber = "a number is not one";
inline constexpr std::string_view kZeroTokens = "zero tokens";
inline constexpr std::string_view kUnknown = "unknown fields";

inline TraceFormat::Verdict Blame(LineFault* fault, std::string_view reason, std::string detail) {
  *fault = {reason, std::move(detail)};
  return TraceFormat::Verdict::kBad;
}

// A count of tokens, 1 at least; a complaint names the field.
inline bool ReadTokens(std::string_view name, std::string_view text, uint32_t* out,
                       LineFault* fault) {
  const auto value = ParseUint(text);
  if (!value || *value > kMostTraceTokens) {
    Blame(fault, kBadNumber,
          std::string(name) + " is '" + std::string(Utf8Prefix(text, 40)) +
              "', not a number of tokens");
    return false;
  }
  if (*value == 0) {
    Blame(fault, kZeroTokens, std::string(name) + " is 0");
    return false;
  }
  *out = static_cast<uint32_t>(*value);
  return true;
}

// A number or a string as it stands: OTLP writes 64-bit numbers as strings. Anything else is passed
// over and reads as "".
inline std::string_view ReadScalar(wire::JsonScanner& json) {
  std::string_view value;
  wire::JsonString text;
  switch (json.Peek()) {
    case wire::JsonScanner::Kind::kNumber:
      json.ReadNumber(&value);
      break;
    case wire::JsonScanner::Kind::kString:
      if (json.ReadString(&text)) value = text.raw;
      break;
    default:
      json.Skip();
  }
  return value;
}

}  // namespace penstock::workload
