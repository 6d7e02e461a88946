#include "sched/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <type_traits>

#include "core/text.h"
#include "sched/wiring.h"

namespace penstock::sched {
namespace {

// The columns that are needed, of every endpoint of the pool, from the slots' atomics.
template <class T>
void Gather(bool is_needed, const std::vector<uint32_t>& slots, const std::atomic<T>* live,
            std::vector<float>* column) {
  if (!is_needed) {
    column->clear();
    return;
  }
  column->resize(slots.size());
  float* out = column->data();
  for (size_t i = 0; i < slots.size(); ++i) {
    out[i] = static_cast<float>(live[slots[i]].load(std::memory_order_relaxed));
  }
}

void GatherAge(bool is_needed, const std::vector<uint32_t>& slots,
               const std::atomic<int64_t>* scraped_at_nanos, Time now, std::vector<float>* column) {
  if (!is_needed) {
    column->clear();
    return;
  }
  const int64_t now_nanos = ToNanos(now);
  column->resize(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    const int64_t at = scraped_at_nanos[slots[i]].load(std::memory_order_relaxed);
    (*column)[i] = at == 0 ? std::numeric_limits<float>::infinity()
                           : static_cast<float>(static_cast<double>(now_nanos - at) * 1e-9);
  }
}

// In the order of `names`. An attribute that nobody reads is told of by no endpoint.
void GatherAttributes(const std::vector<std::string>& names, const std::vector<uint32_t>& slots,
                      const model::LiveColumns& live, std::vector<std::vector<float>>* columns) {
  columns->resize(names.size());
  for (size_t k = 0; k < names.size(); ++k) {
    std::vector<float>& column = (*columns)[k];
    column.assign(slots.size(), std::numeric_limits<float>::quiet_NaN());
    const auto found = std::ranges::find(live.attribute_names, names[k]);
    if (found == live.attribute_names.end()) continue;
    const auto attribute = static_cast<size_t>(found - live.attribute_names.begin());
    for (size_t i = 0; i < slots.size(); ++i) column[i] = live.Attribute(slots[i], attribute);
  }
}

// Clamps every score to [0, 1], NaN to 0, in place, and adds them weighted.
void AddWeighted(float weight, std::span<float> scores, float* totals) {
  for (size_t i = 0; i < scores.size(); ++i) {
    float score = scores[i] > 0.0F ? scores[i] : 0.0F;
    score = score < 1.0F ? score : 1.0F;
    scores[i] = score;
    totals[i] += weight * score;
  }
}

// The i-th element, which may be new; what it held is overwritten so that its memory is reused.
template <class T>
T& Reuse(std::vector<T>& items, size_t i) {
  if (i == items.size()) items.emplace_back();
  return items[i];
}

// Runs it, and tells how long it took when that is asked for.
template <class F>
auto Timed(const RequestContext& context, Step step, const Plugin& plugin, F run) {
  if (context.stopwatch == nullptr) return run();
  const Time before = context.stopwatch->Now();
  if constexpr (std::is_void_v<decltype(run())>) {
    run();
    context.stopwatch->Observe(step, plugin, context.stopwatch->Now() - before);
  } else {
    auto result = run();
    context.stopwatch->Observe(step, plugin, context.stopwatch->Now() - before);
    return result;
  }
}

class SchedulerImpl : public Scheduler {
 public:
  explicit SchedulerImpl(Wiring wiring) : wiring_(std::move(wiring)), knows_(FindKnows()) {}

  bool PreparesSlowly() const override {
    return std::ranges::any_of(wiring_.producers,
                               [](const Producer* producer) { return producer->PreparesSlowly(); });
  }
  void Prepare(RequestContext& context, Time now) const override {
    context.prefix_keys.resize(wiring_.prefix_columns);
    context.wants_token_ids = knows_ == nullptr || knows_->HearsAnybody();
    for (const Producer* producer : wiring_.producers) {
      Timed(context, Step::kDataProducer, *producer, [&] { producer->Prepare(context, now); });
    }
  }

  void FillColumns(const RequestContext& context, const model::PoolSnapshot& pool,
                   const model::LiveColumns& live, Time now,
                   model::EndpointColumns* columns) const override;

  void Schedule(const RequestContext& context, const model::EndpointColumns& columns,
                const Mask& candidates, Random& random, Workspace& workspace, DecisionTrace* trace,
                Decision* out) const override;

