#include "workload/recorded.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "core/text.h"
#include "wire/json_scan.h"
#include "workload/line_reader.h"
#include "workload/seeds.h"
#include "workload/trace_field.h"

namespace penstock::workload {
namespace {

constexpr uint32_t kMaxBlockTokens = 1 << 20;
constexpr uint64_t kMostTokens = kMostTraceTokens;

// What a line says of traffic; other lines have kind kOther.
struct Line {
  enum class Kind : uint8_t { kHead, kArrive, kEnd, kOther };
  Kind kind = Kind::kOther;
  int64_t t = 0;
  uint64_t n = 0;
  std::string model;
  std::string session;
  bool is_streamed = false;
  bool is_rejected = true;
  uint64_t max_output_tokens = 0;
  uint64_t tokens = 0;
  uint64_t block_tokens = 0;
  std::vector<uint64_t> keys;
  bool is_complete = false;
  bool has_usage = false;
  uint64_t input_tokens = 0, output_tokens = 0;
};

std::optional<uint64_t> ParseHex(std::string_view text) {
  uint64_t value = 0;
  for (const char c : text) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return std::nullopt;
    value = value << 4 | static_cast<uint64_t>(digit);
  }
  return value;
}

// The first of a request's chains of keys, or the one that stands for all.
std::string ReadKeys(wire::JsonScanner& json, Line* line) {
  wire::JsonString key;
  wire::JsonString text;
  line->keys.clear();
  for (json.EnterObject(); json.NextField(&key);) {
    if (key.raw == "size") {
      line->block_tokens = ParseUint(ReadScalar(json)).value_or(0);
      if (line->block_tokens == 0 || line->block_tokens > kMaxBlockTokens) return "size: no size";
    } else if (key.raw == "tokens") {
      const auto tokens = ParseUint(ReadScalar(json));
      if (json.ok() && !tokens) return "tokens: no number";
      if (line->tokens == 0) line->tokens = tokens.value_or(0);
    } else if (key.raw == "keys") {
      if (!json.ReadString(&text)) break;
      if (!ReadHexKeys(text.raw, &line->keys)) {
        return fmt::format("keys: not up to {} hexadecimal keys", kMaxRecordedKeys);
      }
    } else {
      json.Skip();
    }
  }
  return "";
}

std::string ReadPrefixes(wire::JsonScanner& json, Line* line) {
  bool is_first = true;
  for (json.EnterArray(); json.NextElement(); is_first = false) {
    if (!is_first) {
      json.Skip();
    } else if (std::string complaint = ReadKeys(json, line); !complaint.empty()) {
      return complaint;
    }
  }
  return "";
}

std::string ReadUint(wire::JsonScanner& json, std::string_view key, uint64_t* out) {
  const std::string_view text = ReadScalar(json);
  const auto value = ParseUint(text);
  if (json.ok() && !value) return fmt::format("{}: '{}' is no number", key, Utf8Prefix(text, 40));
  *out = value.value_or(0);
  return "";
}

// What is wrong with the line, or "".
std::string Parse(std::string_view text, Line* line) {
  wire::JsonScanner json(text);
  wire::JsonString key;
  std::string complaint;
  for (json.EnterObject(); complaint.empty() && json.NextField(&key);) {
    if (key.raw == "penstock_recording") {
      line->kind = Line::Kind::kHead;
      json.Skip();
    } else if (key.raw == "e") {
      const std::string_view kind = ReadScalar(json);
      line->kind = kind == "arrive" ? Line::Kind::kArrive
                   : kind == "end"  ? Line::Kind::kEnd
                                    : Line::Kind::kOther;
      if (line->kind == Line::Kind::kOther) return "";
    } else if (key.raw == "t") {
      const std::string_view number = ReadScalar(json);
      const auto value = ParseUint(number.starts_with('-') ? number.substr(1) : number);
      if (!value || *value > uint64_t{1} << 61) return "t: no time in nanoseconds";
      line->t =
          number.starts_with('-') ? -static_cast<int64_t>(*value) : static_cast<int64_t>(*value);
    } else if (key.raw == "n") {
      complaint = ReadUint(json, "n", &line->n);
    } else if (key.raw == "to") {
      line->is_rejected = false;
      json.Skip();
    } else if (key.raw == "target") {
      line->model = ReadScalar(json);
    } else if (key.raw == "session") {
      line->session = ReadScalar(json);
    } else if (key.raw == "stream") {
      json.ReadBool(&line->is_streamed);
    } else if (key.raw == "max") {
      complaint = ReadUint(json, "max", &line->max_output_tokens);
    } else if (key.raw == "tokens") {
      complaint = ReadUint(json, "tokens", &line->tokens);
    } else if (key.raw == "prefixes") {
      complaint = ReadPrefixes(json, line);
    } else if (key.raw == "prompt") {
      complaint = ReadKeys(json, line);
    } else if (key.raw == "kind") {
      line->is_complete = ReadScalar(json) == "complete";
    } else if (key.raw == "in") {
      line->has_usage = true;
      complaint = ReadUint(json, "in", &line->input_tokens);
    } else if (key.raw == "out") {
      complaint = ReadUint(json, "out", &line->output_tokens);
    } else {
      json.Skip();
    }
  }
  if (!complaint.empty()) return complaint;
  return json.Finish() ? "" : json.Complaint();
}

// The lines of a recording that say something of traffic.
class Lines {
 public:
  explicit Lines(LineReader reader) : reader_(std::move(reader)) {}

