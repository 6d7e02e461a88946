#include "api/model_restorer.h"

#include <algorithm>
#include <cstring>

#include "wire/json.h"

namespace penstock::api {
namespace {

constexpr std::string_view kKey = "\"model\":";

size_t FindKey(std::string_view text, size_t from) {
  const void* const found =
      memmem(text.data() + from, text.size() - from, kKey.data(), kKey.size());
  return found == nullptr ? std::string_view::npos
                          : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

}  // namespace

ModelRestorer::ModelRestorer(std::string_view served, std::string_view named)
    : is_needed_(served != named) {
  wire::AppendJsonString(served, &served_);
  wire::AppendJsonString(named, &named_);
}

// How `text` begins; `size` is that of what is to be replaced behind the key.
ModelRestorer::Fit ModelRestorer::FitOf(std::string_view text, size_t* size) const {
  const std::string_view key = text.substr(0, kKey.size());
  if (!kKey.starts_with(key)) return Fit::kNone;
  text.remove_prefix(key.size());
  *size = text.starts_with(' ') ? 1 : 0;
  text.remove_prefix(*size);
  const std::string_view value = text.substr(0, served_.size());
  if (!served_.starts_with(value)) return Fit::kNone;
  *size += value.size();
  return value.size() == served_.size() ? Fit::kWhole : Fit::kBegins;
}

size_t ModelRestorer::Pass(std::string_view text, std::string* out) {
  size_t passed = 0, size = 0;
  const auto is_escaped = [&](size_t at) { return (at == 0 ? before_ : text[at - 1]) == '\\'; };
  for (size_t at = FindKey(text, 0); at != std::string_view::npos; at = FindKey(text, at + 1)) {
    const Fit fit = is_escaped(at) ? Fit::kNone : FitOf(text.substr(at), &size);
    if (fit == Fit::kNone) continue;
    if (fit == Fit::kBegins) {
      out->append(text.substr(passed, at - passed));
      return at;
    }
    const size_t value = at + kKey.size() + size - served_.size();
    out->append(text.substr(passed, value - passed)).append(named_);
    passed = value + served_.size();
    at = passed - 1;
    ++replaced_;
  }
  // No key is whole any more, but the text may end in the beginning of one.
  size_t end = std::max(passed, text.size() - std::min(text.size(), kKey.size() - 1));
  while (end < text.size() && (is_escaped(end) || !kKey.starts_with(text.substr(end)))) ++end;
  out->append(text.substr(passed, end - passed));
  return end;
}

void ModelRestorer::Feed(std::string_view piece, std::string* out) {
  if (!is_needed_) {
    out->append(piece);
    return;
  }
  if (piece.empty()) return;
  const bool was_held = !held_.empty();
  if (was_held) piece = held_.append(piece);
  const size_t rest = Pass(piece, out);
  if (rest > 0) before_ = piece[rest - 1];
  if (was_held) {
    held_.erase(0, rest);
  } else {
    held_.assign(piece.substr(rest));
  }
}

void ModelRestorer::Finish(std::string* out) {
  out->append(held_);
  held_.clear();
}

}  // namespace penstock::api
