// How an RPC ends. SOURCE: grpc doc/statuscodes.md.
#pragma once

#include <cstdint>
#include <string_view>

namespace penstock::grpc {

enum class Status : uint8_t {
  kOk = 0,
  kCancelled = 1,
  kUnknown = 2,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kPermissionDenied = 7,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kAborted = 10,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
  kDataLoss = 15,
  kUnauthenticated = 16,
};
std::string_view StatusName(Status status);  // "OK", "CANCELLED", ...

}  // namespace penstock::grpc
