#include "lab/request_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "core/csv.h"
#include "core/file.h"
#include "core/text.h"
#include "workload/line_reader.h"

namespace penstock::lab {
namespace {

namespace json = boost::json;

constexpr size_t kMaxFileBytes = 256 << 20;
constexpr double kMostTokens = 100'000'000;
constexpr double kMostSeconds = 1e9;  // of a log

// A name that a value goes by.
struct Name {
  std::string_view text;
  double scale = 1;  // to seconds
  bool is_since_arrival = false;
};
constexpr Name kArrival[] = {
    {"queued_ts"}, {"arrival_s"}, {"arrival_ms", 1e-3}, {"unix_micros", 1e-6}};
constexpr Name kPrompt[] = {{"input_toks"}, {"input_tokens"}, {"prompt_tokens"}};
constexpr Name kOutput[] = {{"output_toks"}, {"output_tokens"}, {"completion_tokens"}};
constexpr Name kFirst[] = {{"first_token_ts"}, {"ttft_s", 1, true}, {"ttft_ms", 1e-3, true}};
constexpr Name kEnd[] = {{"last_token_ts"}, {"end_ts"}, {"e2e_s", 1, true}, {"e2e_ms", 1e-3, true}};
constexpr Name kCached[] = {{"cached_tokens"}};
constexpr std::string_view kEndpoint = "endpoint";

// A row's values by their names: nothing where there is no such column, "" where it is empty.
using Values = std::function<std::optional<std::string>(std::string_view name)>;

struct Row {
  double arrival = 0, prompt = 0, output = 0, first = 0, end = 0, cached = 0;
};

class LogReader {
 public:
  LogReader(std::string_view file, std::string_view endpoint) : file_(file), endpoint_(endpoint) {}

  Result<> Read(std::string_view text) {
    boost::system::error_code error;
    const json::value whole = json::parse(text, error);
    if (!error && whole.is_array()) return ReadArray(whole.get_array());
    if (!error && whole.is_object()) {
      const json::value* const decisions = whole.get_object().if_contains("decisions");
      if (decisions != nullptr && decisions->is_array()) return ReadArray(decisions->get_array());
    }
    return ReadLines(text);
  }
  Result<RequestLog> Finish();

 private:
  Error Complaint(std::string_view what) const {
    return {Code::kInvalidArgument, fmt::format("{}:{}: {}", file_, line_, what)};
  }
  void Skip(std::string_view reason);
  Result<> ReadArray(const json::array& rows);
  Result<> ReadLines(std::string_view text);
  Result<> ReadObject(const json::value& value);
  Result<> ReadCells(std::span<const std::string> header, std::string_view line);
  Result<> Use(const Values& values);
  // The value by one of its names, in seconds or tokens, which `found` gets; nothing: not a number.
  // kInvalidArgument: the row has none of them.
  Result<std::optional<double>> Number(const Values& values, std::span<const Name> names,
                                       Name* found = nullptr) const;

