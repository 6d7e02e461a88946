// Reading whole files that an operator names: configuration, endpoints, profiles.
#pragma once

#include <cstddef>
#include <string>

#include "core/result.h"

namespace penstock {

// The text of a regular file of at most `max_bytes`. Every error begins with the path: kNotFound,
// kUnavailable with the system's reason, kInvalidArgument for a folder, a pipe or a device,
// kOutOfRange for a file that is larger. Never waits for a writer.
Result<std::string> ReadFile(const std::string& path, size_t max_bytes);

}  // namespace penstock
