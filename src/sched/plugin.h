// The seams of the scheduler: what a filter, a scorer, a picker, a profile handler and a producer
// are. One plugin is one .cc under src/plugins/<kind>/ with its Params, one sorted line in
// src/plugins/builtin_<kind>.inc, and one test beside it.
//
// THREADS: every const method may run on any loop at once: no locks in scorers, filters and
// pickers, no allocation after warm-up. Stateful producers lock internally and say so. COST: budget
// 1 us per 64 endpoints for a filter or scorer. SOURCE: llm-d-router pkg/epp/framework/interface
// (capabilities), redesigned over columns.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/mask.h"
#include "core/random.h"
#include "core/result.h"
#include "core/time.h"
#include "model/columns.h"
#include "model/endpoint.h"
#include "model/request.h"
#include "sched/stopwatch.h"

namespace penstock::kvcache {
class ExactCaches;
}
namespace penstock::tokens {
class AskedTokens;
enum class AskResult : uint8_t;
struct TokenAnswer;
}  // namespace penstock::tokens

namespace penstock::sched {

// What a plugin may need from the data that a decision is made of.
enum class DataKey : uint8_t {
  kTokens,        // RequestContext::input_tokens (TokenizedPrompt)
  kPrefixMatch,   // EndpointColumns::prefix[i] (PrefixCacheMatchInfo)
  kInFlightLoad,  // in_flight_requests, in_flight_tokens, uncached_tokens
  kSessionId,     // RequestContext::session_id
  kWaiting,
  kRunning,
  kKvUsage,
  kLora,
  kAttribute,  // EndpointColumns::attributes[i], of Need::attribute
};
std::string_view DataKeyName(DataKey key);

struct Need {
  DataKey key;
  std::string producer;  // name of a producer instance; "" = the default one for the key
  bool required = true;
  // Where to store the column index, of the producer (prefix) or the attribute, when not null.
  uint32_t* index = nullptr;
  std::string attribute = {};  // for kAttribute: its name in customMetrics
  bool host_blocks = false;    // for kPrefixMatch: PrefixColumn::host_blocks too
};

// What one decision went by of caches that engines told of, as a recording holds it.
struct ToldMatches {
  struct Hold {
    uint32_t column = 0;
    float matched_blocks = 0, told_blocks = 0;  // as in model::PrefixColumn
  };
  uint32_t total_blocks = 0, block_size_tokens = 0;
  std::vector<model::MatchSource> sources;  // of each endpoint of the pool
  std::vector<Hold> holds;  // of endpoints that told, by column; the others hold nothing
};

// Block keys of one request under one prefix producer. Whoever knows the keys of the prompt's first
// full blocks can have put them here, with their block size, before the producer prepares the
// request; it goes on from them when it has the same block size, and drops them when not.
struct PrefixKeys {
  // Chained: equal keys mean equal prefixes up to and including the block.
  std::vector<uint64_t> blocks;
  std::vector<uint32_t> sequence_ends;  // where each prompt of the request ends in `blocks`
  uint32_t block_size_tokens = 0;       // a token is model::kBytesPerToken bytes

  // Content keys of the first prompt's whole blocks, where its tokens are known; not chained.
  std::vector<uint64_t> content;
  uint64_t name_space = 0;      // the forest that they stand in
  uint32_t content_tokens = 0;  // of the first prompt; 0: not known

  // What the pick left to be settled at the end.
  struct Expected {
    uint32_t slot = 0;
    uint64_t claim = 0;          // kvcache::Claims; 0: none
    bool is_told = false;        // the engine told what it holds
    uint32_t cached_tokens = 0;  // of which it will use so many
    uint32_t most_tokens = 0;    // with what requests on their way there will leave
    uint32_t engine_block = 0;   // in blocks of so many tokens
  };
  Expected expected;

