// The first half of the bytes is a tokenizer.json, or picks a good one; the rest is a text.
// Whatever they are, nothing crashes, the text is what its tokens stand for where the tokenizer
// keeps it, and cuts and the cache change nothing.
#include <boost/json.hpp>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tokens/testing.h"
#include "tokens/token_cache.h"
#include "tokens/tokenizer.h"

namespace {

using namespace penstock;  // NOLINT: a program of its own

void Check(bool holds) {
  if (!holds) std::abort();
}

std::vector<std::unique_ptr<tokens::Tokenizer>> GoodOnes() {
  namespace made = tokens::testing;
  boost::json::object gpt = made::ByteLevelJson(made::SomeMerges(), made::ByteLevel(true));
  gpt["added_tokens"] =
      boost::json::array{made::AddedTokenJson("<|x|>"), made::AddedTokenJson("<|x")};
  boost::json::object llama = made::MetaspaceJson();
  llama["added_tokens"] = boost::json::array{made::AddedTokenJson("<|x|>")};
  std::vector<std::unique_ptr<tokens::Tokenizer>> out;
  for (const boost::json::object& file : {gpt, llama}) {
    out.push_back(*tokens::Tokenizer::FromJson(boost::json::serialize(file)));
  }
  return out;
}

void CheckText(const tokens::Tokenizer& tokenizer, const std::string& text, bool keeps_text) {
  std::vector<uint32_t> whole;
  if (!tokenizer.Encode(text, tokens::SpecialTokens::kOmit, &whole)) return;
  std::string scratch;
  if (keeps_text) Check(tokenizer.Decode(whole) == tokens::AsUtf8(text, &scratch));
  tokens::TokenCache cache(tokenizer, 1 << 20, 1);
  for (const size_t size : {text.size() / 2, text.size() * 3 / 4, text.size()}) {
    std::vector<uint32_t> cached;
    if (!cache.Encode(text.substr(0, size), tokens::SpecialTokens::kOmit, &cached)) return;
    if (size == text.size()) Check(cached == whole);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto good = GoodOnes();
  if (size < 1) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data + 1), size - 1);
  if (data[0] % 2 == 0) {
    const size_t which = data[0] / 2 % good.size();
    // Long enough for the cache to have blocks, short enough to stay fast.
    std::string text;
    const size_t wanted = rest.empty() ? 0 : rest.size() * (1 + 6000 / rest.size());
    while (text.size() < wanted) text += rest;
    CheckText(*good[which], text, which == 0);
    return 0;
  }
  const size_t end = std::min(rest.find('\0'), rest.size());
  const auto tokenizer = tokens::Tokenizer::FromJson(rest.substr(0, end));
  if (tokenizer) CheckText(**tokenizer, std::string(rest.substr(end)), false);
  return 0;
}
