// Any bytes as an endpoints file: complaints say where, and every endpoint can be connected to.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "discovery/endpoints_file.h"

namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto file = penstock::discovery::ParseEndpointsFile(text, "f");
  if (!file) {
    Check(file.error().message.starts_with("f:"));
    return 0;
  }
  for (const auto& endpoint : file->endpoints) {
    Check(!endpoint.spec.name.empty() && !endpoint.spec.host.empty() && endpoint.spec.port != 0);
    Check(endpoint.source.starts_with("f:"));
  }
  const auto all = penstock::discovery::Unite({}, file->endpoints);
  if (all) Check(all->size() == file->endpoints.size());
  if (!file->endpoints.empty()) {
    Check(!penstock::discovery::Unite(file->endpoints, file->endpoints).has_value());
  }
  return 0;
}