  int64_t TokensToCharge(const RequestContext& context, const model::EndpointColumns& columns,
                         uint32_t column) const override {
    if (wiring_.charge != nullptr) return wiring_.charge->TokensToCharge(context, columns, column);
    if (columns.prefix.empty()) return static_cast<int64_t>(context.input_tokens);
    const model::PrefixColumn& prefix = columns.prefix.front();
    const double matched = static_cast<double>(prefix.matched_blocks[column]) *
                           static_cast<double>(prefix.block_size_tokens);
    return std::max<int64_t>(
        0, static_cast<int64_t>(context.input_tokens) - static_cast<int64_t>(matched));
  }

  bool ChargesTheAnswer() const override {
    return wiring_.charge != nullptr && wiring_.charge->ChargesTheAnswer();
  }

  std::optional<Detour> detour() const override { return wiring_.handler->detour(); }

  void OnPicked(RequestContext& context, const model::EndpointColumns& columns,
                const Picked& picked) override {
    for (Plugin* plugin : wiring_.active) {
      // Others have little to do here.
      if (context.stopwatch != nullptr && dynamic_cast<Producer*>(plugin) != nullptr) {
        Timed(context, Step::kPreRequest, *plugin,
              [&] { plugin->OnPicked(context, columns, picked); });
      } else {
        plugin->OnPicked(context, columns, picked);
      }
    }
  }
  void OnFirstChunk(RequestContext& context, uint32_t slot, Time now) override {
    for (Plugin* plugin : wiring_.active) plugin->OnFirstChunk(context, slot, now);
  }
  void OnEnded(RequestContext& context, const Ended& ended) override {
    for (Plugin* plugin : wiring_.active) plugin->OnEnded(context, ended);
  }
  void OnEndpointRemoved(uint32_t slot) override {
    for (Plugin* plugin : wiring_.active) plugin->OnEndpointRemoved(slot);
  }
  void OnEndpointRestarted(uint32_t slot) override {
    for (Plugin* plugin : wiring_.active) plugin->OnEndpointRestarted(slot);
  }
  void OnEndpointChanged(const model::EndpointInfo& endpoint) override {
    for (Plugin* plugin : wiring_.active) plugin->OnEndpointChanged(endpoint);
  }
  void OnTick(Time now) override {
    for (Plugin* plugin : wiring_.active) plugin->OnTick(now);
  }

  std::vector<const Plugin*> Instances() const override {
    std::vector<const Plugin*> all;
    for (const auto& instance : wiring_.instances) all.push_back(instance.get());
    return all;
  }

  std::vector<HeaderUse> HeadersRead() const override {
    std::vector<HeaderUse> all;
    for (const Plugin* plugin : wiring_.active) {
      for (HeaderUse& use : plugin->HeadersRead()) {
        if (use.only_at_arrival) continue;
        const auto known = std::find_if(all.begin(), all.end(), [&](const HeaderUse& other) {
          return EqualsIgnoreCase(other.name, use.name);
        });
        if (known == all.end()) {
          all.push_back(std::move(use));
        } else {
          known->is_identity &= use.is_identity;
        }
      }
    }
    return all;
  }

  std::vector<InstanceStats> Stats() const override {
    std::vector<InstanceStats> all;
    for (const Plugin* plugin : wiring_.active) {
      std::vector<PluginStat> stats = plugin->Stats();
      if (!stats.empty()) all.push_back({plugin, std::move(stats)});
    }
    return all;
  }

  KnowsCaches* knows_caches() const override { return knows_; }

  AsksForTokens* asks_for_tokens() const override {
    for (Plugin* plugin : wiring_.active) {
      auto* const producer = dynamic_cast<Producer*>(plugin);
      if (producer == nullptr) continue;
      if (AsksForTokens* const asks = producer->asks_for_tokens()) return asks;
    }
    return nullptr;
  }

  uint64_t MaxBytes() const override {
    uint64_t bytes = 0;
    for (const Plugin* plugin : wiring_.active) bytes += plugin->MaxBytes();
    return bytes;
  }
  bool NeedsMetrics() const override {
    return wiring_.Needs(DataKey::kWaiting) || wiring_.Needs(DataKey::kRunning) ||
           wiring_.Needs(DataKey::kKvUsage) || wiring_.Needs(DataKey::kLora) ||
           wiring_.Needs(DataKey::kAttribute);
  }
  std::vector<std::string> Describe() const override;

