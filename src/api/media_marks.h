// Where the placeholder tokens of pictures, video and sound stand in a prompt of token ids, and the
// hashes of what they stand for. The placeholders of two pictures are alike, so in the prompt that
// is compared with others they are replaced by their hash.
//
// THREADS: belongs to its caller. OWNS: nothing of the body; views point into it.
// SOURCE: vLLM's /inference/v1/generate and vllm.grpc.engine; spec endpoint-picker 4.3, 5.8.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "api/prompt_reader.h"
#include "wire/json_scan.h"

namespace penstock::api {

class MediaMarks {
 public:
  // What lies beyond is not marked.
  static constexpr size_t kMaxKinds = 16;
  static constexpr size_t kMaxItems = 4096;  // of each kind

  void Reset() { kinds_.clear(); }

  // The value of "features", at which `json` stands: {"mm_hashes": {"image": ["h", ...]},
  // "mm_placeholders": {"image": [{"offset": 5, "length": 3}, ...]}}. What has another shape is
  // the engine's to refuse. False when it is not valid JSON.
  bool ReadFeatures(wire::JsonScanner& json);

  // The next hash or place of media of a kind; the n-th of both belong together.
  void AddHash(std::string_view kind, std::string_view hash);
  void AddPlace(std::string_view kind, uint64_t offset, uint64_t length);

  // Replaces the tokens of the section. Of places that overlap the first one counts.
  void Apply(PromptReader* prompt, size_t section);

 private:
  struct Place {
    uint64_t offset, length;
  };
  struct Kind {
    std::string_view name;
    std::vector<std::string_view> hashes;
    std::vector<Place> places;
  };
  Kind* Find(std::string_view name);
  bool ReadHashes(wire::JsonScanner& json);
  bool ReadPlaces(wire::JsonScanner& json);

  std::vector<Kind> kinds_;
};

}  // namespace penstock::api
