#include "lab/log_fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <span>
#include <utility>

#include "core/exact_math.h"
#include "lab/least_squares.h"

namespace penstock::lab {
namespace {

constexpr size_t kFewest = 20;          // requests
constexpr uint32_t kFewestTokens = 8;   // of an answer whose time per token says something
constexpr uint32_t kLongPrompt = 4096;  // where attention among a prompt's tokens shows
constexpr double kAsWell = 0.005;       // errors that differ by less
constexpr double kMostOff = 2.3;        // a request counts as off by a factor of ten at most
constexpr int kDescents = 3;
constexpr int kReplays = 150;  // of each descent

double TpotOf(const RunRequest& request, const RunTimes& times) {
  return ToSeconds(times.last_token - times.first_token) / (request.output_tokens - 1.0);
}
double TtftOf(const RunTimes& times) { return ToSeconds(times.first_token - times.sent); }

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// What went on while a request got its tokens, as the log tells it: mean number of sequences and of
// their context, and tokens of prompts that were read, for each of its steps.
struct Company {
  double sequences = 0, context = 0, prefill = 0;
};

// The integral over time of a quantity that is linear between its changes.
class Integral {
 public:
  void Add(double at, double jump, double slope) { changes_.push_back({at, jump, slope}); }
  void Prepare() {
    if (changes_.empty()) return;
    std::sort(changes_.begin(), changes_.end(),
              [](const Change& a, const Change& b) { return a.at < b.at; });
    double value = 0, slope = 0, sum = 0, at = changes_.front().at;
    for (const Change& change : changes_) {
      const double passed = change.at - at;
      sum += value * passed + slope * passed * passed / 2;
      value += slope * passed + change.jump;
      slope += change.slope;
      at = change.at;
      points_.push_back({at, value, slope, sum});
    }
  }
  double To(double at) const {
    const auto after = std::upper_bound(points_.begin(), points_.end(), at,
                                        [](double t, const Point& point) { return t < point.at; });
    if (after == points_.begin()) return 0;
    const Point& point = *std::prev(after);
    const double passed = at - point.at;
    return point.sum + point.value * passed + point.slope * passed * passed / 2;
  }

 private:
  struct Change {
    double at, jump, slope;
  };
  struct Point {
    double at, value, slope, sum;
  };
  std::vector<Change> changes_;
  std::vector<Point> points_;
};

// A sum over what happened up to a time.
class Sum {
 public:
  void Add(double at, double value) { points_.emplace_back(at, value); }
  void Prepare() {
    std::sort(points_.begin(), points_.end());
    for (size_t i = 1; i < points_.size(); ++i) points_[i].second += points_[i - 1].second;
  }
  double To(double at) const {
    const auto after = std::upper_bound(points_.begin(), points_.end(), std::pair(at, HUGE_VAL));
    return after == points_.begin() ? 0 : std::prev(after)->second;
  }

 private:
  std::vector<std::pair<double, double>> points_;
};

std::vector<Company> CompanyOf(std::span<const RunRequest> requests,
                               std::span<const RunTimes> times) {
  Integral sequences, context;
  Sum prefill;
  for (size_t i = 0; i < requests.size(); ++i) {
    const double from = ToSeconds(std::max(times[i].first_token, times[i].sent));
    const double to = ToSeconds(times[i].last_token);
    const double prompt = requests[i].prompt_tokens, output = requests[i].output_tokens;
    prefill.Add(from, prompt - requests[i].cached_tokens);
    if (to <= from) continue;
    const double slope = output / (to - from);
    sequences.Add(from, 1, 0);
    sequences.Add(to, -1, 0);
    context.Add(from, prompt, slope);
    context.Add(to, -prompt - output, -slope);
  }
  sequences.Prepare();
  context.Prepare();
  prefill.Prepare();
  std::vector<Company> all(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    const double from = ToSeconds(times[i].first_token), to = ToSeconds(times[i].last_token);
    if (to <= from || requests[i].output_tokens < 2) continue;
    const auto mean = [&](const auto& sum, double by) { return (sum.To(to) - sum.To(from)) / by; };
    const double steps = requests[i].output_tokens - 1.0;
    all[i] = {mean(sequences, to - from), mean(context, to - from), mean(prefill, steps)};
  }
  return all;
}

uint32_t MostAtOnce(std::span<const RunTimes> times) {
  std::vector<std::pair<Duration, int>> changes;
  for (const RunTimes& t : times) {
    changes.emplace_back(t.sent, 1);
    changes.emplace_back(t.last_token, -1);
  }
  std::sort(changes.begin(), changes.end());
  int now = 0, most = 0;
  for (const auto& [at, change] : changes) most = std::max(most, now += change);
  return static_cast<uint32_t>(most);
}

// A cost that is searched for, by the logarithm of its value.
struct Unknown {
  double engine::StepCosts::*cost;  // null: the overhead, in seconds
  std::string_view name;
};

struct Guess {
  engine::StepCosts costs;
  double overhead_s = 0;
  double& At(const Unknown& unknown) {
    return unknown.cost != nullptr ? costs.*unknown.cost : overhead_s;
  }
};

class LogFitter {
 public:
  // The first `count` requests of the log. What ended after that is only company: in the log it had
  // some that the replay has not.
  LogFitter(const RequestLog& log, size_t count, const engine::EngineOptions& options)
      : requests_(std::span(log.requests).first(count)), times_(std::span(log.times).first(count)) {
    const bool is_whole = count == log.requests.size();
    for (size_t i = 0, used = 0; i < count; ++i) {
      if (times_[i].first_token < Duration(0)) {
        ++in_one_piece_;
        continue;
      }
      if (!is_whole && times_[i].last_token > log.requests[count].arrival) continue;
      (used++ % 2 == 0 ? fitted_ : held_out_).push_back(i);
    }
    options_.engine = options;
    options_.engine.kernel_times = nullptr;
    options_.engine.max_waiting = static_cast<uint32_t>(count);
    options_.sample_every = seconds(1'000'000);
  }
  Result<LogFit> Fit();

