#include "app/lab.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/file.h"
#include "lab/fidelity.h"
#include "lab/kernel_tables.h"

namespace penstock::app {
namespace {

constexpr size_t kMaxTableBytes = 64 << 20;

constexpr const char* kExamples = R"(
Examples:
  penstock lab kernels kernel-times/rtxpro6000_qwen3-32b --layers 64 --out profiles/mine.csv
      A profile's table of step times from measured times of single kernels.
  penstock lab fidelity --run rtx4090-llama-3.1-8b=runs/rtx4090 --out fidelity.md
      What the simulated engine makes of a real run's requests, with pictures.
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
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return status;
}

}  // namespace penstock::app
