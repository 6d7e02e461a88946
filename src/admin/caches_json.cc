#include "admin/caches_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <chrono>
#include <cmath>
#include <map>
#include <optional>
#include <span>
#include <utility>

#include "admin/decision_json.h"
#include "kvcache/event_decoder.h"
#include "kvcache/prompt_extras.h"

namespace penstock::admin {
namespace {

using events::SourceView;
using kvcache::PublisherReason;
using kvcache::PublisherState;
using wire::JsonWriter;

constexpr size_t kMaxUnheard = 100;
constexpr std::string_view kExactAgain =
    "; it is exact again when it has stored as many blocks as it has room for, or clears its cache";

std::string ExplainReason(const SourceView& view) {
  switch (view.reason) {
    case PublisherReason::kNone:
      return "";
    case PublisherReason::kNoHistory:
      return fmt::format(
          "it had published before anybody listened here, and keeps no history to ask for "
          "(replay_endpoint of the engine, replaySocketPort of the plugin){}",
          kExactAgain);
    case PublisherReason::kTruncatedHistory:
      return fmt::format(
          "its history does not reach back to its first batch any more (buffer_steps of the "
          "engine){}",
          kExactAgain);
    case PublisherReason::kGap:
      return fmt::format("batches were lost on the way and could not be had again{}", kExactAgain);
    case PublisherReason::kNoReply:
      return fmt::format(
          "it did not answer to its end when history was asked for at {}: is that its "
          "replay_endpoint?",
          view.source.replay.empty() ? "its replay port" : view.source.replay);
    case PublisherReason::kOverflow:
      return fmt::format("more batches came than may wait while its history was read{}",
                         kExactAgain);
    case PublisherReason::kUndecodable:
      return fmt::format("it sent events that are not understood, see faults and broken{}",
                         kExactAgain);
    case PublisherReason::kSilent:
      return "its metrics say that it works, but it publishes nothing: is prefix caching on, and "
             "does it publish at this port?";
    case PublisherReason::kDrift:
      return "the cached tokens that it reports differ from what its events said: do its tokens "
             "come from another tokenizer or chat template, or does it publish for several "
             "engines?";
  }
  return "";
}

double UnixSeconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void WriteNonZero(std::string_view key, std::span<const std::pair<std::string_view, uint64_t>> rows,
                  JsonWriter* json) {
  json->Key(key).BeginObject();
  for (const auto& [name, count] : rows) {
    if (count > 0) json->Field(name, count);
  }
  json->EndObject();
}

void WriteFaults(const SourceView& view, JsonWriter* json) {
  std::array<std::pair<std::string_view, uint64_t>, kvcache::kEventFaults> rows;
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i] = {kvcache::EventFaultName(static_cast<kvcache::EventFault>(i)), view.faults[i]};
  }
  WriteNonZero("faults", rows, json);
}

void WriteTiers(const SourceView& view, JsonWriter* json) {
  json->Key("blocks").BeginObject();
  for (size_t i = 0; i < kvcache::kTiers; ++i) {
    json->Field(kvcache::TierName(static_cast<kvcache::Tier>(i)), view.tier_blocks[i]);
  }
  json->EndObject();
}

void WriteHolder(const SourceView& view, JsonWriter* json) {
  const kvcache::HolderCounters& c = view.counters;
  const std::pair<std::string_view, uint64_t> rows[] = {
      {"stored", c.stored},
      {"stored_again", c.stored_again},
      {"removed", c.removed},
      {"removed_unknown", c.removed_unknown},
      {"cleared", c.cleared},
      {"unkeyed", c.unkeyed},
      {"orphans_parked", c.orphans_parked},
      {"orphans_attached", c.orphans_attached},
      {"orphans_dropped", c.orphans_dropped},
      {"ambiguous", c.ambiguous},
      {"missed_removals", c.missed_removals},
      {"over_budget", c.over_budget},
      {"aged_out", c.aged_out},
      {"events_malformed", c.events_malformed},
      {"events_self_referencing", c.events_self_referencing},
      {"events_misplaced", c.events_misplaced},
      {"events_remote", c.events_remote},
      {"events_other_kind", c.events_other_kind},
  };
  WriteNonZero("holder", rows, json);
}

