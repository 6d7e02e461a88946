#include "api/media_marks.h"

#include <algorithm>

#include "core/text.h"

namespace penstock::api {
namespace {

using wire::JsonScanner;
using wire::JsonString;

// Calls `read` for every element of an array; other values are passed.
template <class Read>
bool ForElements(JsonScanner& json, Read read) {
  if (json.Peek() != JsonScanner::Kind::kArray) return json.Skip();
  for (json.EnterArray(); json.NextElement();) {
    if (!read()) return false;
  }
  return json.ok();
}

// Calls `read` with the key of every field of an object; other values are passed.
template <class Read>
bool ForFields(JsonScanner& json, Read read) {
  if (json.Peek() != JsonScanner::Kind::kObject) return json.Skip();
  JsonString key;
  for (json.EnterObject(); json.NextField(&key);) {
    if (!read(key.raw)) return false;
  }
  return json.ok();
}

}  // namespace

MediaMarks::Kind* MediaMarks::Find(std::string_view name) {
  const auto known = std::ranges::find(kinds_, name, &Kind::name);
  if (known != kinds_.end()) return &*known;
  if (kinds_.size() == kMaxKinds) return nullptr;
  return &kinds_.emplace_back(Kind{name, {}, {}});
}

void MediaMarks::AddHash(std::string_view kind, std::string_view hash) {
  Kind* const found = Find(kind);
  if (found != nullptr && found->hashes.size() < kMaxItems) found->hashes.push_back(hash);
}

void MediaMarks::AddPlace(std::string_view kind, uint64_t offset, uint64_t length) {
  Kind* const found = Find(kind);
  if (found != nullptr && found->places.size() < kMaxItems) {
    found->places.push_back({offset, length});
  }
}

bool MediaMarks::ReadFeatures(JsonScanner& json) {
  Reset();
  return ForFields(json, [&](std::string_view key) {
    if (key == "mm_hashes") return ReadHashes(json);
    if (key == "mm_placeholders") return ReadPlaces(json);
    return json.Skip();
  });
}

bool MediaMarks::ReadHashes(JsonScanner& json) {
  for (Kind& kind : kinds_) kind.hashes.clear();
  return ForFields(json, [&](std::string_view kind) {
    return ForElements(json, [&] {
      JsonString hash;
      if (json.Peek() != JsonScanner::Kind::kString) return json.Skip();
      if (!json.ReadString(&hash)) return false;
      AddHash(kind, hash.raw);
      return true;
    });
  });
}

bool MediaMarks::ReadPlaces(JsonScanner& json) {
  for (Kind& kind : kinds_) kind.places.clear();
  return ForFields(json, [&](std::string_view kind) {
    return ForElements(json, [&] {
      Place place = {0, 0};
      const bool read = ForFields(json, [&](std::string_view key) {
        uint64_t* const into = key == "offset"   ? &place.offset
                               : key == "length" ? &place.length
                                                 : nullptr;
        std::string_view number;
        if (into == nullptr || json.Peek() != JsonScanner::Kind::kNumber) return json.Skip();
        if (!json.ReadNumber(&number)) return false;
        *into = ParseUint(number).value_or(0);
        return true;
      });
      AddPlace(kind, place.offset, place.length);
      return read;
    });
  });
}

void MediaMarks::Apply(PromptReader* prompt, size_t section) {
  struct Mark {
    Place place;
    std::string_view hash;
  };
  std::vector<Mark> marks;
  for (const Kind& kind : kinds_) {
    const size_t both = std::min(kind.hashes.size(), kind.places.size());
    for (size_t i = 0; i < both; ++i) marks.push_back({kind.places[i], kind.hashes[i]});
  }
  std::ranges::stable_sort(marks, {}, [](const Mark& mark) { return mark.place.offset; });
  uint64_t end = 0;  // of the mark before, so that all of them together cover each token once
  for (const Mark& mark : marks) {
    if (mark.place.offset < end) continue;
    end = prompt->CoverTokens(section, mark.place.offset, mark.place.length, mark.hash);
  }
}

}  // namespace penstock::api
