// Base64 with padding, standard alphabet.
//
// SOURCE: RFC 4648 section 4.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace penstock::plugins {

std::string EncodeBase64(std::string_view bytes);
// Nothing for other characters, a wrong length or non-zero trailing bits.
std::optional<std::string> DecodeBase64(std::string_view text);

}  // namespace penstock::plugins
