#include <algorithm>
#include <string>
#include <utility>

#include "workload/seeds.h"
#include "workload/trace_field.h"
#include "workload/trace_source.h"

namespace penstock::workload {
namespace {

constexpr uint32_t kBlockTokens = 512;
constexpr double kMostMillis = 9e12;

class Mooncake final : public TraceFormat {
 public:
  explicit Mooncake(bool passes_unknown) : passes_unknown_(passes_unknown) {}

  Verdict Parse(std::string_view line, uint64_t ordinal, TraceRow* row, LineFault* fault) override {
    std::string_view timestamp;
    std::string_view input;
    std::string_view output;
    has_ids_ = false;
    ids_.clear();
    wire::JsonScanner json(line);
    wire::JsonString key;
    for (json.EnterObject(); json.NextField(&key);) {
      if (key.raw == "timestamp") {
        timestamp = ReadScalar(json);
      } else if (key.raw == "input_length") {
        input = ReadScalar(json);
      } else if (key.raw == "output_length") {
        output = ReadScalar(json);
      } else if (key.raw == "hash_ids") {
        if (!ReadIds(json, fault)) return Verdict::kBad;
      } else if (!passes_unknown_) {
        return Blame(fault, kUnknown,
                     "'" + std::string(Utf8Prefix(key.raw, 40)) +
                         "'; known are timestamp, input_length, output_length and hash_ids");
      } else {
        ++unknown_fields_;
        json.Skip();
      }
    }
    if (!json.Finish()) return Blame(fault, kNotJson, json.Complaint());
    for (const auto& [name, is_there] :
         {std::pair{"timestamp", !timestamp.empty()}, std::pair{"input_length", !input.empty()},
          std::pair{"output_length", !output.empty()}, std::pair{"hash_ids", has_ids_}}) {
      if (!is_there) return Blame(fault, kMissing, std::string("there is no ") + name);
    }
    uint32_t tokens = 0;
    if (!ReadTokens("input_length", input, &tokens, fault)) return Verdict::kBad;
    if (!ReadTokens("output_length", output, &row->job.output_tokens, fault)) return Verdict::kBad;
    const auto whole = ParseUint(timestamp);
    const auto millis = whole ? std::optional(static_cast<double>(*whole)) : ParseDouble(timestamp);
    if (!millis || *millis < 0 || *millis > kMostMillis) {
      return Blame(
          fault, kBadNumber,
          "timestamp is '" + std::string(Utf8Prefix(timestamp, 40)) + "', not milliseconds");
    }
    row->time_ns = static_cast<int64_t>(*millis * 1e6);
    return Blocks(tokens, ordinal, row, fault);
  }

  std::vector<std::string> Notes() const override {
    if (unknown_fields_ == 0) return {};
    return {std::to_string(unknown_fields_) + " fields: unknown, passed over"};
  }

 private:
  bool ReadIds(wire::JsonScanner& json, LineFault* fault) {
    has_ids_ = json.Peek() == wire::JsonScanner::Kind::kArray;
    for (json.EnterArray(); json.NextElement();) {
      std::string_view digits;
      json.ReadNumber(&digits);
      const auto id = ParseUint(digits);
      if (!json.ok()) break;
      if (!id) {
        Blame(fault, kBadNumber, "hash_ids has '" + std::string(Utf8Prefix(digits, 40)) + "'");
        return false;
      }
      ids_.push_back(*id);
    }
    return true;  // what is no array of numbers stops the scanner
  }

  Verdict Blocks(uint32_t tokens, uint64_t ordinal, TraceRow* row, LineFault* fault) const {
    const uint32_t blocks = (tokens - 1) / kBlockTokens + 1;
    if (ids_.size() != blocks) {
      return Blame(fault, "hash ids do not fit the prompt",
                   std::to_string(ids_.size()) + " ids for " + std::to_string(tokens) +
                       " tokens, which are " + std::to_string(blocks) + " blocks of 512");
    }
    row->job.prompt.reserve(blocks);
    for (uint32_t i = 0; i < blocks; ++i) {
      const uint32_t left = tokens - i * kBlockTokens;
      row->job.prompt.push_back(
          {NumberOf(0, Purpose::kTraceBlock, ids_[i]), std::min(left, kBlockTokens)});
    }
    row->job.output_content = NumberOf(0, Purpose::kTraceAnswer, ordinal);
    return Verdict::kRow;
  }

  const bool passes_unknown_;
  std::vector<uint64_t> ids_;
  bool has_ids_ = false;
  uint64_t unknown_fields_ = 0;
};

}  // namespace

std::unique_ptr<Source> ReadMooncake(LineReader lines, const TraceOptions& options) {
  return MakeTraceSource(std::move(lines), std::make_unique<Mooncake>(options.skips_bad_lines),
                         options);
}

}  // namespace penstock::workload
