// What a client asks of a simulated engine: the body of any of vLLM's APIs, turned into prompts of
// token ids and limits on the answer.
//
// SOURCE: vLLM entrypoints/openai/protocol.py, entrypoints/anthropic/protocol.py; its error texts.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/request.h"

namespace penstock::tokens {
class PromptTokenizer;
}

namespace penstock::sim {

struct HttpError {
  int status = 400;
  std::string_view type = "BadRequestError";
  std::string message;
  std::string_view param = {};
};
// vLLM's {"error":{...}}, or Anthropic's shape for kMessages.
std::string RenderError(const HttpError& error, model::Api api);

// The names that an engine answers to.
struct Names {
  std::string model;
  std::vector<std::string> loras;  // adapter i + 1 of the engine
  uint32_t max_model_len = 0;
  uint32_t max_choices = 256;  // prompts times n of one request
  // Makes prompts' tokens; null: the engine's own words (text.h).
  const tokens::PromptTokenizer* tokenizer = nullptr;
};

struct Job {
  model::Api api = model::Api::kOther;
  std::string model;  // as asked for: the base or an adapter
  uint32_t lora = 0;
  std::string cache_salt;
  std::vector<std::vector<uint32_t>> prompts;  // token ids

  uint32_t n = 1;  // answers per prompt
  std::optional<uint32_t> max_tokens;
  uint32_t min_tokens = 0;
  bool ignore_eos = false;
  std::vector<std::string> stop;
  uint64_t seed = 0;
  int32_t priority = 0;

  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;

  uint32_t dimensions = 0;             // embeddings; 0: the default
  bool base64 = false;                 // embeddings
  std::vector<std::string> documents;  // rerank
  uint32_t top_n = 0;                  // rerank; 0: all
};

// A POST path of vLLM: whose body it takes, and whether its answer is the prompts' tokens alone.
struct PostPath {
  model::Api api = model::Api::kOther;  // kOther: there is no such path
  bool renders = false;
};
PostPath ClassifyPath(std::string_view path);
// What render endpoints refuse is what would be refused if it was generated.
std::expected<Job, HttpError> ParseJob(model::Api api, std::string_view body, const Names& names);

}  // namespace penstock::sim