void WriteStanding(const SourceView& view, JsonWriter* json) {
  json->Field("endpoint", view.source.name)
      .Field("state", kvcache::PublisherStateName(view.state))
      .Field("reason", kvcache::PublisherReasonName(view.reason))
      .Field("why", ExplainPublisher(view));
  json->Key("lag_s");
  if (view.lag_s) {
    json->Value(Rounded(*view.lag_s));
  } else {
    json->Null();
  }
  const double age_s =
      view.last_timestamp > 0 ? std::max(0.0, UnixSeconds() - view.last_timestamp) : -1;
  WriteIfKnown("last_batch_age_s", age_s, json);
  WriteTiers(view, json);
  json->Field("gpu_blocks", view.source.gpu_blocks)
      .Field("orphans", view.orphans)
      .Field("doubtful_pages", view.doubtful)
      .Field("batches", view.batches)
      .Field("gaps", view.gaps)
      .Field("missed", view.missed)
      .Field("restarts", view.restarts)
      .Field("replays", view.replays);
}

void WriteDrift(const sched::DriftView* drift, JsonWriter* json) {
  json->Key("drift");
  if (drift == nullptr) {
    json->Null();
    return;
  }
  json->BeginObject()
      .Field("answers", drift->answers)
      .Field("error", Rounded(drift->error))
      .Field("differs", drift->differs)
      .Field("likely_cause", drift->likely_cause)
      .EndObject();
}

void WritePublisher(const SourceView& view, const sched::DriftView* drift, JsonWriter* json) {
  json->BeginObject();
  WriteStanding(view, json);
  WriteDrift(drift, json);
  json->Field("slot", view.source.slot)
      .Field("address", view.source.address)
      .Field("events_at", view.source.events)
      .Field("replay_at", view.source.replay);
  json->Key("last_sequence");
  if (view.last_sequence) {
    json->Value(*view.last_sequence);
  } else {
    json->Null();
  }
  json->Field("connections", view.connections)
      .Field("refused", view.refused)
      .Field("restored", view.restored)
      .Field("events", view.events)
      .Field("bytes", view.bytes)
      .Field("repeated", view.repeated)
      .Field("broken", view.broken);
  WriteFaults(view, json);
  WriteHolder(view, json);
  json->EndObject();
}

void WriteSettings(const HeardCaches& heard, JsonWriter* json) {
  const sched::KvEventSettings& settings = heard.knows->kv_events();
  json->Key("settings").BeginObject();
  json->Field("dials", settings.dials)
      .Field("port", settings.port)
      .Field("replay_port", settings.replay_port)
      .Field("sole_endpoints_only", settings.only_sole)
      .Field("label_selector", settings.label_selector)
      .Field("bind", settings.bind)
      .Field("bound_at", heard.ingest->bound_endpoint())
      .Field("topic_filter", settings.topic_filter);
  json->EndObject();
}

void WriteIndex(const kvcache::ChainIndex& index, JsonWriter* json) {
  json->Key("index").BeginObject();
  json->Field("block_tokens", index.block_tokens())
      .Field("bytes", index.bytes())
      .Field("max_bytes", index.max_bytes())
      .Field("charged_bytes", index.charged())
      .Field("garbage_bytes", index.garbage_bytes())
      .Field("segments", index.segments())
      .Field("slots", index.slots())
      .Field("splits", index.splits())
      .Field("rebuilds", index.rebuilds())
      .Field("garbage_waits", index.garbage_waits());
  json->EndObject();
}

void WriteSnapshot(const HeardCaches& heard, JsonWriter* json) {
  json->Key("snapshot");
  if (heard.snapshots == nullptr) {
    json->Null();
    return;
  }
  const SnapshotStats stats = heard.snapshots->stats();
  const events::RestoreCounts restored = heard.ingest->restored();
  json->BeginObject()
      .Field("file", heard.knows->kv_events().snapshot.file)
      .Field("written", stats.written)
      .Field("served", stats.served)
      .Field("bytes", stats.bytes)
      .Field("publishers", stats.publishers)
      .Field("blocks", stats.blocks)
      .Field("left_out", stats.left_out)
      .Field("seconds", Rounded(stats.seconds));
  WriteIfKnown("age_s", stats.age_s, json);
  json->Field("restored_publishers", restored.publishers).Field("restored_blocks", restored.blocks);
  const auto failures = SnapshotFailures(stats, restored);
  WriteNonZero("failures", failures, json);
  json->EndObject();
}

