#include "kvcache/snapshot.h"

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>

#include <algorithm>
#include <memory>

#include "kvcache/byte_stream.h"

namespace penstock::kvcache {
namespace {

constexpr std::string_view kMagic = "PNSTKKV\n";
constexpr int kLevel = 1;
// Far enough back to find what another engine holds, too.
constexpr int kWindowLog = 25;
constexpr size_t kMaxPublishers = 65'535;
constexpr size_t kMaxName = 4096;

// The same for all who share the secret; says nothing of it that the keys do not.
uint64_t FingerprintOf(const ContentKeys& keys) {
  return keys.Namespace("penstock", "fingerprint of a snapshot");
}

uint64_t HashOf(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

Result<std::string> Compress(std::string_view plain) {
  const std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context(ZSTD_createCCtx(),
                                                                   ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_windowLog, kWindowLog);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_enableLongDistanceMatching, 1);
  std::string packed(ZSTD_compressBound(plain.size()), '\0');
  const size_t size =
      ZSTD_compress2(context.get(), packed.data(), packed.size(), plain.data(), plain.size());
  if (ZSTD_isError(size) != 0) {
    return Fail(Code::kInternal,
                std::string("a snapshot cannot be compressed: ") + ZSTD_getErrorName(size));
  }
  packed.resize(size);
  return packed;
}

Result<std::string> Decompress(std::string_view packed, size_t max_bytes) {
  const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(),
                                                                   ZSTD_freeDCtx);
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kWindowLog);
  std::string plain;
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  for (size_t left = 1; left != 0;) {
    // Memory follows what has come, not what is promised.
    const size_t before = plain.size();
    if (before >= max_bytes) {
      return Fail(Code::kOutOfRange, "has more than " + std::to_string(max_bytes) + " bytes");
    }
    plain.resize(std::min(max_bytes, before + std::max<size_t>(before, size_t{1} << 16)));
    ZSTD_outBuffer out{plain.data(), plain.size(), before};
    left = ZSTD_decompressStream(context.get(), &out, &in);
    const bool is_stuck = out.pos == before && in.pos == in.size;
    plain.resize(out.pos);
    if (ZSTD_isError(left) != 0 || (left != 0 && is_stuck)) {
      return Fail(Code::kInvalidArgument, "cannot be decompressed");
    }
  }
  return plain;
}

// Everything of a publisher but its blocks.
void WritePublisher(const SavedPublisher& publisher, ByteWriter* out) {
  out->Text(publisher.name);
  out->Text(publisher.address);
  out->Text(publisher.events);
  out->Word(publisher.position.sequence);
  out->Word(publisher.position.batch_hash);
  out->Byte(static_cast<uint8_t>(publisher.position.flaw));
  out->Varint(publisher.block_count);
  out->Text(publisher.blocks);
}

bool ReadPublisher(ByteReader* in, SavedPublisher* publisher) {
  publisher->name = in->Text();
  publisher->address = in->Text();
  publisher->events = in->Text();
  publisher->position.sequence = in->Word<uint64_t>();
  publisher->position.batch_hash = in->Word<uint64_t>();
  const uint8_t flaw = in->Byte();
  publisher->position.flaw = static_cast<PublisherReason>(flaw);
  publisher->block_count = in->Varint();
  publisher->blocks = in->Text();
  return in->ok() && flaw < kPublisherReasons &&
         publisher->position.sequence != Publisher::kEndOfReplay &&
         std::max({publisher->name.size(), publisher->address.size(), publisher->events.size()}) <=
             kMaxName;
}

}  // namespace

Result<std::string> EncodeSnapshot(const ContentKeys& keys, const Snapshot& snapshot,
                                   size_t max_bytes, size_t* left_out) {
  std::string plain;
  ByteWriter body(&plain);
  size_t total = 0;
  size_t count = 0;
  for (const SavedPublisher& publisher : snapshot.publishers) {
    total += publisher.blocks.size() + 4 * kMaxName;
    if (total > max_bytes || count == kMaxPublishers) break;
    ++count;
  }
  *left_out = snapshot.publishers.size() - count;
  body.Varint(count);
  for (size_t i = 0; i < count; ++i) WritePublisher(snapshot.publishers[i], &body);
  const auto packed = Compress(plain);
  if (!packed) return std::unexpected(packed.error());
  std::string out;
  ByteWriter head(&out);
  out += kMagic;
  head.Word(kSnapshotVersion);
  head.Word(ContentKeys::kVersion);
  head.Word(keys.block_tokens());
  head.Word(FingerprintOf(keys));
  head.Word(snapshot.unix_seconds);
  head.Word(HashOf(*packed));
  head.Word(HashOf(out));
  return out + *packed;
}

Result<Snapshot> DecodeSnapshot(const ContentKeys& keys, std::string_view bytes, size_t max_bytes) {
  if (!bytes.starts_with(kMagic)) {
    return Fail(Code::kInvalidArgument, "is no snapshot of KV caches");
  }
  ByteReader in(bytes.substr(kMagic.size()));
  const auto version = in.Word<uint32_t>();
  if (in.ok() && version != kSnapshotVersion) {
    return Fail(Code::kFailedPrecondition,
                "has version " + std::to_string(version) + ", and this program reads version " +
                    std::to_string(kSnapshotVersion) + ": it is of a" +
                    (version > kSnapshotVersion ? " newer" : "n older") + " program");
  }
  const auto keys_version = in.Word<uint32_t>();
  const auto block_tokens = in.Word<uint32_t>();
  const auto fingerprint = in.Word<uint64_t>();
  Snapshot snapshot;
  snapshot.unix_seconds = in.Word<int64_t>();
  const auto packed_hash = in.Word<uint64_t>();
  const std::string_view head = bytes.substr(0, bytes.size() - in.left());
  const auto head_hash = in.Word<uint64_t>();
  const std::string_view packed = bytes.substr(bytes.size() - in.left());
  if (!in.ok() || head_hash != HashOf(head) || packed_hash != HashOf(packed)) {
    return Fail(Code::kInvalidArgument, "is broken: its checksum is another one");
  }
  if (keys_version != ContentKeys::kVersion) {
    return Fail(Code::kFailedPrecondition, "has keys of version " + std::to_string(keys_version) +
                                               ", and this program makes version " +
                                               std::to_string(ContentKeys::kVersion));
  }
  if (block_tokens != keys.block_tokens()) {
    return Fail(Code::kFailedPrecondition, "has blocks of " + std::to_string(block_tokens) +
                                               " tokens, and blockSizeTokens is " +
                                               std::to_string(keys.block_tokens()));
  }
  if (fingerprint != FingerprintOf(keys)) {
    return Fail(Code::kFailedPrecondition,
                "was made with another secret: routers that share snapshots need the same "
                "secretFile");
  }
  const auto plain = Decompress(packed, max_bytes);
  if (!plain) return std::unexpected(plain.error());
  ByteReader body(*plain);
  const uint64_t count = body.Varint(kMaxPublishers);
  for (uint64_t i = 0; i < count; ++i) {
    SavedPublisher publisher;
    if (!ReadPublisher(&body, &publisher)) {
      return Fail(Code::kInvalidArgument, "is broken: publisher " + std::to_string(i) + " is none");
    }
    snapshot.publishers.push_back(std::move(publisher));
  }
  if (!body.ok() || body.left() > 0) {
    return Fail(Code::kInvalidArgument, "is broken: it does not end where it should");
  }
  return snapshot;
}

}  // namespace penstock::kvcache
