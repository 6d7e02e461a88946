#include "tokens/chat_template.h"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <utility>

#include "tokens/chat_template_format.h"
#include "tokens/jinja_interpreter.h"
#include "tokens/jinja_parser.h"

namespace penstock::tokens {
namespace {

namespace json = boost::json;
using jinja::Runtime;
using jinja::Value;

Value Convert(Runtime& runtime, const json::value& value, size_t depth);

Value ConvertArray(Runtime& runtime, const json::array& array, size_t depth) {
  Value* items = runtime.Array<Value>(array.size());
  if (items == nullptr) return Value::Failed();
  for (size_t i = 0; i < array.size(); ++i) {
    items[i] = Convert(runtime, array[i], depth + 1);
    if (items[i].failed()) return items[i];
  }
  return runtime.AdoptList({items, array.size()});
}

Value ConvertObject(Runtime& runtime, const json::object& object, size_t depth,
                    int32_t message = -1) {
  auto* entries = runtime.Array<jinja::Entry>(object.size());
  if (entries == nullptr) return Value::Failed();
  size_t i = 0;
  for (const auto& member : object) {
    entries[i].key = Value::String({member.key().data(), member.key().size()});
    entries[i].value = Convert(runtime, member.value(), depth + 1);
    if (entries[i].value.failed()) return Value::Failed();
    ++i;
  }
  return runtime.AdoptDict({entries, object.size()}, message);
}

Value Convert(Runtime& runtime, const json::value& value, size_t depth) {
  if (depth > runtime.limits().value_depth) {
    return runtime.Fail(
        fmt::format("the input is nested deeper than {}", runtime.limits().value_depth),
        Code::kResourceExhausted);
  }
  if (!runtime.Charge(1)) return Value::Failed();
  switch (value.kind()) {
    case json::kind::null:
      return Value::None();
    case json::kind::bool_:
      return Value::Bool(value.get_bool());
    case json::kind::int64:
      return Value::Int(value.get_int64());
    case json::kind::uint64:
      if (value.get_uint64() > INT64_MAX) {
        return runtime.Fail(fmt::format("the input's number {} is beyond the integers of 64 bits",
                                        value.get_uint64()),
                            Code::kOutOfRange);
      }
      return Value::Int(static_cast<int64_t>(value.get_uint64()));
    case json::kind::double_:
      return Value::Float(value.get_double());
    case json::kind::string:
      return Value::String({value.get_string().data(), value.get_string().size()});
    case json::kind::array:
      return ConvertArray(runtime, value.get_array(), depth);
    case json::kind::object:
      return ConvertObject(runtime, value.get_object(), depth);
  }
  return Value::Failed();
}

// The messages know their numbers, so that what a loop writes for them can be told apart.
Value ConvertMessages(Runtime& runtime, const json::array& messages) {
  Value* items = runtime.Array<Value>(messages.size());
  if (items == nullptr) return Value::Failed();
  for (size_t i = 0; i < messages.size(); ++i) {
    items[i] = messages[i].is_object()
                   ? ConvertObject(runtime, messages[i].get_object(), 1, static_cast<int32_t>(i))
                   : Convert(runtime, messages[i], 1);
    if (items[i].failed()) return items[i];
  }
  return runtime.AdoptList({items, messages.size()});
}

// False after an error.
bool SetVariables(Runtime& runtime, jinja::Interpreter* interpreter,
                  const json::object& variables) {
  for (const auto& member : variables) {
    const std::string_view name(member.key().data(), member.key().size());
    for (const std::string_view refused : {"messages", "tools", "chat_template", "tokenize"}) {
      if (name != refused) continue;
      runtime.Fail(fmt::format("chat_template_kwargs must not hold '{}'", name));
      return false;
    }
    if (!interpreter->Names(name)) continue;
    const Value value = Convert(runtime, member.value(), 1);
    if (value.failed()) return false;
    interpreter->Set(name, value);
  }
  return true;
}

bool SetInput(Runtime& runtime, jinja::Interpreter* interpreter, const ChatInput& input) {
  const auto set_array = [&](std::string_view name, const json::array* array) {
    if (!interpreter->Names(name)) return true;
    const Value value = array == nullptr ? Value::None() : ConvertArray(runtime, *array, 1);
    interpreter->Set(name, value);
    return !value.failed();
  };
  if (input.special_tokens != nullptr) {
    for (const auto& [name, text] : *input.special_tokens) {
      interpreter->Set(name, Value::String(text));
    }
  }
  if (input.is_plain_jinja) {
    for (const std::string_view name : {"raise_exception", "strftime_now"}) {
      interpreter->Set(name, Value::Undefined(name));
    }
  } else if (!set_array("documents", input.documents)) {
    return false;
  }
  interpreter->Set("add_generation_prompt",
                   Value::Bool(input.generation_prompt == ChatInput::GenerationPrompt::kAdded));
  if (input.variables != nullptr && !SetVariables(runtime, interpreter, *input.variables)) {
    return false;
  }
  if (!input.is_plain_jinja && !set_array("tools", input.tools)) return false;
  const Value messages = ConvertMessages(runtime, *input.messages);
  interpreter->Set("messages", messages);
  return !messages.failed();
}

}  // namespace

Result<ChatTemplate> ChatTemplate::Parse(std::string_view source) {
  auto parsed = jinja::Parse(source);
  if (!parsed) return std::unexpected(parsed.error());
  ChatTemplate out;
  out.template_ = *std::move(parsed);
  out.content_format_ =
      LoopsOverContent(*out.template_) ? ContentFormat::kOpenAi : ContentFormat::kString;
  out.knows_developer_ = source.find("'developer'") != std::string_view::npos ||
                         source.find("\"developer\"") != std::string_view::npos;
  return out;
}

bool ChatTemplate::Names(std::string_view variable) const {
  for (const std::string_view name : template_->names) {
    if (name == variable) return true;
  }
  return false;
}

Result<RenderedChat> ChatTemplate::Render(const ChatInput& input,
                                          const RenderLimits& limits) const {
  if (input.messages == nullptr) {
    return Fail(Code::kInvalidArgument, "a chat template needs messages");
  }
  if (input.is_plain_jinja && template_->has_generation) {
    return Fail(Code::kInvalidArgument, "Encountered unknown tag 'generation'.");
  }
  jinja::Limits inner;
  inner.steps = limits.steps;
  inner.output_bytes = limits.output_bytes;
  inner.heap_bytes = limits.memory_bytes;
  Runtime runtime(inner);
  jinja::Interpreter interpreter(*template_, runtime, input.now);
  if (!SetInput(runtime, &interpreter, input) || !interpreter.Run()) {
    return std::unexpected(runtime.error());
  }
  RenderedChat out;
  out.text = std::move(interpreter.output());
  out.messages.reserve(interpreter.messages().size());
  for (const jinja::MessageSpan& span : interpreter.messages()) {
    out.messages.push_back({span.message, span.begin, span.end});
  }
  out.steps = runtime.steps();
  return out;
}

}  // namespace penstock::tokens
