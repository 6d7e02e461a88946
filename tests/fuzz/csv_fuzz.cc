// Any bytes as a table: complaints name the file, numbers that come through are finite and not
// negative.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/csv.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto read = penstock::ReadCsv(text, "f", {"a", "b"},
                                      [](const penstock::CsvRow& row) -> penstock::Result<> {
                                        const auto number = row.Number(1);
                                        if (!number) return std::unexpected(number.error());
                                        if (!std::isfinite(*number) || *number < 0) std::abort();
                                        return {};
                                      });
  if (!read && !read.error().message.starts_with("f:")) std::abort();
  return 0;
}
