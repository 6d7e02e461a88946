#include "lab/fidelity.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iterator>
#include <tuple>
#include <utility>

#include "engine/profile.h"
#include "lab/log_fit.h"
#include "lab/svg_chart.h"

namespace penstock::lab {
namespace {

constexpr std::string_view kVsm = "vllm-sim-model, Qwen3-32B on one H100 SXM5, vLLM 0.27-0.28";
constexpr std::string_view kBlog = "llm-d calibration of Qwen3-32B on two H100";
constexpr std::string_view kPull = "llm-d on pulling KV between H200, gpt-oss-120b";
constexpr Anchor kAnchors[] = {
    {"h100-qwen3-32b", 1, 1024, 128, 23.7, 116, 0, kVsm},
    {"h100-qwen3-32b", 16, 1024, 128, 29.3, 1150, 421, kVsm},
    {"h100-qwen3-32b", 32, 256, 256, 27.2, 411, 1114, kVsm},
    {"h100-qwen3-32b", 64, 1024, 128, 37, 10'900, 496, kVsm},
    {"h100-qwen3-32b-tp2", 1, 8192, 1, 0, 400, 0, kBlog},
    {"h200-gpt-oss-120b", 1, 8000, 1, 0, 250, 0, kPull},
    {"h200-gpt-oss-120b", 1, 16000, 1, 0, 510, 0, kPull},
    {"h200-gpt-oss-120b", 1, 32000, 1, 0, 1173, 0, kPull},
    {"h200-gpt-oss-120b", 1, 48000, 1, 0, 1988, 0, kPull},
};
constexpr uint32_t kRounds = 10;  // requests of an anchor, by its concurrency

std::string FileName(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    out += is_plain ? c : '-';
  }
  return out;
}

std::string Deviation(double simulated, double real) {
  return real == 0 ? "" : fmt::format("{:+.1f} %", (simulated / real - 1) * 100);
}

// value of the share q of the requests, from `value` of each.
double QuantileOf(std::span<const RunTimes> times, double q,
                  const std::function<double(const RunTimes&)>& value) {
  std::vector<double> all;
  for (const RunTimes& t : times) all.push_back(value(t));
  if (all.empty()) return 0;
  const auto rank =
      std::min(all.size() - 1, static_cast<size_t>(q * static_cast<double>(all.size())));
  std::nth_element(all.begin(), all.begin() + static_cast<ptrdiff_t>(rank), all.end());
  return all[rank];
}

double TtftOf(const RunTimes& t) { return ToSeconds(t.first_token - t.sent); }
double E2eOf(const RunTimes& t) { return ToSeconds(t.last_token - t.sent); }

ChartSeries Curve(std::string name, std::span<const RunSample> samples, bool is_dashed,
                  uint32_t RunSample::*value) {
  ChartSeries series{.name = std::move(name), .points = {}, .is_dashed = is_dashed};
  for (const RunSample& sample : samples) {
    series.points.emplace_back(ToSeconds(sample.at), sample.*value);
  }
  return series;
}

// The share of requests over a time.
ChartSeries Cumulative(std::string name, std::span<const RunTimes> times, bool is_dashed,
                       const std::function<double(const RunTimes&)>& value) {
  std::vector<double> all;
  for (const RunTimes& t : times) all.push_back(value(t));
  std::sort(all.begin(), all.end());
  ChartSeries series{.name = std::move(name), .points = {}, .is_dashed = is_dashed};
  for (size_t i = 0; i < all.size(); ++i) {
    series.points.emplace_back(all[i],
                               100 * static_cast<double>(i + 1) / static_cast<double>(all.size()));
  }
  return series;
}

void AppendRun(const FidelityRun& run, std::string_view picture_folder, FidelityReport* report) {
  const auto put = std::back_inserter(report->markdown);
  fmt::format_to(put,
                 "### {}\n\n{} requests to {} on vLLM {}, replayed on the profile `{}` with "
                 "max_num_seqs {} and max_num_batched_tokens {}.\n\n"
                 "| | real | simulated | deviation |\n|---|---|---|---|\n",
                 run.name, run.real.requests.size(), run.real.model, run.real.version, run.profile,
                 run.real.max_num_seqs, run.real.max_num_batched_tokens);
  const auto row = [&](std::string_view name, double real, double simulated,
                       std::string_view unit) {
    fmt::format_to(put, "| {} | {:.4g} {} | {:.4g} {} | {} |\n", name, real, unit, simulated, unit,
                   Deviation(simulated, real));
  };
  const LatencyMeans& real = run.real_means;
  const LatencyMeans& simulated = run.simulated_means;
  row("TPOT, mean", real.tpot * 1e3, simulated.tpot * 1e3, "ms");
  row("TTFT, mean", real.ttft, simulated.ttft, "s");
  row("E2E, mean", real.e2e, simulated.e2e, "s");
  for (const double q : {0.5, 0.9, 0.99}) {
    row(fmt::format("TTFT, p{:.0f}", q * 100), QuantileOf(run.real.times, q, TtftOf),
        QuantileOf(run.simulated.requests, q, TtftOf), "s");
  }
  row("E2E, p90", QuantileOf(run.real.times, 0.9, E2eOf),
      QuantileOf(run.simulated.requests, 0.9, E2eOf), "s");
  const auto end = [](std::span<const RunTimes> times) {
    Duration latest{0};
    for (const RunTimes& t : times) latest = std::max(latest, t.last_token);
    return ToSeconds(latest);
  };
  row("last token after", end(run.real.times), end(run.simulated.requests), "s");

  const auto picture = [&](std::string_view what, const Chart& chart) {
    const std::string file = FileName(fmt::format("fidelity-{}-{}.svg", run.name, what));
    fmt::format_to(put, "\n![{}]({}/{})\n", chart.title, picture_folder, file);
    report->pictures.emplace_back(file, RenderSvg(chart));
  };
  picture(
      "load",
      {.title = "Requests in the engine, " + run.name,
       .x_label = "seconds",
       .y_label = "requests",
       .series = {Curve("running, real", run.real.samples, false, &RunSample::running),
                  Curve("running, simulated", run.simulated.samples, true, &RunSample::running),
                  Curve("waiting, real", run.real.samples, false, &RunSample::waiting),
                  Curve("waiting, simulated", run.simulated.samples, true, &RunSample::waiting)}});
  picture("ttft", {.title = "TTFT below, " + run.name,
                   .x_label = "seconds",
                   .y_label = "% of requests",
                   .series = {Cumulative("real", run.real.times, false, TtftOf),
                              Cumulative("simulated", run.simulated.requests, true, TtftOf)}});
  report->markdown += '\n';
}

Result<> AppendLogFits(std::span<const FidelityRun> runs, FidelityReport* report) {
  const auto put = std::back_inserter(report->markdown);
  fmt::format_to(
      put,
      "\n## Fitted to a log\n\nWhat `penstock lab calibrate --log` makes of the same "
      "runs' requests, without measured kernels: every other request is fitted, those "
      "between them are held out and shown here. Medians over requests of the relative "
      "error, and how far the means are off. Costs that a log does not tell apart share at will "
      "what they make together.\n\n| run | TTFT | TPOT | mean TTFT | mean "
      "TPOT | floor | a token | context, a token | a sequence |\n"
      "|---|---|---|---|---|---|---|---|---|\n");
  for (const FidelityRun& run : runs) {
    const auto fit = FitLog({.requests = run.real.requests, .times = run.real.times}, run.engine);
    if (!fit) return Fail(fit.error().code, run.name + ": " + fit.error().message);
    const LogError& error = fit->held_out;
    const engine::StepCosts& costs = fit->costs;
    fmt::format_to(put,
                   "| {} | {:.1f} % | {:.1f} % | {:+.1f} % | {:+.1f} % | {:.1f} ms | {:.0f} us | "
                   "{:.0f} ns | {:.0f} us |\n",
                   run.name, error.ttft * 100, error.tpot * 100, error.mean_ttft * 100,
                   error.mean_tpot * 100, costs.floor_ms, costs.per_token_us,
                   costs.decode_context_ns, costs.per_sequence_us);
  }
  return {};
}

Result<> AppendAnchors(FidelityReport* report) {
  const auto put = std::back_inserter(report->markdown);
  fmt::format_to(
      put,
      "## Published serving numbers\n\nClosed loop, {} rounds. The profiles are derived "
      "from these and from data sheets, so this shows that the form fits, not that it "
      "foretells. The goal is 15 % for TPOT and throughput. TTFT of several requests at "
      "once hangs on how the client spaced them and on the token budget, which were not "
      "published, and the one of a single request was measured through a pair of engines, "
      "with a transfer in it.\n\n| profile | requests at once | prompt, answer | TPOT published | "
      "simulated | | TTFT published | simulated | | tokens/s published | simulated | |\n"
      "|---|---|---|---|---|---|---|---|---|---|---|---|\n",
      kRounds);
  for (const Anchor& anchor : Anchors()) {
    const auto result = RunAnchor(anchor);
    if (!result) return std::unexpected(result.error());
    fmt::format_to(put, "| `{}` | {} | {}, {} |", anchor.profile, anchor.concurrency,
                   anchor.prompt_tokens, anchor.output_tokens);
    for (const auto& [published, simulated, unit] :
         {std::tuple{anchor.tpot_ms, result->tpot_ms, " ms"},
          std::tuple{anchor.ttft_ms, result->ttft_ms, " ms"},
          std::tuple{anchor.tokens_per_s, result->tokens_per_s, ""}}) {
      if (published == 0) {
        fmt::format_to(put, " | | |");
      } else {
        fmt::format_to(put, " {:.4g}{} | {:.4g}{} | {} |", published, unit, simulated, unit,
                       Deviation(simulated, published));
      }
    }
    report->markdown += '\n';
  }
  fmt::format_to(put, "\nSources: {}; {}.\n", kVsm, kBlog);
  return {};
}

}  // namespace

Result<FidelityRun> ReplayVllmRun(const std::string& folder, std::string_view profile_name) {
  const auto profile = engine::LoadProfile(profile_name);
  if (!profile) return std::unexpected(profile.error());
  auto real = ReadVllmRun(folder);
  if (!real) return std::unexpected(real.error());
  RunOptions options;
  options.engine = profile->Options();
  if (real->max_num_seqs > 0) options.engine.max_num_seqs = real->max_num_seqs;
  if (real->max_num_batched_tokens > 0) {
    options.engine.max_num_batched_tokens = real->max_num_batched_tokens;
  }
  auto simulated = RunEngine(real->requests, options);
  if (!simulated) return std::unexpected(simulated.error());
  std::filesystem::path path(folder);
  if (!path.has_filename()) path = path.parent_path();  // "runs/one/"
  FidelityRun run{.name = path.filename().string(),
                  .profile = std::string(profile_name),
                  .real = std::move(*real),
                  .simulated = std::move(*simulated),
                  .engine = options.engine};
  run.real_means = MeansOf(run.real.requests, run.real.times);
  run.simulated_means = MeansOf(run.real.requests, run.simulated.requests);
  return run;
}

std::span<const Anchor> Anchors() { return kAnchors; }

Result<AnchorResult> RunAnchor(const Anchor& anchor) {
  const auto profile = engine::LoadProfile(anchor.profile);
  if (!profile) return std::unexpected(profile.error());
  RunOptions options;
  options.engine = profile->Options();
  options.concurrency = anchor.concurrency;
  const std::vector<RunRequest> requests(
      size_t{kRounds} * anchor.concurrency,
      RunRequest{.prompt_tokens = anchor.prompt_tokens, .output_tokens = anchor.output_tokens});
  const auto run = RunEngine(requests, options);
  if (!run) return std::unexpected(run.error());
  const LatencyMeans means = MeansOf(requests, run->requests);
  return AnchorResult{
      means.tpot * 1e3, means.ttft * 1e3,
      static_cast<double>(run->stats.generation_tokens) / std::max(1e-9, ToSeconds(run->end))};
}

Result<FidelityReport> MakeFidelityReport(std::span<const FidelityRun> runs,
                                          std::string_view command,
                                          std::string_view picture_folder) {
  FidelityReport report;
  report.markdown = fmt::format(
      "# How close the simulated engine is\n\nWritten by `{}`. But for the last section, every "
      "number here follows from kernel times, data sheets and published measurements; nothing was "
      "fitted to the runs that it is compared with.\n\n## Real runs of vLLM, replayed\n\nThe same "
      "requests at the same "
      "times. TTFT is counted from the moment vLLM queued a request, TPOT from the first token to "
      "the last. The goal is 5 % for mean TPOT and 15 % for mean TTFT.\n\n",
      command);
  for (const FidelityRun& run : runs) AppendRun(run, picture_folder, &report);
  if (auto anchors = AppendAnchors(&report); !anchors) return std::unexpected(anchors.error());
  if (auto fits = AppendLogFits(runs, &report); !fits) return std::unexpected(fits.error());
  return report;
}

}  // namespace penstock::lab
