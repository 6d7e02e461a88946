#include "tokens/media_features.h"

#include <algorithm>

#include "core/text.h"

namespace penstock::tokens {
namespace {

using wire::JsonScanner;
using wire::JsonString;

// A number of an object's field; what has another form is 2^64-1, which no prompt reaches.
bool ReadNumber(JsonScanner& json, uint64_t* into) {
  *into = UINT64_MAX;
  if (json.Peek() != JsonScanner::Kind::kNumber) return json.Skip();
  std::string_view number;
  if (!json.ReadNumber(&number)) return false;
  *into = ParseUint(number).value_or(UINT64_MAX);
  return true;
}

}  // namespace

MediaFeatures::Kind* MediaFeatures::Find(std::string_view name) {
  const auto known = std::ranges::find(kinds_, name, &Kind::name);
  if (known != kinds_.end()) return &*known;
  if (kinds_.size() == kMaxKinds) return nullptr;
  return &kinds_.emplace_back(Kind{name, {}, {}});
}

bool MediaFeatures::Read(JsonScanner& json) {
  kinds_.clear();
  is_odd_ = false;
  if (json.Peek() != JsonScanner::Kind::kObject) return json.Skip();  // null: none
  JsonString field;
  for (json.EnterObject(); json.NextField(&field);) {
    const bool is_hashes = field.raw == "mm_hashes";
    if ((!is_hashes && field.raw != "mm_placeholders") ||
        json.Peek() != JsonScanner::Kind::kObject) {
      if (!json.Skip()) return false;
      continue;
    }
    JsonString name;
    for (json.EnterObject(); json.NextField(&name);) {
      Kind* const kind = Find(name.raw);
      if (kind == nullptr || json.Peek() != JsonScanner::Kind::kArray) {
        is_odd_ = is_odd_ || kind == nullptr || json.Peek() != JsonScanner::Kind::kNull;
        if (!json.Skip()) return false;
      } else if (!(is_hashes ? ReadHashes(kind, json) : ReadPlaces(kind, json))) {
        return false;
      }
    }
  }
  return json.ok();
}

bool MediaFeatures::ReadHashes(Kind* kind, JsonScanner& json) {
  kind->hashes.clear();
  JsonString hash;
  for (json.EnterArray(); json.NextElement();) {
    const bool is_text = json.Peek() == JsonScanner::Kind::kString;
    if (!(is_text ? json.ReadString(&hash) : json.Skip())) return false;
    if (!is_text || hash.escaped || hash.raw.empty() || hash.raw.size() > kMaxNameBytes ||
        kind->hashes.size() == kMaxItems) {
      is_odd_ = true;
    } else {
      kind->hashes.push_back(hash.raw);
    }
  }
  return json.ok();
}

bool MediaFeatures::ReadPlaces(Kind* kind, JsonScanner& json) {
  kind->places.clear();
  for (json.EnterArray(); json.NextElement();) {
    Place place{UINT64_MAX, UINT64_MAX};
    if (json.Peek() != JsonScanner::Kind::kObject) {
      if (!json.Skip()) return false;
    } else {
      JsonString key;
      for (json.EnterObject(); json.NextField(&key);) {
        uint64_t* const into = key.raw == "offset"   ? &place.offset
                               : key.raw == "length" ? &place.length
                                                     : nullptr;
        if (!(into == nullptr ? json.Skip() : ReadNumber(json, into))) return false;
      }
    }
    if (kind->places.size() == kMaxItems) {
      is_odd_ = true;
    } else {
      kind->places.push_back(place);
    }
  }
  return json.ok();
}

bool MediaFeatures::empty() const {
  return !is_odd_ && std::ranges::all_of(kinds_, [](const Kind& kind) {
    return kind.hashes.empty() && kind.places.empty();
  });
}

Result<std::vector<model::MediaSpan>> MediaFeatures::Spans(size_t tokens) const {
  const auto bad = [](std::string_view what) {
    return Fail(Code::kInvalidArgument, "the answer's features: " + std::string(what));
  };
  if (is_odd_) return bad("hashes and places of another form, or too many");
  std::vector<model::MediaSpan> spans;
  for (const Kind& kind : kinds_) {
    if (kind.hashes.size() != kind.places.size()) {
      return bad("as many hashes as places are needed");
    }
    for (size_t i = 0; i < kind.places.size(); ++i) {
      const Place& place = kind.places[i];
      if (place.length == 0 || place.offset > tokens || place.length > tokens - place.offset) {
        return bad("a place is not within the prompt");
      }
      spans.push_back({static_cast<uint32_t>(place.offset), static_cast<uint32_t>(place.length),
                       std::string(kind.hashes[i])});
    }
  }
  std::ranges::sort(spans, {}, &model::MediaSpan::offset);
  for (size_t i = 1; i < spans.size(); ++i) {
    if (spans[i].offset - spans[i - 1].offset < spans[i - 1].length) return bad("places overlap");
  }
  return spans;
}

}  // namespace penstock::tokens
