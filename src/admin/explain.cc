#include "admin/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace penstock::admin {
namespace {

using director::Attempt;
using director::DecisionRecord;
using model::PoolSnapshot;

constexpr size_t kNamesInSentence = 4;
constexpr float kSameTotal = 1e-6F;

// 1234567 as "1,234,567".
std::string Grouped(uint64_t n) {
  std::string digits = std::to_string(n);
  for (size_t at = digits.size(); at > 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string Count(uint64_t n, std::string_view noun) {
  return fmt::format("{} {}{}", Grouped(n), noun, n == 1 ? "" : "s");
}

std::string Seconds(double s) {
  if (s < 0.001) return fmt::format("{:.2f} ms", s * 1000);
  return s < 1 ? fmt::format("{:.0f} ms", s * 1000) : fmt::format("{:.2f} s", s);
}

std::string Percent(double part, double whole) {
  return fmt::format("{:.0f} %", whole > 0 ? 100 * part / whole : 0);
}

// "a", "a and b", "a, b and c", "a, b, c, d and 3 more".
std::string Names(const PoolSnapshot& pool, const Mask& mask) {
  std::vector<std::string> names;
  mask.ForEach([&](size_t i) {
    if (names.size() < kNamesInSentence) names.push_back(pool.endpoints[i].spec.name);
  });
  const size_t left_out = mask.Count() - names.size();
  if (left_out > 0) names.push_back(std::to_string(left_out) + " more");
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 == names.size() ? " and " : ", ";
    text += names[i];
  }
  return text;
}

const sched::ProfileTrace* DecidingProfile(const Attempt& attempt, size_t picked) {
  for (const sched::ProfileTrace& profile : attempt.trace.profiles) {
    if (!profile.picks.empty() && profile.picks.front() == picked) return &profile;
  }
  return nullptr;
}

// Traces are written by the scheduler for the same pool; one of another size tells nothing.
bool Fits(const Mask& mask, const PoolSnapshot& pool) {
  return mask.size() == pool.endpoints.size();
}
bool Fits(const std::vector<float>& column, const PoolSnapshot& pool) {
  return column.size() == pool.endpoints.size();
}

void ExplainCandidates(const DecisionRecord& record, size_t i, const Mask& candidates,
                       std::vector<std::string>* out) {
  const PoolSnapshot& pool = *record.attempts[i].pool;
  std::string text = fmt::format("{} of {} could take it", candidates.Count(),
                                 Count(pool.endpoints.size(), "engine"));
  std::string why;
  size_t told = 0;
  for (size_t column = 0; column < pool.endpoints.size() && told < 3; ++column) {
    if (candidates.Test(column)) continue;
    why += (told++ == 0 ? "" : "; ") + pool.endpoints[column].spec.name + " " +
           WhyNotACandidate(record, i, column);
  }
  const size_t left_out = pool.endpoints.size() - candidates.Count() - told;
  if (left_out > 0) why += fmt::format("; and {} more not", left_out);
  out->push_back(text + (why.empty() ? "." : ": " + why + "."));
}

std::string FilterSentence(std::string_view plugin, const PoolSnapshot& pool, const Mask& before,
                           const Mask& after) {
  const size_t was = before.Count();
  const size_t left = after.Count();
  if (left == was) {
    return fmt::format("The filter {} let {} pass.", plugin,
                       was == 1 ? "the only one" : fmt::format("all {}", was));
  }
  return fmt::format("The filter {} kept {} of {}: {}.", plugin, left, was, Names(pool, after));
}

void ExplainPrefix(const Attempt& attempt, size_t picked, const Mask& candidates,
                   std::vector<std::string>* out) {
  const PoolSnapshot& pool = *attempt.pool;
  if (attempt.total_blocks == 0 || !Fits(attempt.matched_blocks, pool)) return;
  const float here = attempt.matched_blocks[picked];
  float best_other = 0;
  size_t best = pool.endpoints.size();
  candidates.ForEach([&](size_t i) {
    if (i == picked || attempt.matched_blocks[i] < best_other) return;
    best_other = attempt.matched_blocks[i];
    best = i;
  });
  std::string text =
      here > 0
          ? fmt::format("{} is believed to hold {:.0f} of the prompt's {} in its cache ({})",
                        pool.endpoints[picked].spec.name, here,
                        Count(attempt.total_blocks, "block"), Percent(here, attempt.total_blocks))
          : fmt::format("{} is not known to hold any of the prompt's {}",
                        pool.endpoints[picked].spec.name, Count(attempt.total_blocks, "block"));
  if (best < pool.endpoints.size()) {
    text += best_other > 0 ? fmt::format("; the best of the others, {}, {:.0f}",
                                         pool.endpoints[best].spec.name, best_other)
                           : "; the others none";
  }
  out->push_back(text + ".");
}

// "queue-scorer 0.80 x 2 + kv-cache-utilization-scorer 0.91 x 2"
std::string ScoreTerms(const sched::ProfileTrace& profile, size_t column) {
  std::string text;
  for (const auto& step : profile.scores) {
    if (column >= step.scores.size()) continue;
    text += fmt::format("{}{} {:.2f} × {}", text.empty() ? "" : " + ", step.plugin,
                        step.scores[column], step.weight);
  }
  return text;
}

// The scorer that put `winner` furthest ahead of `other`.
std::string Difference(const sched::ProfileTrace& profile, const PoolSnapshot& pool, size_t winner,
                       size_t other) {
  std::string_view plugin;
  float lead = 0;
  for (const auto& step : profile.scores) {
    if (!Fits(step.scores, pool)) continue;
    const float ahead = step.weight * (step.scores[winner] - step.scores[other]);
    if (ahead > lead) {
      lead = ahead;
      plugin = step.plugin;
    }
  }
  if (plugin.empty() || profile.scores.size() < 2) return "";
  return fmt::format(" What made the difference was {} (+{:.2f}).", plugin, lead);
}

std::string PickSentence(const sched::ProfileTrace& profile, const PoolSnapshot& pool,
                         const Mask& left, size_t picked) {
  const std::string& name = pool.endpoints[picked].spec.name;
  if (left.Count() == 1) return fmt::format("{} was the only one left, so it was picked.", name);
  if (profile.scores.empty() || !Fits(profile.totals, pool)) {
    return fmt::format("No scorer ranks engines here: the picker drew {} among {}.", name,
                       left.Count());
  }
  const float total = profile.totals[picked];
  size_t ties = 0;
  size_t best_other = pool.endpoints.size();
  left.ForEach([&](size_t i) {
    if (i == picked) return;
    if (std::fabs(profile.totals[i] - total) < kSameTotal) ++ties;
    if (best_other == pool.endpoints.size() || profile.totals[i] > profile.totals[best_other]) {
      best_other = i;
    }
  });
  const std::string& other = pool.endpoints[best_other].spec.name;
  if (profile.totals[best_other] > total + kSameTotal) {
    return fmt::format(
        "The picker drew {} with a total of {:.2f}, although {} had {:.2f}: it does "
        "not always take the highest.",
        name, total, other, profile.totals[best_other]);
  }
  const std::string terms = ScoreTerms(profile, picked);
  if (ties > 0) {
    return fmt::format(
        "{} and {} tied at the highest total, {:.2f} ({}); the tie was broken at "
        "random.",
        name, Count(ties, "other"), total, terms);
  }
  return fmt::format("{} had the highest total, {:.2f} ({}), before {} with {:.2f}.{}", name, total,
                     terms, other, profile.totals[best_other],
                     Difference(profile, pool, picked, best_other));
}

void ExplainPick(const Attempt& attempt, const Mask& candidates, std::vector<std::string>* out) {
  const PoolSnapshot& pool = *attempt.pool;
  const size_t picked = PickedColumn(attempt);
  if (picked == pool.endpoints.size()) return;
  ExplainPrefix(attempt, picked, candidates, out);
  const sched::ProfileTrace* profile = DecidingProfile(attempt, picked);
  if (profile == nullptr) {
    out->push_back("It was sent to " + attempt.endpoint + ".");
    return;
  }
  Mask left = candidates;
  for (const auto& step : profile->filters) {
    if (!Fits(step.after, pool)) continue;
    out->push_back(FilterSentence(step.plugin, pool, left, step.after));
    left = step.after;
  }
  out->push_back(PickSentence(*profile, pool, left, picked));
}

void ExplainEnd(const DecisionRecord& record, std::vector<std::string>* out) {
  using director::EndKind;
  const std::string reason = record.reason.empty() ? "" : " (" + record.reason + ")";
  const std::string first_byte =
      record.ttft_s >= 0 ? "The first byte came after " + Seconds(record.ttft_s) + ". " : "";
  const std::string took = record.e2e_s >= 0 ? " after " + Seconds(record.e2e_s) : "";
  switch (record.end) {
    case EndKind::kRunning:
      out->push_back(first_byte + "It is still running.");
      return;
    case EndKind::kComplete:
      out->push_back(fmt::format(
          "{}The answer (status {}) was complete{}{}.", first_byte, record.status, took,
          record.usage_known ? ", with " + Count(record.output_tokens, "output token") : ""));
      break;
    case EndKind::kClientGone:
      out->push_back(first_byte + "The client went away" + took +
                     ", and the engine's request was cancelled.");
      break;
    case EndKind::kEngineGone:
      out->push_back(first_byte + "The engine broke off" + took + reason + ".");
      break;
    case EndKind::kTimeout:
      out->push_back(first_byte + "The engine was too slow and was given up" + took + reason + ".");
      break;
    case EndKind::kRejected:
      out->push_back(fmt::format("The client got status {}: {}", record.status,
                                 record.reason.empty() ? "no try was left." : record.reason));
      break;
  }
  if (record.cached_known && record.reported_input_tokens > 0) {
    out->push_back(fmt::format("The engine found {} of {} in its cache ({}).",
                               Grouped(record.cached_tokens),
                               Count(record.reported_input_tokens, "input token"),
                               Percent(static_cast<double>(record.cached_tokens),
                                       static_cast<double>(record.reported_input_tokens))));
  }
}

}  // namespace

Mask CandidatesOf(const DecisionRecord& record, size_t i) {
  const PoolSnapshot& pool = *record.attempts[i].pool;
  const Mask* serving = record.model.empty() ? &pool.healthy : pool.Serving(record.model);
  Mask candidates = serving != nullptr ? *serving : pool.models_unknown;
  candidates.Keep([&](size_t column) {
    return std::none_of(record.attempts.begin(),
                        record.attempts.begin() + static_cast<std::ptrdiff_t>(i),
                        [&](const Attempt& a) { return a.slot == pool.endpoints[column].slot; });
  });
  return candidates;
}

std::string WhyNotACandidate(const DecisionRecord& record, size_t i, size_t column) {
  const PoolSnapshot& pool = *record.attempts[i].pool;
  const model::EndpointInfo& endpoint = pool.endpoints[column];
  for (size_t before = 0; before < i; ++before) {
    if (record.attempts[before].slot == endpoint.slot) return "had been tried";
  }
  if (endpoint.health != model::Health::kHealthy) {
    return "is not healthy (" + endpoint.health_reason + ")";
  }
  return "does not serve the model";
}

size_t PickedColumn(const Attempt& attempt) {
  const std::vector<model::EndpointInfo>& endpoints = attempt.pool->endpoints;
  const auto it = std::find_if(endpoints.begin(), endpoints.end(),
                               [&](const auto& e) { return e.slot == attempt.slot; });
  return static_cast<size_t>(it - endpoints.begin());
}

std::string ExplainBriefly(const DecisionRecord& record) {
  if (record.attempts.empty()) return record.reason;
  const Attempt& attempt = record.attempts.back();
  if (attempt.pool == nullptr) return "";
  const size_t picked = PickedColumn(attempt);
  const PoolSnapshot& pool = *attempt.pool;
  if (picked == pool.endpoints.size()) return "";
  const sched::ProfileTrace* profile = DecidingProfile(attempt, picked);
  if (profile == nullptr) return "";
  Mask left = CandidatesOf(record, record.attempts.size() - 1);
  std::string by;
  for (const auto& step : profile->filters) {
    if (!Fits(step.after, pool)) continue;
    if (step.after.Count() < left.Count()) {
      by += fmt::format("{}{} kept {} of {}", by.empty() ? "" : "; ", step.plugin,
                        step.after.Count(), left.Count());
    }
    left = step.after;
  }
  if (left.Count() <= 1) return by.empty() ? "only candidate" : by;
  if (profile->scores.empty() || !Fits(profile->totals, pool)) {
    return by + (by.empty() ? "" : "; ") + fmt::format("drawn among {}", left.Count());
  }
  return by + (by.empty() ? "" : "; ") +
         fmt::format("total {:.2f} among {}", profile->totals[picked], left.Count());
}

std::vector<std::string> Explain(const DecisionRecord& record) {
  std::vector<std::string> out;
  const std::string about =
      record.input_tokens > 0
          ? fmt::format(" with about {}", Count(record.input_tokens, "input token"))
          : "";
  out.push_back(record.model.empty()
                    ? fmt::format("The request names no model{}.", about)
                    : fmt::format("The request asks for {}{}.", record.model, about));
  for (size_t i = 0; i < record.attempts.size(); ++i) {
    const Attempt& attempt = record.attempts[i];
    if (attempt.pool != nullptr) {
      const Mask candidates = CandidatesOf(record, i);
      ExplainCandidates(record, i, candidates, &out);
      ExplainPick(attempt, candidates, &out);
    }
    if (attempt.failure.empty()) continue;
    const bool is_last = i + 1 == record.attempts.size();
    out.push_back(fmt::format("{} did not answer ({}){}", attempt.endpoint, attempt.failure,
                              is_last ? "." : ", so the request was tried elsewhere."));
  }
  ExplainEnd(record, &out);
  return out;
}

}  // namespace penstock::admin
