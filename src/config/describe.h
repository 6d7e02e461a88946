// One declaration per configuration field gives parsing, bounds, defaults, documentation and JSON
// schema. A settings struct is a plain aggregate with defaults and one Describe:
//
//   struct Params {
//     double affinity_threshold = 0.8;
//     std::optional<uint32_t> block_size;
//     template <class V>
//     void Describe(V& v) {
//       v.Field("affinityThreshold", affinity_threshold,
//               {.text = "Least matched share of the prompt that makes an endpoint sticky.", .min =
//               0, .max = 1});
//     }
//   };
//
// Field types: bool, int32_t, uint32_t, int64_t, uint64_t, double, std::string, penstock::Duration
// ("250ms", "60s", "5m", or a plain number of seconds), std::vector<T>, std::optional<T>,
// std::map<std::string, std::string>, another struct with Describe, and wire::YamlNode (kept raw).
//
// config/parse.h reads a struct from a YAML or JSON tree; config/document.h lists its fields.
#pragma once

#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace penstock::config {

enum class Reload { kRestart, kLive };

struct FieldDoc {
  std::string_view text;  // one sentence, ends with a full stop
  std::string_view unit = {};
  double min = -std::numeric_limits<double>::infinity();  // numbers; durations in seconds
  double max = std::numeric_limits<double>::infinity();
  bool required = false;
  std::vector<std::string_view> one_of = {};  // for texts
  Reload reload = Reload::kRestart;
  std::string_view deprecated = {};  // what to use instead; a use is a warning
};

}  // namespace penstock::config
