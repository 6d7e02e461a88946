#include "app/render.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "core/file.h"
#include "tokens/chat_template.h"
#include "tokens/chat_template_config.h"
#include "tokens/chat_template_json.h"
#include "tokens/chat_template_messages.h"
#include "wire/json.h"

namespace penstock::app {
namespace {

namespace json = boost::json;
using tokens::ChatInput;
using tokens::ChatTemplate;

constexpr size_t kMaxInputBytes = 64u << 20;

constexpr const char* kExamples = R"(
The conversation is a list of messages, or a chat completion request with "messages" and, if it has them,
"tools", "documents", "add_generation_prompt" and "chat_template_kwargs". It is prepared as vLLM does
before the template sees it; --as-it-is leaves that out.

With --batch every line of standard input is a JSON object with the fields of a request and, if it has them,
"template" (the text; default: the one of the flags), "special_tokens" (an object), "now"
("2026-01-31T12:00:00") and "prepare" (true or false). Every line gets one line: {"text", "messages",
"steps"} or {"error", "code"}; "messages" lists [number of the message, first byte, end].

Examples:
  penstock render --model /models/qwen3 --messages request.json
  echo '[{"role": "user", "content": "Hi"}]' | penstock render --template chat_template.jinja
  penstock render --model /models/qwen3 --messages request.json --set enable_thinking=false --spans
)";

struct Flags {
  std::string template_file;
  std::string model;
  std::string name;
  std::string messages = "-";
  std::vector<std::string> variables;
  bool as_it_is = false;
  bool no_generation_prompt = false;
  bool spans = false;
  bool batch = false;
};

// Everything of one render; owns what ChatInput borrows.
struct Job {
  json::object request;
  json::object variables;
  tokens::NamedTokens special_tokens;
  json::array messages;
  json::array tools;
  ChatInput input;
};

Result<std::string> ReadInput(const std::string& file) {
  if (file != "-") return ReadFile(file, kMaxInputBytes);
  std::string text;
  char buffer[65536];
  while (const size_t size = std::fread(buffer, 1, sizeof buffer, stdin)) {
    text.append(buffer, size);
    if (text.size() > kMaxInputBytes) {
      return Fail(Code::kOutOfRange, "standard input has more than 64 MiB");
    }
  }
  return text;
}

std::chrono::local_time<std::chrono::microseconds> LocalNow() {
  const std::time_t now = std::time(nullptr);
  std::tm tm = {};
  localtime_r(&now, &tm);
  return std::chrono::local_time<std::chrono::microseconds>(
      std::chrono::seconds(now + tm.tm_gmtoff));
}

// "2026-01-31T12:00:00".
Result<std::chrono::local_time<std::chrono::microseconds>> ParseTime(std::string_view text) {
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (std::sscanf(std::string(text).c_str(), "%d-%d-%dT%d:%d:%d", &year, &month, &day, &hour,
                  &minute, &second) != 6) {
    return Fail(Code::kInvalidArgument,
                fmt::format("now '{}' is not like 2026-01-31T12:00:00", text));
  }
  const std::chrono::year_month_day date{std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return Fail(Code::kInvalidArgument, fmt::format("now '{}' is no day", text));
  return std::chrono::local_days(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
         std::chrono::seconds(second);
}

std::string_view View(const json::string& text) { return {text.data(), text.size()}; }

// The list of that name; nothing when it is missing or null.
Result<const json::array*> FindList(const json::object& request, const char* name) {
  const json::value* value = request.if_contains(name);
  if (value == nullptr || value->is_null()) return nullptr;
  if (!value->is_array())
    return Fail(Code::kInvalidArgument, fmt::format("{} must be a list", name));
  return &value->get_array();
}

Result<> FillVariables(Job* job) {
  if (const json::value* more = job->request.if_contains("chat_template_kwargs")) {
    if (!more->is_object() && !more->is_null()) {
      return Fail(Code::kInvalidArgument, "chat_template_kwargs must be an object");
    }
    if (more->is_object()) {
      for (const auto& member : more->get_object()) job->variables[member.key()] = member.value();
    }
  }
  job->input.variables = &job->variables;
  return {};
}

// Points job->input at the request. `prepares`: as vLLM does.
Result<> Fill(const ChatTemplate& chat_template, bool prepares, Job* job) {
  const auto messages = FindList(job->request, "messages");
  const auto tools = FindList(job->request, "tools");
  const auto documents = FindList(job->request, "documents");
  for (const auto* list : {&messages, &tools, &documents}) {
    if (!*list) return std::unexpected(list->error());
  }
  if (*messages == nullptr) return Fail(Code::kInvalidArgument, "there are no messages");
  job->input.messages = *messages;
  job->input.tools = *tools;
  job->input.documents = *documents;
  if (prepares) {
    auto prepared = tokens::PrepareMessages(**messages, chat_template);
    if (!prepared) return std::unexpected(prepared.error());
    job->messages = *std::move(prepared);
    job->input.messages = &job->messages;
    if (*tools != nullptr) {
      auto prepared_tools = tokens::PrepareTools(**tools);
      if (!prepared_tools) return std::unexpected(prepared_tools.error());
      job->tools = *std::move(prepared_tools);
      job->input.tools = &job->tools;
    }
  }
  if (const json::value* prompt = job->request.if_contains("add_generation_prompt")) {
    job->input.generation_prompt = prompt->is_bool() && prompt->get_bool()
                                       ? ChatInput::GenerationPrompt::kAdded
                                       : ChatInput::GenerationPrompt::kNone;
  }
  job->input.special_tokens = &job->special_tokens;
  return FillVariables(job);
}

// --- one conversation

// NAME=JSON, or NAME=TEXT where that is no JSON.
void AddVariable(const std::string& flag, json::object* out) {
  const size_t equals = flag.find('=');
  const std::string text = flag.substr(equals + 1);
  const auto value = tokens::ParseJson(text);
  (*out)[json::string_view(flag.data(), equals)] = value ? *value : json::value(text);
}

Result<tokens::ChatTemplateConfig> ReadTemplates(const Flags& flags) {
  tokens::ChatTemplateConfig config;
  if (!flags.model.empty()) {
    auto read = tokens::ReadChatTemplateFolder(flags.model);
    if (!read) return read;
    config = *std::move(read);
  }
  if (!flags.template_file.empty()) {
    auto source = ReadFile(flags.template_file, kMaxInputBytes);
    if (!source) return std::unexpected(source.error());
    config.templates = {{"default", *std::move(source)}};
  }
  return config;
}

Result<json::object> ReadRequest(const std::string& file) {
  const auto text = ReadInput(file);
  if (!text) return std::unexpected(text.error());
  auto value = tokens::ParseJson(*text);
  if (!value) return Fail(value.error().code, fmt::format("{}: {}", file, value.error().message));
  if (value->is_array()) return json::object{{"messages", std::move(*value)}};
  if (value->is_object()) return std::move(value->get_object());
  return Fail(Code::kInvalidArgument,
              fmt::format("{}: must be a list of messages or a request", file));
}

Result<> RenderOne(const Flags& flags, const tokens::ChatTemplateConfig& config) {
  Job job;
  auto request = ReadRequest(flags.messages);
  if (!request) return std::unexpected(request.error());
  job.request = *std::move(request);
  const json::value* tools = job.request.if_contains("tools");
  const auto source = config.Choose(flags.name, tools != nullptr && tools->is_array()
                                                    ? tokens::ChatTemplateConfig::Tools::kGiven
                                                    : tokens::ChatTemplateConfig::Tools::kNone);
  if (!source) return std::unexpected(source.error());
  const auto parsed = ChatTemplate::Parse(*source);
  if (!parsed) return Fail(parsed.error().code, "template, " + parsed.error().message);
  job.special_tokens = config.special_tokens;
  job.input.now = LocalNow();
  job.input.generation_prompt = ChatInput::GenerationPrompt::kAdded;
  if (const auto filled = Fill(*parsed, !flags.as_it_is, &job); !filled) return filled;
  if (flags.no_generation_prompt) {
    job.input.generation_prompt = ChatInput::GenerationPrompt::kNone;
  }
  for (const std::string& variable : flags.variables) AddVariable(variable, &job.variables);
  const auto rendered = parsed->Render(job.input);
  if (!rendered) return Fail(rendered.error().code, "template, " + rendered.error().message);
  if (!flags.spans) {
    std::fwrite(rendered->text.data(), 1, rendered->text.size(), stdout);
    return {};
  }
  for (const auto& span : rendered->messages) {
    std::string text;
    wire::AppendJsonString(
        std::string_view(rendered->text).substr(span.begin, span.end - span.begin), &text);
    std::printf("message %zu, bytes %zu to %zu: %s\n", span.message, span.begin, span.end,
                text.c_str());
  }
  std::printf("%zu bytes in all\n", rendered->text.size());
  return {};
}

// --- many

struct Parsed {
  std::string source;
  Result<ChatTemplate> result;
};

Result<tokens::RenderedChat> RenderLine(const std::string& line, const std::string& fallback,
                                        std::optional<Parsed>* parsed) {
  auto value = tokens::ParseJson(line);
  if (!value) return std::unexpected(value.error());
  if (!value->is_object()) return Fail(Code::kInvalidArgument, "must be an object");
  Job job;
  job.request = std::move(value->get_object());
  std::string source = fallback;
  if (const json::value* given = job.request.if_contains("template")) {
    if (!given->is_string()) return Fail(Code::kInvalidArgument, "template must be a text");
    source = View(given->get_string());
  }
  if (!*parsed || (*parsed)->source != source) {
    auto result = ChatTemplate::Parse(source);
    parsed->emplace(std::move(source), std::move(result));
  }
  const Result<ChatTemplate>& chat_template = (*parsed)->result;
  if (!chat_template) return std::unexpected(chat_template.error());
  if (const json::value* special = job.request.if_contains("special_tokens")) {
    if (!special->is_object()) return Fail(Code::kInvalidArgument, "special_tokens: no object");
    for (const auto& member : special->get_object()) {
      if (!member.value().is_string()) continue;
      job.special_tokens.emplace_back(std::string(member.key()), View(member.value().get_string()));
    }
  }
  job.input.now = LocalNow();
  if (const json::value* now = job.request.if_contains("now"); now != nullptr && now->is_string()) {
    const auto time = ParseTime(View(now->get_string()));
    if (!time) return std::unexpected(time.error());
    job.input.now = *time;
  }
  const json::value* prepare = job.request.if_contains("prepare");
  const bool prepares = prepare == nullptr || !prepare->is_bool() || prepare->get_bool();
  if (const auto filled = Fill(*chat_template, prepares, &job); !filled) {
    return std::unexpected(filled.error());
  }
  return chat_template->Render(job.input);
}

Result<> RenderBatch(const Flags& flags, const tokens::ChatTemplateConfig& config) {
  std::string fallback;
  if (const auto source = config.Choose(flags.name, tokens::ChatTemplateConfig::Tools::kNone)) {
    fallback = *source;
  }
  std::optional<Parsed> parsed;
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto rendered = RenderLine(line, fallback, &parsed);
    std::string out;
    wire::JsonWriter writer(&out);
    writer.BeginObject();
    if (!rendered) {
      writer.Field("error", rendered.error().message)
          .Field("code", CodeName(rendered.error().code));
    } else {
      writer.Field("text", rendered->text).Key("messages").BeginArray();
      for (const auto& span : rendered->messages) {
        writer.BeginArray().Value(span.message).Value(span.begin).Value(span.end).EndArray();
      }
      writer.EndArray().Field("steps", rendered->steps);
    }
    writer.EndObject();
    std::printf("%s\n", out.c_str());
    std::fflush(stdout);
  }
  return {};
}

}  // namespace

int RunRender(int argc, char** argv) {
  Flags flags;
  CLI::App app{"Renders a conversation with a model's chat template", "penstock render"};
  app.footer(kExamples);
  app.add_option("--template", flags.template_file, "File with the Jinja template");
  app.add_option("--model", flags.model,
                 "A model's folder: its tokenizer_config.json and chat_template.jinja");
  app.add_option(
      "--name", flags.name,
      "Which of the model's templates; default: tool_use for requests with tools, or default");
  app.add_option("--messages", flags.messages, "File with the conversation; - for standard input")
      ->capture_default_str();
  app.add_option("--set", flags.variables,
                 "NAME=VALUE: a variable of the template; the value is JSON, or a text")
      ->check([](const std::string& flag) {
        const size_t equals = flag.find('=');
        return equals == std::string::npos || equals == 0 ? "must be NAME=VALUE" : std::string();
      });
  app.add_flag("--as-it-is", flags.as_it_is, "Messages and tools go to the template unprepared");
  app.add_flag("--no-generation-prompt", flags.no_generation_prompt,
               "Without the opening of the answer");
  auto* spans = app.add_flag("--spans", flags.spans, "Tell which bytes belong to which message");
  app.add_flag("--batch", flags.batch, "A JSON object a line in, one a line out")->excludes(spans);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (flags.template_file.empty() && flags.model.empty() && !flags.batch) {
    std::fprintf(stderr, "penstock render: say --template FILE or --model FOLDER\n");
    return 2;
  }
  const auto config = ReadTemplates(flags);
  const auto done = !config       ? Result<>(std::unexpected(config.error()))
                    : flags.batch ? RenderBatch(flags, *config)
                                  : RenderOne(flags, *config);
  if (done) return 0;
  std::fprintf(stderr, "penstock render: %s\n", done.error().message.c_str());
  return 1;
}

}  // namespace penstock::app
