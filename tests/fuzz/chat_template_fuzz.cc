// Any bytes as a template over some values: a text, or an error that says where; never more than
// the limits. What stands after a NUL is the JSON of the messages.
#include <boost/json.hpp>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tokens/chat_template.h"
#include "tokens/chat_template_json.h"
#include "tokens/chat_template_messages.h"

namespace {

namespace json = boost::json;
namespace tokens = penstock::tokens;

void Check(bool holds) {
  if (!holds) std::abort();
}

const json::array& Messages() {
  static const json::array messages =
      json::parse(
          R"([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Größe"},
        {"role": "assistant", "content": null, "tool_calls": [{"type": "function", "id": "c",
          "function": {"name": "f", "arguments": {"a": [1, 2.5, true]}}}]},
        {"role": "tool", "content": [{"type": "text", "text": "<b>"}]}])")
          .as_array();
  return messages;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t end = text.find('\0');
  json::array messages = Messages();
  if (end != std::string_view::npos) {
    const auto given = tokens::ParseJson(text.substr(end + 1));
    if (given && given->is_array()) {
      messages = given->as_array();
      const auto prepared = tokens::PrepareMessages(messages, tokens::ContentFormat::kOpenAi);
      if (prepared) Check(prepared->size() == messages.size());
    }
  }
  const auto parsed = tokens::ChatTemplate::Parse(text.substr(0, end));
  if (!parsed) {
    Check(!parsed.error().message.empty());
    return 0;
  }
  tokens::RenderLimits limits;
  limits.steps = 100'000;
  limits.output_bytes = 1 << 20;
  limits.memory_bytes = 8 << 20;
  tokens::ChatInput input;
  input.messages = &messages;
  input.tools = &messages;
  const auto rendered = parsed->Render(input, limits);
  if (!rendered) return 0;
  Check(rendered->text.size() <= limits.output_bytes + limits.memory_bytes);
  size_t at = 0;
  for (const auto& span : rendered->messages) {
    Check(span.message < messages.size() && at <= span.begin && span.begin < span.end);
    at = span.end;
  }
  Check(at <= rendered->text.size());
  return 0;
}
