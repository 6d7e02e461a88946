#include "events/ingest.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "core/mutex.h"
#include "events/source.h"
#include "net/zmq.h"
#include "telemetry/log.h"

namespace penstock::events {
namespace {

using kvcache::PublisherState;
using net::ZmqSocket;

// Of one source before the others have their turn.
constexpr int kBatchesInARow = 256;
constexpr size_t kSlice = 4096;                 // blocks that a source that left gives back at once
constexpr Duration kKeepsSaved = seconds(300);  // what nobody has asked for yet

Time Now() { return std::chrono::steady_clock::now(); }

class Listener final : public Ingest {
 public:
  Listener(kvcache::ExactCaches& caches, Options options)
      : caches_(caches), options_(std::move(options)) {
    caches_.SetDriftSink([this](uint32_t slot, bool differs) { OnDrift(slot, differs); });
  }

  ~Listener() override {
    caches_.SetDriftSink({});
    stopping_.store(true);
    Wake();
    if (thread_.joinable()) thread_.join();
    caches_.SetTable(std::make_shared<kvcache::SlotTable>());
    // What the index holds for them goes with them.
    for (auto& [name, source] : sources_) source->LeaveWholly();
    for (auto& source : leaving_) source->LeaveWholly();
    if (epoll_ >= 0) ::close(epoll_);
    if (wake_ >= 0) ::close(wake_);
  }

  Result<> Start() {
    epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
    wake_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (epoll_ < 0 || wake_ < 0) {
      return Fail(Code::kResourceExhausted, "no descriptor is left to listen to KV events");
    }
    Watch(wake_, 0);
    if (!options_.bind.empty()) {
      auto socket = ZmqSocket::Open(context_, ZmqSocket::Type::kSubscribe, {});
      if (!socket) return std::unexpected(std::move(socket.error()));
      bound_ = std::move(*socket);
      bound_->Subscribe(options_.topic_filter);
      if (Result<> ok = bound_->Bind(options_.bind); !ok) return ok;
      Watch(bound_->descriptor(), 0);
    }
    thread_ = std::thread([this] { Run(); });
    return {};
  }

  void SetEndpoints(std::vector<EventSource> sources) override {
    {
      MutexLock lock(mutex_);
      wanted_ = std::move(sources);
      has_wanted_ = true;
    }
    Wake();
  }

  void Restore(Saved saved) override {
    {
      MutexLock lock(mutex_);
      to_restore_ = std::move(saved);
      has_to_restore_ = true;
    }
    Wake();
  }

  void Save(std::move_only_function<void(Saved)> done) override {
    {
      MutexLock lock(mutex_);
      savers_.push_back(std::move(done));
    }
    Wake();
  }

  RestoreCounts restored() const override {
    constexpr auto kRelaxed = std::memory_order_relaxed;
    return {.publishers = restored_publishers_.load(kRelaxed),
            .blocks = restored_blocks_.load(kRelaxed),
            .refused = refused_publishers_.load(kRelaxed)};
  }

  void OnDrift(uint32_t slot, bool differs) {
    {
      MutexLock lock(mutex_);
      drifts_[slot] = differs;
    }
    Wake();
  }

  std::shared_ptr<const std::vector<SourceView>> Views() const override { return views_.Get(); }
  uint64_t unknown_topics() const override {
    return unknown_topics_.load(std::memory_order_relaxed);
  }
  uint64_t malformed_messages() const override {
    return malformed_.load(std::memory_order_relaxed);
  }
  std::string bound_endpoint() const override {
    return bound_ == nullptr ? "" : bound_->bound_endpoint();
  }

 private:
  void Wake() const {
    const uint64_t one = 1;
    // Fails only when it is awake already.
    [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
  }

  // `number` of the source, 0: the listener's own.
  void Watch(int descriptor, uint64_t number) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = number;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event);
  }

  void Run() {
    std::vector<epoll_event> ready(256);
    Time next_tick = Now();
    while (!stopping_.load()) {
      const bool is_pressed = !more_.empty() || !leaving_.empty() || !saving_.empty();
      const auto left = std::chrono::ceil<milliseconds>(next_tick - Now()).count();
      const int wait = is_pressed ? 0 : static_cast<int>(std::max<int64_t>(0, left));
      const int count = ::epoll_wait(epoll_, ready.data(), static_cast<int>(ready.size()), wait);
      uint64_t woken = 0;
      [[maybe_unused]] const ssize_t got = ::read(wake_, &woken, sizeof woken);
      TakeOrders();
      std::vector<uint64_t> turn = std::exchange(more_, {});
      for (int i = 0; i < count; ++i) {
        const uint64_t number = ready[static_cast<size_t>(i)].data.u64;  // not aligned there
        turn.push_back(number);
      }
      std::ranges::sort(turn);
      const auto twice = std::ranges::unique(turn);
      turn.erase(twice.begin(), twice.end());
      const Time now = Now();
      for (const uint64_t number : turn) {
        number == 0 ? ReadBound(now) : Read(number, now);
      }
      if (!leaving_.empty() && leaving_.back()->Leave(kSlice)) leaving_.pop_back();
      SaveNext(now);
      if (now >= next_tick) {
        Tick(now);
        next_tick = now + options_.tick;
      }
    }
  }

