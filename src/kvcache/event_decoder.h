// KV events as engines publish them: from the bytes of one batch to events, whatever the encoding:
// arrays or maps, also packed into byte strings, mixed in one batch; hashes as integers or digests.
//
//   decoder.Begin(payload);
//   for (KvEvent event; decoder.Next(&event);) holder.Apply(event);
//   if (!decoder.ok()) ... the batch breaks off there
//
// An event that is not understood is left out and counted by its reason; those beside it count.
//
// THREADS: belongs to its caller. OWNS: buffers that the events' spans point into, until the next
// event. COST: see bench/kv_bench. SOURCE: vLLM vllm/distributed/kv_events.py of v0.9 to v0.28,
// SGLang kv_events.py, Dynamo's and ATOM's fields; which version has what: the compatibility test.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvcache/kv_event.h"
#include "wire/msgpack.h"

namespace penstock::kvcache {

enum class EventFault : uint8_t {
  kUnknownType,    // a tag that no version known here has
  kMalformed,      // fields of the wrong kind, or missing
  kTooLarge,       // more blocks than one event may have
  kNotDense,       // tokens that are not block_size for each hash
  kUnknownMedium,  // taken as the slowest tier; nothing is lost
};
inline constexpr size_t kEventFaults = 5;
std::string_view EventFaultName(EventFault fault);

// A place's name in any engine's words; nullopt: none that is known.
std::optional<Tier> TierOf(std::string_view medium);
std::string_view TierName(Tier tier);

// How events tell of a request's cache_salt: as their own, or, where it cannot be told from the
// hash of an image, folded into the extras of the engine's first block.
struct SaltPlace {
  std::string_view salt;
  std::string_view folded;  // one of the two is ""
};
SaltPlace PlaceOfSalt(std::string_view cache_salt);

class EventDecoder {
 public:
  static constexpr size_t kMaxBatchBytes = size_t{64} << 20;
  static constexpr size_t kMaxBlocks = 65'536;  // of one event

  // The outer list of a batch. False: it is none, and nothing of it is read.
  bool Begin(std::string_view payload);
  // Seconds since 1970 by the publisher's clock.
  double timestamp() const { return timestamp_; }
  // The publisher's data-parallel rank, where it is told; it stands behind the events.
  // REQUIRES: no event is read yet. COST: leafs through the batch.
  std::optional<uint64_t> FindRank() const;

  // False at the end, and where the bytes break off.
  bool Next(KvEvent* event);
  bool ok() const { return mistake_.empty(); }
  // "not a MessagePack array, at byte 0". REQUIRES: !ok().
  const std::string& Complaint() const { return mistake_; }

  // Since the decoder was made.
  uint64_t faults(EventFault fault) const { return faults_[static_cast<size_t>(fault)]; }

 private:
  struct Fields;
  enum class Field : uint8_t;

  static Field FieldOf(std::string_view key);
  bool BreakOff(std::string mistake);
  void Count(EventFault fault) { ++faults_[static_cast<size_t>(fault)]; }
  // One event from its first byte on.
  std::optional<EventFault> ReadEvent(wire::MsgpackReader& in, KvEvent* event);
  bool ReadArrayFields(wire::MsgpackReader& in, Fields* fields);
  bool ReadMapFields(wire::MsgpackReader& in, Fields* fields);
  bool ReadField(Field field, wire::MsgpackReader& in, Fields* fields);
  bool ReadHashes(wire::MsgpackReader& in);
  bool ReadTokens(wire::MsgpackReader& in);
  bool ReadExtras(wire::MsgpackReader& in, Fields* fields);
  bool ReadExtra(wire::MsgpackReader& in, bool is_root, Fields* fields, uint64_t* folded);
  static bool ReadListedExtra(wire::MsgpackReader& in, Fields* fields, uint64_t* folded);
  bool ReadMediaInfos(wire::MsgpackReader& in);
  bool ReadMetadata(wire::MsgpackReader& in, Fields* fields);
  std::optional<EventFault> Finish(Fields& fields, KvEvent* event);

  wire::MsgpackReader batch_{{}};
  uint32_t left_ = 0;  // events
  bool has_rank_ = false;
  double timestamp_ = 0;
  std::string mistake_;
  std::array<uint64_t, kEventFaults> faults_{};
  bool too_large_ = false;
  // Of the event that was read last.
  std::vector<uint64_t> hashes_;
  std::vector<uint32_t> tokens_;
  std::vector<uint64_t> extras_;
};

}  // namespace penstock::kvcache
