#include "workload/line_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace penstock::workload {
namespace {

constexpr size_t kPiece = 64 * 1024;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

}  // namespace

Result<LineReader> LineReader::Open(const std::string& path) {
  // Not blocking: a pipe under that name must not stop the program.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return Fail(errno == ENOENT ? Code::kNotFound : Code::kUnavailable,
                path + ": cannot be read: " + std::strerror(errno));
  }
  LineReader reader(fd, {}, path);
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    return Fail(Code::kInvalidArgument, path + ": is not a file");
  }
  return reader;
}

LineReader LineReader::OfText(std::string_view text, std::string name) {
  return {-1, text, std::move(name)};
}

LineReader::LineReader(LineReader&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      text_(other.text_),
      name_(std::move(other.name_)),
      error_(std::move(other.error_)),
      buffer_(std::move(other.buffer_)),
      begin_(other.begin_),
      end_(other.end_),
      number_(other.number_) {}

LineReader::~LineReader() {
  if (fd_ >= 0) close(fd_);
}

bool LineReader::Fill() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() < end_ + kPiece) buffer_.resize(end_ + kPiece);
  if (fd_ < 0) {
    const size_t count = std::min(kPiece, text_.size());
    std::memcpy(buffer_.data() + end_, text_.data(), count);
    text_.remove_prefix(count);
    end_ += count;
    return count > 0;
  }
  ssize_t count = 0;
  do {
    count = read(fd_, buffer_.data() + end_, kPiece);
  } while (count < 0 && errno == EINTR);
  if (count < 0) error_ = std::string("cannot be read: ") + std::strerror(errno);
  if (count <= 0) return false;
  end_ += static_cast<size_t>(count);
  return true;
}

void LineReader::Take(size_t length, std::string_view* line) {
  ++number_;
  *line = std::string_view(buffer_).substr(begin_, length);
  if (line->ends_with('\r')) line->remove_suffix(1);
  if (number_ == 1 && line->starts_with(kByteOrderMark)) {
    line->remove_prefix(kByteOrderMark.size());
  }
}

LineReader::Next LineReader::Read(std::string_view* line) {
  size_t scanned = 0;
  bool is_too_long = false;
  for (;;) {
    const char* from = buffer_.data() + begin_ + scanned;
    const auto* stop = static_cast<const char*>(
        std::memchr(from, '\n', static_cast<size_t>(buffer_.data() + end_ - from)));
    const size_t length =
        stop != nullptr ? static_cast<size_t>(stop - buffer_.data()) - begin_ : end_ - begin_;
    is_too_long = is_too_long || length > kMaxLineBytes;
    if (stop != nullptr) {
      Take(length, line);
      begin_ += length + 1;
      return is_too_long ? Next::kTooLong : Next::kLine;
    }
    scanned = length;
    if (is_too_long) {
      begin_ = end_;
      scanned = 0;
    }
    if (Fill()) continue;
    if (!error_.empty()) {
      ++number_;
      return Next::kUnreadable;
    }
    if (length == 0 && !is_too_long) return Next::kEnd;
    Take(end_ - begin_, line);
    begin_ = end_;
    return is_too_long ? Next::kTooLong : Next::kLine;
  }
}

}  // namespace penstock::workload
