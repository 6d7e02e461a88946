// What HTTP messages look like to the rest of the program.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/text.h"

namespace penstock::http {

struct Header {
  std::string_view name;
  std::string_view value;
};

// In order of arrival. Views into the owner's buffer.
struct Headers {
  std::vector<Header> list;
  // The first value under `name` (ASCII case-insensitive), or "".
  std::string_view Find(std::string_view name) const {
    for (const Header& h : list) {
      if (EqualsIgnoreCase(h.name, name)) return h.value;
    }
    return {};
  }
  bool Has(std::string_view name) const {
    for (const Header& h : list) {
      if (EqualsIgnoreCase(h.name, name)) return true;
    }
    return false;
  }
};

struct RequestHead {
  std::string_view method;
  std::string_view target;  // as sent: path and query
  std::string_view path;    // without the query
  Headers headers;
};

struct ResponseHead {
  int status = 0;
  std::string_view reason;
  Headers headers;
  bool has_length = false;
  uint64_t content_length = 0;  // when has_length
};

// "Too Many Requests" for 429; "" for a code without a registered phrase.
std::string_view ReasonPhrase(int status);
// Headers that describe one connection and are never forwarded (RFC 9110 7.6.1), Content-Length and
// Transfer-Encoding included.
bool IsHopByHop(std::string_view name);
// Whether a Connection header, of which there may be several, names it: then it describes this
// connection too.
bool IsConnectionOption(const Headers& headers, std::string_view name);

}  // namespace penstock::http
