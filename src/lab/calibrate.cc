#include "lab/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "lab/least_squares.h"

namespace penstock::lab {
namespace {

using Row = std::vector<double>;

// The costs that meet `seconds` with the least squared relative error.
Result<Row> FitRelative(std::vector<Row> rows, std::span<const double> seconds) {
  for (size_t k = 0; k < rows.size(); ++k) {
    for (double& value : rows[k]) value /= seconds[k];
  }
  PositiveFit fit = FitPositive(rows, std::vector<double>(rows.size(), 1.0));
  if (fit.costs.empty()) return Fail(Code::kInvalidArgument, "the measurements are all alike");
  return std::move(fit.costs);
}

template <class Point>
double MedianError(std::span<const Point> points, const std::function<double(const Point&)>& fit) {
  std::vector<double> errors;
  for (const Point& point : points) errors.push_back(std::fabs(fit(point) / point.seconds - 1));
  const auto middle = errors.begin() + static_cast<ptrdiff_t>(errors.size() / 2);
  std::nth_element(errors.begin(), middle, errors.end());
  return *middle;
}

}  // namespace

Result<Calibration> FitStepCosts(std::span<const PrefillPoint> prefills,
                                 std::span<const DecodePoint> decodes, uint32_t knee_tokens) {
  std::set<uint32_t> sequences;
  for (const DecodePoint& point : decodes) {
    if (point.sequences == 0 || !(point.seconds > 0)) {
      return Fail(Code::kInvalidArgument, "a decode of no sequences or no time");
    }
    sequences.insert(point.sequences);
  }
  std::vector<PrefillPoint> beyond;
  const PrefillPoint* shortest = nullptr;
  for (const PrefillPoint& point : prefills) {
    if (point.prompt_tokens == 0 || !(point.seconds > 0)) {
      return Fail(Code::kInvalidArgument, "a prefill of no tokens or no time");
    }
    if (point.prompt_tokens >= knee_tokens) {
      beyond.push_back(point);
    } else if (shortest == nullptr || point.prompt_tokens < shortest->prompt_tokens) {
      shortest = &point;
    }
  }
  if (sequences.size() < 2 || beyond.size() < 3 || shortest == nullptr) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("decodes of two numbers of sequences are needed, a prefill below {0} "
                    "tokens and three from there on; there are {1}, {2} and {3}",
                    knee_tokens, sequences.size(), prefills.size() - beyond.size(), beyond.size()));
  }
  std::vector<Row> rows;
  std::vector<double> seconds;
  for (const DecodePoint& point : decodes) {
    rows.push_back(
        {1.0, static_cast<double>(point.sequences), point.sequences * point.context_tokens});
    seconds.push_back(point.seconds);
  }
  const auto decode = FitRelative(rows, seconds);
  if (!decode) return Fail(decode.error().code, "decodes: " + decode.error().message);

  Calibration result;
  engine::StepCosts& costs = result.costs;
  costs.floor_ms = (*decode)[0] * 1e3;
  costs.per_sequence_us = (*decode)[1] * 1e6;
  costs.decode_context_ns = (*decode)[2] * 1e9;
  engine::StepLoad alone;
  alone.Add(0, shortest->prompt_tokens);
  result.overhead_s = std::max(0.0, shortest->seconds - engine::StepSeconds(costs, alone));

  rows.clear();
  seconds.clear();
  for (const PrefillPoint& point : beyond) {
    const double n = point.prompt_tokens;
    rows.push_back({1.0, n, n * n / 2});
    seconds.push_back(
        std::max(1e-6, point.seconds - result.overhead_s - costs.per_sequence_us * 1e-6));
  }
  const auto prefill = FitRelative(rows, seconds);
  if (!prefill) return Fail(prefill.error().code, "prefills: " + prefill.error().message);
  costs.base_ms = (*prefill)[0] * 1e3;
  costs.per_token_us = (*prefill)[1] * 1e6;
  costs.prefill_attention_ns = (*prefill)[2] * 1e9;

  result.prefill_error = MedianError<PrefillPoint>(prefills, [&](const PrefillPoint& point) {
    engine::StepLoad load;
    load.Add(0, point.prompt_tokens);
    return engine::StepSeconds(costs, load) + result.overhead_s;
  });
  result.decode_error = MedianError<DecodePoint>(decodes, [&](const DecodePoint& point) {
    engine::StepLoad load;
    for (uint32_t i = 0; i < point.sequences; ++i) {
      load.Add(static_cast<uint64_t>(std::max(0.0, point.context_tokens - 1)), 1);
    }
    return engine::StepSeconds(costs, load);
  });
  return result;
}

std::string RenderProfile(const engine::Profile& profile) {
  const auto text = [](const std::string& value) {
    std::string out = "\"";
    for (const char c : value) {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
    return out + '"';
  };
  const engine::StepCosts& costs = profile.step_time;
  return fmt::format(
      "name: {}\ndescription: {}\nmodel: {}\ntensorParallel: {}\norigin: {}\nquality: {}\n"
      "scheduler:\n  maxNumSeqs: {}\n  maxNumBatchedTokens: {}\n  maxModelLen: {}\n"
      "kvCache:\n  blockSize: {}\n  blocks: {}\n"
      "stepTime:\n  floorMs: {:.4g}\n  baseMs: {:.4g}\n  perTokenUs: {:.4g}\n"
      "  decodeContextNs: {:.4g}\n  perSequenceUs: {:.4g}\n  prefillAttentionNs: {:.4g}\n",
      text(profile.name), text(profile.description), text(profile.model), profile.tensor_parallel,
      text(profile.origin), profile.quality, profile.scheduler.max_num_seqs,
      profile.scheduler.max_num_batched_tokens, profile.scheduler.max_model_len,
      profile.kv_cache.block_size, profile.kv_cache.blocks, costs.floor_ms, costs.base_ms,
      costs.per_token_us, costs.decode_context_ns, costs.per_sequence_us,
      costs.prefill_attention_ns);
}

}  // namespace penstock::lab
