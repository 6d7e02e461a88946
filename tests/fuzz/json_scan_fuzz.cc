// Any bytes as JSON: the scanner takes what simdjson takes, and what is written is valid.
#include <simdjson.h>

#include <cstdint>
#include <cstdlib>

#include "wire/json.h"
#include "wire/json_scan.h"

namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  penstock::wire::JsonScanner scanner(text);
  const bool valid = scanner.Skip() && scanner.Finish();
  if (!valid) Check(!scanner.Complaint().empty() && scanner.offset() <= size);

  simdjson::dom::parser parser;
  const simdjson::error_code error = parser.parse(text).error();
  const bool is_utf8 = penstock::wire::ValidUtf8Length(text) == size;
  Check(is_utf8 == simdjson::validate_utf8(text));
  // simdjson also refuses numbers beyond its types and lone surrogates, and allows other depths.
  if (error == simdjson::SUCCESS && !scanner.too_deep()) Check(valid);
  if (valid && is_utf8 && error != simdjson::NUMBER_ERROR && error != simdjson::STRING_ERROR) {
    Check(error == simdjson::SUCCESS);
  }

  std::string written;
  penstock::wire::AppendJsonString(text, &written);
  Check(parser.parse(written).error() == simdjson::SUCCESS);
  return 0;
}
