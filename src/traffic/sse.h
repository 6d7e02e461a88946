// Takes a stream of server-sent events apart, in whatever pieces it comes. Only the data fields are
// of interest.
//
// THREADS: belongs to its caller. COST: one pass; a line that comes whole is not copied.
// SOURCE: WHATWG HTML, "Server-sent events", 9.2.6.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace penstock::traffic {

class SseReader {
 public:
  static constexpr size_t kMaxEventBytes = 1 << 20;

  // `on_data` gets the data of each event, several lines of it joined by '\n'; valid in the call.
  explicit SseReader(std::function<void(std::string_view)> on_data)
      : on_data_(std::move(on_data)) {}
  void Feed(std::string_view piece);
  // An event was larger than kMaxEventBytes; nothing is read any more.
  bool is_broken() const { return is_broken_; }

 private:
  void Line(std::string_view line);

  std::function<void(std::string_view)> on_data_;
  std::string line_;  // the begin of a line that is not there as a whole
  std::string data_;
  bool has_data_ = false;
  bool after_return_ = false;  // a '\n' that follows belongs to the '\r' before
  bool is_broken_ = false;
};

}  // namespace penstock::traffic
