// JSON as Python's json.loads reads it, as far as a template can tell: floats to the last bit, keys
// in the order in which they first came, the last value of a key.
//
// THREADS: any.
// SOURCE: Python 3.11's json. Boost.JSON 1.81 alone rounds some floats to a neighbour.
#pragma once

#include <boost/json/fwd.hpp>
#include <string_view>

#include "core/result.h"

namespace penstock::tokens {

// Errors: kInvalidArgument with the place; kOutOfRange for integers beyond 64 bits and nesting
// beyond 128.
Result<boost::json::value> ParseJson(std::string_view text);

}  // namespace penstock::tokens
