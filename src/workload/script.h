// What the requests of generated traffic say: prompts as pieces, lengths of answers, and which
// session goes on after an answer. When they are sent is generated_source.h's matter.
//
// What a conversation, a chat or a request says follows from the seed and its number alone; timing
// and policy only decide which turns come about: a turn that was not served is left out of the
// prompts after it, and a conversation ends before the turn that would exceed maxModelLen.
//
// THREADS: belongs to its caller.
// COST: memory of the sessions that are open: 16 bytes a piece, two pieces a turn.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "core/time.h"
#include "workload/workload.h"
#include "workload/workload_file.h"

namespace penstock::workload {

// A client that was refused or lost an answer tries again after this; without it closed loops would
// be used up in no time while everything is refused.
inline constexpr Duration kPauseAfterLoss = seconds(1);

class Script {
 public:
  virtual ~Script() = default;
  // Whether Begin has somebody to speak; false while everyone waits for an answer.
  virtual bool CanBegin() const { return true; }
  // The next request in order; of a new session where sessions go on by themselves. All but its
  // time. REQUIRES: CanBegin().
  virtual Job Begin() = 0;
  // The answer that a session waits for has ended or was lost; 0 for no session. How long the
  // session pauses before it goes on by itself; nothing when it does not.
  virtual std::optional<Duration> OnEnd(uint64_t /*session*/, bool /*is_served*/) {
    return std::nullopt;
  }
  // The next request of a session that goes on. REQUIRES: OnEnd said that it does.
  virtual Job Continue(uint64_t /*session*/) { return {}; }
  // A session that would go on will not.
  virtual void Forget(uint64_t /*session*/) {}
};

// `max_model_len` caps prompts and answers in addition to the file's own limit; 0: does not.
// REQUIRES: a workload that ParseWorkload made; copied as far as it is needed.
std::unique_ptr<Script> MakeScript(const Workload& workload, uint64_t seed, uint32_t max_model_len);

}  // namespace penstock::workload