 private:
  // The linear part.
  Result<Guess> FirstGuess() const;
  // Says which costs the log hardly depends on.
  void AddNotes(std::span<const Unknown> unknowns, const Guess& best, LogFit* fit);
  // Over the fitted requests: mean |log(simulated / measured)| of TTFT, if that counts, and root of
  // the mean square of that of TPOT.
  enum class Of : uint8_t { kBoth, kTpot };
  double Off(const Guess& guess, Of what = Of::kBoth);
  std::vector<RunTimes> Simulate(const Guess& guess);
  void Descend(std::span<const Unknown> unknowns, Of what, int replays, Guess* best);
  LogError ErrorOf(std::span<const RunTimes> simulated, std::span<const size_t> requests) const;

  std::span<const RunRequest> requests_;
  std::span<const RunTimes> times_;
  std::vector<size_t> fitted_, held_out_;
  size_t in_one_piece_ = 0;
  RunOptions options_;
};

std::vector<RunTimes> LogFitter::Simulate(const Guess& guess) {
  options_.engine.costs = guess.costs;
  auto run = RunEngine(requests_, options_);
  if (!run) return {};
  const Duration overhead = FromSeconds(guess.overhead_s);
  for (RunTimes& times : run->requests) {
    times.first_token += overhead;
    times.last_token += overhead;
  }
  return std::move(run->requests);
}

double LogFitter::Off(const Guess& guess, Of what) {
  const std::vector<RunTimes> simulated = Simulate(guess);
  if (simulated.empty()) return INFINITY;
  double ttft = 0, tpot = 0;
  size_t ttfts = 0, tpots = 0;
  const auto off = [](double a, double b) {
    return std::min(kMostOff, std::fabs(ExactLog(std::max(a, 1e-6) / std::max(b, 1e-6))));
  };
  for (const size_t i : fitted_) {
    ttft += off(TtftOf(simulated[i]), TtftOf(times_[i]));
    ++ttfts;
    if (requests_[i].output_tokens < kFewestTokens) continue;
    const double tpot_off =
        off(TpotOf(requests_[i], simulated[i]), TpotOf(requests_[i], times_[i]));
    tpot += tpot_off * tpot_off;
    ++tpots;
  }
  return (what == Of::kBoth ? ttft / static_cast<double>(ttfts) : 0) +
         std::sqrt(tpot / static_cast<double>(tpots));
}

LogError LogFitter::ErrorOf(std::span<const RunTimes> simulated,
                            std::span<const size_t> requests) const {
  LogError error;
  std::vector<double> ttfts, tpots;
  double ttft = 0, real_ttft = 0, tpot = 0, real_tpot = 0;
  for (const size_t i : requests) {
    ++error.requests;
    ttft += TtftOf(simulated[i]);
    real_ttft += TtftOf(times_[i]);
    ttfts.push_back(std::fabs(TtftOf(simulated[i]) / std::max(TtftOf(times_[i]), 1e-6) - 1));
    if (requests_[i].output_tokens < kFewestTokens) continue;
    const double simulated_tpot = TpotOf(requests_[i], simulated[i]);
    const double measured = std::max(TpotOf(requests_[i], times_[i]), 1e-6);
    tpot += simulated_tpot;
    real_tpot += measured;
    tpots.push_back(std::fabs(simulated_tpot / measured - 1));
  }
  error.ttft = Median(std::move(ttfts));
  error.tpot = Median(std::move(tpots));
  error.mean_ttft = real_ttft > 0 ? ttft / real_ttft - 1 : 0;
  error.mean_tpot = real_tpot > 0 ? tpot / real_tpot - 1 : 0;
  return error;
}

Result<Guess> LogFitter::FirstGuess() const {
  const std::vector<Company> company = CompanyOf(requests_, times_);
  std::vector<std::vector<double>> rows;
  std::vector<double> tpots, ttfts;
  double context = 0;
  for (const size_t i : fitted_) {
    ttfts.push_back(TtftOf(times_[i]) / requests_[i].prompt_tokens);
    context += requests_[i].prompt_tokens + requests_[i].output_tokens / 2.0;
    if (requests_[i].output_tokens < kFewestTokens) continue;
    const double tpot = TpotOf(requests_[i], times_[i]);
    if (!(tpot > 0)) continue;
    tpots.push_back(tpot);
    rows.push_back({1 / tpot, company[i].prefill / tpot, company[i].context / tpot,
                    company[i].sequences / tpot});
  }
  if (rows.size() < kFewest / 2) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} requests with {} tokens of output or more are too few", rows.size(),
                            kFewestTokens));
  }
  context /= static_cast<double>(ttfts.size());
  auto costs = FitPositive(rows, std::vector<double>(rows.size(), 1.0)).costs;
  if (costs.empty()) return Fail(Code::kInvalidArgument, "the requests are all alike");
  // The search goes by logarithms: a cost that seems to be none begins small.
  if (costs[0] == 0) costs[0] = Median(tpots) / 4;
  if (costs[1] == 0) costs[1] = Median(ttfts) / 4;
  if (costs[2] == 0) costs[2] = std::max(costs[3] / 4, costs[0] / 1'000) / context;
  if (costs[3] == 0) costs[3] = costs[2] * context / 4;
  Guess guess;
  guess.costs.floor_ms = costs[0] * 1e3;
  guess.costs.per_token_us = costs[1] * 1e6;
  guess.costs.decode_context_ns = costs[2] * 1e9;
  guess.costs.per_sequence_us = costs[3] * 1e6;
  guess.costs.prefill_attention_ns = costs[1] * 1e9 * 3e-5;  // as models have it
  guess.overhead_s = 0.001;
  return guess;
}

