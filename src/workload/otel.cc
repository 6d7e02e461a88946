#include <algorithm>
#include <list>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "workload/seeds.h"
#include "workload/trace_field.h"
#include "workload/trace_source.h"

namespace penstock::workload {
namespace {

constexpr size_t kReorderedRows = 1024;
constexpr size_t kMostConversations = 4096;
constexpr size_t kMostPieces = 1024;
constexpr size_t kMostModels = 255;
constexpr std::string_view kBadTime = "a time is not one";

// FNV-1a, then spread; never 0, which means no conversation.
uint64_t HashOf(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  }
  return std::max<uint64_t>(Mixed(hash), 1);
}

// What matters of a span, as it stands in the line; "": not there.
struct Span {
  std::string_view start;
  std::string_view end;
  std::string_view operation;
  std::string_view model;
  std::string_view conversation;
  std::string_view input;
  std::string_view output;
  std::string_view max_tokens;
  bool is_envelope = false;

  std::string_view* Attribute(std::string_view name) {
    if (name == "gen_ai.usage.input_tokens" || name == "gen_ai.usage.prompt_tokens") return &input;
    if (name == "gen_ai.usage.output_tokens" || name == "gen_ai.usage.completion_tokens") {
      return &output;
    }
    if (name == "gen_ai.request.model") return &model;
    if (name == "gen_ai.request.max_tokens") return &max_tokens;
    if (name == "gen_ai.conversation.id") return &conversation;
    if (name == "gen_ai.operation.name") return &operation;
    return nullptr;
  }
  std::string_view* Field(std::string_view name) {
    if (name == "startTimeUnixNano" || name == "start_time_unix_nano" || name == "startTime" ||
        name == "start_time") {
      return &start;
    }
    if (name == "endTimeUnixNano" || name == "end_time_unix_nano" || name == "endTime" ||
        name == "end_time") {
      return &end;
    }
    return Attribute(name);
  }
  // Agents and tools report the tokens of the calls within them once more.
  bool IsModelCall() const {
    if (operation == "execute_tool" || operation == "invoke_agent" || operation == "create_agent" ||
        operation == "embeddings") {
      return false;
    }
    return !input.empty() || !output.empty() || !model.empty();
  }
};

// A plain value, or OTLP's {"intValue": "12"}.
std::string_view ReadValue(wire::JsonScanner& json) {
  if (json.Peek() != wire::JsonScanner::Kind::kObject) return ReadScalar(json);
  std::string_view value;
  wire::JsonString key;
  for (json.EnterObject(); json.NextField(&key);) {
    const std::string_view scalar = ReadScalar(json);
    if (!scalar.empty()) value = scalar;
  }
  return value;
}

void ReadAttributes(wire::JsonScanner& json, Span* span) {
  wire::JsonString key;
  if (json.Peek() == wire::JsonScanner::Kind::kObject) {
    for (json.EnterObject(); json.NextField(&key);) {
      std::string_view* place = span->Attribute(key.raw);
      if (place != nullptr) {
        *place = ReadValue(json);
      } else {
        json.Skip();
      }
    }
    return;
  }
  for (json.EnterArray(); json.NextElement();) {
    std::string_view name;
    std::string_view value;
    for (json.EnterObject(); json.NextField(&key);) {
      if (key.raw == "key") {
        name = ReadScalar(json);
      } else if (key.raw == "value") {
        value = ReadValue(json);
      } else {
        json.Skip();
      }
    }
    if (std::string_view* place = span->Attribute(name); place != nullptr) *place = value;
  }
}

// Nanoseconds since 1970, as a number or as a date.
std::optional<int64_t> TimeOf(std::string_view text) {
  if (const auto nanos = ParseUint(text)) {
    if (*nanos > static_cast<uint64_t>(9e18)) return std::nullopt;
    return static_cast<int64_t>(*nanos);
  }
  return ParseTimestamp(text);
}

// What a conversation said so far, for those that spoke last.
class Memory {
 public:
  struct Talk {
    uint64_t session;
    uint64_t turns = 0;
    std::vector<Piece> pieces;
  };

  Talk& Of(uint64_t session) {
    const auto found = places_.find(session);
    if (found != places_.end()) {
      talks_.splice(talks_.begin(), talks_, found->second);
      return talks_.front();
    }
    if (talks_.size() == kMostConversations) {
      places_.erase(talks_.back().session);
      talks_.pop_back();
      ++forgotten_;
    }
    talks_.push_front({.session = session});
    places_[session] = talks_.begin();
    return talks_.front();
  }
  uint64_t forgotten() const { return forgotten_; }

