// Any bytes as a response: the same is found however it is cut, and it is what simdjson finds when
// the response is one JSON object.
#include <simdjson.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/usage.h"

namespace {

using penstock::api::UsageScanner;

void Check(bool holds) {
  if (!holds) std::abort();
}

UsageScanner Scan(UsageScanner::Format format, std::string_view text, size_t piece) {
  UsageScanner scanner(format);
  for (size_t at = 0; at < text.size(); at += piece) scanner.Feed(text.substr(at, piece));
  scanner.Finish();
  return scanner;
}

void CheckSame(const UsageScanner& a, const UsageScanner& b) {
  Check(a.usage().found == b.usage().found);
  Check(a.usage().input_tokens == b.usage().input_tokens);
  Check(a.usage().output_tokens == b.usage().output_tokens);
  Check(a.usage().cached_known == b.usage().cached_known);
  Check(a.usage().cached_tokens == b.usage().cached_tokens);
  Check(a.events() == b.events());
  Check(a.saw_error_event() == b.saw_error_event());
}

// A count that simdjson finds at the place where chat completions have it is found by us, too,
// unless a later object an escaped name or -0 says something else.
void CheckAgainstTree(std::string_view text, const UsageScanner& scanner) {
  simdjson::dom::parser parser;
  simdjson::dom::object root, usage;
  if (parser.parse(text.data(), text.size()).get_object().get(root) != simdjson::SUCCESS) return;
  if (text.find_first_of("\\-") != std::string_view::npos) return;
  size_t usages = 0;
  for (const auto field : root) {
    for (std::string_view name : {"usage", "message", "response", "meta_info"}) {
      usages += field.key == name ? 1 : 0;
    }
  }
  if (usages != 1 || root["usage"].get_object().get(usage) != simdjson::SUCCESS) return;
  if (usage.size() != 1) return;
  uint64_t count = 0;
  if (usage["prompt_tokens"].get_uint64().get(count) != simdjson::SUCCESS) return;
  if (count > UINT64_MAX / 100) return;
  Check(scanner.usage().found && scanner.usage().input_tokens == count);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  using Format = UsageScanner::Format;
  constexpr Format kFormats[] = {Format::kJson, Format::kEventStream, Format::kVllmGenerate,
                                 Format::kVllmEmbed, Format::kVertex};
  const Format format = kFormats[data[0] % std::size(kFormats)];
  const size_t piece = 1 + data[1] % 64;
  const std::string_view text(reinterpret_cast<const char*>(data + 2), size - 2);
  const UsageScanner whole = Scan(format, text, std::max<size_t>(text.size(), 1));
  CheckSame(whole, Scan(format, text, piece));
  CheckSame(whole, Scan(format, text, 1));
  if (format == Format::kJson) CheckAgainstTree(text, whole);
  return 0;
}
