// A template's source as tokens, with Jinja's rules for white space: trim_blocks, lstrip_blocks, -
// and +.
//
// THREADS: any.
// SOURCE: Jinja 3.1's lexer with the settings of transformers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace penstock::tokens::jinja {

enum class TokenKind : uint8_t {
  kText,           // text: output as it stands
  kVariableBegin,  // {{
  kVariableEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,      // text
  kString,    // text: unescaped
  kInteger,   // integer
  kFloat,     // number
  kOperator,  // text: "+", "==", ...
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  uint32_t line = 1;
  std::string text;
  int64_t integer = 0;
  double number = 0;

  bool IsOperator(std::string_view op) const { return kind == TokenKind::kOperator && text == op; }
  bool IsName(std::string_view name) const { return kind == TokenKind::kName && text == name; }
};

// The tokens, with kEnd as the last. REQUIRES: `source` is valid UTF-8.
Result<std::vector<Token>> Tokenize(std::string_view source);

// How an error names the token: "end of template", "'endif'".
std::string Describe(const Token& token);

}  // namespace penstock::tokens::jinja
