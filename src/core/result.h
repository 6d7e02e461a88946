// Result<T> is how a function that can fail says so: a value, or an Error with a closed code and a
// sentence that names the thing, the value and the fix. We do not throw; code that calls a
// throwing library catches at that call.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace penstock {

enum class Code {
  kInvalidArgument,     // the input is wrong whatever the state of the system
  kNotFound,            // the named thing does not exist
  kAlreadyExists,       // a second thing of a name that must be unique
  kOutOfRange,          // a value beyond a stated bound
  kFailedPrecondition,  // right input, wrong state
  kResourceExhausted,   // a limit or budget is used up
  kUnavailable,         // a peer or resource is gone for now; a retry may help
  kDeadlineExceeded,    // time ran out
  kCancelled,           // the caller gave up
  kInternal,            // a defect of ours
};

// Lower-case words, for logs and counters: "invalid_argument".
std::string_view CodeName(Code code);

struct Error {
  Code code = Code::kInternal;
  std::string message;
};

template <class T = void>
using Result = std::expected<T, Error>;

// return Fail(Code::kOutOfRange, "port 99999 is above 65535");
inline std::unexpected<Error> Fail(Code code, std::string message) {
  return std::unexpected<Error>(Error{code, std::move(message)});
}

}  // namespace penstock
