// What is known of all publishers, as bytes: for a router that starts anew, or another one beside
// it. Compressed, with a checksum, and only for who has the same secret and block size.
//
// THREADS: any; pure. Who reads it trusts nothing: sizes are bounded, and each publisher's blocks
// are checked again when a holder takes them.
// COST: 16 bytes per block that nobody shares, 0.2 us to write and 0.16 us to restore; see
// docs/performance.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "kvcache/content_keys.h"
#include "kvcache/publisher.h"

namespace penstock::kvcache {

// What one publisher had told up to one of its batches.
struct SavedPublisher {
  std::string name;     // the endpoint's
  std::string address;  // where it serves
  std::string events;   // where it publishes; "": it connects to the router
  Publisher::Position position;
  uint64_t block_count = 0;
  std::string blocks;  // of Holder::Save
};

struct Snapshot {
  int64_t unix_seconds = 0;  // when it was taken
  std::vector<SavedPublisher> publishers;
};

inline constexpr uint32_t kSnapshotVersion = 1;

// Publishers beyond `max_bytes` of blocks in all are left out, the last first; how many goes to
// `*left_out`.
Result<std::string> EncodeSnapshot(const ContentKeys& keys, const Snapshot& snapshot,
                                   size_t max_bytes, size_t* left_out);

// `max_bytes`: most that it may have when it is decompressed. Errors are sentences that follow the
// name of where the bytes are from: kFailedPrecondition for one that others can use (another
// secret, block size or version), kInvalidArgument for a broken one.
Result<Snapshot> DecodeSnapshot(const ContentKeys& keys, std::string_view bytes, size_t max_bytes);

}  // namespace penstock::kvcache
