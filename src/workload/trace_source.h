// Traces: files with a line for each request that was once made. A format turns lines into rows;
// everything else is the same for all: reading ahead one request, time since the first one, bad
// lines.
//
// A bad line ends the traffic with Source::Failure() "FILE:LINE: ..."; or, when asked, it is left
// out and counted by reason. Time that goes back is a bad line too; when bad lines are left out
// such a request is kept and sent at the time of the one before. A file without any request is a
// failure too.
//
// THREADS: belongs to its caller. COST: memory of one line, and of what a format keeps.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "workload/line_reader.h"
#include "workload/workload.h"

namespace penstock::workload {

struct TraceOptions {
  double rate_scale = 1;  // how many times as fast
  bool skips_bad_lines = false;
};

struct TraceRow {
  int64_t time_ns = 0;        // on the trace's axis, not negative
  uint32_t input_tokens = 0;  // for formats that make the prompt later
  Job job;
};

// Why a line is bad: `reason` is one of few texts, which are counted; `detail` goes with it in
// errors.
struct LineFault {
  std::string_view reason;
  std::string detail;
};

class TraceFormat {
 public:
  enum class Verdict : uint8_t {
    kRow,
    kNothing,  // a header, or what is no request; when fault->reason is set that is counted
    kBad,
    kFatal,  // bad in a way that no line after it could be read
  };
  virtual ~TraceFormat() = default;
  // Fills `*row`, or `*fault`. `ordinal` counts the lines that were handed in.
  virtual Verdict Parse(std::string_view line, uint64_t ordinal, TraceRow* row,
                        LineFault* fault) = 0;
  // Called for each row in the order in which they are sent, before it is.
  virtual void Complete(TraceRow*) {}
  // So many rows are held to put them in order of time.
  virtual size_t reordered_rows() const { return 0; }
  // Notes for Skipped() about the file as a whole.
  virtual std::vector<std::string> Notes() const { return {}; }
};

std::unique_ptr<Source> MakeTraceSource(LineReader lines, std::unique_ptr<TraceFormat> format,
                                        const TraceOptions& options);

// JSON lines: timestamp (milliseconds), input_length, output_length, hash_ids (one for each block
// of 512 tokens; the last may be shorter). Equal ids are equal prefixes: a piece for each.
// SOURCE: kvcache-ai/Mooncake, FAST25-release.
std::unique_ptr<Source> ReadMooncake(LineReader lines, const TraceOptions& options);

// CSV with the columns TIMESTAMP, ContextTokens and GeneratedTokens in any order. Every prompt is
// text of its own. SOURCE: Azure/AzurePublicDataset, 2023 and 2024 LLM inference traces.
std::unique_ptr<Source> ReadAzure(LineReader lines, const TraceOptions& options);

// OpenTelemetry spans of GenAI clients as JSON lines, a span each; attributes in the span itself,
// in an object `attributes`, or in OTLP's arrays of {"key", "value"}. Spans of one
// gen_ai.conversation.id are turns: a prompt begins with the prompt and answer before it as far as
// the lengths allow. Spans are written when they end, so up to 1024 are held to put them in order
// of their start. At most 4096 conversations are remembered, the ones used last, of at most 1024
// pieces each: 64 MiB. A request's group is its model, numbered from 0 as they come (255: others).
// SOURCE: OpenTelemetry semantic conventions for generative AI; OTLP/JSON.
std::unique_ptr<Source> ReadOpenTelemetry(LineReader lines, const TraceOptions& options);

// Nanoseconds since 1970 of "2023-11-16 18:15:46.6805900", with 'T' or a space, up to nine digits
// of a second, and maybe "Z" or "+01:00" at the end; nothing for other text and for years before
// 1970 or after 2200.
std::optional<int64_t> ParseTimestamp(std::string_view text);

}  // namespace penstock::workload
