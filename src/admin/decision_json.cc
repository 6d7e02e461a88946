#include "admin/decision_json.h"

#include <cmath>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "admin/explain.h"

namespace penstock::admin {
namespace {

using director::Attempt;
using director::DecisionRecord;
using model::PoolSnapshot;
using wire::JsonWriter;

void WriteText(std::string_view key, std::string_view text, JsonWriter* json) {
  json->Key(key);
  if (text.empty()) {
    json->Null();
  } else {
    json->Value(text);
  }
}

void WriteCount(std::string_view key, uint64_t count, bool is_known, JsonWriter* json) {
  json->Key(key);
  if (is_known) {
    json->Value(count);
  } else {
    json->Null();
  }
}

// The fields that a list and the full record share.
void WriteCommon(const DecisionRecord& record, JsonWriter* json) {
  json->Field("request_id", record.request_id)
      .Field("api", model::ApiName(record.api))
      .Field("model", record.model)
      .Field("stream", record.stream)
      .Field("unix_micros", record.unix_micros);
  WriteText("endpoint", record.attempts.empty() ? "" : record.attempts.back().endpoint, json);
  json->Field("tries", record.attempts.size())
      .Field("end", director::EndKindName(record.end))
      .Field("status", record.status);
  WriteText("reason", record.reason, json);
  json->Field("estimated_input_tokens", record.input_tokens);
  WriteText("estimated_because", record.estimated_because, json);
  WriteCount("input_tokens", record.reported_input_tokens, record.usage_known, json);
  WriteCount("cached_tokens", record.cached_tokens, record.cached_known, json);
  WriteCount("output_tokens", record.output_tokens, record.usage_known, json);
  WriteIfKnown("ttft_s", record.ttft_s, json);
  WriteIfKnown("e2e_s", record.e2e_s, json);
  json->Field("decision_us", Rounded(record.decision_us));
}

// A column's element under `key`; left out when nothing needed the column.
void WriteElement(std::string_view key, std::span<const float> column, size_t i, JsonWriter* json) {
  if (i < column.size()) json->Field(key, Rounded(column[i]));
}

void WriteCandidate(const Attempt& attempt, size_t i, bool is_picked, JsonWriter* json) {
  const model::EndpointInfo& endpoint = attempt.pool->endpoints[i];
  json->BeginObject().Field("endpoint", endpoint.spec.name).Field("address", endpoint.address);
  if (is_picked) json->Field("picked", true);
  WriteElement("waiting", attempt.waiting, i, json);
  WriteElement("running", attempt.running, i, json);
  WriteElement("kv_usage", attempt.kv_usage, i, json);
  WriteElement("in_flight_requests", attempt.in_flight_requests, i, json);
  WriteElement("in_flight_tokens", attempt.in_flight_tokens, i, json);
  WriteElement("uncached_tokens", attempt.uncached_tokens, i, json);
  WriteElement("matched_blocks", attempt.matched_blocks, i, json);
  if (i < attempt.match_sources.size()) {
    json->Field("match", director::MatchSourceName(attempt.match_sources[i]));
    WriteElement("told_blocks", attempt.told_blocks, i, json);
  }
  json->EndObject();
}

void WriteNames(std::string_view key, const PoolSnapshot& pool, MaskView mask, JsonWriter* json) {
  json->Key(key).BeginArray();
  mask.ForEach([&](size_t i) { json->Value(pool.endpoints[i].spec.name); });
  json->EndArray();
}

// {"engine-0": 0.5, ...} of the endpoints in the mask.
void WriteByName(std::string_view key, const PoolSnapshot& pool, MaskView mask,
                 std::span<const float> column, JsonWriter* json) {
  json->Key(key).BeginObject();
  mask.ForEach([&](size_t i) {
    if (i >= column.size()) return;
    // One token of load in four million is told from none.
    json->Field(pool.endpoints[i].spec.name,
                std::round(static_cast<double>(column[i]) * 1e6) / 1e6);
  });
  json->EndObject();
}

void WriteProfile(const sched::ProfileTrace& profile, const PoolSnapshot& pool,
                  const Mask& candidates, JsonWriter* json) {
  json->BeginObject().Field("profile", profile.profile).Key("filters").BeginArray();
  Mask left = candidates;
  for (const auto& step : profile.filters) {
    if (step.after.size() != pool.endpoints.size()) continue;
    Mask dropped = left;
    dropped.Keep([&](size_t i) { return !step.after.Test(i); });
    left = step.after;
    json->BeginObject().Field("plugin", step.plugin);
    WriteNames("kept", pool, left, json);
    WriteNames("dropped", pool, dropped, json);
    json->EndObject();
  }
  json->EndArray().Key("scorers").BeginArray();
  for (const auto& step : profile.scores) {
    json->BeginObject().Field("plugin", step.plugin).Field("weight", Rounded(step.weight));
    WriteByName("scores", pool, left, step.scores, json);
    json->EndObject();
  }
  json->EndArray();
  WriteByName("totals", pool, left, profile.totals, json);
  json->Key("picks").BeginArray();
  for (uint32_t pick : profile.picks) {
    if (pick < pool.endpoints.size()) json->Value(pool.endpoints[pick].spec.name);
  }
  json->EndArray().EndObject();
}

void WriteAttempt(const DecisionRecord& record, size_t index, JsonWriter* json) {
  const Attempt& attempt = record.attempts[index];
  json->BeginObject()
      .Field("endpoint", attempt.endpoint)
      .Field("address", attempt.address)
      .Field("dispatched_after_s", Rounded(ToSeconds(attempt.dispatched - record.arrived)));
  WriteText("failure", attempt.failure, json);
  json->Field("total_blocks", attempt.total_blocks)
      .Field("block_size_tokens", attempt.block_size_tokens);
  json->Key("candidates").BeginArray();
  if (attempt.pool == nullptr) {
    json->EndArray().EndObject();
    return;
  }
  const PoolSnapshot& pool = *attempt.pool;
  const Mask candidates = CandidatesOf(record, index);
  const size_t picked = PickedColumn(attempt);
  candidates.ForEach([&](size_t i) { WriteCandidate(attempt, i, i == picked, json); });
  json->EndArray().Key("excluded").BeginArray();
  for (size_t i = 0; i < pool.endpoints.size(); ++i) {
    if (candidates.Test(i)) continue;
    json->BeginObject()
        .Field("endpoint", pool.endpoints[i].spec.name)
        .Field("why", WhyNotACandidate(record, index, i))
        .EndObject();
  }
  json->EndArray().Key("profiles").BeginArray();
  for (const auto& profile : attempt.trace.profiles) WriteProfile(profile, pool, candidates, json);
  json->EndArray().EndObject();
}

}  // namespace

double Rounded(double value) { return std::round(value * 1e4) / 1e4; }

void WriteIfKnown(std::string_view key, double value, JsonWriter* json) {
  json->Key(key);
  if (value >= 0) {
    json->Value(Rounded(value));
  } else {
    json->Null();
  }
}

void WriteDecisionSummary(const DecisionRecord& record, JsonWriter* json) {
  json->BeginObject();
  WriteCommon(record, json);
  WriteText("why", ExplainBriefly(record), json);
  json->EndObject();
}

void WriteDecision(const DecisionRecord& record, JsonWriter* json) {
  json->BeginObject();
  WriteCommon(record, json);
  json->Field("body_bytes", record.body_bytes).Key("explanation").BeginArray();
  for (const std::string& sentence : Explain(record)) json->Value(sentence);
  json->EndArray().Key("attempts").BeginArray();
  for (size_t i = 0; i < record.attempts.size(); ++i) WriteAttempt(record, i, json);
  json->EndArray().EndObject();
}

}  // namespace penstock::admin
