// Any lines behind a recording's head, told to a brain whose plugins keep state by key, session and
// slot; and the same bytes as a whole recording, for its traffic. Complaints name the file.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "plugins/builtin.h"
#include "recording/rerun.h"
#include "sched/config_loader.h"
#include "trace_fuzz.h"
#include "workload/recorded.h"

namespace penstock {
namespace {

constexpr std::string_view kHead =
    R"({"penstock_recording":1,"version":"t","unix_micros":0,"start":1000000,"max_endpoints":16,)"
    R"("max_tries":2,"retry_budget_ratio":0.2,"policy":"p","scheduling":""})"
    "\n";

constexpr std::string_view kPlugins = R"(
- type: session-affinity-scorer
  parameters:
    strategy: session_id
    sessionIdConfig: {sources: [{header: x-chat}]}
- type: precise-prefix-cache-producer
- type: least-cost-scorer
- type: no-hit-lru-scorer
- type: prefix-cache-affinity-filter
- type: max-score-picker
)";
constexpr std::string_view kProfiles = R"(
- name: default
  plugins:
  - {pluginRef: prefix-cache-affinity-filter}
  - {pluginRef: session-affinity-scorer}
  - {pluginRef: least-cost-scorer}
  - {pluginRef: no-hit-lru-scorer}
  - {pluginRef: max-score-picker}
)";

Result<std::unique_ptr<sched::Scheduler>> MakeScheduler(const recording::Head&) {
  static const wire::YamlNode plugins = *wire::ParseYaml(kPlugins, "p");
  static const wire::YamlNode profiles = *wire::ParseYaml(kProfiles, "p");
  config::Diagnostics diagnostics;
  sched::SchedulingSpec spec;
  sched::LoadInlineScheduling(plugins, profiles, plugins::Builtins(), &spec, &diagnostics);
  return sched::Scheduler::Create(spec, plugins::Builtins(), &diagnostics);
}

void Tell(std::string_view text) {
  const auto report = recording::Rerun(
      workload::LineReader::OfText(text, "f"), MakeScheduler,
      [](uint64_t, const director::DecisionRecord& record) {
        workload::Check(record.end != director::EndKind::kRunning || !record.attempts.empty());
      });
  if (!report) return workload::Check(report.error().message.starts_with("f:"));
  workload::Check(report->rejections <= report->arrivals);
}

}  // namespace
}  // namespace penstock

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  penstock::Tell(std::string(penstock::kHead).append(text));
  const std::string whole = "{\"penstock_recording\":1}\n" + std::string(text);
  const auto source = penstock::workload::ReadRecorded(
      [&] {
        return penstock::Result<penstock::workload::LineReader>(
            penstock::workload::LineReader::OfText(whole, "f"));
      },
      {});
  if (!source) {
    penstock::workload::Check(source.error().message.starts_with("f:"));
    return 0;
  }
  while ((*source)->NextAt()) {
    const penstock::workload::Job job = (*source)->Take();
    penstock::workload::Check(!job.prompt.empty());
  }
  return 0;
}
