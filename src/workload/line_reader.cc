#include "workload/line_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

namespace penstock::workload {
namespace {

constexpr size_t kPiece = 64 * 1024;
constexpr unsigned char kZstdMagic[4] = {0x28, 0xb5, 0x2f, 0xfd};
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

}  // namespace

struct LineReader::Zstd {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  std::vector<char> bytes = std::vector<char>(kPiece);
  ZSTD_inBuffer in{bytes.data(), 0, 0};
  bool is_in_frame = false;
  bool holds_more = false;  // that did not fit into the last piece
  ~Zstd() { ZSTD_freeDCtx(context); }
};

LineReader::LineReader(int fd, std::string_view text, std::string name)
    : fd_(fd), text_(text), name_(std::move(name)) {}

Result<LineReader> LineReader::Open(const std::string& path, size_t max_line_bytes) {
  // Not blocking: a pipe under that name must not stop the program.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return Fail(errno == ENOENT ? Code::kNotFound : Code::kUnavailable,
                path + ": cannot be read: " + std::strerror(errno));
  }
  LineReader reader(fd, {}, path);
  reader.max_line_bytes_ = max_line_bytes;
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    return Fail(Code::kInvalidArgument, path + ": is not a file");
  }
  unsigned char magic[4];
  if (pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
      std::equal(std::begin(magic), std::end(magic), std::begin(kZstdMagic))) {
    reader.zstd_ = std::make_unique<Zstd>();
  }
  return reader;
}

LineReader LineReader::OfText(std::string_view text, std::string name) {
  return {-1, text, std::move(name)};
}

LineReader::LineReader(LineReader&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      zstd_(std::move(other.zstd_)),
      max_line_bytes_(other.max_line_bytes_),
      is_cut_off_(other.is_cut_off_),
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

size_t LineReader::ReadPlain(char* to) {
  ssize_t count = 0;
  do {
    count = read(fd_, to, kPiece);
  } while (count < 0 && errno == EINTR);
  if (count < 0) error_ = std::string("cannot be read: ") + std::strerror(errno);
  return count < 0 ? 0 : static_cast<size_t>(count);
}

size_t LineReader::ReadCompressed(char* to) {
  Zstd& zstd = *zstd_;
  for (;;) {
    if (zstd.in.pos == zstd.in.size && !zstd.holds_more) {
      zstd.in.pos = 0;
      zstd.in.size = ReadPlain(zstd.bytes.data());
      if (zstd.in.size == 0) {
        is_cut_off_ = zstd.is_in_frame && error_.empty();
        return 0;
      }
    }
    ZSTD_outBuffer out{to, kPiece, 0};
    const size_t left = ZSTD_decompressStream(zstd.context, &out, &zstd.in);
    if (ZSTD_isError(left) != 0) {
      if (out.pos > 0) return out.pos;  // what came before; the next call gets here again
      error_ = std::string("cannot be decompressed: ") + ZSTD_getErrorName(left);
      return 0;
    }
    zstd.is_in_frame = left != 0;
    zstd.holds_more = out.pos == out.size;
    if (out.pos > 0) return out.pos;
  }
}

bool LineReader::Fill() {
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() < end_ + kPiece) buffer_.resize(end_ + kPiece);
  char* const to = buffer_.data() + end_;
  size_t count = 0;
  if (fd_ < 0) {
    count = std::min(kPiece, text_.size());
    std::memcpy(to, text_.data(), count);
    text_.remove_prefix(count);
  } else {
    count = zstd_ != nullptr ? ReadCompressed(to) : ReadPlain(to);
  }
  end_ += count;
  return count > 0;
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
    is_too_long = is_too_long || length > max_line_bytes_;
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
    if (is_cut_off_ || !error_.empty()) {
      ++number_;
      return is_cut_off_ ? Next::kCutOff : Next::kUnreadable;
    }
    if (length == 0 && !is_too_long) return Next::kEnd;
    Take(end_ - begin_, line);
    begin_ = end_;
    return is_too_long ? Next::kTooLong : Next::kLine;
  }
}

}  // namespace penstock::workload
