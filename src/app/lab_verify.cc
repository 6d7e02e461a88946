#include "app/lab_verify.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "admin/explain.h"
#include "app/scheduling.h"
#include "recording/rerun.h"

namespace penstock::app {
namespace {

struct VerifyFlags {
  std::string file;
  std::optional<uint64_t> explain;
};

int Complain(const Error& error) {
  std::fprintf(stderr, "penstock lab verify: %s\n", error.message.c_str());
  return 1;
}

int Run(const VerifyFlags& flags) {
  std::vector<std::string> explanation;
  const auto report = recording::RerunFile(
      flags.file, [](const recording::Head& head) { return SchedulerOfYaml(head.scheduling); },
      [&](uint64_t request, const director::DecisionRecord& record) {
        if (request == flags.explain) explanation = admin::Explain(record);
      });
  if (!report) return Complain(report.error());
  if (flags.explain) {
    if (explanation.empty()) {
      return Complain({Code::kNotFound, fmt::format("{}: no request {} in it was sent anywhere",
                                                    flags.file, *flags.explain)});
    }
    for (const std::string& line : explanation) std::printf("%s\n", line.c_str());
    return 0;
  }
  std::printf("%s\n", fmt::format("{}: {:.1f} s of penstock {}, policy {}; {} events", flags.file,
                                  report->seconds, report->head.version, report->head.policy,
                                  report->events)
                          .c_str());
  std::printf("%s\n", fmt::format("{} requests, of them {} rejected; {} retries", report->arrivals,
                                  report->rejections, report->retries)
                          .c_str());
  std::printf("%s\n", report->ended.empty()
                          ? "it breaks off: the gateway was killed, or could not write on"
                          : ("it ended: " + report->ended).c_str());
  for (const std::string& difference : report->differences) {
    std::printf("%s\n", difference.c_str());
  }
  if (report->differing > 0) {
    std::printf("%s\n", fmt::format("{} decisions are others now", report->differing).c_str());
    return 1;
  }
  std::printf("all decisions are the same\n");
  return 0;
}

}  // namespace

void DeclareVerify(CLI::App& app, int* status) {
  const auto flags = std::make_shared<VerifyFlags>();
  CLI::App& command = *app.add_subcommand(
      "verify", "Decide once more what a gateway recorded, and compare; 1 when anything differs");
  command.add_option("file", flags->file, "What 'penstock serve --record' wrote")->required();
  command.add_option("--explain", flags->explain,
                     "Say instead why request number N went where it went, from 0");
  command.callback([flags, status] { *status = Run(*flags); });
}

}  // namespace penstock::app