  // What the next decision goes by in place of what is known now; a recording says so.
  std::optional<ToldMatches> recorded;
};

// Token ids of the request's prompts, as its engine will have them.
struct PromptTokens {
  bool are_known = false;
  std::vector<uint32_t> ids;            // of all prompts, one behind the other
  std::vector<uint32_t> sequence_ends;  // where each prompt ends in `ids`
  std::vector<model::MediaSpan> media;  // in `ids`; in order, without overlap
  std::string_view unknown_because;     // a literal, where they are not known
  // They are not, but somebody else may know them: AsksForTokens. What became of it is not counted
  // yet.
  bool can_be_asked = false;
  // By whom they were told then. Set between two calls of Prepare; not null: they count.
  std::shared_ptr<const tokens::TokenAnswer> told;
};

// What the brain keeps of a request from arrival to end. The director owns one per request.
struct RequestContext {
  model::Request request;
  uint64_t input_tokens = 0;              // by token-producer
  PromptTokens tokens;                    // likewise; given up after arrival
  bool wants_token_ids = true;            // false: nobody has a use for them, so count by estimate
  std::vector<PrefixKeys> prefix_keys;    // one per prefix producer
  std::string session_id;                 // by session-id-producer; "" when there is none
  std::vector<std::string> header_texts;  // that views in request.headers may point into
  std::vector<std::pair<std::string, std::string>>
      response_headers;  // added for the client by plugins
  // Added for the engine by plugins when they hear of a pick; of the last one. In lower case.
  std::vector<std::pair<std::string, std::string>> request_headers;
  Stopwatch* stopwatch = nullptr;  // of a request for which plugins are measured
};

// Where a request was sent, for plugins that learn from it.
struct Picked {
  uint32_t column = 0;  // index in the columns' pool snapshot
  uint32_t slot = 0;
  Time now;
  const Mask* scored = nullptr;  // whom the filters had left to choose from; nullptr: everybody
};

// How a request ended, for plugins that learn from it.
struct Ended {
  uint32_t slot = 0;  // of the endpoint that had it last
  Time now;
  bool has_answered = false;  // its first chunk was seen
  // Of the prompt, as the engine reports it; none: it does not.
  std::optional<uint64_t> input_tokens, cached_tokens;
};

// A number that a plugin shows to /metrics, by the metric's name without prefix.
struct PluginStat {
  std::string_view metric;  // a literal; "..._total" counts up, others go both ways
  double value = 0;
  std::string_view label = {};  // a literal, where the metric tells several things apart
};

// A request header that a plugin looks at.
struct HeaderUse {
  std::string name;
  bool is_identity = true;       // only whether two values are equal matters, not what they say
  std::string_view effect = {};  // for people: "names the endpoint that served before"
  bool only_at_arrival = false;  // what Producer::Prepare took from it is all that counts
};

class Plugin {
 public:
  virtual ~Plugin() = default;

  // Declared once, before the first decision; start fails when no producer supplies a required one.
  virtual std::vector<Need> Needs() { return {}; }
  // So that a recording keeps what the decision depends on, and no more.
  virtual std::vector<HeaderUse> HeadersRead() const { return {}; }
  // After the pick, in the same instant, for every instance of the configuration. May change state.
  virtual void OnPicked(RequestContext&, const model::EndpointColumns&, const Picked&) {}
  // The endpoint in that slot began to answer: it has computed the prompt.
  virtual void OnFirstChunk(RequestContext&, uint32_t /*slot*/, Time) {}
  // A request that was picked for ended, however it did.
  virtual void OnEnded(RequestContext&, const Ended&) {}
  // An endpoint left the pool for good: forget what is known of its slot.
  virtual void OnEndpointRemoved(uint32_t /*slot*/) {}
  // The engine behind the slot is a new process with empty caches.
  virtual void OnEndpointRestarted(uint32_t /*slot*/) {}
  // An endpoint (re)appeared or changed (models, block count).
  virtual void OnEndpointChanged(const model::EndpointInfo&) {}
  // For bounded state that ages. Called about once a second.
  virtual void OnTick(Time /*now*/) {}
  // Bytes of memory that this instance holds and may hold at most, for the budget printed at start.
  virtual uint64_t MaxBytes() const { return 0; }
  // What it holds now, for /metrics. From any thread.
  virtual std::vector<PluginStat> Stats() const { return {}; }

  const std::string& name() const { return name_; }
  const std::string& type() const { return type_; }
  void SetIdentity(std::string name, std::string type) {
    name_ = std::move(name);
    type_ = std::move(type);
  }

