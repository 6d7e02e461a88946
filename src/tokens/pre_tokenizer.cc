#include "tokens/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "tokens/unicode.h"

namespace penstock::tokens {
namespace {

struct Part {
  Span span;
  bool is_match = false;
};

void FindClass(std::string_view text, CharMatch match, std::vector<Span>* found) {
  const uint16_t* classes = CharClasses();
  for (size_t at = 0; at < text.size();) {
    const Char c = CharAt(text, at);
    bool is_match = false;
    switch (match.kind) {
      case CharMatch::Kind::kNumbers:
        is_match = (classes[c.code] & kNumber) != 0;
        break;
      case CharMatch::Kind::kPunctuation:
        is_match =
            (classes[c.code] & kPunct) != 0 || (c.code < 128 && c.code > ' ' && c.code != 0x7f &&
                                                (classes[c.code] & (kLetter | kNumber)) == 0);
        break;
      case CharMatch::Kind::kSpaces:
        is_match = (classes[c.code] & kSpace) != 0;
        break;
    }
    if (is_match) found->push_back({at, at + c.size});
    at += c.size;
  }
}

Result<> FindMatches(const Split& split, std::string_view text, std::vector<Span>* found) {
  if (const auto* wanted = std::get_if<std::string>(&split.pattern)) {
    FindAllText(text, *wanted, found);
  } else if (const auto* pattern = std::get_if<Pattern>(&split.pattern)) {
    return pattern->FindAll(text, found);
  } else if (const auto* match = std::get_if<CharMatch>(&split.pattern)) {
    FindClass(text, *match, found);
  } else {
    ScanPieces(std::get<Scanner>(split.pattern), text, [&](std::string_view piece) {
      const auto begin = static_cast<size_t>(piece.data() - text.data());
      found->push_back({begin, begin + piece.size()});
    });
  }
  return {};
}

// The whole text in parts that match and parts that do not.
std::vector<Part> PartsOf(const std::vector<Span>& matches, size_t size, bool invert) {
  std::vector<Part> parts;
  size_t at = 0;
  for (const Span& match : matches) {
    if (at < match.begin) parts.push_back({{at, match.begin}, invert});
    parts.push_back({match, !invert});
    at = match.end;
  }
  if (at < size) parts.push_back({{at, size}, invert});
  return parts;
}

std::vector<Span> Arranged(const std::vector<Part>& parts, SplitBehavior behavior) {
  std::vector<Span> out;
  bool was_match = false;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      for (const Part& part : parts) out.push_back(part.span);
      break;
    case SplitBehavior::kRemoved:
      for (const Part& part : parts) {
        if (!part.is_match) out.push_back(part.span);
      }
      break;
    case SplitBehavior::kContiguous:
      for (const Part& part : parts) {
        if (!out.empty() && part.is_match == was_match) {
          out.back().end = part.span.end;
        } else {
          out.push_back(part.span);
        }
        was_match = part.is_match;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Part& part : parts) {
        if (part.is_match && !was_match && !out.empty()) {
          out.back().end = part.span.end;
        } else {
          out.push_back(part.span);
        }
        was_match = part.is_match;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        if (part->is_match && !was_match && !out.empty()) {
          out.back().begin = part->span.begin;
        } else {
          out.push_back(part->span);
        }
        was_match = part->is_match;
      }
      std::ranges::reverse(out);
      break;
  }
  return out;
}

Result<std::vector<Span>> SpansOf(const Split& split, std::string_view text) {
  std::vector<Span> matches;
  if (auto found = FindMatches(split, text, &matches); !found)
    return std::unexpected(found.error());
  return Arranged(PartsOf(matches, text.size(), split.invert), split.behavior);
}

// The text with spaces replaced, and with the prefix where one is due.
std::string Replaced(const Metaspace& metaspace, std::string_view text, bool is_first,
                     bool is_rest) {
  std::string out;
  const bool is_due = metaspace.prefix == Metaspace::Prefix::kAlways ||
                      (metaspace.prefix == Metaspace::Prefix::kFirst && is_first);
  if (is_due && !is_rest && !text.starts_with(' ') && !text.starts_with(metaspace.replacement)) {
    out = metaspace.replacement;
  }
  for (const char c : text) {
    if (c == ' ') {
      out += metaspace.replacement;
    } else {
      out += c;
    }
  }
  return out;
}

// A well-known split as one pass emits everything, so all behaviours that keep pieces apart are
// alike.
bool IsPlainScan(const Split& split) {
  return std::holds_alternative<Scanner>(split.pattern) &&
         ((split.behavior == SplitBehavior::kIsolated) ||
          (split.behavior == SplitBehavior::kRemoved && split.invert &&
           std::get<Scanner>(split.pattern) != Scanner::kDeepSeek));
}

bool AllowsCut(const PreTokenizerStep& step) {
  if (std::holds_alternative<DeepSeekSplit>(step) || std::holds_alternative<PrefixSpace>(step)) {
    return true;
  }
  if (const auto* metaspace = std::get_if<Metaspace>(&step)) {
    return metaspace->replacement == Metaspace().replacement;
  }
  const auto& split = std::get<Split>(step);
  if (IsPlainScan(split)) return true;
  if (const auto* match = std::get_if<CharMatch>(&split.pattern)) {
    return match->kind == CharMatch::Kind::kNumbers && split.behavior == SplitBehavior::kIsolated;
  }
  // Where a normaliser has replaced every space (Gemma 3), or before a cut (one space is no run).
  const auto* wanted = std::get_if<std::string>(&split.pattern);
  return wanted != nullptr && *wanted == " " && !split.invert &&
         split.behavior == SplitBehavior::kMergedWithNext;
}

}  // namespace

