#include "tokens/added_tokens.h"

#include <algorithm>
#include <boost/unordered/unordered_flat_set.hpp>
#include <utility>

#include "tokens/unicode.h"

namespace penstock::tokens {
namespace {

using TextSet = boost::unordered_flat_set<std::string_view>;

}  // namespace

AddedTokens::AddedTokens() : ends_{kNone} {}

void AddedTokens::Add(std::string_view wanted, AddedToken token) {
  if (wanted.empty()) return;
  uint64_t node = 0;
  for (const char c : wanted) {
    const uint64_t edge = node << 8 | static_cast<unsigned char>(c);
    const auto [child, is_new] = children_.try_emplace(edge, static_cast<uint32_t>(ends_.size()));
    if (is_new) ends_.push_back(kNone);
    node = child->second;
  }
  if (ends_[node] != kNone) return;
  ends_[node] = static_cast<uint32_t>(tokens_.size());
  begins_[static_cast<unsigned char>(wanted[0])] = true;
  tokens_.push_back(std::move(token));
  wanted_.emplace_back(wanted);
}

AddedTokens::Match AddedTokens::LongestAt(std::string_view text, size_t at) const {
  Match match;
  uint64_t node = 0;
  while (at < text.size()) {
    const auto child = children_.find(node << 8 | static_cast<unsigned char>(text[at]));
    if (child == children_.end()) break;
    node = child->second;
    ++at;
    if (ends_[node] != kNone) match = {&tokens_[ends_[node]], at};
  }
  return match;
}

bool AddedTokens::StandsAlone(std::string_view text, size_t begin, size_t end) {
  const uint16_t* classes = CharClasses();
  if (begin > 0 && (classes[CharAt(text, CharBefore(text, begin)).code] & kWord) != 0) return false;
  return end == text.size() || (classes[CharAt(text, end).code] & kWord) == 0;
}

size_t AddedTokens::SpacesBefore(std::string_view text, size_t end) {
  const uint16_t* classes = CharClasses();
  while (end > 0) {
    const size_t last = CharBefore(text, end);
    if ((classes[CharAt(text, last).code] & kSpace) == 0) break;
    end = last;
  }
  return end;
}

size_t AddedTokens::SpacesAfter(std::string_view text, size_t begin) {
  const uint16_t* classes = CharClasses();
  while (begin < text.size() && (classes[CharAt(text, begin).code] & kSpace) != 0) {
    begin += CharAt(text, begin).size;
  }
  return begin;
}

std::vector<bool> EndsAlone(const AddedTokens& tokens, const std::vector<const AddedTokens*>& all) {
  const std::vector<std::string>& wanted = tokens.wanted();
  TextSet texts(wanted.begin(), wanted.end());
  TextSet beginnings;  // of tokens, without the whole
  TextSet inner;       // those that a longer token holds before its end
  size_t longest = 0;
  for (const std::string& text : wanted) longest = std::max(longest, text.size());
  for (const AddedTokens* others : all) {
    for (const std::string_view token : others->wanted()) {
      for (size_t size = 1; size < token.size(); ++size) beginnings.insert(token.substr(0, size));
      for (size_t at = 0; at < token.size(); ++at) {
        for (size_t end = at + 1; end < token.size() && end - at <= longest; ++end) {
          const auto found = texts.find(token.substr(at, end - at));
          if (found != texts.end()) inner.insert(*found);
        }
      }
    }
  }
  std::vector<bool> alone;
  for (const std::string_view text : wanted) {
    bool is_alone = !inner.contains(text);
    for (size_t at = 0; is_alone && at < text.size(); ++at) {
      is_alone = !beginnings.contains(text.substr(at));
    }
    alone.push_back(is_alone);
  }
  return alone;
}

}  // namespace penstock::tokens