 private:
  std::list<Talk> talks_;  // the one used last comes first
  std::unordered_map<uint64_t, std::list<Talk>::iterator> places_;
  uint64_t forgotten_ = 0;
};

class OpenTelemetry final : public TraceFormat {
 public:
  Verdict Parse(std::string_view line, uint64_t ordinal, TraceRow* row, LineFault* fault) override {
    Span span;
    wire::JsonScanner json(line);
    wire::JsonString key;
    for (json.EnterObject(); json.NextField(&key);) {
      if (key.raw == "attributes") {
        ReadAttributes(json, &span);
      } else if (std::string_view* place = span.Field(key.raw); place != nullptr) {
        *place = ReadValue(json);
      } else {
        span.is_envelope |= key.raw == "resourceSpans";
        json.Skip();
      }
    }
    if (!json.Finish()) return Blame(fault, kNotJson, json.Complaint());
    if (span.is_envelope) {
      return Blame(fault, "not one span",
                   "an OTLP envelope; take the spans out of it: "
                   "jq -c '.resourceSpans[].scopeSpans[].spans[]'");
    }
    if (!span.IsModelCall()) {
      *fault = {"no model call", ""};
      return Verdict::kNothing;
    }
    return Convert(span, ordinal, row, fault);
  }

  void Complete(TraceRow* row) override {
    Job& job = row->job;
    if (job.session == 0) return;
    Memory::Talk& talk = memory_.Of(job.session);
    uint32_t left = row->input_tokens;
    for (const Piece& piece : talk.pieces) {
      if (left == 0) break;
      job.prompt.push_back({piece.content, std::min(left, piece.tokens)});
      left -= job.prompt.back().tokens;
    }
    if (left > 0) {
      job.prompt.push_back({NumberOf(1, Purpose::kTraceRequest, job.session, talk.turns), left});
    }
    job.output_content = NumberOf(1, Purpose::kTraceAnswer, job.session, talk.turns);
    ++talk.turns;
    talk.pieces = job.prompt;
    talk.pieces.push_back({job.output_content, job.output_tokens});
    if (talk.pieces.size() > kMostPieces) talk.pieces = {};
  }

  size_t reordered_rows() const override { return kReorderedRows; }

  std::vector<std::string> Notes() const override {
    if (memory_.forgotten() == 0) return {};
    return {std::to_string(memory_.forgotten()) +
            " times a conversation was forgotten, because 4096 others spoke after it"};
  }

 private:
  Verdict Convert(const Span& span, uint64_t ordinal, TraceRow* row, LineFault* fault) {
    if (span.start.empty()) return Blame(fault, kMissing, "there is no startTimeUnixNano");
    const auto start = TimeOf(span.start);
    const auto end = span.end.empty() ? start : TimeOf(span.end);
    if (!start || !end) {
      const std::string_view text = start ? span.end : span.start;
      return Blame(fault, kBadTime, "'" + std::string(Utf8Prefix(text, 40)) + "'");
    }
    if (*end < *start) return Blame(fault, "a span ends before it begins", "");
    if (span.input.empty()) return Blame(fault, kMissing, "there is no gen_ai.usage.input_tokens");
    if (span.output.empty()) {
      return Blame(fault, kMissing, "there is no gen_ai.usage.output_tokens");
    }
    Job& job = row->job;
    row->time_ns = *start;
    if (!ReadTokens("gen_ai.usage.input_tokens", span.input, &row->input_tokens, fault) ||
        !ReadTokens("gen_ai.usage.output_tokens", span.output, &job.output_tokens, fault)) {
      return Verdict::kBad;
    }
    if (!span.max_tokens.empty() &&
        !ReadTokens("gen_ai.request.max_tokens", span.max_tokens, &job.max_output_tokens, fault)) {
      return Verdict::kBad;
    }
    job.group = GroupOf(span.model);
    if (!span.conversation.empty()) {
      job.session = HashOf(span.conversation);  // Complete makes the prompt
    } else {
      job.prompt.push_back({NumberOf(0, Purpose::kTraceRequest, ordinal), row->input_tokens});
      job.output_content = NumberOf(0, Purpose::kTraceAnswer, ordinal);
    }
    return Verdict::kRow;
  }

  uint32_t GroupOf(std::string_view model) {
    const auto found = models_.find(model);
    if (found != models_.end()) return found->second;
    const auto number = static_cast<uint32_t>(models_.size());
    if (number == kMostModels) return number;
    models_.emplace(std::string(model), number);
    return number;
  }

  Memory memory_;
  std::map<std::string, uint32_t, std::less<>> models_;
};

}  // namespace

std::unique_ptr<Source> ReadOpenTelemetry(LineReader lines, const TraceOptions& options) {
  return MakeTraceSource(std::move(lines), std::make_unique<OpenTelemetry>(), options);
}

}  // namespace penstock::workload