 private:
  std::string name_;  // of the instance, as profiles refer to it
  std::string type_;  // canonical type
};

class Filter : public virtual Plugin {
 public:
  // Clears bits of endpoints that must not be used. An empty result ends the decision: 429.
  virtual void Apply(const RequestContext&, const model::EndpointColumns&, Mask& candidates,
                     Random&) const = 0;
  // Why Apply left all of these, as a literal that ends a sentence ("nobody has room"), or "".
  // Asked only when it did, and only for a record.
  virtual std::string_view WhyAllPass(const RequestContext&, const model::EndpointColumns&,
                                      const Mask& /*candidates*/) const {
    return {};
  }
};

class Scorer : public virtual Plugin {
 public:
  // Fills every element with a score in [0, 1] (the scheduler clamps). Elements outside
  // `candidates` are ignored but must be written or left as they are (0). Normalising scorers look
  // at candidates only.
  virtual void Score(const RequestContext&, const model::EndpointColumns&, const Mask& candidates,
                     std::span<float> scores) const = 0;
};

class Picker : public virtual Plugin {
 public:
  // Column indices in order of preference into `out`; returns how many (at least one when a
  // candidate exists). Ties are broken at random.
  virtual size_t Pick(std::span<const float> scores, const Mask& candidates, Random&,
                      std::span<uint32_t> out) const = 0;
  virtual size_t max_endpoints() const { return 1; }
};

struct ProfileResult {
  std::string_view profile;
  bool ok = false;
  std::vector<uint32_t> picks;  // column indices in order of preference
  Mask scored;                  // whom the filters left
};

// How picks are reached when it is not by their own port: requests go to this one of the same host,
// where somebody passes them on to the address that the header names.
struct Detour {
  uint16_t port = 0;
  std::string_view header;
};

// Chooses which profiles run for a request. Called again with the results so far until it returns
// nullptr-equivalent (-1).
class ProfileHandler : public virtual Plugin {
 public:
  // Index of the next profile to run, or -1 when done.
  virtual int Next(const RequestContext&, std::span<const std::string> profile_names,
                   std::span<const ProfileResult> results) const = 0;
  // Index in `results` of the profile whose first pick serves the request.
  virtual size_t Primary(std::span<const ProfileResult> results) const = 0;
  // Empty when this handler can work with these profiles; else the sentence that says why not.
  virtual std::string CheckProfiles(std::span<const std::string> profile_names) const = 0;
  // The same for every request.
  virtual std::optional<Detour> detour() const { return std::nullopt; }
};

// Where what is known of the caches is kept for the next start, and who else may know it.
struct KvSnapshotSettings {
  std::string file;                   // "": nowhere
  std::vector<std::string> siblings;  // http://HOST:PORT of their admin ports
  Duration interval = seconds(60);    // between two writes
  std::string secret_file;            // written at the first start when it is not there; "": none
  bool is_on() const { return !secret_file.empty(); }
};

// Where the engines' KV events are to be heard.
struct KvEventSettings {
  std::string bind;            // where engines connect to, "tcp://*:5557"; "": nowhere
  std::string topic_filter;    // beginning of topics that count there
  bool dials = true;           // each engine, at the ports below
  std::string label_selector;  // of those that are listened to, "a=b,c!=d"; "": all
  uint16_t port = 0;           // of the first rank, and one up for each rank
  uint16_t replay_port = 0;    // likewise; 0: they keep no history
  // The ports are tried only on hosts with one endpoint: nobody said that engines publish there.
  bool only_sole = false;
  KvSnapshotSettings snapshot = {};
};

// How far an engine's own counts of cached tokens are from what was expected of it.
struct DriftView {
  uint32_t slot = 0;
  uint64_t answers = 0;  // that were compared
  double error = 0;      // relative, of the last ones
  bool differs = false;
  std::string likely_cause;  // for people; "" while nothing differs
};

// What some producer knows as long as somebody listens to the engines for it.
class KnowsCaches {
 public:
  virtual ~KnowsCaches() = default;
  virtual kvcache::ExactCaches& caches() = 0;
  virtual const KvEventSettings& kv_events() const = 0;
  // Whether what some engine tells counts now, so that it is worth while to know a prompt's tokens.
  virtual bool HearsAnybody() const = 0;
  // Of every endpoint that was compared. From any thread.
  virtual std::vector<DriftView> drift() const { return {}; }
};

// Some producer that leaves tokens open, as long as somebody asks others for them
// (AskedTokens::SetAsked). After Prepare, whoever has a context whose tokens.can_be_asked calls
// GiveUp, or puts what was told into tokens.told and has it prepared again from the beginning.
class AsksForTokens {
 public:
  virtual ~AsksForTokens() = default;
  virtual tokens::AskedTokens& asked() = 0;
  // They are not asked for, or were in vain. REQUIRES: context.tokens.can_be_asked.
  virtual void GiveUp(RequestContext& context, tokens::AskResult why) const = 0;
};

// Computes data that others need. Only producers that some active plugin needs are run, and those
// that produce nothing: they are there for what they do when they hear of a pick.
class Producer : public virtual Plugin {
 public:
  virtual std::vector<DataKey> Produces() const = 0;
  // Index of this instance's column among the producers of a multi-column key (prefix).
  virtual void SetIndex(DataKey, uint32_t /*index*/) {}
  // Before the first decision, when some active plugin needs PrefixColumn::host_blocks of it.
  virtual void WantHostBlocks() {}
  // Once, at arrival, while the prompt can be read.
  virtual void Prepare(RequestContext&, Time) const {}
  // Whether Prepare takes milliseconds for a long prompt: it is called beside the loops then.
  virtual bool PreparesSlowly() const { return false; }
  // At each decision (also before a retry): fills columns for all endpoints of the snapshot.
  virtual void Produce(const RequestContext&, model::EndpointColumns&) const {}
  // Not null: it is to be told of KV events.
  virtual KnowsCaches* knows_caches() { return nullptr; }
  // Not null: it leaves tokens open, for others to be asked.
  virtual AsksForTokens* asks_for_tokens() { return nullptr; }
};

// Says how many tokens a request adds to the ledger of the endpoint that it goes to, until its
// first chunk. A configuration has at most one.
class ChargeRule : public virtual Plugin {
 public:
  virtual int64_t TokensToCharge(const RequestContext&, const model::EndpointColumns&,
                                 uint32_t column) const = 0;
  // Whether they stay until the request ends instead: when they stand for the answer too.
  virtual bool ChargesTheAnswer() const { return false; }
};

}  // namespace penstock::sched
