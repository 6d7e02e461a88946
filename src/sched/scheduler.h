// A scheduler is one configuration made live: the plugin instances, the profiles, and the run that
// turns columns into a pick.
//
// THREADS: Schedule, Prepare and Produce are const and run on any loop at once; scratch is the
// caller's. OWNS: every plugin instance.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/arena.h"
#include "core/mask.h"
#include "sched/plugin.h"
#include "sched/registry.h"

namespace penstock::sched {

// A configuration after validation and defaulting: every reference resolved, every type known.
struct PluginSpec {
  std::string name;
  std::string type;           // canonical
  wire::YamlNode parameters;  // null: none
  uint32_t line = 0;          // where it is declared; 0: nowhere, it was added by default
  uint32_t column = 0;
};
struct ProfileEntry {
  std::string plugin;   // name of an instance
  double weight = 1.0;  // scorers only
  uint32_t line = 0;    // where the profile names it; 0: nowhere
  uint32_t column = 0;
};
struct ProfileSpec {
  std::string name;
  std::vector<ProfileEntry> plugins;
};
struct SchedulingSpec {
  std::string file;  // for messages
  std::vector<PluginSpec> plugins;
  std::vector<ProfileSpec> profiles;
  // Names of the attributes that engines' metrics give beside the usual ones (customMetrics), and
  // the extractor that reads them; "" when none is declared.
  std::vector<std::string> attributes;
  std::string extractor;
};

// Filled when a trace is wanted: everything that /debug/decisions shows of one profile run. Its
// arrays stand in the DecisionTrace's memory.
struct ProfileTrace {
  struct FilterStep {
    std::string_view plugin;
    MaskView after;
    std::string_view type;
    std::string_view why_all_pass;  // when it took nobody out and says why
  };
  struct ScoreStep {
    std::string_view plugin;
    float weight = 1;
    std::span<const float> scores;  // clamped, unweighted, by column
    std::string_view type;
  };
  std::string_view profile;
  std::string_view picker_type;
  std::span<const FilterStep> filters;
  std::span<const ScoreStep> scores;
  std::span<const float> totals;
  std::span<const uint32_t> picks;
};
struct DecisionTrace {
  Arena memory;
  std::vector<ProfileTrace> profiles;

  MaskView Copy(const Mask& mask) { return {memory.Copy(mask.view().words()), mask.size()}; }
  void Clear() {
    profiles.clear();
    memory.Clear();
  }
};

// Scratch of one loop; reused so that a decision does not allocate.
struct Workspace {
  Mask mask;
  std::vector<float> scores;
  std::vector<float> totals;
  std::vector<ProfileResult> results;
};

enum class Verdict : uint8_t {
  kPicked,
  kNoCandidates,  // nobody to choose from: 503
  kFilteredOut,   // filters left nobody: 429
};
struct Decision {
  Verdict verdict = Verdict::kNoCandidates;
  std::string_view drained_by;  // the filter that left nobody
  std::vector<uint32_t> picks;  // of the primary profile: column indices in order of preference
  Mask scored;                  // whom its filters left
};

class Scheduler {
 public:
  // Makes the instances and wires needs to producers, creating default producers for required keys
  // that nobody produces. Diagnostics get "FILE:LINE:COLUMN: sentence" for whatever is wrong.
  static std::unique_ptr<Scheduler> Create(const SchedulingSpec&, const Registry&,
                                           config::Diagnostics*);
  virtual ~Scheduler() = default;

  // Runs the active producers' request part. Call once at arrival.
  virtual void Prepare(RequestContext&, Time) const = 0;
  // Whether that takes milliseconds for a long prompt.
  virtual bool PreparesSlowly() const { return false; }
  // Gathers the needed live columns and runs the active producers' endpoint part.
  virtual void FillColumns(const RequestContext&, const model::PoolSnapshot&,
                           const model::LiveColumns&, Time, model::EndpointColumns*) const = 0;
  // Filter, score, pick. `candidates` are the endpoints that may serve the request at all.
  // `trace` may be null.
  virtual void Schedule(const RequestContext&, const model::EndpointColumns&,
                        const Mask& candidates, Random&, Workspace&, DecisionTrace* trace,
                        Decision* out) const = 0;

  // Tokens to charge to the picked endpoint's ledger (inflight-load-producer's rule; the uncached
  // input tokens when that producer is not configured).
  virtual int64_t TokensToCharge(const RequestContext&, const model::EndpointColumns&,
                                 uint32_t column) const = 0;
  // Whether they are charged until the request ends, instead of until its first chunk.
  virtual bool ChargesTheAnswer() const { return false; }
  // How picks are reached, when not directly.
  virtual std::optional<Detour> detour() const { return std::nullopt; }

  // Broadcasts to all instances.
  virtual void OnPicked(RequestContext&, const model::EndpointColumns&, const Picked&) = 0;
  virtual void OnFirstChunk(RequestContext&, uint32_t /*slot*/, Time) {}
  virtual void OnEnded(RequestContext&, const Ended&) {}
  virtual void OnEndpointRemoved(uint32_t slot) = 0;
  virtual void OnEndpointRestarted(uint32_t slot) = 0;
  virtual void OnEndpointChanged(const model::EndpointInfo&) = 0;
  virtual void OnTick(Time) = 0;

  // The headers that the active instances look at when they decide, each once; one whose content
  // matters to anybody is no mere identity.
  virtual std::vector<HeaderUse> HeadersRead() const { return {}; }

  // Every active instance with something to show. From any thread; the plugins live as long as the
  // scheduler.
  struct InstanceStats {
    const Plugin* plugin;
    std::vector<PluginStat> stats;
  };
  virtual std::vector<InstanceStats> Stats() const { return {}; }
  // Every instance, active or not.
  virtual std::vector<const Plugin*> Instances() const { return {}; }

  // Of the active producers, the first that is to be told of KV events; null: nobody.
  virtual KnowsCaches* knows_caches() const { return nullptr; }
  // Of the active producers, the first that leaves tokens open; null: nobody.
  virtual AsksForTokens* asks_for_tokens() const { return nullptr; }

  virtual uint64_t MaxBytes() const = 0;
  virtual bool NeedsMetrics() const = 0;  // some plugin reads scraped columns
  virtual std::vector<std::string> Describe()
      const = 0;  // lines for the log at start: profiles, weights, producers
};

}  // namespace penstock::sched
