#include "lab/vllm_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "core/file.h"
#include "core/text.h"

namespace penstock::lab {
namespace {

namespace json = boost::json;

constexpr size_t kMaxFileBytes = 256 << 20;

// Calls `use` for each line that is not empty, with its number from 1.
template <class Use>
Result<> ForEachLine(std::string_view text, const Use& use) {
  for (size_t number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.empty()) continue;
    if (auto used = use(line, number); !used) return used;
  }
  return {};
}

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
  auto read = ForEachLine(*text, [&](std::string_view line, size_t number) -> Result<> {
    auto row = ReadRow(line);
    if (!row)
      return Fail(row.error().code, fmt::format("{}:{}: {}", path, number, row.error().message));
    rows.push_back(*row);
    return {};
  });
  if (!read) return read;
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
  constexpr std::string_view kColumns[] = {"t", "running", "waiting"};
  std::optional<size_t> places[3];
  return ForEachLine(*text, [&](std::string_view line, size_t number) -> Result<> {
    double values[3] = {};
    for (size_t field = 0;; ++field) {
      const size_t comma = line.find(',');
      const std::string_view cell = line.substr(0, comma);
      for (size_t i = 0; i < 3; ++i) {
        if (number == 1 && cell == kColumns[i]) places[i] = field;
        if (number == 1 || places[i] != field) continue;
        const auto value = ParseDouble(cell);
        if (!value || *value < 0) {
          return Fail(Code::kInvalidArgument,
                      fmt::format("{}:{}: '{}' is no number from 0 on", path, number, cell));
        }
        values[i] = *value;
      }
      if (comma == std::string_view::npos) break;
      line.remove_prefix(comma + 1);
    }
    for (size_t i = 0; i < 3; ++i) {
      if (!places[i]) {
        return Fail(Code::kInvalidArgument, fmt::format("{}: no column '{}'", path, kColumns[i]));
      }
    }
    if (number > 1) {
      run->samples.push_back({FromSeconds(values[0]), static_cast<uint32_t>(values[1]),
                              static_cast<uint32_t>(values[2]), 0});
    }
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
