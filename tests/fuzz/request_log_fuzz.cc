// Any bytes as a log of requests: complaints name the file, and what comes through is in order.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "lab/request_log.h"

namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto log = penstock::lab::ParseRequestLog(
      std::string_view(reinterpret_cast<const char*>(data), size), "f");
  if (!log) {
    Check(log.error().message.starts_with("f:"));
    return 0;
  }
  size_t rows = log->requests.size();
  for (const auto& skipped : log->skipped) rows += skipped.count;
  Check(rows == log->rows && log->times.size() == log->requests.size());
  penstock::Duration before{0};
  for (size_t i = 0; i < log->requests.size(); ++i) {
    const auto& request = log->requests[i];
    const auto& times = log->times[i];
    Check(request.prompt_tokens > 0 && request.output_tokens > 0);
    Check(request.cached_tokens < request.prompt_tokens);
    Check(request.arrival >= before && times.sent == request.arrival);
    Check(times.last_token >= times.sent && times.last_token >= times.first_token);
    before = request.arrival;
  }
  return 0;
}
