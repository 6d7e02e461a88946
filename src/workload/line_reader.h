// The lines of a file of any size, one at a time, in constant memory. A file that Zstandard has
// compressed is read as what it holds.
//
// THREADS: belongs to its caller. OWNS: the descriptor.
// COST: one read of 64 KiB at a time; a line is a view into the buffer, which grows to the longest
// line, kMaxLineBytes at most; decompression holds a window, 128 MiB at most.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/result.h"

namespace penstock::workload {

class LineReader {
 public:
  static constexpr size_t kMaxLineBytes = 1 << 20;

  // Errors begin with the path, as those of core/file.h; a pipe or device is no file.
  static Result<LineReader> Open(const std::string& path, size_t max_line_bytes = kMaxLineBytes);
  // Over text in memory, which is borrowed.
  static LineReader OfText(std::string_view text, std::string name);
  LineReader(LineReader&& other) noexcept;
  LineReader& operator=(LineReader&&) = delete;
  ~LineReader();

  enum class Next : uint8_t {
    kLine,
    kTooLong,     // a line beyond the limit, which is passed over
    kUnreadable,  // the file cannot be read on; error() says why
    kCutOff,      // compressed data breaks off; what came before is whole
    kEnd,
  };
  // The next line without its end (LF or CRLF), valid until the next call. The last one needs no
  // end; a byte order mark at the beginning of the file belongs to no line.
  Next Read(std::string_view* line);
  // Of the line that was read last, from 1.
  uint64_t number() const { return number_; }
  const std::string& name() const { return name_; }
  const std::string& error() const { return error_; }

 private:
  struct Zstd;
  LineReader(int fd, std::string_view text, std::string name);
  // Whether there is more; makes room by moving what is unread to the front.
  bool Fill();
  // Up to kPiece bytes of the file to `to`; 0 at its end, or when it cannot be read on.
  size_t ReadPlain(char* to);
  size_t ReadCompressed(char* to);
  void Take(size_t length, std::string_view* line);

  int fd_;                      // -1: none
  std::unique_ptr<Zstd> zstd_;  // null: not compressed
  size_t max_line_bytes_ = kMaxLineBytes;
  bool is_cut_off_ = false;
  std::string_view text_;  // what memory still has
  std::string name_;
  std::string error_;
  std::string buffer_;
  size_t begin_ = 0;  // unread: [begin_, end_)
  size_t end_ = 0;
  uint64_t number_ = 0;
};

}  // namespace penstock::workload
