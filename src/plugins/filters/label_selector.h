// A Kubernetes label selector over endpoint labels.
//
// SOURCE: Kubernetes LabelSelector (apimachinery meta/v1): all conditions must hold; NotIn and
// DoesNotExist hold for an absent label; an empty selector matches everything.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/describe.h"
#include "core/result.h"
#include "model/endpoint.h"

namespace penstock::plugins {

struct LabelRequirement {
  std::string key;
  std::string op;
  std::vector<std::string> values;
  template <class V>
  void Describe(V& v) {
    v.Field("key", key, {.text = "Name of the label.", .required = true});
    v.Field("operator", op,
            {.text = "What must hold of its value.",
             .required = true,
             .one_of = {"In", "NotIn", "Exists", "DoesNotExist"}});
    v.Field("values", values, {.text = "Values, for In and NotIn."});
  }
};

struct LabelSelector {
  std::map<std::string, std::string> match_labels;
  std::vector<LabelRequirement> match_expressions;
  template <class V>
  void Describe(V& v) {
    v.Field("matchLabels", match_labels, {.text = "Labels that must have exactly these values."});
    v.Field("matchExpressions", match_expressions, {.text = "Conditions that must all hold."});
  }
  // What is wrong, or "".
  std::string Problem() const;
  bool Matches(const model::Labels& labels) const;
};

// As kubectl takes it: "a=b, c!=d, e in (f,g), h notin (i), j, !k". An empty text matches
// everything.
Result<LabelSelector> ParseLabelSelector(std::string_view text);

}  // namespace penstock::plugins
