// One engine that is listened to: its sockets, and what is known of its cache.
//
// THREADS: the listener's. OWNS: its slot in the index, until Leave is done.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "events/ingest.h"
#include "net/zmq.h"

namespace penstock::events {

struct BatchView {
  uint64_t sequence = 0;
  std::string_view payload;
};
// Of a live message: topic, number, batch.
std::optional<BatchView> BatchOf(const std::vector<std::string>& frames);
// "10.0.0.7:8000" of "kv@10.0.0.7:8000@model"; a model's name may have an @, too. Any other topic
// stands for itself.
std::string_view AddressOf(std::string_view topic);

class Source final : public kvcache::EventSink {
 public:
  Source(EventSource source, uint64_t number, net::ZmqContext& context, kvcache::ChainIndex& index,
         const kvcache::ContentKeys& keys, kvcache::ChainIndex::Slot slot,
         const kvcache::Publisher::Options& publisher, kvcache::Holder::Options holder);

  // Begins with what was saved of it. An error says what is wrong with that; it begins with nothing
  // then. REQUIRES: not open yet.
  Result<> Restore(const kvcache::SavedPublisher& saved, Time now);
  // None: nothing has come yet.
  std::optional<kvcache::SavedPublisher> Save(Time now) const;
  // Begins to dial. An error names the endpoint; nothing is heard then.
  Result<> Open();
  // No more is heard.
  void Close();

  const EventSource& source() const { return source_; }
  uint64_t number() const { return number_; }
  kvcache::ChainIndex::Slot index_slot() const { return holder_.slot(); }
  kvcache::Publisher& publisher() { return *publisher_; }
  std::shared_ptr<const kvcache::Publisher> shared_publisher() const { return publisher_; }
  // What may change without another publisher.
  void Update(const EventSource& source);

  // Of the sockets that are open.
  std::vector<int> descriptors() const;
  std::vector<int> TakeNewDescriptors() { return std::exchange(new_descriptors_, {}); }
  // A batch that was published just now.
  void OnLive(const BatchView& batch, Time now);
  // Reads what is there, of the live socket at most `limit` messages; true: there may be more.
  bool ReadSome(int limit, Time now, std::atomic<uint64_t>* malformed);
  void Tick(Time now, bool is_busy);
  // Gives back at most about that many blocks; true when nothing is left.
  bool Leave(size_t max_blocks) { return holder_.Leave(max_blocks); }
  void LeaveWholly();
  SourceView View() const;

  void Apply(const kvcache::KvEvent& event) override;
  void Clear() override;
  void MarkGap(Time now) override;
  bool HasTurnedOver() const override;

 private:
  // Whoever answers there is no publisher: libzmq would try again at once and for ever, or never.
  void HangUp(Time now);
  Duration LongestPause() const;
  // Asks for history if it is wanted, on a socket of its own for each request: what is on its way
  // for an older one is not for this.
  void Ask();
  void ReadReplay(Time now, std::atomic<uint64_t>* malformed);

  EventSource source_;
  const uint64_t number_;
  net::ZmqContext& context_;
  kvcache::Holder holder_;
  const std::shared_ptr<kvcache::Publisher> publisher_;
  std::unique_ptr<net::ZmqSocket> live_;
  std::unique_ptr<net::ZmqSocket> replay_;  // null: nothing is asked for
  std::vector<int> new_descriptors_;
  std::vector<std::string> frames_;
  Time now_{};
  uint64_t stored_at_gap_ = 0;
  uint64_t connections_ = 0, refused_ = 0;
  bool is_connected_ = false;
  Duration pause_{0};               // before the socket is opened anew
  std::optional<Time> dial_again_;  // when
  uint64_t restored_ = 0;
  std::optional<double> lag_s_;
};

}  // namespace penstock::events
