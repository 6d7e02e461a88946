// A chat of 100 messages through the templates of Llama 3 and Qwen 3. bench/chat_template runs it
// beside Python's jinja2 on the same templates and messages; alone it needs
// PENSTOCK_CHAT_TEMPLATES, the folder that tools/peers/chat-templates prints.
#include <benchmark/benchmark.h>

#include <boost/json.hpp>
#include <cstdlib>
#include <string>

#include "core/file.h"
#include "tokens/chat_template.h"

namespace penstock::tokens {
namespace {

namespace json = boost::json;

// The same as in bench/chat_template.
json::array Messages(size_t count) {
  json::array out;
  for (size_t i = 0; i < count; ++i) {
    std::string text;
    for (size_t word = 0; word < 60; ++word)
      text += "word" + std::to_string((i * 7 + word) % 100) + " ";
    out.push_back(json::object{{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", text}});
  }
  return out;
}

void RenderChat(benchmark::State& state, const char* name) {
  const char* folder = std::getenv("PENSTOCK_CHAT_TEMPLATES");
  const auto source =
      ReadFile(std::string(folder == nullptr ? "." : folder) + "/trl/" + name + ".jinja", 1 << 20);
  if (!source) return state.SkipWithError(source.error().message.c_str());
  const auto parsed = ChatTemplate::Parse(*source);
  if (!parsed) return state.SkipWithError(parsed.error().message.c_str());
  const json::array messages = Messages(static_cast<size_t>(state.range(0)));
  const NamedTokens tokens = {{"bos_token", "<|begin_of_text|>"}};
  ChatInput input;
  input.messages = &messages;
  input.special_tokens = &tokens;
  input.generation_prompt = ChatInput::GenerationPrompt::kAdded;
  size_t bytes = 0;
  uint64_t steps = 0;
  for (auto _ : state) {
    const auto rendered = parsed->Render(input);
    if (!rendered) return state.SkipWithError(rendered.error().message.c_str());
    bytes = rendered->text.size();
    steps = rendered->steps;
  }
  state.counters["text_bytes"] = static_cast<double>(bytes);
  state.counters["steps"] = static_cast<double>(steps);
}
BENCHMARK_CAPTURE(RenderChat, llama3, "llama3")->Arg(100)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(RenderChat, llama3_1, "llama3_1")->Arg(100)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(RenderChat, qwen3, "qwen3")->Arg(100)->Unit(benchmark::kMicrosecond);

void ParseTemplate(benchmark::State& state, const char* name) {
  const char* folder = std::getenv("PENSTOCK_CHAT_TEMPLATES");
  const auto source =
      ReadFile(std::string(folder == nullptr ? "." : folder) + "/trl/" + name + ".jinja", 1 << 20);
  if (!source) return state.SkipWithError(source.error().message.c_str());
  for (auto _ : state) benchmark::DoNotOptimize(ChatTemplate::Parse(*source));
}
BENCHMARK_CAPTURE(ParseTemplate, qwen3, "qwen3")->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace penstock::tokens
