#include "admin/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>

namespace penstock::admin {
namespace {

using director::Attempt;
using director::DecisionRecord;
using model::PoolSnapshot;

constexpr size_t kNamesInSentence = 4;

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
std::string Names(const PoolSnapshot& pool, MaskView mask) {
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
bool Fits(MaskView mask, const PoolSnapshot& pool) { return mask.size() == pool.endpoints.size(); }
bool Fits(std::span<const float> column, const PoolSnapshot& pool) {
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

std::string FilterSentence(const sched::ProfileTrace::FilterStep& step, const PoolSnapshot& pool,
                           const Mask& before) {
  const size_t was = before.Count();
  const size_t left = step.after.Count();
  if (left == was) {
    return fmt::format("The filter {} let {} pass{}{}.", step.plugin,
                       was == 1 ? "the only one" : fmt::format("all {}", was),
                       step.why_all_pass.empty() ? "" : ": ", step.why_all_pass);
  }
  return fmt::format("The filter {} kept {} of {}: {}.", step.plugin, left, was,
                     Names(pool, step.after));
}

// Whether the endpoint's engine itself told what it holds.
bool IsTold(const Attempt& attempt, size_t column) {
  return column < attempt.match_sources.size() && column < attempt.told_blocks.size() &&
         attempt.match_sources[column] != model::MatchSource::kApproximate;
}

// ", 8 with requests on their way"; ", counted as 4" where they lie in a slower tier, are doubtful,
// or will be pushed out by a queue; or "".
std::string Counted(const Attempt& attempt, size_t column) {
  if (!IsTold(attempt, column)) return "";
  const float all = attempt.matched_blocks[column];
  if (all < attempt.told_blocks[column] - 0.5F) return fmt::format(", counted as {:.0f}", all);
  if (all <= attempt.told_blocks[column]) return "";
  return fmt::format(", {:.0f} with requests on their way", all);
}

// "e0 is believed to hold 80 of the prompt's 85 blocks in its cache (94 %)"
std::string HoldsHere(const Attempt& attempt, size_t picked) {
  const std::string& name = attempt.pool->endpoints[picked].spec.name;
  const std::string blocks = Count(attempt.total_blocks, "block");
  if (!IsTold(attempt, picked)) {
    const float here = attempt.matched_blocks[picked];
    if (here <= 0)
      return fmt::format("{} is not known to hold any of the prompt's {}", name, blocks);
    return fmt::format("{} is believed to hold {:.0f} of the prompt's {} in its cache ({})", name,
                       here, blocks, Percent(here, attempt.total_blocks));
  }
  const float here = attempt.told_blocks[picked];
  return fmt::format("{} holds {:.0f} of the prompt's {} in its cache ({}){}, as its engine told{}",
                     name, here, blocks, Percent(here, attempt.total_blocks),
                     Counted(attempt, picked),
                     attempt.match_sources[picked] == model::MatchSource::kExact
                         ? ""
                         : ", though something was missed");
}

void ExplainPrefix(const Attempt& attempt, size_t picked, const Mask& candidates,
                   std::vector<std::string>* out) {
  const PoolSnapshot& pool = *attempt.pool;
  if (attempt.total_blocks == 0 || !Fits(attempt.matched_blocks, pool)) return;
  float best_other = 0;
  size_t best = pool.endpoints.size();
  candidates.ForEach([&](size_t i) {
    if (i == picked || attempt.matched_blocks[i] < best_other) return;
    best_other = attempt.matched_blocks[i];
    best = i;
  });
  std::string text = HoldsHere(attempt, picked);
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

// "holds 31 of 32 prompt blocks", "exact: holds 31 of 32 prompt blocks", or "" when nothing is
// known.
std::string Holding(const Attempt& attempt, size_t column) {
  if (attempt.total_blocks == 0 || !Fits(attempt.matched_blocks, *attempt.pool)) return "";
  const bool is_told = IsTold(attempt, column);
  const std::string how =
      attempt.match_sources.empty()
          ? ""
          : fmt::format("{}: ", director::MatchSourceName(attempt.match_sources[column]));
  return fmt::format("{}holds {:.0f} of {}{}", how,
                     is_told ? attempt.told_blocks[column] : attempt.matched_blocks[column],
                     Count(attempt.total_blocks, "prompt block"), Counted(attempt, column));
}

// What a type of scorer prefers, and the column that it reads.
struct Preference {
  std::string_view type;
  std::string_view what;
  std::span<const float> Attempt::*column;
};
constexpr Preference kPreferences[] = {
    {"token-load-scorer", "fewest uncached tokens in flight", &Attempt::in_flight_tokens},
    {"active-request-scorer", "fewest requests in flight", &Attempt::in_flight_requests},
    {"queue-scorer", "shortest queue", &Attempt::waiting},
    {"load-aware-scorer", "shortest queue", &Attempt::waiting},
    {"running-requests-size-scorer", "fewest running requests", &Attempt::running},
    {"kv-cache-utilization-scorer", "most free KV cache", &Attempt::kv_usage},
    {"least-cost-scorer", "least time, its own and the others'", nullptr},
    {"no-hit-lru-scorer", "a cold prompt went there longest ago", nullptr},
    {"lora-affinity-scorer", "best fit for the LoRA adapter", nullptr},
    {"session-affinity-scorer", "the session is bound to it", nullptr},
};

const Preference* PreferenceOf(std::string_view type) {
  const auto* it = std::find_if(std::begin(kPreferences), std::end(kPreferences),
                                [&](const Preference& p) { return p.type == type; });
  return it == std::end(kPreferences) ? nullptr : it;
}

// What a request's time at an endpoint depends on: "holds 31 of 32 prompt blocks, 5 requests in
// flight", as far as it is on record.
std::string WhatCosts(const Attempt& attempt, size_t i) {
  std::string text = Holding(attempt, i);
  const auto add = [&](std::span<const float> column, std::string_view unit) {
    if (!Fits(column, *attempt.pool) || column[i] < 1) return;
    text +=
        (text.empty() ? "" : ", ") + Count(static_cast<uint64_t>(column[i]), unit) + " in flight";
  };
  add(attempt.in_flight_requests, "request");
  add(attempt.in_flight_tokens, "uncached token");
  return text;
}

// What the preferred column says of an endpoint, as people count it; "" when it is not on record.
std::string Amount(const Preference& preference, const Attempt& attempt, size_t i) {
  if (preference.type == "least-cost-scorer") return WhatCosts(attempt, i);
  if (preference.column == nullptr || !Fits(attempt.*preference.column, *attempt.pool)) return "";
  double value = static_cast<double>((attempt.*preference.column)[i]);
  if (preference.column == &Attempt::kv_usage) return fmt::format("{:.0f} %", 100 * (1 - value));
  if (preference.column == &Attempt::in_flight_tokens &&
      Fits(attempt.uncached_tokens, *attempt.pool)) {
    value += static_cast<double>(attempt.uncached_tokens[i]);  // this request's own count too
  }
  return Grouped(static_cast<uint64_t>(std::max(0.0, value)));
}

// Why a scorer of this type liked the endpoint: "shortest queue (2)".
std::string Liked(const sched::ProfileTrace::ScoreStep& step, const Attempt& attempt, size_t i) {
  if (step.type == "prefix-cache-scorer" || step.type == "precise-prefix-cache-scorer") {
    const std::string holding = Holding(attempt, i);
    if (!holding.empty()) return holding;
  }
  const Preference* preference = PreferenceOf(step.type);
  if (preference == nullptr) return fmt::format("best score of {}", step.plugin);
  const std::string amount = Amount(*preference, attempt, i);
  return amount.empty() ? std::string(preference->what)
                        : fmt::format("{} ({})", preference->what, amount);
}

// How the picker came to its pick among those that the filters left.
struct Ranking {
  enum class Kind { kOnlyOne, kTurn, kDrawn, kDrawnByScore, kNotTheBest, kTie, kBest };
  Kind kind = Kind::kOnlyOne;
  size_t among = 0;
  size_t tied = 0;   // kTie: with how many others
  size_t other = 0;  // the best of the others
  // kBest: the scorer that put the pick furthest ahead of the best of the others.
  const sched::ProfileTrace::ScoreStep* decider = nullptr;
  float lead = 0;
};

Ranking Rank(const sched::ProfileTrace& profile, const PoolSnapshot& pool, const Mask& left,
             size_t picked) {
  using Kind = Ranking::Kind;
  Ranking ranking;
  ranking.among = left.Count();
  if (ranking.among <= 1) return ranking;
  if (profile.picker_type == "round-robin-picker") {
    ranking.kind = Kind::kTurn;
    return ranking;
  }
  ranking.kind = Kind::kDrawn;
  const bool is_ranked = !profile.scores.empty() && Fits(profile.totals, pool);
  if (!is_ranked || profile.picker_type == "random-picker") return ranking;
  const std::span<const float> totals = profile.totals;
  ranking.other = pool.endpoints.size();
  left.ForEach([&](size_t i) {
    if (i == picked) return;
    // Equal as the picker compares them.
    if (totals[i] == totals[picked]) ++ranking.tied;
    if (ranking.other == pool.endpoints.size() || totals[i] > totals[ranking.other]) {
      ranking.other = i;
    }
  });
  if (profile.picker_type == "weighted-random-picker" ||
      profile.picker_type == "power-of-two-picker") {
    ranking.kind = Kind::kDrawnByScore;
  } else if (totals[ranking.other] > totals[picked]) {
    ranking.kind = Kind::kNotTheBest;
  } else if (ranking.tied > 0) {
    ranking.kind = Kind::kTie;
  } else {
    ranking.kind = Kind::kBest;
    for (const auto& step : profile.scores) {
      if (!Fits(step.scores, pool)) continue;
      const float ahead = step.weight * (step.scores[picked] - step.scores[ranking.other]);
      if (ranking.decider != nullptr && ahead <= ranking.lead) continue;
      ranking.decider = &step;
      ranking.lead = ahead;
    }
  }
  return ranking;
}

// Two totals with as many digits as it takes to tell them apart.
std::pair<std::string, std::string> Totals(float a, float b) {
  const int digits = std::fabs(a - b) < 0.01F && a != b ? 6 : 2;
  return {fmt::format("{:.{}f}", a, digits), fmt::format("{:.{}f}", b, digits)};
}

std::string PickSentence(const sched::ProfileTrace& profile, const Attempt& attempt,
                         const Mask& left, size_t picked) {
  using Kind = Ranking::Kind;
  const PoolSnapshot& pool = *attempt.pool;
  const std::string& name = pool.endpoints[picked].spec.name;
  const Ranking ranking = Rank(profile, pool, left, picked);
  if (ranking.kind == Kind::kOnlyOne) {
    return fmt::format("{} was the only one left, so it was picked.", name);
  }
  if (ranking.kind == Kind::kTurn) {
    return fmt::format("It was {}'s turn among {}.", name, ranking.among);
  }
  if (ranking.kind == Kind::kDrawn) {
    return fmt::format("The picker drew {} among {}, whatever their scores.", name, ranking.among);
  }
  const std::string& other = pool.endpoints[ranking.other].spec.name;
  const auto [total, others] = Totals(profile.totals[picked], profile.totals[ranking.other]);
  const std::string terms = ScoreTerms(profile, picked);
  switch (ranking.kind) {
    case Kind::kDrawnByScore:
      return fmt::format(
          "The picker drew {} among {}, the likelier the higher the total: {} ({}), the best of "
          "the others, {}, {}.",
          name, ranking.among, total, terms, other, others);
    case Kind::kNotTheBest:
      return fmt::format("The picker drew {} with a total of {}, although {} had {}.", name, total,
                         other, others);
    case Kind::kTie:
      return fmt::format(
          "{} and {} tied at the highest total, {} ({}); the tie was broken at "
          "random.",
          name, Count(ranking.tied, "other"), total, terms);
    default:
      break;
  }
  std::string text = fmt::format("{} had the highest total, {} ({}), before {} with {}.", name,
                                 total, terms, other, others);
  if (ranking.decider == nullptr) return text;
  text += fmt::format(" What made the difference: {}", Liked(*ranking.decider, attempt, picked));
  const Preference* preference = PreferenceOf(ranking.decider->type);
  if (preference != nullptr) {
    const std::string amount = Amount(*preference, attempt, ranking.other);
    if (!amount.empty()) text += fmt::format("; {} {}", other, amount);
  }
  return text + ".";
}

// What a filter did, for a table's cell, or "" when it does not matter.
std::string FilterBriefly(const sched::ProfileTrace::FilterStep& step, const Attempt& attempt,
                          const Mask& before, size_t picked) {
  const size_t was = before.Count();
  const size_t left = step.after.Count();
  if (left == was) return std::string(step.why_all_pass);
  if (step.type == "prefix-cache-affinity-filter") {
    const std::string holding = Holding(attempt, picked);
    return holding.empty() ? "sticky" : holding + "; sticky";
  }
  if (step.type == "session-affinity-filter") return "the session is bound to it";
  return fmt::format("{} kept {} of {}", step.plugin, left, was);
}

std::string PickBriefly(const sched::ProfileTrace& profile, const Attempt& attempt,
                        const Mask& left, size_t picked) {
  using Kind = Ranking::Kind;
  const Ranking ranking = Rank(profile, *attempt.pool, left, picked);
  switch (ranking.kind) {
    case Kind::kOnlyOne:
      return "";
    case Kind::kTurn:
      return fmt::format("its turn among {}", ranking.among);
    case Kind::kDrawn:
      return fmt::format("drawn at random among {}", ranking.among);
    case Kind::kDrawnByScore:
      return fmt::format("drawn by score among {}", ranking.among);
    case Kind::kNotTheBest:
      return fmt::format("drawn among {}, not the best score", ranking.among);
    case Kind::kTie:
      return fmt::format("tie of {}, drawn at random", ranking.tied + 1);
    case Kind::kBest:
      return ranking.decider == nullptr ? "" : Liked(*ranking.decider, attempt, picked);
  }
  return "";
}

void ExplainPick(const Attempt& attempt, const Mask& candidates, std::vector<std::string>* out) {
  const PoolSnapshot& pool = *attempt.pool;
  const size_t picked = PickedColumn(attempt);
  if (picked == pool.endpoints.size()) return;
  ExplainPrefix(attempt, picked, candidates, out);
  const sched::ProfileTrace* profile = DecidingProfile(attempt, picked);
  if (profile == nullptr) {
    out->push_back(fmt::format("It was sent to {}.", attempt.endpoint));
    return;
  }
  Mask left = candidates;
  for (const auto& step : profile->filters) {
    if (!Fits(step.after, pool)) continue;
    out->push_back(FilterSentence(step, pool, left));
    left = step.after;
  }
  out->push_back(PickSentence(*profile, attempt, left, picked));
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
    return model::IsAllowed(record.subset, pool.endpoints[column].spec.host) &&
           std::none_of(record.attempts.begin(),
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
  if (!model::IsAllowed(record.subset, endpoint.spec.host)) return "is none that the proxy allows";
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
  std::string text;
  const auto add = [&](std::string_view part) {
    if (part.empty()) return;
    if (!text.empty()) text += "; ";
    text += part;
  };
  for (const Attempt& tried : record.attempts) {
    if (&tried != &attempt) add(fmt::format("{} failed ({})", tried.endpoint, tried.failure));
  }
  Mask left = CandidatesOf(record, record.attempts.size() - 1);
  if (left.Count() == 1) {
    add("the only candidate");
    return text;
  }
  for (const auto& step : profile->filters) {
    if (!Fits(step.after, pool)) continue;
    add(FilterBriefly(step, attempt, left, picked));
    left = step.after;
  }
  add(PickBriefly(*profile, attempt, left, picked));
  return text;
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
