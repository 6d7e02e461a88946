// Whether engines cache what was expected of them: compares their own counts of cached tokens with
// what their events said at the pick.
//
// More expected than there was is harm: work was promised to be saved that was not. Less expected
// is harm only where the index does not know at the request's end either what the engine had, and
// no claim did at the pick: blocks that other requests stored between the pick and the computation
// are claimed, or told by then. A difference of one block of the engine is none: engines round as
// they like.
//
// THREADS: internally locked; once per answer. MEMORY: 200 bytes for each slot that answered.
// SOURCE: docs/design/0005-exact-caches.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/mutex.h"
#include "sched/plugin.h"

namespace penstock::plugins {

class CacheDrift {
 public:
  struct Options {
    double limit = 0.2;  // relative error; below half of it all is well again
    uint32_t least_answers = 10;
  };
  // Of one request whose answer began where it was sent.
  struct Answer {
    uint32_t slot = 0;
    std::string_view adapter;  // "": the base model
    uint32_t engine_block = 1;
    uint32_t expected_tokens = 0;  // cached, at the pick
    uint32_t known_tokens = 0;     // cached, by what the index knows now and by claims at the pick
    uint64_t cached_tokens = 0;    // as reported
    uint32_t prompt_tokens = 0;    // as counted here
    std::optional<uint64_t> reported_prompt_tokens;
  };
  enum class Verdict : uint8_t { kAsBefore, kDiffers, kAgreesAgain };

  explicit CacheDrift(const Options& options) : options_(options) {}

  Verdict Compare(const Answer& answer);
  // Of nobody, or of a new process. Returns whether it had differed.
  bool Forget(uint32_t slot);
  std::vector<sched::DriftView> Views() const;
  size_t differing() const;

 private:
  // Of the last ones, about kWindow.
  struct Mean {
    static constexpr uint64_t kWindow = 20;
    uint64_t count = 0;
    double value = 0;
    void Add(double x) {
      ++count;
      value += (x - value) / static_cast<double>(count < kWindow ? count : kWindow);
    }
  };
  struct Slot {
    Mean error;
    Mean base_error, adapter_error;
    std::string adapter;  // the last one that erred
    // Of the answers that erred: those whose prompt has another length, and those whose cached
    // tokens are no whole blocks.
    Mean other_length, no_blocks;
    bool differs = false;
  };
  static double ErrorOf(const Answer& answer);
  std::string CauseOf(const Slot& slot) const;

  const Options options_;
  // Taken once per answer.
  mutable Mutex mutex_;
  std::map<uint32_t, Slot> slots_ GUARDED_BY(mutex_);
};

}  // namespace penstock::plugins
