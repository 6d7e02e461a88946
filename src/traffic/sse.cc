#include "traffic/sse.h"

namespace penstock::traffic {

void SseReader::Feed(std::string_view piece) {
  while (!piece.empty() && !is_broken_) {
    if (after_return_ && piece.front() == '\n') piece.remove_prefix(1);
    after_return_ = false;
    const size_t end = piece.find_first_of("\r\n");
    const std::string_view part = piece.substr(0, end);
    if (line_.size() + data_.size() + part.size() > kMaxEventBytes) {
      is_broken_ = true;
      return;
    }
    if (end == std::string_view::npos) {
      line_ += part;
      return;
    }
    after_return_ = piece[end] == '\r';
    piece.remove_prefix(end + 1);
    if (line_.empty()) {
      Line(part);
    } else {
      line_ += part;
      Line(line_);
      line_.clear();
    }
  }
}

void SseReader::Line(std::string_view line) {
  constexpr std::string_view kData = "data";
  if (line.empty()) {
    if (!has_data_) return;
    on_data_(data_);
    data_.clear();
    has_data_ = false;
    return;
  }
  if (!line.starts_with(kData)) return;
  line.remove_prefix(kData.size());
  if (!line.empty() && line.front() != ':') return;
  if (!line.empty()) line.remove_prefix(1);
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (has_data_) data_ += '\n';
  data_ += line;
  has_data_ = true;
}

}  // namespace penstock::traffic
