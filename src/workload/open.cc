#include "workload/open.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/file.h"
#include "core/text.h"
#include "embedded/workloads.h"
#include "workload/generated_source.h"
#include "workload/line_reader.h"
#include "workload/recorded.h"
#include "workload/trace_source.h"

namespace penstock::workload {
namespace {

constexpr std::string_view kSuffix = ".yaml";
constexpr std::string_view kRecorded = "recording:";
constexpr size_t kMaxFileBytes = 1 << 20;

std::string_view Stem(std::string_view file) {
  return file.substr(0, file.size() - kSuffix.size());
}

// The first so many requests of a source.
class FirstRequests final : public Source {
 public:
  FirstRequests(std::unique_ptr<Source> source, uint64_t count)
      : source_(std::move(source)), count_(count) {}
  std::optional<Duration> NextAt() override {
    return taken_ < count_ ? source_->NextAt() : std::nullopt;
  }
  Job Take() override {
    ++taken_;
    return source_->Take();
  }
  void OnEnd(const Job& job, const JobEnd& end) override { source_->OnEnd(job, end); }
  std::optional<uint64_t> Total() const override {
    const auto total = source_->Total();
    return total ? std::optional(std::min(*total, count_)) : std::nullopt;
  }
  std::vector<std::string> Skipped() const override { return source_->Skipped(); }
  std::optional<Error> Failure() const override {
    return taken_ < count_ ? source_->Failure() : std::nullopt;
  }

 private:
  const std::unique_ptr<Source> source_;
  const uint64_t count_;
  uint64_t taken_ = 0;
};

bool IsPath(std::string_view what) {
  return what.find('/') != std::string_view::npos || what.ends_with(kSuffix) ||
         what.ends_with(".yml");
}

struct TraceKind {
  std::string_view prefix;
  std::unique_ptr<Source> (*read)(LineReader, const TraceOptions&);
};
constexpr TraceKind kTraceKinds[] = {
    {"mooncake:", ReadMooncake}, {"azure:", ReadAzure}, {"otel:", ReadOpenTelemetry}};

Result<std::unique_ptr<Source>> OpenTrace(std::string_view path, const TraceKind& kind,
                                          const OpenOptions& options) {
  auto lines = LineReader::Open(std::string(path));
  if (!lines) return std::unexpected(std::move(lines.error()));
  auto source = kind.read(std::move(*lines), {.rate_scale = options.rate_scale,
                                              .skips_bad_lines = options.skips_bad_lines});
  if (auto failure = source->Failure()) return std::unexpected(std::move(*failure));
  return source;
}

Result<std::unique_ptr<Source>> OpenWhole(std::string_view what, std::optional<uint64_t> seed,
                                          const OpenOptions& options) {
  for (const TraceKind& kind : kTraceKinds) {
    if (what.starts_with(kind.prefix)) {
      return OpenTrace(what.substr(kind.prefix.size()), kind, options);
    }
  }
  if (what.starts_with(kRecorded)) {
    const std::string path(what.substr(kRecorded.size()));
    auto source = ReadRecorded([&] { return LineReader::Open(path, kMaxRecordedLineBytes); },
                               {.rate_scale = options.rate_scale});
    if (!source) return source;
    if (auto failure = (*source)->Failure()) return std::unexpected(std::move(*failure));
    return source;
  }
  auto workload = LoadWorkload(what);
  if (!workload) return std::unexpected(std::move(workload.error()));
  return Generate(*workload, seed.value_or(workload->seed),
                  {.rate_scale = options.rate_scale, .max_model_len = options.max_model_len});
}

}  // namespace

Result<std::unique_ptr<Source>> Open(std::string_view what, std::optional<uint64_t> seed,
                                     const OpenOptions& options) {
  if (!(options.rate_scale >= 1e-6 && options.rate_scale <= 1e6)) {
    return Fail(Code::kOutOfRange, fmt::format("rate scale {} is not between 0.000001 and 1000000",
                                               options.rate_scale));
  }
  auto source = OpenWhole(what, seed, options);
  if (!source || options.max_requests == 0) return source;
  return std::make_unique<FirstRequests>(std::move(*source), options.max_requests);
}

Result<Workload> LoadWorkload(std::string_view name_or_path) {
  if (IsPath(name_or_path)) {
    auto text = ReadFile(std::string(name_or_path), kMaxFileBytes);
    if (!text) return std::unexpected(std::move(text.error()));
    return ParseWorkload(*text, name_or_path);
  }
  for (const EmbeddedFile& file : WorkloadFiles()) {
    if (Stem(file.name) == name_or_path) return ParseWorkload(file.bytes, file.name);
  }
  const std::vector<std::string> names = BuiltinWorkloadNames();
  const std::vector<std::string_view> views(names.begin(), names.end());
  return Fail(Code::kNotFound,
              fmt::format("no workload '{}'{}; there are {}, FILE.yaml, mooncake:FILE, azure:FILE, "
                          "otel:FILE and recording:FILE",
                          name_or_path, DidYouMean(name_or_path, views), fmt::join(names, ", ")));
}

std::vector<std::string> BuiltinWorkloadNames() {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : WorkloadFiles()) names.emplace_back(Stem(file.name));
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace penstock::workload
