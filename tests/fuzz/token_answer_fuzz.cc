// Any bytes as an answer with tokens: what is read is what simdjson reads there, and nothing is
// read of what simdjson refuses.
#include <simdjson.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "tokens/token_question.h"

namespace {

using penstock::tokens::TokenRoute;
namespace dom = simdjson::dom;

void Check(bool holds) {
  if (!holds) std::abort();
}

// The ids at the place where answers have them; empty for any other text.
std::vector<uint32_t> IdsOf(TokenRoute route, dom::element root) {
  dom::array outer, list;
  if (root.get(outer) == simdjson::SUCCESS) {
    if (outer.size() != 1 || outer.at(0).get(root) != simdjson::SUCCESS) return {};
  }
  dom::object object;
  if (root.get(object) != simdjson::SUCCESS) return {};
  const std::string_view key = route == TokenRoute::kRender ? "token_ids" : "tokens";
  bool has_list = false;
  for (const auto field : object) {
    if (field.key == key) has_list = field.value.get(list) == simdjson::SUCCESS;  // the last counts
  }
  std::vector<uint32_t> ids;
  if (!has_list) return ids;
  for (const dom::element element : list) {
    uint64_t id = 0;
    if (element.get(id) != simdjson::SUCCESS || id > UINT32_MAX) return {};
    ids.push_back(static_cast<uint32_t>(id));
  }
  return ids;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const TokenRoute route = data[0] % 2 == 0 ? TokenRoute::kRender : TokenRoute::kTokenize;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto read = penstock::tokens::ReadTokenAnswer(route, text);
  if (!read) {
    Check(!read.error().message.empty());
    return 0;
  }
  Check(!read->empty() && read->size() <= text.size());
  // It looks at UTF-8 and at escapes in keys, which we do not.
  if (text.find('\\') != std::string_view::npos) return 0;
  dom::parser parser;
  dom::element root;
  if (parser.parse(text.data(), text.size()).get(root) != simdjson::SUCCESS) {
    const auto error = parser.parse(text.data(), text.size()).error();
    Check(error == simdjson::UTF8_ERROR || error == simdjson::NUMBER_ERROR ||
          error == simdjson::STRING_ERROR);
    return 0;
  }
  Check(IdsOf(route, root) == *read);
  return 0;
}
