#include "plugins/session_affinity.h"

#include <xxhash.h>

#include <algorithm>
#include <boost/unordered/unordered_flat_map.hpp>
#include <functional>

#include "core/text.h"
#include "plugins/base64.h"

namespace penstock::plugins {
namespace {

// llm-d's token is the namespaced name of a pod. An endpoint's name here may be one ("ns/pod");
// other names stand in the namespace "default".
std::string TokenOf(const model::EndpointInfo& endpoint) {
  const std::string& name = endpoint.spec.name;
  return EncodeBase64(name.find('/') == std::string::npos ? "default/" + name : name);
}

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return XXH3_64bits(text.data(), text.size()); }
};
using Tokens = boost::unordered_flat_map<std::string, uint32_t, TextHash, std::equal_to<>>;

// The column of the healthy endpoint that has this token.
std::optional<uint32_t> ColumnOfToken(std::string_view token, const model::PoolSnapshot& pool) {
  static const SnapshotMemo<Tokens> memo;
  const Tokens& tokens = memo.Get(pool, "", [&](Tokens* columns) {
    columns->clear();
    for (uint32_t i = 0; i < pool.endpoints.size(); ++i) {
      columns->emplace(TokenOf(pool.endpoints[i]), i);
    }
  });
  const auto it = tokens.find(token);
  if (it == tokens.end() || !pool.healthy.Test(it->second)) return std::nullopt;
  return it->second;
}

constexpr std::string_view kTokenEffect =
    "sends the request to the endpoint that it names; answers carry it";
constexpr std::string_view kSessionEffect =
    "names the session, which stays on one endpoint once it has one";

uint64_t HashOf(std::string_view session) { return XXH3_64bits(session.data(), session.size()); }

std::optional<uint32_t> ColumnOf(uint32_t slot, const model::PoolSnapshot& pool) {
  const auto it = std::find(pool.slots.begin(), pool.slots.end(), slot);
  if (it == pool.slots.end()) return std::nullopt;
  const auto column = static_cast<uint32_t>(it - pool.slots.begin());
  if (!pool.healthy.Test(column)) return std::nullopt;
  return column;
}

void SetResponseHeader(sched::RequestContext& context, const std::string& name, std::string value) {
  for (auto& [known, old] : context.response_headers) {
    if (!EqualsIgnoreCase(known, name)) continue;
    old = std::move(value);
    return;
  }
  context.response_headers.emplace_back(name, std::move(value));
}

}  // namespace

std::string SessionAffinityParams::Problem() const {
  if (encoded_header.header.empty()) return "encodedEndpointHeaderConfig.header is empty";
  if (session_id.sources.empty()) return "sessionIdConfig.sources: at least one is needed";
  for (const Source& source : session_id.sources) {
    if (source.header.empty() == source.attribute.empty()) {
      return "sessionIdConfig.sources: each needs either header or attribute";
    }
  }
  return "";
}

SessionAffinity::SessionAffinity(SessionAffinityParams params) : params_(std::move(params)) {
  if (params_.strategy == "session_id") {
    table_.emplace(seconds(params_.session_id.eviction_ttl_seconds));
  }
}

std::vector<sched::Need> SessionAffinity::Needs() const {
  std::vector<sched::Need> needs;
  if (!table_) return needs;
  for (const auto& source : params_.session_id.sources) {
    if (!source.attribute.empty()) needs.push_back({sched::DataKey::kSessionId, source.producer});
  }
  return needs;
}

std::string_view SessionAffinity::SessionOf(const sched::RequestContext& context) const {
  for (const auto& source : params_.session_id.sources) {
    const std::string_view id = source.header.empty()
                                    ? std::string_view(context.session_id)
                                    : TrimSpace(context.request.Header(source.header));
    if (!id.empty()) return id;
  }
  return {};
}

std::optional<uint32_t> SessionAffinity::Bound(const sched::RequestContext& context,
                                               const model::EndpointColumns& columns) const {
  if (!table_) {
    const std::string_view token = TrimSpace(context.request.Header(params_.encoded_header.header));
    return token.empty() ? std::nullopt : ColumnOfToken(token, *columns.pool);
  }
  const std::string_view session = SessionOf(context);
  if (session.empty()) return std::nullopt;
  const std::optional<uint32_t> slot = table_->Find(HashOf(session), columns.now);
  return slot ? ColumnOf(*slot, *columns.pool) : std::nullopt;
}

void SessionAffinity::Learn(sched::RequestContext& context, const model::EndpointColumns& columns,
                            const sched::Picked& picked) {
  const uint32_t column = Bound(context, columns).value_or(picked.column);
  if (!table_) {
    SetResponseHeader(context, params_.encoded_header.header,
                      TokenOf(columns.pool->endpoints[column]));
    return;
  }
  const std::string_view session = SessionOf(context);
  if (!session.empty()) table_->Bind(HashOf(session), columns.pool->slots[column], picked.now);
}

std::vector<sched::HeaderUse> SessionAffinity::HeadersRead() const {
  if (!table_) return {{params_.encoded_header.header, false, kTokenEffect}};
  std::vector<sched::HeaderUse> uses;
  for (const auto& source : params_.session_id.sources) {
    if (!source.header.empty()) uses.push_back({source.header, true, kSessionEffect});
  }
  return uses;
}

void SessionAffinity::OnEndpointRemoved(uint32_t slot) {
  if (table_) table_->ForgetSlot(slot);
}

void SessionAffinity::OnTick(Time now) {
  if (!table_ || now < next_sweep_) return;
  next_sweep_ = now + seconds(params_.session_id.eviction_sweep_seconds);
  table_->Sweep(now);
}

}  // namespace penstock::plugins