void LogFitter::Descend(std::span<const Unknown> unknowns, Of what, int replays, Guess* best) {
  using Point = std::vector<double>;
  const size_t n = unknowns.size();
  const auto guess_at = [&](const Point& point) {
    Guess guess = *best;
    for (size_t i = 0; i < n; ++i) guess.At(unknowns[i]) = ExactExp(point[i]);
    return guess;
  };
  std::vector<std::pair<double, Point>> simplex;
  const auto at = [&](Point point) {
    const double off = Off(guess_at(point), what);
    return std::pair(off, std::move(point));
  };
  Point start(n);
  for (size_t i = 0; i < n; ++i) start[i] = ExactLog(std::max(best->At(unknowns[i]), 1e-9));
  simplex.push_back(at(start));
  for (size_t i = 0; i < n; ++i) {
    Point point = start;
    point[i] += 0.3;
    simplex.push_back(at(std::move(point)));
  }
  const auto along = [n](const Point& from, const Point& to, double by) {
    Point point(n);
    for (size_t i = 0; i < n; ++i) point[i] = from[i] + by * (to[i] - from[i]);
    return point;
  };
  for (int done = static_cast<int>(n) + 1; done < replays; ++done) {
    std::sort(simplex.begin(), simplex.end());
    Point middle(n, 0.0);
    for (size_t k = 0; k < n; ++k) {
      for (size_t i = 0; i < n; ++i) middle[i] += simplex[k].second[i] / static_cast<double>(n);
    }
    auto& worst = simplex.back();
    auto tried = at(along(middle, worst.second, -1));
    if (tried.first < simplex.front().first) {
      auto farther = at(along(middle, worst.second, -2));
      ++done;
      worst = std::min(tried, farther);
    } else if (tried.first < simplex[n - 1].first) {
      worst = std::move(tried);
    } else {
      auto nearer = at(along(middle, std::min(tried, worst).second, 0.5));
      ++done;
      if (nearer.first < std::min(tried, worst).first) {
        worst = std::move(nearer);
      } else {
        for (size_t k = 1; k <= n; ++k, ++done) {
          simplex[k] = at(along(simplex.front().second, simplex[k].second, 0.5));
        }
      }
    }
  }
  *best = guess_at(std::min_element(simplex.begin(), simplex.end())->second);
}

