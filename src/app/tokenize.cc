#include "app/tokenize.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "tokens/token_cache.h"
#include "tokens/tokenizer.h"
#include "wire/json.h"

namespace penstock::app {
namespace {

using tokens::SpecialTokens;
using tokens::Tokenizer;

constexpr const char* kExamples = R"(
Examples:
  penstock tokenize --tokenizer tokenizer.json --text 'Hello, world'
      One token a line: its id, and its text.
  penstock tokenize --tokenizer tokenizer.json --json < prompt.txt
      {"count":3,"ids":[9906,11,1917],"pieces":["Hello",","," world"]}
  penstock tokenize --tokenizer tokenizer.json --lines < texts.jsonl
      Each line of stdin is a JSON string, or an object with "text" and, if you like, "special": false; each line of stdout
      is a list of ids.

FILE is a Hugging Face tokenizer.json or a SentencePiece model (.model).)";

struct Flags {
  std::string tokenizer;
  std::optional<std::string> text;
  bool is_json = false;
  bool is_lines = false;
  bool has_no_special = false;
  size_t cache_mib = 0;
};

// Tokenises with or without a cache.
class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, size_t cache_mib) : tokenizer_(tokenizer) {
    constexpr uint64_t kSecret = 0;  // nobody else's texts are here
    if (cache_mib > 0) {
      cache_ = std::make_unique<tokens::TokenCache>(tokenizer, cache_mib << 20, kSecret);
    }
  }
  Result<> Encode(std::string_view text, SpecialTokens special, std::vector<uint32_t>* ids) {
    return cache_ ? cache_->Encode(text, special, ids) : tokenizer_.Encode(text, special, ids);
  }
  const tokens::TokenCache* cache() const { return cache_.get(); }

 private:
  const Tokenizer& tokenizer_;
  std::unique_ptr<tokens::TokenCache> cache_;
};

int Complain(const Error& error) {
  std::fprintf(stderr, "penstock tokenize: %s\n", error.message.c_str());
  return 1;
}

void Print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void PrintTokens(const Tokenizer& tokenizer, const std::vector<uint32_t>& ids, bool is_json) {
  std::string out;
  if (!is_json) {
    for (const uint32_t id : ids) {
      out += fmt::format("{}\t", id);
      wire::AppendJsonString(tokenizer.TokenBytes(id), &out);
      out += '\n';
    }
    return Print(out);
  }
  wire::JsonWriter json(&out);
  json.BeginObject().Field("count", ids.size()).Key("ids").BeginArray();
  for (const uint32_t id : ids) json.Value(id);
  json.EndArray().Key("pieces").BeginArray();
  for (const uint32_t id : ids) json.Value(tokenizer.TokenBytes(id));
  json.EndArray().EndObject();
  Print(out + "\n");
}

// One line of --lines; its ids as a JSON list.
Result<std::string> AnswerLine(Encoder& encoder, std::string_view line, SpecialTokens special) {
  boost::json::error_code error;
  const boost::json::value value = boost::json::parse({line.data(), line.size()}, error);
  const boost::json::value* text = &value;
  if (const auto* object = value.if_object()) {
    text = object->if_contains("text");
    if (const auto* wanted = object->if_contains("special")) {
      if (!wanted->is_bool())
        return Fail(Code::kInvalidArgument, "\"special\" is not true or false");
      special = wanted->get_bool() ? SpecialTokens::kAdd : SpecialTokens::kOmit;
    }
  }
  if (error || text == nullptr || !text->is_string()) {
    return Fail(Code::kInvalidArgument, "is neither a JSON string nor an object with a \"text\"");
  }
  std::vector<uint32_t> ids;
  const auto done = encoder.Encode(std::string_view(text->get_string()), special, &ids);
  if (!done) return std::unexpected(done.error());
  std::string out;
  wire::JsonWriter json(&out);
  json.BeginArray();
  for (const uint32_t id : ids) json.Value(id);
  json.EndArray();
  return out + "\n";
}

int RunLines(Encoder encoder, SpecialTokens special) {
  std::string line;
  for (uint64_t number = 1; std::getline(std::cin, line); ++number) {
    const auto answer = AnswerLine(encoder, line, special);
    if (!answer) {
      return Complain({answer.error().code,
                       fmt::format("line {} of stdin: {}", number, answer.error().message)});
    }
    Print(*answer);
  }
  if (encoder.cache() == nullptr) return 0;
  const tokens::TokenCache::Stats stats = encoder.cache()->stats();
  std::fprintf(
      stderr, "%s\n",
      fmt::format("{} texts of {} bytes, of these {} known; {} blocks in {} bytes kept, {} evicted",
                  stats.texts, stats.text_bytes, stats.reused_bytes, stats.entries, stats.bytes,
                  stats.evicted)
          .c_str());
  return 0;
}

int Run(const Flags& flags) {
  const auto tokenizer = Tokenizer::Load(flags.tokenizer);
  if (!tokenizer) return Complain(tokenizer.error());
  const SpecialTokens special = flags.has_no_special ? SpecialTokens::kOmit : SpecialTokens::kAdd;
  if (flags.is_lines) return RunLines(Encoder(**tokenizer, flags.cache_mib), special);
  std::string text = flags.text.value_or("");
  if (!flags.text) {
    text.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  }
  std::vector<uint32_t> ids;
  const auto done = (*tokenizer)->Encode(text, special, &ids);
  if (!done) return Complain(done.error());
  PrintTokens(**tokenizer, ids, flags.is_json);
  return 0;
}

}  // namespace

int RunTokenize(int argc, char** argv) {
  CLI::App app("Show the tokens of a text", "penstock tokenize");
  Flags flags;
  app.footer(kExamples);
  app.add_option("--tokenizer", flags.tokenizer, "The model's tokenizer.json or tokenizer.model")
      ->required()
      ->type_name("FILE");
  CLI::Option* text = app.add_option("--text", flags.text, "The text; default: all of stdin");
  CLI::Option* json = app.add_flag("--json", flags.is_json, "One JSON object instead of lines");
  CLI::Option* lines = app.add_flag("--lines", flags.is_lines, "Many texts, one a line as JSON")
                           ->excludes(text)
                           ->excludes(json);
  app.add_option("--cache", flags.cache_mib,
                 "Keep tokens of beginnings, as for chats that grow, in so much")
      ->needs(lines)
      ->check(CLI::Range(1, 65536))
      ->type_name("MIB");
  app.add_flag("--no-special", flags.has_no_special,
               "Without what is put around every text, such as a beginning-of-text token");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return Run(flags);
}

}  // namespace penstock::app
