#include "events/source.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "telemetry/log.h"
#include "wire/msgpack.h"

namespace penstock::events {
namespace {

using kvcache::KvEvent;
using net::ZmqSocket;

constexpr size_t kSequenceBytes = 8;

uint64_t BigEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

// How long ago it was published; none: it does not tell.
std::optional<double> LagOf(std::string_view payload) {
  wire::MsgpackReader in(payload);
  uint32_t fields = 0;
  double published = 0;
  if (!in.ReadArray(&fields) || !in.ReadFloat(&published)) return std::nullopt;
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  return now.count() - published;
}

std::string ToBigEndian(uint64_t value) {
  std::string out(kSequenceBytes, '\0');
  for (size_t i = 0; i < kSequenceBytes; ++i) out[i] = static_cast<char>(value >> (56 - 8 * i));
  return out;
}

}  // namespace

std::optional<BatchView> BatchOf(const std::vector<std::string>& frames) {
  if (frames.size() != 3 || frames[1].size() != kSequenceBytes) return std::nullopt;
  return BatchView{BigEndian(frames[1]), frames[2]};
}

std::string_view AddressOf(std::string_view topic) {
  const size_t first = topic.find('@');
  if (first == topic.npos) return topic;
  const size_t second = topic.find('@', first + 1);
  if (second == topic.npos) return topic;
  return topic.substr(first + 1, second - first - 1);
}

Source::Source(EventSource source, uint64_t number, net::ZmqContext& context,
               kvcache::ChainIndex& index, const kvcache::ContentKeys& keys,
               kvcache::ChainIndex::Slot slot, const kvcache::Publisher::Options& publisher,
               kvcache::Holder::Options holder)
    : source_(std::move(source)),
      number_(number),
      context_(context),
      holder_(index, keys, slot, std::move(holder)),
      publisher_(std::make_shared<kvcache::Publisher>(publisher, *this)) {
  holder_.SetCapacity(source_.gpu_blocks);
}

Result<> Source::Restore(const kvcache::SavedPublisher& saved, Time now) {
  if (Result<> ok = holder_.Restore(saved.blocks, now); !ok) return ok;
  kvcache::Publisher::Position position = saved.position;
  position.tells_tiers = holder_.holds_outside_gpu();
  publisher_->Restore(position);
  restored_ = holder_.blocks();
  return {};
}

std::optional<kvcache::SavedPublisher> Source::Save(Time now) const {
  const auto position = publisher_->position();
  if (!position) return std::nullopt;
  kvcache::SavedPublisher saved{.name = source_.name,
                                .address = source_.address,
                                .events = source_.events,
                                .position = *position,
                                .block_count = holder_.blocks(),
                                .blocks = {}};
  holder_.Save(now, &saved.blocks);
  return saved;
}

Result<> Source::Open() {
  if (source_.events.empty()) return {};
  ZmqSocket::Options options;
  options.watches_peers = true;
  // As many batches as vLLM keeps: what is lost beyond can be had again.
  options.high_water_mark = 10'000;
  options.longest_pause_ms = static_cast<int>(LongestPause() / milliseconds(1));
  auto socket = ZmqSocket::Open(context_, ZmqSocket::Type::kSubscribe, options);
  if (!socket) return std::unexpected(std::move(socket.error()));
  // All that it publishes is its own, whatever the topic.
  (*socket)->Subscribe("");
  if (Result<> ok = (*socket)->Connect(source_.events); !ok) return ok;
  live_ = std::move(*socket);
  return {};
}

Duration Source::LongestPause() const { return source_.is_guess ? seconds(30) : seconds(5); }

void Source::HangUp(Time now) {
  live_.reset();
  ++refused_;
  pause_ = std::clamp(2 * pause_, Duration(milliseconds(200)), LongestPause());
  dial_again_ = now + pause_;
}

void Source::Close() {
  live_.reset();
  replay_.reset();
  publisher_->OnGone();
}

void Source::Update(const EventSource& source) {
  source_.gpu_blocks = source.gpu_blocks;
  holder_.SetCapacity(source.gpu_blocks);
}

std::vector<int> Source::descriptors() const {
  if (live_ == nullptr) return {};
  return {live_->descriptor(), live_->peers_descriptor()};
}

void Source::OnLive(const BatchView& batch, Time now) {
  now_ = now;
  lag_s_ = LagOf(batch.payload);
  publisher_->OnBatch(batch.sequence, batch.payload, now);
}

bool Source::ReadSome(int limit, Time now, std::atomic<uint64_t>* malformed) {
  now_ = now;
  bool has_more = false;
  if (live_ != nullptr) {
    while (const auto is_connected = live_->TakeConnected()) {
      const bool was_connected = std::exchange(is_connected_, *is_connected);
      if (*is_connected) {
        ++connections_;
        pause_ = Duration{0};
        publisher_->OnConnected(now);
      } else if (!was_connected) {
        HangUp(now);
        return false;
      } else {
        replay_.reset();
        publisher_->OnDisconnected(now);
      }
      Ask();
    }
    int read = 0;
    for (; read < limit && live_->Receive(&frames_); ++read) {
      const auto batch = BatchOf(frames_);
      if (!batch) {
        malformed->fetch_add(1, std::memory_order_relaxed);
        continue;
      }
      OnLive(*batch, now);
    }
    has_more = read == limit;
  }
  Ask();
  ReadReplay(now, malformed);
  return has_more;
}

void Source::Ask() {
  const auto from = publisher_->TakeRequest();
  if (!from) return;
  replay_.reset();
  auto socket = ZmqSocket::Open(context_, ZmqSocket::Type::kDealer, {});
  if (socket) {
    if (Result<> ok = (*socket)->Connect(source_.replay); ok) {
      replay_ = std::move(*socket);
      new_descriptors_.push_back(replay_->descriptor());
      const std::string number = ToBigEndian(*from);
      replay_->Send(std::vector<std::string_view>{"", number});
      return;
    }
  }
  // The publisher gives up when no answer comes.
  telemetry::log::Warn("the history of an engine's KV events cannot be asked for",
                       {{"endpoint", source_.name}, {"address", source_.replay}});
}

void Source::ReadReplay(Time now, std::atomic<uint64_t>* malformed) {
  while (replay_ != nullptr && replay_->Receive(&frames_)) {
    // An empty frame, the topic (vLLM since 0.26), the number, the batch. Early drafts ended with
    // an empty message.
    const size_t frames = frames_.size();
    const bool is_old_end = frames <= 2 && (frames == 0 || frames_.back().empty());
    if (is_old_end) {
      replay_.reset();
      publisher_->OnReplayEnd(now);
      continue;
    }
    if (frames < 3 || frames > 4 || !frames_[0].empty() ||
        frames_[frames - 2].size() != kSequenceBytes) {
      malformed->fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    const uint64_t sequence = BigEndian(frames_[frames - 2]);
    if (sequence == kvcache::Publisher::kEndOfReplay) {
      replay_.reset();
      publisher_->OnReplayEnd(now);
    } else {
      publisher_->OnReplayed(sequence, frames_.back(), now);
    }
    Ask();
  }
  // The end may have shown that more is missing.
  Ask();
}

void Source::Tick(Time now, bool is_busy) {
  now_ = now;
  if (dial_again_ && now >= *dial_again_) {
    dial_again_.reset();
    if (Result<> ok = Open(); !ok) HangUp(now);  // no descriptor is left: later, perhaps
    for (const int descriptor : descriptors()) new_descriptors_.push_back(descriptor);
  }
  publisher_->OnTick(now, is_busy);
  if (publisher_->state() != kvcache::PublisherState::kSyncing) replay_.reset();
  Ask();
  holder_.Tend(now, 4096);
}

void Source::LeaveWholly() {
  while (!holder_.Leave(std::numeric_limits<size_t>::max())) {
  }
}

void Source::Apply(const KvEvent& event) { holder_.Apply(event, now_); }

void Source::Clear() {
  holder_.Apply(KvEvent{}, now_);
  stored_at_gap_ = holder_.counters().stored;
}

void Source::MarkGap(Time now) {
  holder_.MarkGap(now);
  stored_at_gap_ = holder_.counters().stored;
}

bool Source::HasTurnedOver() const {
  const uint64_t stored = holder_.counters().stored - stored_at_gap_;
  return source_.gpu_blocks > 0 && stored >= source_.gpu_blocks;
}

SourceView Source::View() const {
  SourceView view;
  view.source = source_;
  view.state = publisher_->state();
  view.reason = publisher_->reason();
  view.last_sequence = publisher_->last_sequence();
  view.last_timestamp = publisher_->last_timestamp();
  view.lag_s = lag_s_;
  view.connections = connections_;
  view.refused = refused_;
  view.restored = restored_;
  const kvcache::Publisher::Counts& counts = publisher_->counts();
  const auto get = [](const std::atomic<uint64_t>& count) {
    return count.load(std::memory_order_relaxed);
  };
  view.batches = get(counts.batches);
  view.events = get(counts.events);
  view.bytes = get(counts.bytes);
  view.gaps = get(counts.gaps);
  view.missed = get(counts.missed);
  view.restarts = get(counts.restarts);
  view.replays = get(counts.replays);
  view.repeated = get(counts.repeated);
  view.broken = get(counts.broken);
  for (size_t i = 0; i < kvcache::kEventFaults; ++i) view.faults[i] = get(counts.faults[i]);
  for (size_t i = 0; i < kvcache::kTiers; ++i) {
    view.tier_blocks[i] = holder_.tier_blocks(static_cast<kvcache::Tier>(i));
  }
  view.orphans = holder_.orphans();
  view.doubtful = holder_.doubtful_pages();
  view.counters = holder_.counters();
  return view;
}

}  // namespace penstock::events
