// Any bytes as an answer with tokens: what is read is what simdjson reads there, and nothing is
// read of what simdjson refuses.
#include <simdjson.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "tokens/token_question.h"

namespace {

using penstock::tokens::TokenAnswer;
using penstock::tokens::TokenRoute;
namespace dom = simdjson::dom;

void Check(bool holds) {
  if (!holds) std::abort();
}

// The ids at the places where answers have them, and where each prompt's end; empty for any other
// text.
TokenAnswer AnswerOf(TokenRoute route, dom::element root, size_t prompts) {
  std::vector<dom::element> all;
  if (dom::array list; root.get(list) == simdjson::SUCCESS) {
    for (const dom::element one : list) all.push_back(one);
  } else {
    all.push_back(root);
  }
  if (all.size() != prompts) return {};
  const std::string_view key = route == TokenRoute::kRender ? "token_ids" : "tokens";
  TokenAnswer answer;
  for (const dom::element& one : all) {
    dom::object object;
    if (one.get(object) != simdjson::SUCCESS) return {};
    bool has_list = false;
    dom::array list;
    for (const auto field : object) {
      if (field.key == key) has_list = field.value.get(list) == simdjson::SUCCESS;  // the last
    }
    if (!has_list) return {};
    for (const dom::element element : list) {
      uint64_t id = 0;
      if (element.get(id) != simdjson::SUCCESS || id > UINT32_MAX) return {};
      answer.ids.push_back(static_cast<uint32_t>(id));
    }
    answer.sequence_ends.push_back(static_cast<uint32_t>(answer.ids.size()));
  }
  return answer;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const TokenRoute route = data[0] % 2 == 0 ? TokenRoute::kRender : TokenRoute::kTokenize;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const size_t prompts = data[0] / 2 % 4 + 1;
  const auto read = penstock::tokens::ReadTokenAnswer(route, text, prompts);
  if (!read) {
    Check(!read.error().message.empty());
    return 0;
  }
  Check(read->ids.size() >= prompts && read->ids.size() <= text.size());
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
  const TokenAnswer expected = AnswerOf(route, root, prompts);
  Check(expected.ids == read->ids && expected.sequence_ends == read->sequence_ends);
  return 0;
}
