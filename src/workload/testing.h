// For tests: a server that answers everything in a time that follows from the job alone, and a
// digest over all that jobs say.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <string>
#include <vector>

#include "workload/workload.h"

namespace penstock::workload {

struct Played {
  std::vector<Job> jobs;
  uint64_t most_in_flight = 0;
  Duration ended{0};  // the last end
};

// 20 ms and 1 ms a token of the answer.
inline Duration UsualService(const Job& job) {
  return milliseconds(20) + milliseconds(1) * job.output_tokens;
}

struct PlayOptions {
  uint64_t max_jobs = UINT64_MAX;
  std::function<Duration(const Job&)> service = UsualService;
  std::function<bool(const Job&)> is_served = [](const Job&) { return true; };
};

inline Played Play(Source& source, const PlayOptions& options = {}) {
  struct End {
    Duration at;
    uint64_t job;
    bool operator>(const End& other) const {
      return at != other.at ? at > other.at : job > other.job;
    }
  };
  Played out;
  std::priority_queue<End, std::vector<End>, std::greater<End>> ends;
  for (;;) {
    const auto at = out.jobs.size() < options.max_jobs ? source.NextAt() : std::nullopt;
    if (at && (ends.empty() || *at < ends.top().at)) {
      Job job = source.Take();
      ends.push({job.at + options.service(job), out.jobs.size()});
      out.jobs.push_back(std::move(job));
      out.most_in_flight = std::max<uint64_t>(out.most_in_flight, ends.size());
    } else if (!ends.empty()) {
      const End end = ends.top();
      ends.pop();
      out.ended = end.at;
      const Job& job = out.jobs[end.job];
      source.OnEnd(job, {.at = end.at, .is_served = options.is_served(job)});
    } else {
      return out;
    }
  }
}

// FNV-1a over every field.
inline uint64_t DigestOf(const std::vector<Job>& jobs) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  const auto add = [&](uint64_t value) {
    for (int i = 0; i < 64; i += 8) hash = (hash ^ ((value >> i) & 0xff)) * 0x100000001b3ULL;
  };
  for (const Job& job : jobs) {
    add(static_cast<uint64_t>(job.at.count()));
    add(job.session);
    add(job.group);
    add(job.prompt.size());
    for (const Piece& piece : job.prompt) {
      add(piece.content);
      add(piece.tokens);
    }
    add(job.output_tokens);
    add(job.output_content);
    add(job.max_output_tokens);
    add(job.lora);
    add(static_cast<uint64_t>(static_cast<int64_t>(job.priority)));
    for (const char c : job.fairness_id) add(static_cast<unsigned char>(c));
    add(static_cast<uint64_t>(job.ttft_slo_s * 1e9));
    add(static_cast<uint64_t>(job.tpot_slo_s * 1e9));
    add(job.is_streamed ? 1 : 0);
  }
  return hash;
}

}  // namespace penstock::workload
