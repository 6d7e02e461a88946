// Which plugin types exist, and how an instance is made from its parameters.
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/document.h"
#include "config/parse.h"
#include "core/result.h"
#include "sched/plugin.h"

namespace penstock::sched {

enum class Kind : uint8_t { kFilter, kScorer, kPicker, kProfileHandler, kProducer };
std::string_view KindName(Kind kind);

enum class Stability : uint8_t { kBeta, kAlpha, kDeprecated };

struct PluginType {
  std::string_view type;                  // canonical name, llm-d's
  std::vector<std::string_view> aliases;  // accepted with a warning
  Kind kind;
  Stability stability = Stability::kBeta;
  std::string_view text;     // what it does, one or two sentences; goes into the reference
  std::string_view formula;  // "" when the text says it all
  std::vector<DataKey> default_producer_of;  // made on demand when somebody needs the key
  // Parses parameters (adding diagnostics) and makes the instance; nullptr when there were errors.
  std::function<std::unique_ptr<Plugin>(const wire::YamlNode& parameters, std::string_view path,
                                        config::Diagnostics*)>
      make;
  std::function<std::vector<config::FieldRow>()> parameters;  // for the reference
  bool detects_saturation = false;  // flowControl.saturationDetector may name it
  std::string_view example;  // parameters as a YAML flow map, where the defaults alone do not do
};

// Params may have `std::string Problem() const`: what is wrong with a combination of fields that
// are each within their bounds, as a sentence, or "".
template <class Params>
concept HasProblem = requires(const Params& params) {
  { params.Problem() } -> std::convertible_to<std::string>;
};

// The factory for a plugin class P with `struct P::Params` and a constructor from it.
template <class P>
PluginType MakeType(std::string_view type, Kind kind, std::string_view text) {
  PluginType t;
  t.type = type;
  t.kind = kind;
  t.text = text;
  t.make = [](const wire::YamlNode& node, std::string_view path,
              config::Diagnostics* diagnostics) -> std::unique_ptr<Plugin> {
    typename P::Params params;
    if (!config::ParseInto(node, path, &params, diagnostics)) return nullptr;
    if constexpr (HasProblem<typename P::Params>) {
      const std::string problem = params.Problem();
      if (!problem.empty()) {
        diagnostics->errors.push_back(
            wire::At(diagnostics->file, node, std::string(path) + ": " + problem));
        return nullptr;
      }
    }
    return std::make_unique<P>(std::move(params));
  };
  t.parameters = [] { return config::Fields<typename P::Params>(); };
  return t;
}

class Registry {
 public:
  explicit Registry(std::vector<PluginType> types) : types_(std::move(types)) {}
  // By canonical name or alias; nullptr when unknown.
  const PluginType* Find(std::string_view type) const;
  // Canonical names and aliases, sorted, for "did you mean".
  std::vector<std::string_view> Names() const;
  const std::vector<PluginType>& types() const { return types_; }

 private:
  std::vector<PluginType> types_;
};

}  // namespace penstock::sched
