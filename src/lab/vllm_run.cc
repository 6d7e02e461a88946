#include "lab/vllm_run.h"

#include <fmt/format.h>

#include <array>
#include <boost/json.hpp>
#include <string_view>
#include <utility>

#include "core/csv.h"
#include "core/file.h"
#include "lab/request_log.h"

namespace penstock::lab {
namespace {

namespace json = boost::json;

constexpr size_t kMaxFileBytes = 256 << 20;

Result<double> NumberOf(const json::object& object, std::string_view field) {
  const json::value* const value = object.if_contains(field);
  if (value == nullptr) return Fail(Code::kInvalidArgument, fmt::format("no '{}'", field));
  boost::system::error_code error;
  const double number = value->to_number<double>(error);
  if (error) return Fail(Code::kInvalidArgument, fmt::format("'{}' is no number", field));
  return number;
}

Result<> ReadRequests(const std::string& folder, VllmRun* run) {
  const std::string path = folder + "/requests.jsonl";
  auto log = ReadRequestLog(path);
  if (!log) return std::unexpected(log.error());
  if (!log->skipped.empty()) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: {}", path, SkippedText(*log)));
  }
  run->requests = std::move(log->requests);
  run->times = std::move(log->times);
  return {};
}

Result<> ReadTimeseries(const std::string& folder, VllmRun* run) {
  const std::string path = folder + "/timeseries.csv";
  const auto text = ReadFile(path, kMaxFileBytes);
  if (!text) return std::unexpected(text.error());
  return ReadCsv(*text, path, {"t", "running", "waiting"}, [&](const CsvRow& row) -> Result<> {
    std::array<double, 3> values{};
    for (size_t i = 0; i < values.size(); ++i) {
      const auto value = row.Number(i);
      if (!value) return std::unexpected(value.error());
      values[i] = *value;
    }
    run->samples.push_back({FromSeconds(values[0]), static_cast<uint32_t>(values[1]),
                            static_cast<uint32_t>(values[2]), 0});
    return {};
  });
}

Result<> ReadMeta(const std::string& folder, VllmRun* run) {
  const std::string path = folder + "/meta.json";
  const auto text = ReadFile(path, kMaxFileBytes);
  if (!text) return std::unexpected(text.error());
  boost::system::error_code error;
  const json::value value = json::parse(*text, error);
  if (error || !value.is_object()) {
    return Fail(Code::kInvalidArgument, path + ": not a JSON object");
  }
  const auto text_of = [&](std::string_view field) {
    const json::value* const found = value.get_object().if_contains(field);
    return found != nullptr && found->is_string() ? std::string(found->get_string()) : "";
  };
  run->model = text_of("model");
  run->version = text_of("vllm_version");
  const json::value* const kwargs = value.get_object().if_contains("engine_kwargs");
  if (kwargs == nullptr || !kwargs->is_object()) return {};
  for (const auto& [field, into] :
       {std::pair{"max_num_seqs", &run->max_num_seqs},
        std::pair{"max_num_batched_tokens", &run->max_num_batched_tokens}}) {
    if (const auto number = NumberOf(kwargs->get_object(), field); number && *number >= 1) {
      *into = static_cast<uint32_t>(*number);
    }
  }
  return {};
}

}  // namespace

Result<VllmRun> ReadVllmRun(const std::string& folder) {
  VllmRun run;
  for (auto* const read : {&ReadMeta, &ReadRequests, &ReadTimeseries}) {
    if (auto done = read(folder, &run); !done) return std::unexpected(done.error());
  }
  return run;
}

}  // namespace penstock::lab