  void TakeOrders() {
    std::vector<EventSource> wanted;
    std::map<uint32_t, bool> drifts;
    bool has_wanted = false;
    {
      MutexLock lock(mutex_);
      if (std::exchange(has_to_restore_, false)) {
        kept_.clear();
        for (kvcache::SavedPublisher& saved : to_restore_) {
          kept_.insert_or_assign(saved.name, std::move(saved));
        }
        to_restore_.clear();
        kept_until_ = Now() + kKeepsSaved;
      }
      if (saving_.empty()) saving_.swap(savers_);
      has_wanted = std::exchange(has_wanted_, false);
      wanted.swap(wanted_);
      drifts.swap(drifts_);
    }
    if (has_wanted) Replace(std::move(wanted));
    for (const auto& [slot, differs] : drifts) {
      for (auto& [name, source] : sources_) {
        if (source->source().slot == slot) source->publisher().OnDrift(differs);
      }
    }
  }

  // Of who has asked for all sources: the next of them.
  void SaveNext(Time now) {
    if (saving_.empty()) return;
    const auto next = sources_.upper_bound(last_saved_);
    if (next != sources_.end()) {
      last_saved_ = next->first;
      if (auto saved = next->second->Save(now)) saved_.push_back(std::move(*saved));
      return;
    }
    last_saved_.clear();
    auto waiting = std::exchange(saving_, {});
    for (size_t i = 0; i + 1 < waiting.size(); ++i) waiting[i](saved_);
    waiting.back()(std::exchange(saved_, {}));
  }

  // What was saved of this one counts once.
  void RestoreSource(Source& source) {
    const auto kept = kept_.find(source.source().name);
    if (kept == kept_.end()) return;
    const kvcache::SavedPublisher saved = std::move(kept->second);
    kept_.erase(kept);
    if (saved.address != source.source().address || saved.events != source.source().events) return;
    if (Result<> ok = source.Restore(saved, Now()); !ok) {
      refused_publishers_.fetch_add(1, std::memory_order_relaxed);
      telemetry::log::Warn(
          "what a snapshot says of an engine's cache is broken: it is heard as if new",
          {{"endpoint", source.source().name}, {"error", ok.error().message}});
      return;
    }
    restored_publishers_.fetch_add(1, std::memory_order_relaxed);
    restored_blocks_.fetch_add(source.View().restored, std::memory_order_relaxed);
  }

  void Replace(std::vector<EventSource> wanted) {
    std::map<std::string, EventSource> by_name;
    for (EventSource& source : wanted) by_name.insert_or_assign(source.name, std::move(source));
    for (auto it = sources_.begin(); it != sources_.end();) {
      const auto same = by_name.find(it->first);
      if (same != by_name.end() && it->second->source().IsSame(same->second)) {
        it->second->Update(same->second);
        by_name.erase(same);
        ++it;
        continue;
      }
      by_number_.erase(it->second->number());
      const auto address = by_address_.find(it->second->source().address);
      if (address != by_address_.end() && address->second == it->second->number()) {
        by_address_.erase(address);
      }
      it->second->Close();
      leaving_.push_back(std::move(it->second));
      it = sources_.erase(it);
    }
    for (auto& [name, source] : by_name) Add(std::move(source));
    PublishTable();
    MakeViews();
  }

  void Add(EventSource source) {
    const auto slot = caches_.index().Join();
    if (!slot) {
      telemetry::log::Warn("no slot of the index is left: an engine's KV events are not heard",
                           {{"endpoint", source.name}});
      return;
    }
    kvcache::Publisher::Options publisher = options_.publisher;
    publisher.has_replay = !source.replay.empty();
    kvcache::Holder::Options holder;
    holder.model = options_.model;
    holder.max_orphan_bytes = options_.max_orphan_bytes;
    auto added =
        std::make_unique<Source>(std::move(source), next_number_++, context_, caches_.index(),
                                 caches_.keys(), *slot, publisher, holder);
    RestoreSource(*added);
    if (Result<> ok = added->Open(); !ok) {
      telemetry::log::Warn("an engine's KV events cannot be listened to",
                           {{"endpoint", added->source().name}, {"error", ok.error().message}});
    }
    for (const int descriptor : added->descriptors()) Watch(descriptor, added->number());
    if (added->source().events.empty()) added->publisher().OnConnected(Now());
    by_number_.emplace(added->number(), added.get());
    by_address_.insert_or_assign(added->source().address, added->number());
    sources_.emplace(added->source().name, std::move(added));
  }