  // The next one; false at the end. Errors name the line.
  Result<bool> Next(Line* line) {
    for (;;) {
      std::string_view text;
      switch (reader_.Read(&text)) {
        case LineReader::Next::kEnd:
        case LineReader::Next::kCutOff:
          if (reader_.number() <= 1 && !has_head_) return Complain("is no recording");
          return false;
        case LineReader::Next::kTooLong:
          return Complain("the line is too long");
        case LineReader::Next::kUnreadable:
          return Complain(reader_.error());
        case LineReader::Next::kLine:
          break;
      }
      *line = {};
      const std::string complaint = Parse(text, line);
      if (!has_head_ && (line->kind != Line::Kind::kHead || !complaint.empty())) {
        return Complain("is no recording" + (complaint.empty() ? "" : ": " + complaint));
      }
      if (!complaint.empty()) return Complain(complaint);
      has_head_ = true;
      if (line->kind == Line::Kind::kArrive || line->kind == Line::Kind::kEnd) return true;
    }
  }

  std::unexpected<Error> Complain(std::string_view what) const {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}:{}: {}", reader_.name(), reader_.number(), what));
  }

 private:
  LineReader reader_;
  bool has_head_ = false;
};

// What has to be known of a recording before its first request can be sent.
struct Survey {
  double scale = 1;  // real tokens for each estimated one, over the whole file
  // By number of request: 1 + the answer's tokens; 0 when nobody knows.
  std::vector<uint32_t> answers;
};

Result<Survey> Look(Lines lines) {
  Survey survey;
  std::vector<uint32_t> estimates;  // by number
  double reported = 0;
  double estimated = 0;
  Line line;
  for (;;) {
    const auto more = lines.Next(&line);
    if (!more) return std::unexpected(more.error());
    if (!*more) break;
    if (line.kind == Line::Kind::kArrive) {
      if (line.n != estimates.size()) return lines.Complain("n: requests do not count up");
      estimates.push_back(static_cast<uint32_t>(std::min(line.tokens, kMostTokens)));
    } else if (line.n >= estimates.size()) {
      return lines.Complain("n: ends before it came");
    } else if (line.has_usage) {
      reported += static_cast<double>(line.input_tokens);
      estimated += estimates[line.n];
      if (!line.is_complete) continue;
      survey.answers.resize(estimates.size());
      survey.answers[line.n] = static_cast<uint32_t>(std::min(line.output_tokens, kMostTokens)) + 1;
    }
  }
  survey.answers.resize(estimates.size());
  if (reported > 0 && estimated > 0) survey.scale = std::clamp(reported / estimated, 0.01, 100.0);
  return survey;
}

class Recorded final : public Source {
 public:
  Recorded(Lines lines, Survey survey, const RecordedOptions& options)
      : lines_(std::move(lines)), survey_(std::move(survey)), options_(options) {
    Advance();
  }

