#include "lab/vllm_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <string_view>
#include <utility>

#include "core/csv.h"
#include "core/file.h"
#include "workload/line_reader.h"

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

struct Row {
  double prompt = 0, output = 0, queued = 0, scheduled = 0, first = 0, last = 0;
};

Result<Row> ReadRow(std::string_view line) {
  boost::system::error_code error;
  const json::value value = json::parse(line, error);
  if (error || !value.is_object()) {
    return Fail(Code::kInvalidArgument, "not a JSON object: is the line cut off?");
  }
  Row row;
  for (const auto& [field, into] :
       {std::pair{"input_toks", &row.prompt}, std::pair{"output_toks", &row.output},
        std::pair{"queued_ts", &row.queued}, std::pair{"scheduled_ts", &row.scheduled},
        std::pair{"first_token_ts", &row.first}, std::pair{"last_token_ts", &row.last}}) {
    auto number = NumberOf(value.get_object(), field);
    if (!number) return std::unexpected(number.error());
    *into = *number;
  }
  if (row.prompt < 1 || row.output < 1 || row.prompt > UINT32_MAX || row.output > UINT32_MAX) {
    return Fail(Code::kOutOfRange, "input_toks and output_toks must be 1 at least");
  }
  if (row.first < row.queued || row.last < row.first) {
    return Fail(Code::kInvalidArgument, "times go backwards");
  }
  return row;
}

Result<> ReadRequests(const std::string& folder, VllmRun* run) {
  const std::string path = folder + "/requests.jsonl";
  const auto text = ReadFile(path, kMaxFileBytes);
  if (!text) return std::unexpected(text.error());
  std::vector<Row> rows;
  auto lines = workload::LineReader::OfText(*text, path);
  using Next = workload::LineReader::Next;
  std::string_view line;
  for (Next next = lines.Read(&line); next != Next::kEnd; next = lines.Read(&line)) {
    if (next == Next::kLine && line.empty()) continue;
    auto row = ReadRow(next == Next::kLine ? line : "");
    if (!row) {
      return Fail(row.error().code,
                  fmt::format("{}:{}: {}", path, lines.number(), row.error().message));
    }
    rows.push_back(*row);
  }
  if (rows.empty()) return Fail(Code::kInvalidArgument, path + ": no request");
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return a.queued < b.queued; });
  const double start = rows.front().queued;
  for (const Row& row : rows) {
    const Duration arrival = FromSeconds(row.queued - start);
    run->requests.push_back(
        {arrival, static_cast<uint32_t>(row.prompt), static_cast<uint32_t>(row.output)});
    run->times.push_back({arrival, FromSeconds(row.scheduled - start),
                          FromSeconds(row.first - start), FromSeconds(row.last - start)});
  }
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
