// Any bytes as an answer: what comes out does not depend on how it is cut, and nothing changes but
// the names that are replaced.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "api/model_restorer.h"

namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

std::string Restored(std::string_view served, std::string_view named, std::string_view answer,
                     size_t piece, uint64_t* replaced) {
  penstock::api::ModelRestorer restorer(served, named);
  std::string out;
  for (size_t at = 0; at < answer.size(); at += std::min(piece, answer.size() - at)) {
    restorer.Feed(answer.substr(at, piece), &out);
  }
  restorer.Finish(&out);
  *replaced = restorer.replaced();
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t piece = 1 + data[0] % 64;
  const size_t name = std::min<size_t>(data[1] % 8, size - 2);
  const std::string_view served(reinterpret_cast<const char*>(data + 2), name);
  const std::string_view answer(reinterpret_cast<const char*>(data + 2 + name), size - 2 - name);
  const std::string named = std::string(served) + "!";
  uint64_t whole = 0, cut = 0, single = 0;
  const std::string out = Restored(served, named, answer, answer.size() + 1, &whole);
  Check(out == Restored(served, named, answer, piece, &cut) && whole == cut);
  Check(out == Restored(served, named, answer, 1, &single) && whole == single);
  if (whole == 0) Check(out == answer);
  // Each replacement is one byte longer.
  Check(out.size() == answer.size() + whole);
  return 0;
}