  std::optional<Duration> NextAt() override {
    return next_ ? std::optional(next_->at) : std::nullopt;
  }
  Job Take() override {
    Job job = std::move(*next_);
    Advance();
    return job;
  }
  void OnEnd(const Job&, const JobEnd&) override {}
  std::vector<std::string> Skipped() const override {
    std::vector<std::string> out;
    if (unknown_ > 0) {
      out.push_back(
          fmt::format("{} requests: rejected or broken off, or their engine did not say "
                      "how long the answer was",
                      unknown_));
    }
    if (without_prompt_ > 0) {
      out.push_back(fmt::format("{} requests: without a prompt", without_prompt_));
    }
    return out;
  }
  std::optional<Error> Failure() const override { return next_ ? std::nullopt : failure_; }

 private:
  void Advance() {
    next_.reset();
    Line line;
    while (!next_) {
      const auto more = lines_.Next(&line);
      if (!more) failure_ = more.error();
      if (!more || !*more) return;
      if (line.kind != Line::Kind::kArrive) continue;
      const uint32_t answer = line.n < survey_.answers.size() ? survey_.answers[line.n] : 0;
      if (answer == 0) {
        ++unknown_;
      } else if (line.tokens == 0 || line.keys.empty()) {
        ++without_prompt_;
      } else {
        next_ = JobOf(line, answer - 1);
      }
    }
  }

  Job JobOf(const Line& line, uint32_t output_tokens) {
    Job job;
    const double nanos = static_cast<double>(line.t) / options_.rate_scale;
    job.at = last_ = std::max(last_, Duration(static_cast<int64_t>(std::clamp(nanos, 0.0, 9e18))));
    if (!line.session.empty()) job.session = ParseHex(line.session).value_or(0);
    job.is_streamed = line.is_streamed;
    job.max_output_tokens = static_cast<uint32_t>(std::min(line.max_output_tokens, kMostTokens));
    job.output_tokens = output_tokens;
    job.output_content = NumberOf(1, Purpose::kTraceAnswer, line.n);
    // A piece for each key; the last block is as long as what the others leave of the prompt, and
    // what goes beyond the keys is a text of its own.
    const auto block = static_cast<double>(line.block_tokens);
    auto left = static_cast<double>(std::min(line.tokens, kMostTokens));
    const auto scaled = [&](double tokens) {
      return static_cast<uint32_t>(std::max(1.0, std::round(tokens * survey_.scale)));
    };
    job.prompt.reserve(line.keys.size() + 1);
    for (const uint64_t key : line.keys) {
      job.prompt.push_back(
          {NumberOf(1, Purpose::kTraceBlock, key), scaled(std::clamp(left, 1.0, block))});
      left -= block;
    }
    if (left >= 1) {
      job.prompt.push_back({NumberOf(1, Purpose::kTraceRequest, line.n), scaled(left)});
    }
    return job;
  }

  Lines lines_;
  const Survey survey_;
  const RecordedOptions options_;
  std::optional<Job> next_;
  Duration last_{0};
  uint64_t unknown_ = 0;
  uint64_t without_prompt_ = 0;
  std::optional<Error> failure_;
};

}  // namespace

bool ReadHexKeys(std::string_view text, std::vector<uint64_t>* keys) {
  if (text.size() % 16 != 0 || text.size() / 16 > kMaxRecordedKeys) return false;
  keys->reserve(text.size() / 16);
  for (size_t i = 0; i < text.size(); i += 16) {
    const auto key = ParseHex(text.substr(i, 16));
    if (!key) return false;
    keys->push_back(*key);
  }
  return true;
}

Result<std::unique_ptr<Source>> ReadRecorded(const std::function<Result<LineReader>()>& open,
                                             const RecordedOptions& options) {
  auto first = open();
  if (!first) return std::unexpected(first.error());
  auto survey = Look(Lines(std::move(*first)));
  if (!survey) return std::unexpected(survey.error());
  auto second = open();
  if (!second) return std::unexpected(second.error());
  return std::make_unique<Recorded>(Lines(std::move(*second)), std::move(*survey), options);
}

}  // namespace penstock::workload
