// The data that tests of fidelity need.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace penstock::lab {

// The folder with runs, traces and kernel times: $PENSTOCK_DATA, else ../shared/data beside the
// sources. "" when there is none.
inline std::string DataFolder() {
  const char* given = std::getenv("PENSTOCK_DATA");
  const std::string folder = given != nullptr ? given : "../shared/data";
  return std::filesystem::is_directory(folder) ? folder : "";
}

}  // namespace penstock::lab