 private:
  KnowsCaches* FindKnows() const {
    for (Plugin* plugin : wiring_.active) {
      auto* const producer = dynamic_cast<Producer*>(plugin);
      if (producer == nullptr) continue;
      if (KnowsCaches* const knows = producer->knows_caches()) return knows;
    }
    return nullptr;
  }
  // False when the filters left nobody; then `drained_by` names the one that did.
  bool RunProfile(const WiredProfile& profile, const RequestContext& context,
                  const model::EndpointColumns& columns, const Mask& candidates, Random& random,
                  Workspace& workspace, DecisionTrace* trace, std::vector<uint32_t>* picks,
                  std::string_view* drained_by) const;
  static bool RunFilters(const WiredProfile& profile, const RequestContext& context,
                         const model::EndpointColumns& columns, Random& random, Mask* mask,
                         DecisionTrace* trace, std::string_view* drained_by);
  static void RunScorers(const WiredProfile& profile, const RequestContext& context,
                         const model::EndpointColumns& columns, Workspace& workspace,
                         DecisionTrace* trace);

  const Wiring wiring_;
  KnowsCaches* const knows_;  // null: no plugin listens to engines
};

void SchedulerImpl::FillColumns(const RequestContext& context, const model::PoolSnapshot& pool,
                                const model::LiveColumns& live, Time now,
                                model::EndpointColumns* columns) const {
  columns->pool = &pool;
  columns->now = now;
  const std::vector<uint32_t>& slots = pool.slots;
  const bool load = wiring_.Needs(DataKey::kInFlightLoad);
  Gather(wiring_.Needs(DataKey::kWaiting), slots, live.waiting.get(), &columns->waiting);
  Gather(wiring_.Needs(DataKey::kRunning), slots, live.running.get(), &columns->running);
  Gather(wiring_.Needs(DataKey::kKvUsage), slots, live.kv_usage.get(), &columns->kv_usage);
  Gather(load, slots, live.in_flight_requests.get(), &columns->in_flight_requests);
  Gather(load, slots, live.in_flight_tokens.get(), &columns->in_flight_tokens);
  GatherAge(NeedsMetrics(), slots, live.scraped_at_nanos.get(), now, &columns->metrics_age_s);
  GatherAttributes(wiring_.attributes, slots, live, &columns->attributes);
  if (!load) columns->uncached_tokens.clear();
  columns->prefix.resize(wiring_.prefix_columns);
  for (const Producer* producer : wiring_.producers) {
    Timed(context, Step::kDataProducer, *producer, [&] { producer->Produce(context, *columns); });
  }
}

bool SchedulerImpl::RunFilters(const WiredProfile& profile, const RequestContext& context,
                               const model::EndpointColumns& columns, Random& random, Mask* mask,
                               DecisionTrace* trace, std::string_view* drained_by) {
  size_t steps = 0;
  size_t before = trace == nullptr ? 0 : mask->Count();
  std::span<ProfileTrace::FilterStep> traced;
  if (trace != nullptr) {
    traced = trace->memory.New<ProfileTrace::FilterStep>(profile.filters.size());
  }
  for (const Filter* filter : profile.filters) {
    Timed(context, Step::kFilter, *filter, [&] { filter->Apply(context, columns, *mask, random); });
    if (trace != nullptr) {
      ProfileTrace::FilterStep& step = traced[steps++];
      step.plugin = filter->name();
      step.type = filter->type();
      step.after = trace->Copy(*mask);
      const size_t after = mask->Count();
      if (after == before && after > 1) {
        step.why_all_pass = filter->WhyAllPass(context, columns, *mask);
      }
      before = after;
    }
    if (mask->Empty()) {
      *drained_by = filter->name();
      break;
    }
  }
  if (trace != nullptr) trace->profiles.back().filters = traced.first(steps);
  return !mask->Empty();
}

void SchedulerImpl::RunScorers(const WiredProfile& profile, const RequestContext& context,
                               const model::EndpointColumns& columns, Workspace& workspace,
                               DecisionTrace* trace) {
  const size_t size = columns.size();
  workspace.totals.assign(size, 0.0F);
  std::span<ProfileTrace::ScoreStep> traced;
  if (trace != nullptr) {
    traced = trace->memory.New<ProfileTrace::ScoreStep>(profile.scorers.size());
  }
  for (size_t k = 0; k < profile.scorers.size(); ++k) {
    const WeightedScorer& weighted = profile.scorers[k];
    workspace.scores.assign(size, 0.0F);
    Timed(context, Step::kScorer, *weighted.scorer,
          [&] { weighted.scorer->Score(context, columns, workspace.mask, workspace.scores); });
    AddWeighted(weighted.weight, workspace.scores, workspace.totals.data());
    if (trace == nullptr) continue;
    traced[k] = {weighted.scorer->name(), weighted.weight, trace->memory.Copy(workspace.scores),
                 weighted.scorer->type()};
  }
  if (trace == nullptr) return;
  trace->profiles.back().scores = traced;
  trace->profiles.back().totals = trace->memory.Copy(workspace.totals);
}

bool SchedulerImpl::RunProfile(const WiredProfile& profile, const RequestContext& context,
                               const model::EndpointColumns& columns, const Mask& candidates,
                               Random& random, Workspace& workspace, DecisionTrace* trace,
                               std::vector<uint32_t>* picks, std::string_view* drained_by) const {
  workspace.mask = candidates;
  picks->clear();
  if (trace != nullptr) {
    ProfileTrace& traced = trace->profiles.emplace_back();
    traced.profile = profile.name;
    traced.picker_type = profile.picker->type();
  }
  if (!RunFilters(profile, context, columns, random, &workspace.mask, trace, drained_by)) {
    return false;
  }
  RunScorers(profile, context, columns, workspace, trace);
  picks->resize(std::min(profile.picker->max_endpoints(), workspace.mask.Count()));
  picks->resize(Timed(context, Step::kPicker, *profile.picker, [&] {
    return profile.picker->Pick(workspace.totals, workspace.mask, random, *picks);
  }));
  if (trace != nullptr) trace->profiles.back().picks = trace->memory.Copy(*picks);
  return !picks->empty();
}

void SchedulerImpl::Schedule(const RequestContext& context, const model::EndpointColumns& columns,
                             const Mask& candidates, Random& random, Workspace& workspace,
                             DecisionTrace* trace, Decision* out) const {
  out->picks.clear();
  out->drained_by = {};
  out->verdict = Verdict::kNoCandidates;
  if (trace != nullptr) trace->Clear();
  size_t runs = 0;
  if (!candidates.Empty()) {
    std::vector<ProfileResult>& results = workspace.results;
    std::string_view drained_by = wiring_.handler->name();
    // A handler that asks for more runs than this would never end.
    const size_t max_runs = 4 * wiring_.profiles.size();
    while (runs < max_runs) {
      const std::span<const ProfileResult> so_far(results.data(), runs);
      const int next = Timed(context, Step::kProfilePicker, *wiring_.handler, [&] {
        return wiring_.handler->Next(context, wiring_.profile_names, so_far);
      });
      if (next < 0 || static_cast<size_t>(next) >= wiring_.profiles.size()) break;
      const WiredProfile& profile = wiring_.profiles[static_cast<size_t>(next)];
      ProfileResult& result = Reuse(results, runs);
      result.profile = profile.name;
      result.ok = RunProfile(profile, context, columns, candidates, random, workspace, trace,
                             &result.picks, &drained_by);
      result.scored = workspace.mask;
      ++runs;
    }
    const std::span<const ProfileResult> all(results.data(), runs);
    const size_t primary =
        runs == 0 ? 0 : Timed(context, Step::kProcessProfilesResults, *wiring_.handler, [&] {
          return wiring_.handler->Primary(all);
        });
    if (primary < runs && results[primary].ok) {
      out->verdict = Verdict::kPicked;
      out->picks.assign(results[primary].picks.begin(), results[primary].picks.end());
      out->scored = results[primary].scored;
    } else {
      out->verdict = Verdict::kFilteredOut;
      out->drained_by = drained_by;
    }
  }
}

std::vector<std::string> SchedulerImpl::Describe() const {
  std::vector<std::string> lines;
  for (const WiredProfile& profile : wiring_.profiles) {
    std::string line = "profile " + profile.name + ":";
    for (const Filter* filter : profile.filters) line += " " + filter->name() + ",";
    for (const WeightedScorer& scorer : profile.scorers) {
      line += fmt::format(" {} x {},", scorer.scorer->name(), scorer.weight);
    }
    lines.push_back(line + " " + profile.picker->name());
  }
  if (const auto way = detour()) {
    lines.push_back(fmt::format("requests go to port {} of the pick's host, with the pick in {}",
                                way->port, way->header));
  }
  for (const Producer* producer : wiring_.producers) {
    std::string keys;
    for (const DataKey key : producer->Produces()) {
      keys += (keys.empty() ? "" : ", ") + std::string(DataKeyName(key));
    }
    lines.push_back("producer " + producer->name() + ": " + keys);
  }
  return lines;
}

}  // namespace

std::unique_ptr<Scheduler> Scheduler::Create(const SchedulingSpec& spec, const Registry& registry,
                                             config::Diagnostics* diagnostics) {
  if (diagnostics->file.empty()) diagnostics->file = spec.file;
  Wiring wiring;
  if (!Wire(spec, registry, diagnostics, &wiring)) return nullptr;
  return std::make_unique<SchedulerImpl>(std::move(wiring));
}

}  // namespace penstock::sched