  const std::string_view file_, endpoint_;
  size_t line_ = 0;
  std::string seen_endpoint_;
  std::vector<Row> rows_;
  RequestLog log_;
};

void LogReader::Skip(std::string_view reason) {
  const auto found = std::find_if(log_.skipped.begin(), log_.skipped.end(),
                                  [&](const auto& skipped) { return skipped.reason == reason; });
  if (found != log_.skipped.end()) {
    ++found->count;
  } else {
    log_.skipped.push_back({std::string(reason), 1, line_});
  }
}

Result<> LogReader::ReadArray(const json::array& rows) {
  for (const json::value& row : rows) {
    ++line_;  // the complaints count rows
    ++log_.rows;
    if (auto read = ReadObject(row); !read) return read;
  }
  return {};
}

Result<> LogReader::ReadLines(std::string_view text) {
  using Next = workload::LineReader::Next;
  auto lines = workload::LineReader::OfText(text, std::string(file_));
  std::vector<std::string> header;
  std::string_view line;
  for (Next next = lines.Read(&line); next != Next::kEnd; next = lines.Read(&line)) {
    line_ = lines.number();
    const bool is_for_people = line.empty() || line.starts_with('#');
    if (next == Next::kLine && is_for_people) continue;
    if (next == Next::kLine && header.empty() && !line.starts_with('{')) {
      for (const std::string_view cell : SplitCells(line)) header.emplace_back(TrimSpace(cell));
      continue;
    }
    ++log_.rows;
    if (next != Next::kLine) {
      Skip("too long");
    } else if (!header.empty()) {
      if (auto read = ReadCells(header, line); !read) return read;
    } else {
      boost::system::error_code error;
      const json::value value = json::parse(line, error);
      if (auto read = ReadObject(error ? json::value() : value); !read) return read;
    }
  }
  return {};
}

Result<> LogReader::ReadObject(const json::value& value) {
  if (!value.is_object()) {
    Skip("cut off or no JSON object");
    return {};
  }
  return Use([&](std::string_view name) -> std::optional<std::string> {
    const json::value* const found = value.get_object().if_contains(name);
    if (found == nullptr) return std::nullopt;
    if (found->is_null()) return "";
    if (found->is_string()) return std::string(found->get_string());
    return json::serialize(*found);
  });
}

Result<> LogReader::ReadCells(std::span<const std::string> header, std::string_view line) {
  const auto cells = SplitCells(line);
  if (cells.size() != header.size()) {
    Skip("cut off, or other cells than the header");
    return {};
  }
  return Use([&](std::string_view name) -> std::optional<std::string> {
    const auto found = std::find(header.begin(), header.end(), name);
    if (found == header.end()) return std::nullopt;
    return std::string(TrimSpace(cells[static_cast<size_t>(found - header.begin())]));
  });
}

Result<std::optional<double>> LogReader::Number(const Values& values, std::span<const Name> names,
                                                Name* found) const {
  std::string known;
  for (const Name& name : names) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", name.text);
    const auto text = values(name.text);
    if (!text) continue;
    if (found != nullptr) *found = name;
    const auto number = ParseDouble(*text);
    return number ? std::optional(*number * name.scale) : std::nullopt;
  }
  return std::unexpected(Complaint("none of the fields " + known));
}

Result<> LogReader::Use(const Values& values) {
  if (const auto endpoint = values(kEndpoint); endpoint && !endpoint->empty()) {
    if (!endpoint_.empty() && *endpoint != endpoint_) {
      Skip("of another endpoint");
      return {};
    }
    if (seen_endpoint_.empty()) seen_endpoint_ = *endpoint;
    if (*endpoint != seen_endpoint_) {
      return std::unexpected(Complaint(fmt::format(
          "requests of '{}' and of '{}': name one endpoint", seen_endpoint_, *endpoint)));
    }
  }
  Row row;
  Name first_name, end_name;
  const std::tuple<std::span<const Name>, double*, Name*> wanted[] = {
      {kArrival, &row.arrival, nullptr}, {kPrompt, &row.prompt, nullptr},
      {kOutput, &row.output, nullptr},   {kFirst, &row.first, &first_name},
      {kEnd, &row.end, &end_name},
  };
  bool is_whole = true;
  for (const auto& [names, into, found] : wanted) {
    const auto number = Number(values, names, found);
    if (!number) return std::unexpected(number.error());
    is_whole &= number->has_value();
    *into = number->value_or(0);
  }
  if (const auto cached = Number(values, kCached); cached) row.cached = cached->value_or(0);
  if (!is_whole) {
    Skip("without a number where one must be");
    return {};
  }
  if (first_name.is_since_arrival) row.first += row.arrival;
  if (end_name.is_since_arrival) row.end += row.arrival;
  if (row.prompt < 1 || row.output < 1) {
    Skip("without tokens");
  } else if (row.prompt > kMostTokens || row.output > kMostTokens) {
    Skip("with too many tokens");
  } else if (row.first < row.arrival || row.end < row.first) {
    Skip("times go backwards");
  } else {
    row.cached = std::clamp(row.cached, 0.0, row.prompt - 1);
    rows_.push_back(row);
  }
  return {};
}

Result<RequestLog> LogReader::Finish() {
  if (rows_.empty()) {
    const std::string skipped = SkippedText(log_);
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: no request{}{}", file_, skipped.empty() ? "" : "; ", skipped));
  }
  std::stable_sort(rows_.begin(), rows_.end(),
                   [](const Row& a, const Row& b) { return a.arrival < b.arrival; });
  const double start = rows_.front().arrival;
  for (const Row& row : rows_) {
    if (row.end - start > kMostSeconds) {
      return Fail(Code::kOutOfRange,
                  fmt::format("{}: the log is longer than {:.0e} s", file_, kMostSeconds));
    }
    const Duration arrival = FromSeconds(row.arrival - start);
    log_.requests.push_back({.arrival = arrival,
                             .prompt_tokens = static_cast<uint32_t>(row.prompt),
                             .output_tokens = static_cast<uint32_t>(row.output),
                             .cached_tokens = static_cast<uint32_t>(row.cached)});
    RunTimes& times = log_.times.emplace_back();
    times.sent = arrival;
    times.last_token = FromSeconds(row.end - start);
    if (row.output < 2 || row.end > row.first) times.first_token = FromSeconds(row.first - start);
  }
  return std::move(log_);
}

}  // namespace

Result<RequestLog> ParseRequestLog(std::string_view text, std::string_view file,
                                   std::string_view endpoint) {
  LogReader reader(file, endpoint);
  if (auto read = reader.Read(text); !read) return std::unexpected(read.error());
  return reader.Finish();
}

Result<RequestLog> ReadRequestLog(const std::string& path, std::string_view endpoint) {
  const auto text = ReadFile(path, kMaxFileBytes);
  if (!text) return std::unexpected(text.error());
  return ParseRequestLog(*text, path, endpoint);
}

std::string SkippedText(const RequestLog& log) {
  std::string out;
  for (const RequestLog::Skipped& skipped : log.skipped) {
    out += fmt::format("{}{} row{} {} (first at line {})", out.empty() ? "" : "; ", skipped.count,
                       skipped.count == 1 ? ":" : "s:", skipped.reason, skipped.first_line);
  }
  return out;
}

}  // namespace penstock::lab
