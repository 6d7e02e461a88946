#include "workload/distribution.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>

#include "core/exact_math.h"
#include "workload/seeds.h"

namespace penstock::workload {
namespace {

using Kind = Distribution::Kind;

// The map form, before it is checked as a whole.
struct Fields {
  std::string type = "normal";
  std::optional<double> mean;
  std::optional<double> std_dev;
  std::optional<double> std;
  double min = 0;
  double max = Distribution::kMost;
  wire::YamlNode total_count;

  template <class V>
  void Describe(V& v) {
    const config::FieldDoc number{.text = "A number.", .min = 0, .max = Distribution::kMost};
    v.Field("type", type,
            {.text = "Its family.",
             .one_of = {"fixed", "uniform", "normal", "lognormal", "exponential"}});
    v.Field("mean", mean, number);
    v.Field("stdDev", std_dev, number);
    v.Field("std", std, number);
    v.Field("min", min, number);
    v.Field("max", max, number);
    v.Field("totalCount", total_count, {.text = "Of inference-perf; has no meaning here."});
  }
};

Kind KindOf(std::string_view type) {
  if (type == "fixed") return Kind::kFixed;
  if (type == "uniform") return Kind::kUniform;
  if (type == "lognormal") return Kind::kLogNormal;
  if (type == "exponential") return Kind::kExponential;
  return Kind::kNormal;
}

}  // namespace

Distribution Distribution::Fixed(double value) { return Of(Kind::kFixed, value, 0, value, value); }

Distribution Distribution::Of(Kind kind, double mean, double std_dev, double min, double max) {
  Distribution out;
  out.kind_ = kind;
  out.min_ = min;
  out.max_ = max;
  out.center_ = mean;
  out.spread_ = std_dev;
  if (kind == Kind::kLogNormal) {
    const double share = std_dev / mean;
    const double variance = ExactLog(1 + share * share);
    out.center_ = ExactLog(mean) - variance / 2;
    out.spread_ = std::sqrt(variance);
  }
  return out;
}

double Distribution::Draw(Random& random) const {
  const double uniform = OpenUniform(random);
  double value = center_;
  switch (kind_) {
    case Kind::kFixed:
      break;
    case Kind::kUniform:
      value = min_ + (max_ - min_) * uniform;
      break;
    case Kind::kNormal:
      value = center_ + spread_ * ExactNormalQuantile(uniform);
      break;
    case Kind::kLogNormal:
      value = ExactExp(center_ + spread_ * ExactNormalQuantile(uniform));
      break;
    case Kind::kExponential:
      value = -center_ * ExactLog(uniform);
      break;
  }
  return std::clamp(value, min_, max_);
}

uint32_t Distribution::DrawCount(Random& random, uint32_t least) const {
  return std::max(static_cast<uint32_t>(Draw(random) + 0.5), least);
}

bool ReadInto(const config::ReadContext& context, const wire::YamlNode& node, Distribution* out) {
  if (node.kind == wire::YamlNode::Kind::kScalar) {
    double value = 0;
    const config::FieldDoc doc{.text = "A number.", .min = 0, .max = Distribution::kMost};
    const config::ReadContext number{context.path, doc, context.diagnostics};
    if (!config::ReadInto(number, node, &value)) return false;
    *out = Distribution::Fixed(value);
    return true;
  }
  Fields fields;
  config::StructReader reader(node, context.path, context.diagnostics);
  fields.Describe(reader);
  if (!reader.Finish()) return false;
  const Kind kind = KindOf(fields.type);
  if (fields.min > fields.max) return context.Fail(node, "min is above max");
  if (fields.std_dev && fields.std) return context.Fail(node, "stdDev and std say the same");
  const bool has_ends = node.Find("min") != nullptr && node.Find("max") != nullptr;
  if (kind == Kind::kUniform && !has_ends) return context.Fail(node, "uniform needs min and max");
  if (kind != Kind::kUniform && !fields.mean) {
    return context.Fail(node, fields.type + " needs a mean");
  }
  const double mean = fields.mean.value_or(0);
  if (mean <= 0 && (kind == Kind::kLogNormal || kind == Kind::kExponential)) {
    return context.Fail(node, "the mean of " + fields.type + " must be above 0");
  }
  if (kind == Kind::kFixed) {
    *out = Distribution::Fixed(mean);
    return true;
  }
  const double std_dev = fields.std_dev ? *fields.std_dev : fields.std.value_or(0);
  *out = Distribution::Of(kind, mean, std_dev, fields.min, fields.max);
  return true;
}

}  // namespace penstock::workload
