// Writes a recording: everything that the brain is told and decides, as JSON lines in a Zstandard
// stream, without prompts and with tokens in the place of what is private.
// docs/design/0003-recordings.md has the format's why, docs/recordings.md its fields.
//
// THREADS: a Journal's; a thread of its own compresses and writes. COST: a line's text, 10 ns a
// block key; the disk is never waited for. MEMORY: twice 16 MiB of lines, 48 MiB to compress.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "director/journal.h"
#include "model/columns.h"
#include "sched/plugin.h"
#include "workload/recorded.h"

namespace penstock::recording {

inline constexpr int kFormat = 1;
// The longest line; a request whose keys need more ends the recording.
inline constexpr size_t kMaxLineBytes = workload::kMaxRecordedLineBytes;
inline constexpr size_t kMaxKeys = workload::kMaxRecordedKeys;
// Tokens of a block where no plugin has keys of its own, and how much of a prompt is looked at.
inline constexpr uint32_t kBlockTokens = 64;
inline constexpr uint32_t kMaxKeyedTokens = 131072;

// How a match came about, in a line: 'e' exact, 'd' degraded, 'a' approximate.
constexpr char LetterOf(model::MatchSource source) {
  switch (source) {
    case model::MatchSource::kExact:
      return 'e';
    case model::MatchSource::kDegraded:
      return 'd';
    case model::MatchSource::kApproximate:
      break;
  }
  return 'a';
}

struct RecorderOptions {
  std::string path;
  uint64_t max_bytes = 1u << 30;  // of the file
  size_t max_waiting_bytes = 16 << 20;
  // For the head: what a replay needs to know.
  std::string version;
  std::string policy;      // for people
  std::string scheduling;  // sched::ToYaml
  uint32_t max_endpoints = 1024;
  uint32_t max_tries = 2;
  double retry_budget_ratio = 0.2;
  int64_t unix_micros = 0;  // the wall clock at `start`
  Time start;
  std::vector<sched::HeaderUse> headers;  // that decisions look at
  std::vector<std::string> attributes;    // of engines' metrics, in the order of scrapes
};

struct RecorderStats {
  uint64_t events = 0;
  uint64_t bytes = 0;  // of the file
  bool is_open = false;
  std::string ended;  // why it is not open any more
};

class Recorder final : public director::Journal {
 public:
  // Writes to PATH.part for now. The error names the path: it is no file that can be written, or
  // another gateway records there.
  static Result<std::unique_ptr<Recorder>> Open(RecorderOptions options);
  // Makes PATH the recording; what stood there is kept as PATH.1. To be called when nothing can
  // keep the gateway from serving any more: a start that fails takes no recording away.
  Result<> Keep();
  // Writes what waits, and that the gateway stopped. One that was not kept is gone.
  ~Recorder() override;

  RecorderStats Stats() const;

  std::string Describe(sched::RequestContext* context) override;
  uint32_t OnLane(uint64_t seed) override;
  uint64_t OnArrived(uint32_t lane, std::string described, const director::DecisionRecord& record,
                     int status, Matches matches, Time now) override;
  void OnServedBy(uint64_t request, std::string_view endpoint, Matches matches, Time now) override;
  void OnTryFailed(uint64_t request, director::TryFailure failure, std::string_view next,
                   Matches matches, Time now) override;
  void OnFirstChunk(uint64_t request, Time now) override;
  void OnEnded(uint64_t request, const director::DecisionRecord& record, Time now) override;
  void OnReplaced(std::span<const model::EndpointSpec> endpoints) override;
  void OnScraped(uint32_t slot, const director::EngineSignals& signals, Time now) override;
  void OnScrapeFailed(uint32_t slot, std::string_view reason, Time now) override;
  void OnModelsRead(uint32_t slot, std::span<const std::string> models) override;
  void OnTick(Time now) override;

 private:
  class Output;
  Recorder(RecorderOptions options, std::unique_ptr<Output> output);
  int64_t Since(Time now) const { return (now - options_.start).count(); }
  void Put(const std::string& line);
  uint64_t TokenOf(std::string_view text) const;
  uint64_t TokenOf(uint64_t key) const;
  // Tokens in the place of what is private and decides.
  void PutTokens(sched::RequestContext* context) const;
  // `tokens`: of the prompt, when nothing else tells.
  void AppendKeys(const sched::PrefixKeys& keys, uint64_t tokens, std::string* out) const;

  const RecorderOptions options_;
  const std::unique_ptr<Output> output_;
  unsigned char secret_[16];  // of the tokens; never written
  // Within turns only.
  uint32_t lanes_ = 0;
  uint64_t requests_ = 0;
  std::string line_;
};

}  // namespace penstock::recording
