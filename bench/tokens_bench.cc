// Text to tokens: megabytes a second for the tokenizers of bench/tokens, texts that grow through
// the cache, and texts that are hard on a tokenizer.
//
//   PENSTOCK_TOKENIZERS="$(tools/peers/tokenizers)" build/bench/bin/tokens_bench
//
// bench/tokens_peer gives the reference's numbers for the same texts.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"
#include "tokens/token_cache.h"
#include "tokens/tokenizer.h"

namespace penstock::tokens {
namespace {

constexpr const char* kNames[] = {"llama3", "qwen3", "deepseek_v3", "gptoss", "gemma3", "llama2"};

const Tokenizer* Loaded(benchmark::State& state, const std::string& name) {
  static std::vector<std::pair<std::string, std::unique_ptr<Tokenizer>>> loaded;
  for (const auto& [known, tokenizer] : loaded) {
    if (known == name) return tokenizer.get();
  }
  const char* folder = std::getenv("PENSTOCK_TOKENIZERS");
  auto tokenizer =
      Tokenizer::Load(std::string(folder == nullptr ? "." : folder) + "/" + name + ".json");
  if (!tokenizer) {
    state.SkipWithError((tokenizer.error().message + ": set PENSTOCK_TOKENIZERS").c_str());
    return nullptr;
  }
  loaded.emplace_back(name, *std::move(tokenizer));
  return loaded.back().second.get();
}

// The text of the corpus file, or of one of the hard ones, as bench/tokens_peer makes them.
std::string TextOf(benchmark::State& state, std::string_view kind) {
  constexpr size_t kBytes = 1 << 20;
  if (kind == "letters") return std::string(kBytes, 'a');
  if (kind == "spaces") return std::string(kBytes, ' ');
  if (kind == "newlines") return std::string(kBytes, '\n');
  if (kind == "digits") return std::string(kBytes, '7');
  if (kind == "marks") return std::string(kBytes, '!');
  if (kind == "capitals") return std::string(kBytes, 'A');
  const char* path = std::getenv("PENSTOCK_CORPUS");
  auto text = ReadFile(std::string(path == nullptr ? "." : path) + "/" + std::string(kind) + ".txt",
                       size_t{64} << 20);
  if (!text) {
    state.SkipWithError((text.error().message + ": set PENSTOCK_CORPUS").c_str());
    return "";
  }
  return *std::move(text);
}

void EncodeText(benchmark::State& state, const std::string& name, const std::string& kind) {
  const Tokenizer* tokenizer = Loaded(state, name);
  const std::string text = TextOf(state, kind);
  if (tokenizer == nullptr || text.empty()) return;
  std::vector<uint32_t> tokens;
  for (auto _ : state) {
    tokens.clear();
    if (!tokenizer->Encode(text, SpecialTokens::kAdd, &tokens)) state.SkipWithError("not encoded");
    benchmark::DoNotOptimize(tokens.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
  state.counters["tokens"] = static_cast<double>(tokens.size());
}

// A chat of about 200 thousand tokens whose next turn is some 400 tokens longer.
void NextTurn(benchmark::State& state, const std::string& name) {
  const Tokenizer* tokenizer = Loaded(state, name);
  std::string text = TextOf(state, "english");
  if (tokenizer == nullptr || text.empty()) return;
  std::string chat;
  std::vector<uint32_t> tokens;
  size_t at = 0;
  const auto turn = [&](size_t bytes) {
    chat += "<|im_start|>user\n";
    chat += text.substr(at % (text.size() - 20'000), bytes);
    chat += "<|im_end|>\n";
    at += bytes;
  };
  do {
    for (int i = 0; i < 8; ++i) turn(1600);
    tokens.clear();
    if (!tokenizer->Encode(chat, SpecialTokens::kAdd, &tokens))
      return state.SkipWithError("not encoded");
  } while (tokens.size() < 200'000);
  TokenCache cache(*tokenizer, size_t{1} << 28, 1);
  if (!cache.Encode(chat, SpecialTokens::kAdd, &tokens)) return state.SkipWithError("not encoded");
  const size_t turns = 50;
  size_t done = 0;
  for (auto _ : state) {
    state.PauseTiming();
    if (done++ % turns == 0)
      chat.resize(chat.size() - std::min(chat.size(), done > 1 ? turns * 1600 : 0));
    turn(1600);
    state.ResumeTiming();
    std::vector<uint32_t> fresh;
    if (!cache.Encode(chat, SpecialTokens::kAdd, &fresh)) state.SkipWithError("not encoded");
    benchmark::DoNotOptimize(fresh.data());
    tokens.swap(fresh);
  }
  state.counters["tokens"] = static_cast<double>(tokens.size());
  state.counters["chat_bytes"] = static_cast<double>(chat.size());
}

const bool kRegistered = [] {
  for (const std::string name : kNames) {
    for (const std::string kind : {"english", "code", "mixed"}) {
      benchmark::RegisterBenchmark(("Encode/" + name + "/" + kind).c_str(), EncodeText, name, kind)
          ->Unit(benchmark::kMillisecond);
    }
    for (const std::string kind :
         {"letters", "spaces", "newlines", "digits", "marks", "capitals"}) {
      benchmark::RegisterBenchmark(("Hard/" + name + "/" + kind).c_str(), EncodeText, name, kind)
          ->Unit(benchmark::kMillisecond);
    }
    benchmark::RegisterBenchmark(("NextTurn/" + name).c_str(), NextTurn, name)
        ->Unit(benchmark::kMicrosecond)
        ->Iterations(200);
  }
  return true;
}();

}  // namespace
}  // namespace penstock::tokens
