// Reading and writing whole files that an operator names: configuration, profiles, reports.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/result.h"

namespace penstock {

// The text of a regular file of at most `max_bytes`. Every error begins with the path: kNotFound,
// kUnavailable with the system's reason, kInvalidArgument for a folder, a pipe or a device,
// kOutOfRange for a file that is larger. Never waits for a writer.
Result<std::string> ReadFile(const std::string& path, size_t max_bytes);

// Writes the whole file, over what it held. Errors begin with the path.
Result<> WriteFile(const std::string& path, std::string_view text);

}  // namespace penstock