  void Read(uint64_t number, Time now) {
    const auto found = by_number_.find(number);
    if (found == by_number_.end()) return;
    Source& source = *found->second;
    if (source.ReadSome(kBatchesInARow, now, &malformed_)) more_.push_back(number);
    for (const int descriptor : source.TakeNewDescriptors()) Watch(descriptor, number);
  }

  void ReadBound(Time now) {
    if (bound_ == nullptr) return;
    for (int i = 0; i < kBatchesInARow; ++i) {
      if (!bound_->Receive(&frames_)) return;
      const auto batch = BatchOf(frames_);
      if (!batch) {
        malformed_.fetch_add(1, std::memory_order_relaxed);
        continue;
      }
      const auto address = by_address_.find(std::string(AddressOf(frames_[0])));
      const auto found =
          address == by_address_.end() ? by_number_.end() : by_number_.find(address->second);
      if (found == by_number_.end()) {
        unknown_topics_.fetch_add(1, std::memory_order_relaxed);
        continue;
      }
      found->second->OnLive(*batch, now);
    }
    more_.push_back(0);
  }

  void Tick(Time now) {
    for (auto& [name, source] : sources_) {
      const bool is_busy = options_.is_busy && options_.is_busy(source->source().slot);
      source->Tick(now, is_busy);
      for (const int descriptor : source->TakeNewDescriptors()) Watch(descriptor, source->number());
      // ZeroMQ's descriptors tell edges; nothing stays unread for longer than a tick.
      more_.push_back(source->number());
    }
    if (bound_ != nullptr) more_.push_back(0);
    if (now >= kept_until_) kept_.clear();
    MakeViews();
  }

  void PublishTable() {
    auto table = std::make_shared<kvcache::SlotTable>();
    for (const auto& [name, source] : sources_) {
      const uint32_t slot = source->source().slot;
      if (slot >= table->entries.size()) table->entries.resize(slot + 1);
      table->entries[slot] = {true, source->index_slot(), source->shared_publisher()};
    }
    caches_.SetTable(std::move(table));
  }

  void MakeViews() {
    auto views = std::make_shared<std::vector<SourceView>>();
    for (const auto& [name, source] : sources_) views->push_back(source->View());
    views_.Store(std::move(views));
  }

  kvcache::ExactCaches& caches_;
  const Options options_;
  net::ZmqContext context_;
  std::unique_ptr<ZmqSocket> bound_;  // null: nobody connects to the router
  int epoll_ = -1, wake_ = -1;

  // Held to hand over orders.
  Mutex mutex_;
  std::vector<EventSource> wanted_ GUARDED_BY(mutex_);
  bool has_wanted_ GUARDED_BY(mutex_) = false;
  std::map<uint32_t, bool> drifts_ GUARDED_BY(mutex_);
  Saved to_restore_ GUARDED_BY(mutex_);
  bool has_to_restore_ GUARDED_BY(mutex_) = false;
  std::vector<std::move_only_function<void(Saved)>> savers_ GUARDED_BY(mutex_);

  SnapshotCell<std::vector<SourceView>> views_{std::make_shared<std::vector<SourceView>>()};
  std::atomic<uint64_t> unknown_topics_{0}, malformed_{0};
  std::atomic<uint64_t> restored_publishers_{0}, restored_blocks_{0}, refused_publishers_{0};
  std::atomic<bool> stopping_{false};

  // The listener's thread's.
  std::map<std::string, std::unique_ptr<Source>> sources_;
  std::map<uint64_t, Source*> by_number_;
  std::map<std::string, uint64_t> by_address_;
  std::vector<std::unique_ptr<Source>> leaving_;
  std::map<std::string, kvcache::SavedPublisher> kept_;  // of sources that may come yet
  Time kept_until_{};
  std::vector<std::move_only_function<void(Saved)>> saving_;  // who waits for saved_
  Saved saved_;                                               // sources up to last_saved_
  std::string last_saved_;
  std::vector<uint64_t> more_;  // who has more to read
  std::vector<std::string> frames_;
  uint64_t next_number_ = 1;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<Ingest>> Ingest::Start(kvcache::ExactCaches& caches, Options options) {
  auto listener = std::make_unique<Listener>(caches, std::move(options));
  if (Result<> ok = listener->Start(); !ok) return std::unexpected(std::move(ok.error()));
  return listener;
}

}  // namespace penstock::events
