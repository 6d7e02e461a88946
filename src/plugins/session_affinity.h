// Which endpoint a session is bound to: what the session affinity filter and scorer share.
//
// Strategy encoded_endpoint_header keeps no state: the answer carries the endpoint's name in a
// header, which the client sends back. Strategy session_id remembers where each session went. A
// binding changes only when its endpoint is gone.
//
// THREADS: const methods and Learn from any thread; lock-free.
// SOURCE: llm-d-router session affinity plugins.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/describe.h"
#include "plugins/session_table.h"
#include "plugins/snapshot_memo.h"
#include "sched/plugin.h"

namespace penstock::plugins {

struct SessionAffinityParams {
  struct EncodedHeader {
    std::string header = "x-session-token";
    template <class V>
    void Describe(V& v) {
      v.Field("header", header, {.text = "Header that carries the binding, both ways."});
    }
  };
  struct Source {
    std::string header;
    std::string attribute;
    std::string producer;
    template <class V>
    void Describe(V& v) {
      v.Field("header", header, {.text = "Header that carries the session's id."});
      v.Field("attribute", attribute,
              {.text = "Data that carries it, instead of a header.", .one_of = {"SessionID"}});
      v.Field("producer", producer, {.text = "Producer of the attribute."});
    }
  };
  struct SessionId {
    std::vector<Source> sources = {{"x-session-id", "", ""}};
    uint32_t eviction_ttl_seconds = 300;
    uint32_t eviction_sweep_seconds = 10;
    template <class V>
    void Describe(V& v) {
      v.Field("sources", sources, {.text = "Where the id may stand; the first one found counts."});
      v.Field("evictionTtlSeconds", eviction_ttl_seconds,
              {.text = "How long an unused binding is kept.", .unit = "s", .min = 1});
      v.Field("evictionSweepSeconds", eviction_sweep_seconds,
              {.text = "How often old bindings are removed.", .unit = "s", .min = 1, .max = 3600});
    }
  };

  std::string strategy = "encoded_endpoint_header";
  EncodedHeader encoded_header;
  SessionId session_id;
  std::string profile_name;

  template <class V>
  void Describe(V& v) {
    v.Field(
        "strategy", strategy,
        {.text = "How a session is bound.", .one_of = {"encoded_endpoint_header", "session_id"}});
    v.Field("encodedEndpointHeaderConfig", encoded_header,
            {.text = "Settings of encoded_endpoint_header."});
    v.Field("sessionIdConfig", session_id, {.text = "Settings of session_id."});
    v.Field("profileName", profile_name,
            {.text = "Profile whose pick binds; the primary one binds in any case."});
  }
  // What is wrong, or "".
  std::string Problem() const;
};

class SessionAffinity {
 public:
  explicit SessionAffinity(SessionAffinityParams params);

  std::vector<sched::Need> Needs() const;
  // The column of the healthy endpoint that the request's session is bound to.
  std::optional<uint32_t> Bound(const sched::RequestContext& context,
                                const model::EndpointColumns& columns) const;
  // Binds the session to the pick, unless it is bound to an endpoint that still serves.
  void Learn(sched::RequestContext& context, const model::EndpointColumns& columns,
             const sched::Picked& picked);
  std::vector<sched::HeaderUse> HeadersRead() const;
  void OnEndpointRemoved(uint32_t slot);
  void OnTick(Time now);
  uint64_t MaxBytes() const { return table_ ? table_->MaxBytes() : 0; }

 private:
  // "" when the request has none.
  std::string_view SessionOf(const sched::RequestContext& context) const;

  const SessionAffinityParams params_;
  std::optional<SessionTable> table_;  // strategy session_id
  Time next_sweep_;
};

}  // namespace penstock::plugins
