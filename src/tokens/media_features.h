// What a render endpoint says of the media among a prompt's tokens: {"mm_hashes": {"image": ["h",
// ...]}, "mm_placeholders": {"image": [{"offset": 5, "length": 3}, ...]}}; the n-th of both belong
// together.
//
// THREADS: belongs to its caller. COST: linear in the text.
// SOURCE: vLLM 0.32: MultiModalFeatures of entrypoints/scale_out/token_in_token_out/protocol.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "model/request.h"
#include "wire/json_scan.h"

namespace penstock::tokens {

class MediaFeatures {
 public:
  static constexpr size_t kMaxKinds = 16;
  static constexpr size_t kMaxItems = 4096;      // of each kind
  static constexpr size_t kMaxNameBytes = 1024;  // of a hash, which a client may choose

  // The value of "features", at which `json` stands. False when it is not valid JSON.
  bool Read(wire::JsonScanner& json);
  // Whether there are media at all.
  bool empty() const;
  // In order and without overlap, within the prompt's tokens. Errors: kInvalidArgument for what is
  // not of this form, or more than may be.
  Result<std::vector<model::MediaSpan>> Spans(size_t tokens) const;

 private:
  struct Place {
    uint64_t offset = 0, length = 0;
  };
  struct Kind {
    std::string_view name;  // views into the text
    std::vector<std::string_view> hashes;
    std::vector<Place> places;
  };
  Kind* Find(std::string_view name);
  bool ReadHashes(Kind* kind, wire::JsonScanner& json);
  bool ReadPlaces(Kind* kind, wire::JsonScanner& json);

  std::vector<Kind> kinds_;
  bool is_odd_ = false;  // something has another form, or is too much
};

}  // namespace penstock::tokens
