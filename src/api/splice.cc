#include "api/splice.h"

namespace penstock::api {

void FieldCutter::Keep(size_t key_begin, size_t value_end) {
  if (open_) Close(key_begin);
  keeps_one_ = true;
  last_end_ = value_end;
}

void FieldCutter::Cut(size_t key_begin, size_t value_end) {
  if (keeps_one_) {
    // From the end of the field before: its comma goes with what is cut.
    Add(last_end_, value_end);
  } else if (!open_) {
    open_ = true;
    open_begin_ = key_begin;
  }
  last_end_ = value_end;
}

void FieldCutter::Finish() {
  if (open_) Close(last_end_);
}

void FieldCutter::Close(size_t end) {
  open_ = false;
  Add(open_begin_, end);
}

void FieldCutter::Add(size_t begin, size_t end) {
  if (!splices_->empty() && splices_->back().end == begin) {
    splices_->back().end = end;
  } else {
    splices_->push_back({begin, end, {}});
  }
}

std::vector<std::string_view> ApplySplices(std::string_view body,
                                           const std::vector<Splice>& splices) {
  std::vector<std::string_view> pieces;
  pieces.reserve(2 * splices.size() + 1);
  const auto add = [&](std::string_view piece) {
    if (!piece.empty()) pieces.push_back(piece);
  };
  size_t at = 0;
  for (const Splice& splice : splices) {
    add(body.substr(at, splice.begin - at));
    add(splice.text);
    at = splice.end;
  }
  add(body.substr(at));
  return pieces;
}

}  // namespace penstock::api
