#include "app/lab.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "app/lab_arms.h"
#include "app/lab_calibrate.h"
#include "app/lab_verify.h"
#include "core/file.h"
#include "core/text.h"
#include "engine/profile.h"
#include "lab/compare.h"
#include "lab/fidelity.h"
#include "lab/kernel_tables.h"
#include "lab/log_fit.h"
#include "lab/policies_page.h"
#include "lab/replay.h"
#include "lab/request_log.h"
#include "lab/summary.h"
#include "lab/sweep.h"
#include "workload/open.h"

namespace penstock::app {
namespace {

constexpr size_t kMaxTableBytes = 64 << 20;

constexpr const char* kExamples = R"(
Examples:
  penstock lab kernels kernel-times/rtxpro6000_qwen3-32b --layers 64 --out profiles/mine.csv
      A profile's table of step times from measured times of single kernels.
  penstock lab fidelity --run rtx4090-llama-3.1-8b=runs/rtx4090 --out fidelity.md
      What the simulated engine makes of a real run's requests, with pictures.
  penstock lab replay --workload ladder --engines 8
      An hour of traffic through the gateway's brain in seconds.
  penstock lab replay --workload production --pool 6xh100-qwen3-32b-tp2 4xh100-qwen3-32b \
      --incident 60:fail:2 --incident 120:start:2 --incident 300:join:10
      Engines of two kinds, of which one dies and comes back and another comes later.
  penstock lab verify today.rec --explain 17
      Why the 18th request of a recorded gateway went where it went; without --explain, whether
      every decision comes out again.
  penstock lab compare --workload b2b-saas --policies weighted sticky mine.yaml --html compare.html
      Policies on the same traffic with five seeds, and a page with charts.
  penstock lab compare --workload production --policies least-cost least-cost+kv-events
      What it is worth to know of engines what their caches hold.
  penstock lab sweep --workloads ladder scenario-c --policy least-cost \
      --set least-cost-scorer.eviction=1,2,4,8 --set weight.no-hit-lru-scorer=0,0.2
      Eight variations of a policy, ranked over two workloads.
  penstock lab calibrate --url http://127.0.0.1:8000 --name my-gpu --out my-gpu.yaml
      A profile of the engine that runs there, for --profile and for penstock sim.
  penstock lab calibrate --log requests.csv --kv-blocks 18625 --name my-gpu --out my-gpu.yaml
      The same from a log of what an engine was asked and when it answered:
      arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s
      0.00,2358,531,0.169,15.713
)";

int Complain(const Error& error) {
  std::fprintf(stderr, "penstock lab: %s\n", error.message.c_str());
  return 1;
}

// To the file, or to stdout for "-".
int Put(const std::string& path, const std::string& text) {
  if (path == "-") {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return 0;
  }
  if (auto written = WriteFile(path, text); !written) return Complain(written.error());
  return 0;
}

struct KernelsFlags {
  std::string folder;
  lab::ModelShape shape;
  std::string comment = "Kernel times of a whole model, made by 'penstock lab kernels'.";
  std::string out = "-";
};

int RunKernels(const KernelsFlags& flags) {
  std::map<std::string, std::string> texts;
  for (const char* name : {"dense", "per_sequence", "attention"}) {
    auto text = ReadFile(flags.folder + "/" + name + ".csv", kMaxTableBytes);
    if (!text) return Complain(text.error());
    texts[name] = std::move(*text);
  }
  const auto table = lab::FoldKernelTables(
      {texts["dense"], texts["per_sequence"], texts["attention"]}, flags.shape, flags.comment);
  if (!table) {
    return Complain({table.error().code, flags.folder + "/" + table.error().message});
  }
  return Put(flags.out, *table);
}

void DeclareKernels(CLI::App& app, KernelsFlags& flags, int& status) {
  CLI::App& command = *app.add_subcommand(
      "kernels", "Make a profile's table of step times from measured times of single kernels");
  command
      .add_option("folder", flags.folder, "Folder with dense.csv, per_sequence.csv, attention.csv")
      ->required();
  command.add_option("--layers", flags.shape.layers, "Layers of the model")->required();
  command.add_option("--comment", flags.comment, "First line of the table, for people")
      ->capture_default_str();
  command.add_option("--out", flags.out, "File to write; -: to the terminal")
      ->capture_default_str();
  command.callback([&] { status = RunKernels(flags); });
}

struct FidelityFlags {
  std::vector<std::string> runs;  // PROFILE=FOLDER
  std::string out = "fidelity.md";
};

int RunFidelity(const FidelityFlags& flags) {
  std::vector<lab::FidelityRun> runs;
  std::string command = "penstock lab fidelity";
  for (const std::string& run : flags.runs) {
    const size_t equals = run.find('=');
    if (equals == std::string::npos) {
      return Complain({Code::kInvalidArgument, "--run " + run + ": not PROFILE=FOLDER"});
    }
    auto replayed = lab::ReplayVllmRun(run.substr(equals + 1), run.substr(0, equals));
    if (!replayed) return Complain(replayed.error());
    command += " --run " + run;
    runs.push_back(std::move(*replayed));
  }
  command += " --out " + flags.out;
  const auto report = lab::MakeFidelityReport(runs, command, "images");
  if (!report) return Complain(report.error());
  const std::filesystem::path page(flags.out);
  const std::filesystem::path pictures = page.parent_path() / "images";
  std::error_code error;
  std::filesystem::create_directories(pictures, error);  // a failure shows itself in the writing
  for (const auto& [name, svg] : report->pictures) {
    if (const int failed = Put((pictures / name).string(), svg); failed != 0) return failed;
  }
  std::printf("wrote %s and %zu pictures into %s\n", flags.out.c_str(), report->pictures.size(),
              pictures.c_str());
  return Put(flags.out, report->markdown);
}

void DeclareFidelity(CLI::App& app, FidelityFlags& flags, int& status) {
  CLI::App& command = *app.add_subcommand(
      "fidelity", "Replay real runs of vLLM on simulated engines and report the deviations");
  command.add_option("--run", flags.runs, "PROFILE=FOLDER of a run; may be repeated")->required();
  command.add_option("--out", flags.out, "Page to write; its pictures go into images/ beside it")
      ->capture_default_str();
  command.callback([&] { status = RunFidelity(flags); });
}

// Traffic and fleet, of every command that replays.
struct SceneFlags {
  std::string workload = "sharegpt-like";
  workload::OpenOptions open;
  std::string profile = "h100-qwen3-32b-tp2";
  uint32_t engines = 8;
  std::vector<std::string> pool;       // "6xPROFILE"; instead of engines and profile
  std::vector<std::string> incidents;  // "SECONDS:KIND:ENGINE"
  uint32_t cpu_blocks = 0;             // instead of the profiles'; 0: theirs
  uint64_t seed = 1;
  double until_s = 0;
  double scrape_ms = 50;
  lab::Slo slo;
};

void DeclareScene(CLI::App& command, SceneFlags& flags) {
  command
      .add_option("--workload", flags.workload,
                  "A built-in workload, FILE.yaml, or mooncake:FILE, azure:FILE, otel:FILE, "
                  "recording:FILE")
      ->capture_default_str();
  command.add_option("--rate-scale", flags.open.rate_scale, "Send so many times as much")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_option("--max-requests", flags.open.max_requests, "End after so many; 0: all")
      ->capture_default_str();
  command.add_flag("--skip-bad-lines", flags.open.skips_bad_lines,
                   "Leave out what a trace has wrong, and count it");
  command.add_option("--profile", flags.profile, "Engines' profile by name, or a YAML file")
      ->capture_default_str();
  command.add_option("--engines", flags.engines, "Number of engines")
      ->capture_default_str()
      ->check(CLI::Range(1, 10'000));
  command.add_option("--pool", flags.pool,
                     "Engines of several kinds instead: COUNTxPROFILE, one after the other");
  command
      .add_option("--cpu-blocks", flags.cpu_blocks,
                  "KV blocks that host memory holds beside each engine's own; default: the "
                  "profile's")
      ->check(CLI::Range(1, 100'000'000));
  command.add_option(
      "--incident", flags.incidents,
      "SECONDS:KIND:NUMBER of an engine, from 1; KIND is fail, start, leave or join. "
      "One that joins is absent before");
  command.add_option("--seed", flags.seed, "Of the traffic and of the decisions")
      ->capture_default_str();
  command.add_option("--until", flags.until_s, "Take no request after so many seconds; 0: all")
      ->capture_default_str();
  command.add_option("--scrape-ms", flags.scrape_ms, "Interval of the engines' metrics")
      ->capture_default_str()
      ->check(CLI::Range(1, 600'000));
  command.add_option("--slo-ttft", flags.slo.ttft_s, "Goodput: TTFT in seconds at most; 0: any")
      ->capture_default_str();
  command.add_option("--slo-tpot", flags.slo.tpot_s, "Goodput: TPOT in seconds at most; 0: any")
      ->capture_default_str();
}

// Adds `count` engines of a profile. Generated requests are made as long as all engines take them.
Result<> AddEngines(SceneFlags& flags, uint32_t count, const std::string& name,
                    lab::ReplayOptions* options) {
  const auto profile = engine::LoadProfile(name);
  if (!profile) return std::unexpected(profile.error());
  uint32_t& longest = flags.open.max_model_len;
  longest = longest == 0 ? profile->scheduler.max_model_len
                         : std::min(longest, profile->scheduler.max_model_len);
  for (uint32_t i = 0; i < count; ++i) {
    const size_t index = options->engines.size();
    lab::EngineSpec& spec = options->engines.emplace_back();
    spec.name = fmt::format("engine-{}", index + 1);
    spec.options = profile->Options();
    spec.options.seed = flags.seed * 1'000'003 + index;
    if (flags.cpu_blocks > 0) spec.options.cpu_blocks = flags.cpu_blocks;
    spec.accelerators = profile->tensor_parallel;
  }
  return {};
}

Result<lab::Incident> ParseIncident(const std::string& text, size_t engines) {
  const auto complain = [&](std::string_view what) {
    return Fail(Code::kInvalidArgument, fmt::format("--incident {}: {}", text, what));
  };
  const size_t first = text.find(':');
  const size_t second = first == std::string::npos ? first : text.find(':', first + 1);
  if (second == std::string::npos) return complain("not SECONDS:KIND:NUMBER");
  const auto at = ParseDouble(std::string_view(text).substr(0, first));
  const auto number = ParseUint(std::string_view(text).substr(second + 1));
  const std::string kind = text.substr(first + 1, second - first - 1);
  constexpr std::array<std::string_view, 4> kKinds = {"fail", "start", "leave", "join"};
  const auto* const found = std::find(kKinds.begin(), kKinds.end(), kind);
  if (!at || *at < 0 || *at > 1e9) return complain("the time must be seconds from 0 on");
  if (found == kKinds.end()) return complain("the kind must be fail, start, leave or join");
  if (!number || *number < 1 || *number > engines) {
    return complain(fmt::format("the engine must be a number from 1 to {}", engines));
  }
  return lab::Incident{FromSeconds(*at), static_cast<uint32_t>(*number - 1),
                       static_cast<lab::Incident::Kind>(found - kKinds.begin())};
}

Result<> AddIncidents(const SceneFlags& flags, lab::ReplayOptions* options) {
  for (const std::string& text : flags.incidents) {
    const auto incident = ParseIncident(text, options->engines.size());
    if (!incident) return std::unexpected(incident.error());
    options->incidents.push_back(*incident);
  }
  std::stable_sort(options->incidents.begin(), options->incidents.end(),
                   [](const lab::Incident& a, const lab::Incident& b) { return a.at < b.at; });
  std::vector<bool> is_known(options->engines.size());
  for (const lab::Incident& incident : options->incidents) {
    if (is_known[incident.engine]) continue;
    is_known[incident.engine] = true;
    if (incident.kind == lab::Incident::Kind::kJoin) options->absent.push_back(incident.engine);
  }
  return {};
}

Result<lab::ReplayOptions> ReplayOptionsOf(SceneFlags& flags) {
  lab::ReplayOptions options;
  flags.open.max_model_len = 0;
  if (flags.pool.empty()) {
    if (auto added = AddEngines(flags, flags.engines, flags.profile, &options); !added) {
      return std::unexpected(added.error());
    }
  }
  for (const std::string& part : flags.pool) {
    const size_t x = part.find('x');
    const auto count = ParseUint(std::string_view(part).substr(0, x));
    if (x == std::string::npos || !count || *count < 1 || *count > 10'000) {
      return Fail(Code::kInvalidArgument, fmt::format("--pool {}: not COUNTxPROFILE", part));
    }
    auto added = AddEngines(flags, static_cast<uint32_t>(*count), part.substr(x + 1), &options);
    if (!added) return std::unexpected(added.error());
  }
  if (auto added = AddIncidents(flags, &options); !added) return std::unexpected(added.error());
  options.seed = flags.seed;
  options.scrape_interval = FromSeconds(flags.scrape_ms / 1e3);
  if (flags.until_s > 0) options.until = FromSeconds(flags.until_s);
  return options;
}

std::string FleetText(const SceneFlags& flags) {
  std::string text = flags.pool.empty() ? fmt::format("{} x {}", flags.engines, flags.profile)
                                        : fmt::format("{}", fmt::join(flags.pool, " + "));
  if (flags.cpu_blocks > 0) text += fmt::format(" with {} CPU blocks", flags.cpu_blocks);
  return text;
}

bool IsTerminal() { return ::isatty(STDERR_FILENO) != 0; }

struct ReplayFlags {
  SceneFlags scene;
  std::string policy = "least-cost";
};

int RunReplay(ReplayFlags& flags) {
  auto options = ReplayOptionsOf(flags.scene);
  if (!options) return Complain(options.error());
  const lab::Arm arm = ArmOf(flags.policy);
  options->engines_tell = arm.engines_tell;
  auto scheduler = arm.make_scheduler();
  if (!scheduler) return Complain(scheduler.error());
  auto source = workload::Open(flags.scene.workload, flags.scene.seed, flags.scene.open);
  if (!source) return Complain(source.error());
  lab::Summary summary(flags.scene.slo);
  const auto before = std::chrono::steady_clock::now();
  auto shown = before;
  const auto totals =
      lab::Replay(std::move(*options), std::move(*scheduler))
          .Run(
              **source, [&](const lab::Outcome& outcome) { summary.Add(outcome); },
              [&](Duration at) {
                const auto now = std::chrono::steady_clock::now();
                if (!IsTerminal() || now - shown < milliseconds(200)) return;
                shown = now;
                std::fprintf(stderr, "\r%.0f s of traffic, %llu requests ended ", ToSeconds(at),
                             static_cast<unsigned long long>(summary.requests()));
              });
  if (IsTerminal()) std::fprintf(stderr, "\r%60s\r", "");
  if (!totals) return Complain(totals.error());
  const double wall = ToSeconds(std::chrono::steady_clock::now() - before);
  summary.Close(*totals);
  std::printf("%s on %s, policy %s, seed %llu\n", flags.scene.workload.c_str(),
              FleetText(flags.scene).c_str(), flags.policy.c_str(),
              static_cast<unsigned long long>(flags.scene.seed));
  std::printf("%-22s %llu\n", "requests", static_cast<unsigned long long>(summary.requests()));
  for (const auto& [name, value] : summary.Numbers()) {
    std::printf("%-22s %.6g\n", name.c_str(), value);
  }
  if (totals->external_hit_tokens > 0) {
    std::printf("%-22s %llu\n", "tier_hit_tokens",
                static_cast<unsigned long long>(totals->external_hit_tokens));
  }
  std::printf("%-22s %016llx\n", "decisions_digest",
              static_cast<unsigned long long>(totals->digest));
  for (const std::string& skipped : (*source)->Skipped()) {
    std::printf("skipped: %s\n", skipped.c_str());
  }
  std::printf("%.1f s of traffic in %.2f s: %.0f times real time, %.2g steps\n",
              ToSeconds(totals->end), wall, ToSeconds(totals->end) / std::max(1e-9, wall),
              static_cast<double>(totals->steps));
  return 0;
}

void DeclareReplay(CLI::App& app, ReplayFlags& flags, int& status) {
  CLI::App& command =
      *app.add_subcommand("replay", "Run traffic through a policy and simulated engines");
  DeclareScene(command, flags.scene);
  command
      .add_option("--policy", flags.policy,
                  "A built-in policy, or an EndpointPickerConfig file; with +kv-events behind it, "
                  "the engines tell what their caches hold")
      ->capture_default_str();
  command.callback([&] { status = RunReplay(flags); });
}

struct CompareFlags {
  SceneFlags scene;
  std::vector<std::string> policies = {"random",   "round-robin",  "power-of-two", "least-requests",
                                       "weighted", "weighted-lru", "sticky",       "least-cost"};
  uint32_t seeds = 5;
  uint32_t threads = 0;
  std::string json, html;
  std::vector<std::string> workloads;  // of `policies` and `sweep`
  std::string page = "policies.md";
  std::string policy = "least-cost";  // of `sweep`
  std::vector<std::string> settings;
  std::string number = "e2e_mean_s";
  size_t most = 20;
};

Result<lab::Comparison> CompareOn(CompareFlags& flags, std::vector<lab::Arm> arms) {
  auto replay = ReplayOptionsOf(flags.scene);
  if (!replay) return std::unexpected(replay.error());
  lab::CompareOptions options;
  options.workload = flags.scene.workload;
  if (flags.scene.open.rate_scale != 1) {
    options.workload += fmt::format(" at {} times its rate", flags.scene.open.rate_scale);
  }
  options.fleet = FleetText(flags.scene);
  options.open = [&](uint64_t seed) {
    return workload::Open(flags.scene.workload, seed, flags.scene.open);
  };
  options.replay = std::move(*replay);
  options.slo = flags.scene.slo;
  options.arms = std::move(arms);
  options.seeds = flags.seeds;
  options.first_seed = flags.scene.seed;
  options.threads =
      flags.threads > 0 ? flags.threads : std::max(1U, std::thread::hardware_concurrency());
  auto comparison = lab::Compare(options, [&](size_t done, size_t all) {
    if (!IsTerminal()) return;
    std::fprintf(stderr, "\r%s: %zu of %zu runs ", flags.scene.workload.c_str(), done, all);
  });
  if (IsTerminal()) std::fprintf(stderr, "\r%60s\r", "");
  return comparison;
}

std::vector<lab::Arm> ArmsOf(const CompareFlags& flags) {
  std::vector<lab::Arm> arms;
  for (const std::string& policy : flags.policies) arms.push_back(ArmOf(policy));
  return arms;
}

int RunCompare(CompareFlags& flags, const std::string& command) {
  const auto comparison = CompareOn(flags, ArmsOf(flags));
  if (!comparison) return Complain(comparison.error());
  std::fputs(lab::RenderTable(*comparison).c_str(), stdout);
  std::printf("\n%.0f s of traffic in %.1f s of processor time: %.0f times real time\n",
              comparison->virtual_seconds, comparison->wall_seconds,
              comparison->virtual_seconds / std::max(1e-9, comparison->wall_seconds));
  if (!flags.json.empty()) {
    if (const int failed = Put(flags.json, lab::RenderJson(*comparison)); failed != 0) {
      return failed;
    }
  }
  if (flags.html.empty()) return 0;
  return Put(flags.html, lab::RenderHtml(*comparison, command));
}

// The arms on each of the workloads; all built-in ones when none is named.
Result<std::vector<lab::Comparison>> CompareOnAll(CompareFlags& flags,
                                                  const std::vector<lab::Arm>& arms) {
  if (flags.workloads.empty()) flags.workloads = workload::BuiltinWorkloadNames();
  std::vector<lab::Comparison> comparisons;
  for (const std::string& workload : flags.workloads) {
    flags.scene.workload = workload;
    auto comparison = CompareOn(flags, arms);
    if (!comparison) return std::unexpected(comparison.error());
    std::fprintf(stderr, "%s: %.0f times real time\n", workload.c_str(),
                 comparison->virtual_seconds / std::max(1e-9, comparison->wall_seconds));
    comparisons.push_back(std::move(*comparison));
  }
  return comparisons;
}

int RunPolicies(CompareFlags& flags) {
  const auto page = ReadFile(flags.page, kMaxTableBytes);
  if (!page) return Complain(page.error());
  // Minutes of work must not end with a page that cannot take it.
  if (auto empty = lab::ReplaceNumbers(*page, ""); !empty) {
    return Complain({empty.error().code, flags.page + ": " + empty.error().message});
  }
  const auto comparisons = CompareOnAll(flags, ArmsOf(flags));
  if (!comparisons) return Complain(comparisons.error());
  const auto whole = lab::ReplaceNumbers(*page, lab::RenderMarkdown(*comparisons));
  if (!whole) return Complain({whole.error().code, flags.page + ": " + whole.error().message});
  return Put(flags.page, *whole);
}

int RunSweep(CompareFlags& flags) {
  const auto arms = SweepArms(flags.policy, flags.settings);
  if (!arms) return Complain(arms.error());
  const auto comparisons = CompareOnAll(flags, *arms);
  if (!comparisons) return Complain(comparisons.error());
  const auto ranking = lab::Rank(*comparisons, flags.number);
  if (!ranking) return Complain(ranking.error());
  std::fputs(lab::RenderRanking(*ranking, *comparisons, flags.number, flags.most).c_str(), stdout);
  return 0;
}

void DeclarePolicyList(CLI::App& command, CompareFlags& flags) {
  command
      .add_option("--policies", flags.policies,
                  "Built-in policies or EndpointPickerConfig files, one after the other; with "
                  "+kv-events behind one, the engines tell it what their caches hold")
      ->capture_default_str();
}

void DeclareRuns(CLI::App& command, CompareFlags& flags) {
  command.add_option("--seeds", flags.seeds, "Runs of each policy, with one seed after the other")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000));
  command.add_option("--threads", flags.threads, "Runs at once; 0: one for each core")
      ->capture_default_str();
}

void DeclareCompare(CLI::App& app, CompareFlags& flags, const std::string& line, int& status) {
  CLI::App& command =
      *app.add_subcommand("compare", "Run the same traffic through several policies");
  DeclareScene(command, flags.scene);
  DeclarePolicyList(command, flags);
  DeclareRuns(command, flags);
  command.add_option("--json", flags.json, "File to write all numbers to; -: to the terminal");
  command.add_option("--html", flags.html, "Page to write, with charts");
  command.callback([&] { status = RunCompare(flags, line); });
}

void DeclarePolicies(CLI::App& app, CompareFlags& flags, int& status) {
  CLI::App& command = *app.add_subcommand(
      "policies", "Compare policies on many workloads and put the tables into a page");
  DeclareScene(command, flags.scene);
  command.remove_option(command.get_option("--workload"));
  command.add_option("--workloads", flags.workloads, "Workloads; without it, all built-in ones");
  DeclarePolicyList(command, flags);
  DeclareRuns(command, flags);
  command
      .add_option("--page", flags.page,
                  "Markdown page with the lines '<!-- numbers -->' and '<!-- end of numbers -->'; "
                  "the tables go between them")
      ->capture_default_str();
  command.callback([&] { status = RunPolicies(flags); });
}

void DeclareSweep(CLI::App& app, CompareFlags& flags, int& status) {
  CLI::App& command =
      *app.add_subcommand("sweep", "Try every combination of settings of a policy and rank them");
  DeclareScene(command, flags.scene);
  command.remove_option(command.get_option("--workload"));
  command.add_option("--workloads", flags.workloads, "Workloads; without it, all built-in ones");
  command
      .add_option("--policy", flags.policy,
                  "A built-in policy, or an EndpointPickerConfig file; with +kv-events behind it, "
                  "the engines tell what their caches hold")
      ->capture_default_str();
  command
      .add_option("--set", flags.settings,
                  "PLUGIN.PARAMETER=VALUE,VALUE,... or weight.PLUGIN=VALUE,VALUE,...; may be "
                  "repeated: every combination is tried")
      ->required();
  command.add_option("--by", flags.number, "The number to rank by, as replay names it")
      ->capture_default_str();
  command.add_option("--most", flags.most, "Show so many of the best")->capture_default_str();
  DeclareRuns(command, flags);
  command.callback([&] { status = RunSweep(flags); });
}

struct CalibrateFlags {
  CalibrateOptions options;
  engine::Profile profile;
  std::string log, endpoint;
  size_t max_requests = 2'000;  // of the log
  std::string out = "-";
};

// What the KV cache has room for.
uint32_t LongestOf(const engine::Profile& profile) {
  const uint64_t room = uint64_t{profile.kv_cache.blocks} * profile.kv_cache.block_size;
  return static_cast<uint32_t>(std::min<uint64_t>(profile.scheduler.max_model_len, room));
}

Result<> FitToLog(CalibrateFlags& flags) {
  engine::Profile& profile = flags.profile;
  if (profile.kv_cache.blocks == 0) {
    return Fail(Code::kInvalidArgument,
                "a log does not tell how many KV blocks the engine has; give --kv-blocks");
  }
  const auto log = lab::ReadRequestLog(flags.log, flags.endpoint);
  if (!log) return std::unexpected(log.error());
  profile.scheduler.max_model_len = LongestOf(profile);
  const auto fit = lab::FitLog(*log, profile.Options(), flags.max_requests);
  if (!fit) return Fail(fit.error().code, flags.log + ": " + fit.error().message);
  if (profile.model.empty()) profile.model = profile.name;
  profile.step_time = fit->costs;
  profile.quality = "derived";
  profile.origin = fmt::format("Fitted by 'penstock lab calibrate' to a log of {} requests",
                               fit->fitted.requests + fit->held_out.requests);
  const std::string skipped = lab::SkippedText(*log);
  std::fprintf(stderr, "%zu rows, %zu of them used%s%s; %u requests at once at most\n", log->rows,
               fit->fitted.requests + fit->held_out.requests, skipped.empty() ? "" : "; skipped ",
               skipped.c_str(), fit->most_at_once);
  for (const auto& [name, error] :
       {std::pair{"fitted", &fit->fitted}, std::pair{"held out", &fit->held_out}}) {
    std::fprintf(stderr,
                 "%zu requests %s: off by %.1f %% of TTFT and %.1f %% of TPOT (medians); means "
                 "%+.1f %% and %+.1f %%\n",
                 error->requests, name, error->ttft * 100, error->tpot * 100,
                 error->mean_ttft * 100, error->mean_tpot * 100);
  }
  std::fprintf(stderr, "a request costs %.1f ms beside its steps\n", fit->overhead_s * 1e3);
  for (const std::string& note : fit->notes) std::fprintf(stderr, "note: %s\n", note.c_str());
  return {};
}

Result<> FitToEngine(CalibrateFlags& flags) {
  const auto measured = MeasureEngine(flags.options, [](const std::string& what) {
    std::fprintf(stderr, "measuring %s\n", what.c_str());
  });
  if (!measured) return std::unexpected(measured.error());
  const auto fit = lab::FitStepCosts(measured->prefills, measured->decodes);
  if (!fit) return std::unexpected(fit.error());
  engine::Profile& profile = flags.profile;
  profile.model = measured->model;
  profile.step_time = fit->costs;
  profile.quality = "measured";
  profile.origin = fmt::format("Fitted by 'penstock lab calibrate' to {} prefills and {} decodes",
                               measured->prefills.size(), measured->decodes.size());
  if (measured->block_size > 0) profile.kv_cache.block_size = measured->block_size;
  if (measured->blocks > 0) profile.kv_cache.blocks = measured->blocks;
  if (profile.kv_cache.blocks == 0) {
    return Fail(Code::kNotFound,
                "the engine does not tell how many KV blocks it has; give --kv-blocks");
  }
  profile.scheduler.max_model_len = LongestOf(profile);
  std::fprintf(
      stderr,
      "off by %.1f %% of prefills and %.1f %% of decodes (medians); a request costs %.1f ms "
      "beside its steps\n",
      fit->prefill_error * 100, fit->decode_error * 100, fit->overhead_s * 1e3);
  return {};
}

int RunCalibrate(CalibrateFlags& flags) {
  flags.profile.model = flags.options.model;
  auto fitted = flags.log.empty() ? FitToEngine(flags) : FitToLog(flags);
  if (!fitted) return Complain(fitted.error());
  return Put(flags.out, lab::RenderProfile(flags.profile));
}

void DeclareCalibrate(CLI::App& app, CalibrateFlags& flags, int& status) {
  CLI::App& command = *app.add_subcommand(
      "calibrate",
      "Fit a profile to a running engine with a short ladder of requests, or to a log of what one "
      "was asked");
  CalibrateOptions& options = flags.options;
  engine::Profile& profile = flags.profile;
  profile.name = "calibrated";
  command
      .add_option("--url", options.url,
                  "The engine, on this machine and without other traffic (it must stream "
                  "/v1/completions of token ids)")
      ->capture_default_str();
  command
      .add_option("--log", flags.log,
                  "Instead of the engine: JSON lines or CSV with arrival_s, prompt_tokens, "
                  "output_tokens, ttft_s, e2e_s and perhaps cached_tokens of each request; a "
                  "requests.jsonl of LLMServingSim; or what the gateway gives at /debug/decisions")
      ->excludes(command.get_option("--url"));
  command.add_option("--endpoint", flags.endpoint, "Only what ran there, of a log of several");
  command.add_option("--max-requests", flags.max_requests, "From the log's beginning")
      ->capture_default_str()
      ->check(CLI::Range(20, 1'000'000));
  command.add_option("--model", options.model, "Model to ask for; default: the engine's first");
  command.add_option("--max-tokens", options.max_tokens, "Longest prompt")
      ->capture_default_str()
      ->check(CLI::Range(1024, 1'000'000));
  command.add_option("--max-sequences", options.max_sequences, "Most requests at once")
      ->capture_default_str()
      ->check(CLI::Range(4, 1'024));
  command.add_option("--output-tokens", options.output_tokens, "Length of the answers")
      ->capture_default_str()
      ->check(CLI::Range(16, 4'096));
  command.add_option("--repeats", options.repeats, "Of each prefill; the median counts")
      ->capture_default_str()
      ->check(CLI::Range(1, 100));
  command.add_option("--name", profile.name, "Name of the profile")->capture_default_str();
  command.add_option("--kv-blocks", profile.kv_cache.blocks, "Where the engine does not tell");
  command.add_option("--max-num-seqs", profile.scheduler.max_num_seqs, "As the engine was started")
      ->capture_default_str();
  command
      .add_option("--max-num-batched-tokens", profile.scheduler.max_num_batched_tokens,
                  "As the engine was started")
      ->capture_default_str();
  command
      .add_option("--max-model-len", profile.scheduler.max_model_len, "As the engine was started")
      ->capture_default_str();
  command.add_option("--out", flags.out, "File to write; -: to the terminal")
      ->capture_default_str();
  command.callback([&] { status = RunCalibrate(flags); });
}

}  // namespace

int RunLab(int argc, char** argv) {
  CLI::App app{"Policies and engines in virtual time", "penstock lab"};
  app.footer(kExamples);
  app.require_subcommand(1);
  int status = 0;
  KernelsFlags kernels;
  DeclareKernels(app, kernels, status);
  FidelityFlags fidelity;
  DeclareFidelity(app, fidelity, status);
  ReplayFlags replay;
  DeclareReplay(app, replay, status);
  DeclareVerify(app, &status);
  std::string line = "penstock";
  for (int i = 0; i < argc; ++i) line += std::string(" ") + argv[i];
  CompareFlags compare;
  DeclareCompare(app, compare, line, status);
  CompareFlags policies;
  DeclarePolicies(app, policies, status);
  CompareFlags sweep;
  sweep.seeds = 3;
  DeclareSweep(app, sweep, status);
  CalibrateFlags calibrate;
  DeclareCalibrate(app, calibrate, status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return status;
}

}  // namespace penstock::app
