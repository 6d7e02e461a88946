#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace penstock {
namespace {

std::unexpected<Error> FileError(const std::string& path, int error) {
  return Fail(error == ENOENT ? Code::kNotFound : Code::kUnavailable,
              path + ": cannot be read: " + std::strerror(error));
}

}  // namespace

Result<std::string> ReadFile(const std::string& path, size_t max_bytes) {
  // Not blocking: a pipe under that name must not stop the program.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return FileError(path, errno);
  struct Closer {
    int fd;
    ~Closer() { close(fd); }
  } closer{fd};
  struct stat status;
  if (fstat(fd, &status) != 0) return FileError(path, errno);
  if (!S_ISREG(status.st_mode)) return Fail(Code::kInvalidArgument, path + ": is not a file");
  std::string text;
  for (;;) {
    constexpr size_t kPiece = 64 * 1024;
    const size_t had = text.size();
    text.resize(had + kPiece);
    const ssize_t count = read(fd, text.data() + had, kPiece);
    if (count < 0) return FileError(path, errno);
    text.resize(had + static_cast<size_t>(count));
    if (count == 0) return text;
    if (text.size() > max_bytes) {
      return Fail(Code::kOutOfRange,
                  path + ": is larger than " + std::to_string(max_bytes >> 20) + " MiB");
    }
  }
}

Result<> WriteFile(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (file) return {};
  return Fail(Code::kUnavailable,
              "'" + path + "' cannot be written: is the folder writable, the disk full?");
}

}  // namespace penstock