void WriteStates(const std::vector<SourceView>& views, JsonWriter* json) {
  std::array<uint64_t, kvcache::kPublisherStates> counts{};
  for (const SourceView& view : views) ++counts[static_cast<size_t>(view.state)];
  json->Key("states").BeginObject();
  for (size_t i = 0; i < counts.size(); ++i) {
    json->Field(kvcache::PublisherStateName(static_cast<PublisherState>(i)), counts[i]);
  }
  json->EndObject();
}

void WriteUnheard(const std::vector<UnheardEndpoint>& unheard, std::string_view endpoint,
                  JsonWriter* json) {
  size_t shown = 0, left_out = 0;
  json->Key("unheard").BeginArray();
  for (const UnheardEndpoint& one : unheard) {
    if (!endpoint.empty() && one.name != endpoint) continue;
    if (shown == kMaxUnheard) {
      ++left_out;
      continue;
    }
    ++shown;
    json->BeginObject().Field("endpoint", one.name).Field("why", one.reason).EndObject();
  }
  json->EndArray().Field("unheard_left_out", left_out);
}

struct Prompt {
  std::vector<uint32_t> tokens;
  std::string model, salt;
};

Result<Prompt> ReadPrompt(std::string_view body) {
  const auto wrong = [](std::string_view what) {
    return Fail(Code::kInvalidArgument, fmt::format("{}; the body is {{\"token_ids\": [1, 2, ...], "
                                                    "\"model\": \"an adapter\", \"salt\": \"\"}}",
                                                    what));
  };
  boost::system::error_code error;
  const boost::json::value tree = boost::json::parse({body.data(), body.size()}, error);
  if (error || !tree.is_object()) return wrong("that is no JSON object");
  Prompt out;
  bool has_tokens = false;
  for (const auto& [key, value] : tree.get_object()) {
    const std::string_view name(key.data(), key.size());
    if (name == "token_ids" && value.is_array()) {
      has_tokens = true;
      for (const boost::json::value& id : value.get_array()) {
        out.tokens.push_back(id.to_number<uint32_t>(error));
        if (error) return wrong("token_ids holds something that is no token's number");
      }
    } else if ((name == "model" || name == "salt") && value.is_string()) {
      (name == "model" ? out.model : out.salt) = std::string(value.get_string());
    } else {
      return wrong(fmt::format("'{}' is unknown or of the wrong kind", name));
    }
  }
  if (!has_tokens) return wrong("token_ids is missing");
  return out;
}

}  // namespace

std::array<std::pair<std::string_view, uint64_t>, kSnapshotFailures> SnapshotFailures(
    const SnapshotStats& stats, const events::RestoreCounts& restored) {
  return {{{"unreadable", stats.unreadable},
           {"unreachable", stats.unreachable},
           {"refused", stats.refused},
           {"broken", stats.broken},
           {"broken_publisher", restored.refused},
           {"unwritable", stats.unwritable}}};
}

std::string ExplainPublisher(const SourceView& view) {
  switch (view.state) {
    case PublisherState::kGone:
      return "it has left the pool";
    case PublisherState::kConnecting:
      if (view.source.events.empty()) return "nothing has come from it yet";
      if (view.connections > 0) {
        return fmt::format("its connection to {} is broken, or it has not said anything yet",
                           view.source.events);
      }
      if (view.refused > 0) {
        return fmt::format("who answers at {} is no publisher of KV events", view.source.events);
      }
      if (view.source.is_guess) {
        return fmt::format(
            "nothing listens at {}, where vLLM publishes KV events when they are switched on; it "
            "is tried again every 30 s",
            view.source.events);
      }
      return fmt::format(
          "nobody answers at {} yet: does the engine run with --kv-events-config, at that port?",
          view.source.events);
    case PublisherState::kSyncing:
      return "its history is being read";
    case PublisherState::kExact:
      return "all that it holds is known";
    case PublisherState::kDegraded:
    case PublisherState::kStale:
      break;
  }
  return ExplainReason(view);
}

