#include "app/kv_events.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <string_view>
#include <utility>

#include "telemetry/log.h"

namespace penstock::app {
namespace {

constexpr uint32_t kMaxPort = 65535;

// Port of one rank: one up from the first's for each rank; 0: none.
uint32_t PortOf(uint16_t first, uint16_t rank) { return first == 0 ? 0 : uint32_t{first} + rank; }

std::string TcpAddress(const std::string& host, uint32_t port) {
  return host.find(':') == std::string::npos ? fmt::format("tcp://{}:{}", host, port)
                                             : fmt::format("tcp://[{}]:{}", host, port);
}

// Why nobody can listen to it, or "". `sharing`: endpoints on its host.
std::string FillPlaces(const model::EndpointSpec& spec, const sched::KvEventSettings& settings,
                       size_t sharing, events::EventSource* source) {
  if (spec.kv_events_port == 0 && settings.bind.empty()) return "its kvEventsPort is 0";
  const bool is_tried = settings.dials && (!settings.only_sole || sharing == 1);
  // What is tried in the blind goes together: another engine's history would be believed.
  const bool tries_history = is_tried && !(settings.only_sole && spec.kv_events_port);
  const uint32_t events = spec.kv_events_port ? *spec.kv_events_port
                          : is_tried          ? PortOf(settings.port, spec.rank)
                                              : 0;
  const uint32_t replay = spec.kv_replay_port ? *spec.kv_replay_port
                          : tries_history     ? PortOf(settings.replay_port, spec.rank)
                                              : 0;
  if (std::max(events, replay) > kMaxPort) {
    return fmt::format("port {} of its rank {} is above {}", std::max(events, replay), spec.rank,
                       kMaxPort);
  }
  if (events == 0 && settings.bind.empty()) {
    if (settings.dials && !is_tried) {
      return fmt::format(
          "{} endpoints share its host, so that nobody knows which of them publishes at port {}: "
          "set kvEventsPort of each, 0 for none",
          sharing, settings.port);
    }
    return "there is no port to listen at: set socketPort of the plugin, or kvEventsPort of the "
           "engine";
  }
  if (events != 0) source->events = TcpAddress(spec.host, events);
  if (replay != 0) source->replay = TcpAddress(spec.host, replay);
  source->is_guess = settings.only_sole && !spec.kv_events_port;
  return "";
}

}  // namespace

KvSources KvSourcesOf(const model::PoolSnapshot& pool, const sched::KvEventSettings& settings,
                      const plugins::LabelSelector& selector) {
  KvSources out;
  std::map<std::string_view, size_t> on_host;
  for (const model::EndpointInfo& endpoint : pool.endpoints) ++on_host[endpoint.spec.host];
  for (const model::EndpointInfo& endpoint : pool.endpoints) {
    const model::EndpointSpec& spec = endpoint.spec;
    if (!selector.Matches(spec.labels)) {
      out.unheard.push_back(
          {spec.name, "its labels do not match podLabelSelector " + settings.label_selector});
      continue;
    }
    events::EventSource source{.name = spec.name,
                               .address = endpoint.address,
                               .slot = endpoint.slot,
                               .gpu_blocks = endpoint.gpu_blocks};
    std::string reason = FillPlaces(spec, settings, on_host[spec.host], &source);
    if (!reason.empty()) {
      out.unheard.push_back({spec.name, std::move(reason)});
      continue;
    }
    out.heard.push_back(std::move(source));
  }
  std::map<std::string, size_t> dialled;
  for (const events::EventSource& source : out.heard) ++dialled[source.events];
  std::erase_if(out.heard, [&](const events::EventSource& source) {
    if (source.events.empty() || dialled[source.events] == 1) return false;
    out.unheard.push_back(
        {source.name, fmt::format("{} endpoints would be heard at {}: set kvEventsPort of each",
                                  dialled[source.events], source.events)});
    return true;
  });
  std::sort(out.unheard.begin(), out.unheard.end());
  return out;
}

KvEvents::KvEvents(sched::KnowsCaches& knows, const director::Fleet& fleet,
                   plugins::LabelSelector selector)
    : knows_(knows), fleet_(fleet), selector_(std::move(selector)) {}

Result<std::unique_ptr<KvEvents>> KvEvents::Start(sched::KnowsCaches& knows,
                                                  const director::Fleet& fleet) {
  const sched::KvEventSettings& settings = knows.kv_events();
  auto selector = plugins::ParseLabelSelector(settings.label_selector);
  if (!selector)
    return Fail(selector.error().code, "podLabelSelector: " + selector.error().message);
  std::unique_ptr<KvEvents> out(new KvEvents(knows, fleet, std::move(*selector)));
  events::Ingest::Options options;
  options.bind = settings.bind;
  options.topic_filter = settings.topic_filter;
  options.is_busy = [&live = fleet.live()](uint32_t slot) {
    constexpr auto kRelaxed = std::memory_order_relaxed;
    return live.running[slot].load(kRelaxed) + live.waiting[slot].load(kRelaxed) > 0;
  };
  auto ingest = events::Ingest::Start(knows.caches(), std::move(options));
  if (!ingest) return Fail(ingest.error().code, "KV events: " + ingest.error().message);
  out->ingest_ = std::move(*ingest);
  if (settings.snapshot.is_on()) {
    auto snapshots = KvSnapshots::Start(knows.caches(), *out->ingest_, settings.snapshot);
    if (!snapshots) return std::unexpected(std::move(snapshots.error()));
    out->snapshots_ = std::move(*snapshots);
  }
  out->Follow();
  return out;
}

void KvEvents::Follow() {
  const auto pool = fleet_.snapshot().Get();
  if (pool->id == followed_) return;
  followed_ = pool->id;
  KvSources sources = KvSourcesOf(*pool, knows_.kv_events(), selector_);
  ingest_->SetEndpoints(std::move(sources.heard));
  const auto before = unheard_.Get();
  std::vector<admin::UnheardEndpoint> more;
  std::set_difference(sources.unheard.begin(), sources.unheard.end(), before->begin(),
                      before->end(), std::back_inserter(more));
  if (!more.empty()) {
    // Where nobody asked for it, it is no fault.
    const auto tell = knows_.kv_events().only_sole ? telemetry::log::Info : telemetry::log::Warn;
    tell("nobody listens to the KV events of some endpoints; see /debug/kv",
         {{"endpoints", sources.unheard.size()},
          {"endpoint", more.front().name},
          {"reason", more.front().reason}});
  }
  unheard_.Store(std::make_shared<std::vector<admin::UnheardEndpoint>>(std::move(sources.unheard)));
}

admin::HeardCaches KvEvents::heard() const {
  return {&knows_, ingest_.get(), [this] { return unheard_.Get(); }, snapshots_.get()};
}

std::string KvEvents::Describe() const {
  const sched::KvEventSettings& settings = knows_.kv_events();
  std::string out = "KV events:";
  if (!settings.bind.empty()) {
    out += fmt::format(" engines connect to {}", ingest_->bound_endpoint());
    if (settings.dials) out += ", and";
  }
  if (settings.dials) {
    out += settings.only_sole
               ? fmt::format(" each engine that shares its host with no other is tried at port {}",
                             settings.port)
               : fmt::format(" each engine is dialled at port {}", settings.port);
    out += settings.replay_port == 0
               ? ", without history"
               : fmt::format(", and asked for history at {}", settings.replay_port);
  }
  if (snapshots_ != nullptr) out += "; " + snapshots_->Describe();
  return out;
}

}  // namespace penstock::app
