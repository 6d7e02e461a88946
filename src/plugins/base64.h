// Base64 with padding, standard alphabet.
//
// SOURCE: RFC 4648 section 4.
#pragma once

#include <string>
#include <string_view>

namespace penstock::plugins {

std::string EncodeBase64(std::string_view bytes);
}  // namespace penstock::plugins
