// Which fields of a body hold its prompt, and which must be there, by API.
//
// SOURCE: OpenAI, Anthropic, vLLM and SGLang API references; spec endpoint-picker 4.3.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "api/prompt_reader.h"
#include "model/request.h"

namespace penstock::api {

struct PromptField {
  std::string_view name;
  Shape shape;
  size_t section;
};

// One of the fields of these sections has to be there.
struct Required {
  std::string_view name;  // the usual one
  std::string_view text;  // all that will do
  uint32_t sections;      // as bits
};

struct Rules {
  std::span<const PromptField> fields;
  std::span<const Required> required;
  bool needs_model = true;
  bool has_prompt = true;     // false: what its fields hold computes no KV cache
  bool has_sampling = false;  // limits are in sampling_params
  bool is_passed = false;     // only the model is read
};

Rules RulesOf(model::Api api);

}  // namespace penstock::api
