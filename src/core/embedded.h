// A file that was put into the program at build time (cmake/embed.cmake).
#pragma once

#include <string_view>

namespace penstock {

struct EmbeddedFile {
  std::string_view name;   // path below the BASE folder, with forward slashes
  std::string_view bytes;  // the content as it was at build time; followed by one NUL
};

}  // namespace penstock
