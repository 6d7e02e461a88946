#include "signals/scraper.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <cmath>
#include <future>
#include <thread>
#include <unordered_map>
#include <utility>

#include "core/random.h"
#include "core/snapshot.h"
#include "http/client.h"
#include "net/loop.h"
#include "signals/scrape_metrics.h"
#include "signals/target.h"

namespace penstock::signals {
namespace {

// New endpoints are found this late at most.
constexpr Duration kMaxSleep = milliseconds(20);
// First reads are spread over this much.
constexpr Duration kFirstSpread = milliseconds(50);

ScraperOptions Bounded(ScraperOptions options) {
  options.interval = std::max<Duration>(options.interval, milliseconds(1));
  options.models_interval = std::max<Duration>(options.models_interval, milliseconds(1));
  if (options.seed == 0) {
    options.seed =
        static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  }
  return options;
}

}  // namespace

struct Scraper::Impl {
  Impl(director::Fleet& f, telemetry::Registry& registry, const ScraperOptions& o)
      : fleet(f),
        options(Bounded(o)),
        metrics(registry),
        random(options.seed),
        tick(std::clamp<Duration>(options.interval / 16, milliseconds(1), milliseconds(10))) {}

  ~Impl() {
    if (!thread.joinable()) return;
    loop.Stop();
    thread.join();
  }

  void Run() {
    client = http::Client::Create(loop);
    context = std::make_unique<TargetContext>(
        TargetContext{fleet, loop, *client, options, metrics, random});
    net::Timer wake(loop, [this] { OnTick(); });
    timer = &wake;
    OnTick();
    loop.Run();
    targets.clear();
    client.reset();
  }

  void OnTick() {
    const Time now = loop.Now();
    Sync(now);
    Time next = now + kMaxSleep;
    bool is_round_done = true;
    for (auto& [slot, target] : targets) {
      target->Tick(now);
      next = std::min(next, target->NextDue(now));
      is_round_done = is_round_done && target->is_tried();
    }
    if (is_round_done && !std::exchange(is_told, true)) first_round.set_value();
    // Not sooner than a tick: what is due within one begins together, in one turn of the loop.
    timer->Start(std::max(next - now, tick));
  }

  // Makes the targets those of the fleet.
  void Sync(Time now) {
    const std::shared_ptr<const model::PoolSnapshot>& pool = reader.Load(fleet.snapshot());
    if (pool->version == seen_version) return;
    seen_version = pool->version;
    std::unordered_map<uint32_t, std::unique_ptr<Target>> next;
    next.reserve(pool->endpoints.size());
    for (const model::EndpointInfo& endpoint : pool->endpoints) {
      const auto found = targets.find(endpoint.slot);
      if (found == targets.end() || !found->second->Is(endpoint)) continue;
      found->second->Update(endpoint, now);
      next.emplace(endpoint.slot, std::move(found->second));
      targets.erase(found);
    }
    targets.swap(next);
    next.clear();  // the leavers, before new ones that may have their addresses
    for (const model::EndpointInfo& endpoint : pool->endpoints) {
      if (!targets.contains(endpoint.slot)) Add(endpoint, now);
    }
  }

  void Add(const model::EndpointInfo& endpoint, Time now) {
    // Multiples of the golden ratio, modulo 1, lie evenly however many there are.
    constexpr double kGolden = 0.6180339887498949;
    const double phase = std::fmod(static_cast<double>(++added) * kGolden, 1.0);
    const auto delay =
        std::chrono::duration_cast<Duration>(std::min(options.interval, kFirstSpread) * phase);
    targets.emplace(endpoint.slot,
                    std::make_unique<Target>(*context, endpoint, now + delay, phase));
  }

  director::Fleet& fleet;
  const ScraperOptions options;
  ScrapeMetrics metrics;
  Random random;
  const Duration tick;
  std::promise<void> first_round;
  const std::shared_future<void> first_round_done = first_round.get_future().share();
  net::Loop loop;
  std::thread thread;

  // Of the loop.
  std::unique_ptr<http::Client> client;
  std::unique_ptr<TargetContext> context;
  net::Timer* timer = nullptr;
  SnapshotCell<model::PoolSnapshot>::Reader reader;
  uint64_t seen_version = 0;
  uint64_t added = 0;
  bool is_told = false;
  std::unordered_map<uint32_t, std::unique_ptr<Target>> targets;  // by slot
};

Scraper::Scraper(director::Fleet& fleet, telemetry::Registry& registry,
                 const ScraperOptions& options)
    : impl_(std::make_unique<Impl>(fleet, registry, options)) {}
Scraper::~Scraper() = default;

void Scraper::Start() {
  // Signals are for the main thread; the new one inherits the mask.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  impl_->thread = std::thread([raw = impl_.get()] { raw->Run(); });
  pthread_setname_np(impl_->thread.native_handle(), "penstock-scrape");
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

bool Scraper::WaitFirstRound(Duration at_most) const {
  return impl_->first_round_done.wait_for(at_most) == std::future_status::ready;
}

}  // namespace penstock::signals
