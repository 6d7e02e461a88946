#include "api/splice.h"

#include <algorithm>

#include "wire/json.h"

namespace penstock::api {

void FieldCutter::Keep(size_t key_begin) {
  if (open_) Close(key_begin);
  keeps_one_ = true;
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

size_t SplicedSize(size_t body_bytes, const std::vector<Splice>& splices) {
  for (const Splice& splice : splices) {
    body_bytes += splice.text.size();
    body_bytes -= splice.end - splice.begin;
  }
  return body_bytes;
}

void BodyEdits::Clear() {
  cuts_.clear();
  models_.clear();
  model_.reset();
  inside_.reset();
  has_fields_ = false;
  fields_.clear();
}

bool BodyEdits::RewriteModel(std::string_view model) {
  if (models_.empty()) return false;
  model_.emplace();
  wire::AppendJsonString(model, &*model_);
  return true;
}

bool BodyEdits::AddField(std::string_view name, std::string_view json) {
  if (!inside_) return false;
  if (!fields_.empty()) fields_ += ',';
  wire::AppendJsonString(name, &fields_);
  fields_ += ':';
  fields_ += json;
  return true;
}

std::vector<Splice> BodyEdits::Splices() const {
  std::vector<Splice> all;
  all.reserve(cuts_.size() + models_.size() + 1);
  // In front of the first cut even where that begins at the same byte.
  if (!fields_.empty()) all.push_back({*inside_, *inside_, fields_ + (has_fields_ ? "," : "")});
  const size_t begin = all.size();
  all.insert(all.end(), cuts_.begin(), cuts_.end());
  if (!model_) return all;
  const auto by_place = [](const Splice& a, const Splice& b) { return a.begin < b.begin; };
  const auto middle = static_cast<std::ptrdiff_t>(all.size());
  for (const Span& span : models_) all.push_back({span.begin, span.end, *model_});
  std::inplace_merge(all.begin() + static_cast<std::ptrdiff_t>(begin), all.begin() + middle,
                     all.end(), by_place);
  return all;
}

}  // namespace penstock::api
