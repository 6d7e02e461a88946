#include "tokens/chat_template_json.h"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <boost/json/basic_parser_impl.hpp>
#include <cstdlib>
#include <string>

namespace penstock::tokens {
namespace {

namespace json = boost::json;
using json::error_code;
using json::string_view;

constexpr size_t kMaxDepth = 128;

// Builds the value as json::parser does, but reads floats from their text.
struct Handler {
  static constexpr size_t max_object_size = size_t(-1);
  static constexpr size_t max_array_size = size_t(-1);
  static constexpr size_t max_key_size = size_t(-1);
  static constexpr size_t max_string_size = size_t(-1);

  json::value_stack stack;
  std::string number;  // the text that came in parts
  bool is_too_large = false;

  bool on_document_begin(error_code&) {
    stack.reset();
    return true;
  }
  bool on_document_end(error_code&) { return true; }
  bool on_object_begin(error_code&) { return true; }
  bool on_object_end(size_t n, error_code&) {
    stack.push_object(n);
    return true;
  }
  bool on_array_begin(error_code&) { return true; }
  bool on_array_end(size_t n, error_code&) {
    stack.push_array(n);
    return true;
  }
  bool on_key_part(string_view text, size_t, error_code&) {
    stack.push_chars(text);
    return true;
  }
  bool on_key(string_view text, size_t, error_code&) {
    stack.push_key(text);
    return true;
  }
  bool on_string_part(string_view text, size_t, error_code&) {
    stack.push_chars(text);
    return true;
  }
  bool on_string(string_view text, size_t, error_code&) {
    stack.push_string(text);
    return true;
  }
  bool on_number_part(string_view text, error_code&) {
    number.append(text.data(), text.size());
    return true;
  }
  bool on_int64(int64_t value, string_view, error_code&) {
    stack.push_int64(value);
    number.clear();
    return true;
  }
  bool on_uint64(uint64_t value, string_view, error_code&) {
    stack.push_uint64(value);
    number.clear();
    return true;
  }
  bool on_double(double, string_view text, error_code& error) {
    number.append(text.data(), text.size());
    is_too_large = number.find_first_of(".eE") == std::string::npos;
    if (is_too_large) {
      error = json::make_error_code(json::error::exponent_overflow);
      return false;
    }
    stack.push_double(std::strtod(number.c_str(), nullptr));
    number.clear();
    return true;
  }
  bool on_bool(bool value, error_code&) {
    stack.push_bool(value);
    return true;
  }
  bool on_null(error_code&) {
    stack.push_null();
    return true;
  }
  bool on_comment_part(string_view, error_code&) { return true; }
  bool on_comment(string_view, error_code&) { return true; }
};

}  // namespace

Result<json::value> ParseJson(std::string_view text) {
  json::parse_options options;
  options.max_depth = kMaxDepth;
  json::basic_parser<Handler> parser(options);
  error_code error;
  const size_t read = parser.write_some(false, text.data(), text.size(), error);
  const Handler& handler = parser.handler();
  if (handler.is_too_large) {
    return Fail(Code::kOutOfRange,
                fmt::format("the number {} is beyond the integers of 64 bits", handler.number));
  }
  if (error == json::error::too_deep) {
    return Fail(Code::kOutOfRange, fmt::format("JSON nested deeper than {}", kMaxDepth));
  }
  if (error) {
    return Fail(Code::kInvalidArgument, fmt::format("JSON, byte {}: {}", read, error.message()));
  }
  if (read != text.size()) {
    return Fail(Code::kInvalidArgument, fmt::format("JSON, byte {}: more than one value", read));
  }
  return parser.handler().stack.release();
}

}  // namespace penstock::tokens