void WriteCaches(const HeardCaches& heard, std::string_view endpoint, size_t limit,
                 JsonWriter* json) {
  const auto views = heard.ingest->Views();
  json->BeginObject();
  WriteSettings(heard, json);
  WriteIndex(heard.knows->caches().index(), json);
  WriteSnapshot(heard, json);
  json->Field("unknown_topics", heard.ingest->unknown_topics())
      .Field("malformed_messages", heard.ingest->malformed_messages());
  WriteStates(*views, json);
  std::map<uint32_t, sched::DriftView> drifts;
  for (sched::DriftView& drift : heard.knows->drift()) drifts[drift.slot] = std::move(drift);
  size_t shown = 0, left_out = 0;
  json->Key("publishers").BeginArray();
  for (const SourceView& view : *views) {
    if (!endpoint.empty() && view.source.name != endpoint) continue;
    if (shown == limit) {
      ++left_out;
      continue;
    }
    ++shown;
    const auto drift = drifts.find(view.source.slot);
    WritePublisher(view, drift == drifts.end() ? nullptr : &drift->second, json);
  }
  json->EndArray().Field("left_out", left_out);
  WriteUnheard(*heard.unheard(), endpoint, json);
  json->EndObject();
}

void WriteLiveCaches(const HeardCaches& heard, size_t limit, JsonWriter* json) {
  if (heard.knows == nullptr) {
    json->Null();
    return;
  }
  const auto views = heard.ingest->Views();
  // Engines that were only tried, of which none publishes: nobody misses anything.
  if (heard.knows->kv_events().only_sole && std::ranges::all_of(*views, [](const SourceView& view) {
        return view.state == PublisherState::kConnecting && view.source.is_guess;
      })) {
    json->Null();
    return;
  }
  const kvcache::ChainIndex& index = heard.knows->caches().index();
  json->BeginObject();
  WriteStates(*views, json);
  json->Field("index_bytes", index.bytes()).Field("index_max_bytes", index.max_bytes());
  json->Field("publishers_total", views->size()).Key("publishers").BeginArray();
  for (size_t i = 0; i < views->size() && i < limit; ++i) {
    json->BeginObject();
    WriteStanding((*views)[i], json);
    json->EndObject();
  }
  json->EndArray().Field("unheard", heard.unheard()->size()).EndObject();
}

Result<> WriteMatch(const HeardCaches& heard, std::string_view body, JsonWriter* json) {
  const auto prompt = ReadPrompt(body);
  if (!prompt) return std::unexpected(prompt.error());
  const kvcache::ExactCaches& caches = heard.knows->caches();
  const kvcache::SaltPlace salt = kvcache::PlaceOfSalt(prompt->salt);
  const uint32_t block_tokens = caches.keys().block_tokens();
  std::vector<uint64_t> keys;
  caches.keys().Append(prompt->tokens,
                       kvcache::PromptExtras({}, salt.folded, {block_tokens, block_tokens},
                                             prompt->tokens.size() / block_tokens),
                       &keys);
  const auto views = heard.ingest->Views();
  json->BeginObject()
      .Field("tokens", prompt->tokens.size())
      .Field("block_tokens", caches.keys().block_tokens())
      .Field("blocks", keys.size());
  json->Key("endpoints").BeginArray();
  kvcache::ExactCaches::Asking asking(caches);
  const auto holds = asking.Match(caches.keys().Namespace(prompt->model, salt.salt), keys);
  const auto& entries = asking.table().entries;
  size_t others = 0;
  for (const SourceView& view : *views) {
    const uint32_t slot = view.source.slot;
    const bool is_known =
        slot < entries.size() && entries[slot].is_known && entries[slot].slot.index < holds.size();
    const kvcache::PrefixHold hold =
        is_known ? holds[entries[slot].slot.index] : kvcache::PrefixHold{};
    if (hold.blocks == 0) {
      ++others;
      continue;
    }
    json->BeginObject()
        .Field("endpoint", view.source.name)
        .Field("state", kvcache::PublisherStateName(view.state))
        .Field("blocks", hold.blocks)
        .Field("sure", hold.sure)
        .Field("gpu", hold.gpu)
        .Field("reusable", hold.reusable)
        .EndObject();
  }
  json->EndArray().Field("holding_nothing", others).EndObject();
  return {};
}

}  // namespace penstock::admin
