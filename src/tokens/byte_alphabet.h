// GPT-2's way of writing bytes as printable characters: vocabularies of byte-level tokenizers are
// spelled in it.
#pragma once

#include <string>
#include <string_view>

namespace penstock::tokens {

// Appends the bytes that `spelled` stands for; false when it has a character that is not one of the
// 256 (what was appended before stays). REQUIRES: valid UTF-8.
bool AppendBytesOf(std::string_view spelled, std::string* out);

// Appends the characters that `bytes` are written as.
void AppendSpellingOf(std::string_view bytes, std::string* out);

}  // namespace penstock::tokens