PreTokenizer::PreTokenizer(std::vector<PreTokenizerStep> steps) : steps_(std::move(steps)) {}

bool PreTokenizer::AllowsCuts() const { return std::ranges::all_of(steps_, AllowsCut); }

const Scanner* PreTokenizer::only_scanner() const {
  if (steps_.size() != 1) return nullptr;
  const auto* split = std::get_if<tokens::Split>(&steps_[0]);
  return split != nullptr && IsPlainScan(*split) ? std::get_if<Scanner>(&split->pattern) : nullptr;
}

bool PreTokenizer::is_deep_seek() const {
  return steps_.size() == 1 && std::holds_alternative<DeepSeekSplit>(steps_[0]);
}

Result<> PreTokenizer::SplitBySteps(std::string_view text, TextStart start,
                                    std::vector<Piece>* pieces) const {
  const bool is_rest = start == TextStart::kContinuation;
  pieces->push_back({.view = text, .is_first = start == TextStart::kOfInput});
  std::vector<Piece> before;
  for (const PreTokenizerStep& step : steps_) {
    before.swap(*pieces);
    pieces->clear();
    bool is_rest_here = is_rest;  // of the first piece alone
    for (Piece& piece : before) {
      const std::string_view whole = piece.text();
      const auto cut = [&](const std::vector<Span>& spans) {
        for (const Span& span : spans) {
          if (span.begin == span.end) continue;
          const std::string_view text_of_part =
              piece.text().substr(span.begin, span.end - span.begin);
          Piece part{.is_own = piece.is_own, .is_first = piece.is_first && span.begin == 0};
          if (part.is_own) {
            part.own = text_of_part;
          } else {
            part.view = text_of_part;
          }
          pieces->push_back(std::move(part));
        }
      };
      if (const auto* split = std::get_if<tokens::Split>(&step)) {
        const auto spans = SpansOf(*split, whole);
        if (!spans) return std::unexpected(spans.error());
        cut(*spans);
      } else if (std::holds_alternative<DeepSeekSplit>(step)) {
        std::vector<Span> spans;
        ScanDeepSeek(whole, [&](std::string_view part) {
          const auto begin = static_cast<size_t>(part.data() - whole.data());
          spans.push_back({begin, begin + part.size()});
        });
        cut(spans);
      } else if (std::holds_alternative<PrefixSpace>(step)) {
        if (!is_rest_here && !whole.starts_with(' ')) {
          pieces->push_back(
              {.own = " " + std::string(whole), .is_own = true, .is_first = piece.is_first});
        } else {
          pieces->push_back(std::move(piece));
        }
      } else {
        const auto& metaspace = std::get<Metaspace>(step);
        piece.own = Replaced(metaspace, whole, piece.is_first, is_rest_here);
        piece.is_own = true;
        if (metaspace.split) {
          cut(SpansOf({metaspace.replacement, SplitBehavior::kMergedWithNext}, piece.own).value());
        } else {
          pieces->push_back(std::move(piece));
        }
      }
      is_rest_here = false;
    }
  }
  return {};
}

}  // namespace penstock::tokens