void LogFitter::AddNotes(std::span<const Unknown> unknowns, const Guess& best, LogFit* fit) {
  const double off = Off(best);
  for (const Unknown& unknown : unknowns) {
    Guess half = best, twice = best;
    half.At(unknown) /= 2;
    twice.At(unknown) *= 2;
    if (std::min(Off(half), Off(twice)) - off < kAsWell) {
      fit->notes.push_back(fmt::format(
          "{} is hardly determined: half or twice of it meets the log as well", unknown.name));
      continue;
    }
    if (unknown.cost == &engine::StepCosts::floor_ms) continue;
    std::vector<Unknown> others(unknowns.begin(), unknowns.end());
    std::erase_if(others, [&](const Unknown& other) { return other.cost == unknown.cost; });
    Guess without = best;
    without.At(unknown) = 0;
    Descend(others, Of::kBoth, kReplays / 2, &without);
    if (Off(without) - off >= kAsWell) continue;
    fit->notes.push_back(fmt::format(
        "{} is not told apart from the other costs: without it they meet the log as well",
        unknown.name));
  }
}

Result<LogFit> LogFitter::Fit() {
  if (fitted_.size() + held_out_.size() < kFewest) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} requests with a first token, and over before the rest of the log, "
                            "are too few: {} at least",
                            fitted_.size() + held_out_.size(), kFewest));
  }
  LogFit fit;
  if (in_one_piece_ > 0) {
    fit.notes.push_back(fmt::format(
        "{} requests were answered in one piece: they are replayed, but say nothing of TTFT",
        in_one_piece_));
  }
  auto guess = FirstGuess();
  if (!guess) return std::unexpected(guess.error());
  options_.engine.costs = guess->costs;
  if (auto run = RunEngine(requests_, options_); !run) return std::unexpected(run.error());

  using Costs = engine::StepCosts;
  std::vector<Unknown> unknowns = {{&Costs::floor_ms, "floorMs"},
                                   {&Costs::per_token_us, "perTokenUs"},
                                   {&Costs::decode_context_ns, "decodeContextNs"},
                                   {nullptr, "the time of a request beside its steps"}};
  fit.most_at_once = MostAtOnce(times_);
  if (fit.most_at_once > 1) {
    unknowns.push_back({&Costs::per_sequence_us, "perSequenceUs"});
  } else {
    guess->costs.per_sequence_us = 0;
    fit.notes.emplace_back(
        "perSequenceUs is not determined and left at 0: the log never has two requests at once");
  }
  uint32_t longest = 0;
  for (const RunRequest& request : requests_) longest = std::max(longest, request.prompt_tokens);
  if (longest >= kLongPrompt) {
    unknowns.push_back({&Costs::prefill_attention_ns, "prefillAttentionNs"});
  } else {
    guess->costs.prefill_attention_ns = 0;
    fit.notes.push_back(fmt::format(
        "prefillAttentionNs is not determined and left at 0: the longest prompt has {} tokens, "
        "below {}",
        longest, kLongPrompt));
  }
  // What decides about times per token has the smoother error, and by turns one of its own. Each
  // descent begins with a simplex that is wide again.
  std::vector<Unknown> of_decodes = unknowns;
  std::erase_if(of_decodes, [](const Unknown& unknown) {
    return unknown.cost == nullptr || unknown.cost == &Costs::prefill_attention_ns ||
           unknown.cost == &Costs::per_token_us;
  });
  for (int i = 0; i < kDescents; ++i) {
    Descend(unknowns, Of::kBoth, kReplays, &*guess);
    Descend(of_decodes, Of::kTpot, kReplays / 2, &*guess);
  }
  AddNotes(unknowns, *guess, &fit);

  const std::vector<RunTimes> simulated = Simulate(*guess);
  fit.costs = guess->costs;
  fit.overhead_s = guess->overhead_s;
  fit.fitted = ErrorOf(simulated, fitted_);
  fit.held_out = ErrorOf(simulated, held_out_);
  return fit;
}

}  // namespace

Result<LogFit> FitLog(const RequestLog& log, const engine::EngineOptions& options,
                      size_t max_requests) {
  const size_t count = std::min(log.requests.size(), max_requests);
  if (count < kFewest) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{} requests are too few: {} at least", count, kFewest));
  }
  return LogFitter(log, count, options).Fit();
}

}  // namespace penstock::lab
