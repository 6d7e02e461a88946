#include "kvcache/event_decoder.h"

#include <algorithm>

#include "kvcache/content_keys.h"

namespace penstock::kvcache {

using wire::MsgpackKind;
using wire::MsgpackReader;

enum class EventDecoder::Field : uint8_t {
  kType,
  kHashes,
  kParent,
  kTokens,
  kBlockSize,
  kLoraId,
  kMedium,
  kLoraName,
  kExtras,
  kGroup,
  kKind,
  kWindow,
  kLocality,
  kSalt,
  kTokenOffset,
  kMediaInfos,
  kOther,
};

struct EventDecoder::Fields {
  std::string_view type;
  std::optional<uint64_t> parent;
  std::optional<uint64_t> block_size, lora_id, group, window, token_offset;
  std::string_view medium, lora_name, kind, locality;
  std::string_view salt;          // told as such
  std::string_view salt_in_keys;  // among the first block's extra keys
  bool lora_name_seen = false;    // among the extra keys of the block that is read
};

namespace {

constexpr std::string_view kStored = "BlockStored";
constexpr std::string_view kRemoved = "BlockRemoved";
constexpr std::string_view kCleared = "AllBlocksCleared";
constexpr std::string_view kSaltPrefix = "dynamo-cache-salt:";

// An integer, signed or not, or a digest, of which vLLM's integers are the last eight bytes.
bool ReadHash(MsgpackReader& in, uint64_t* hash) {
  if (in.Peek() == MsgpackKind::kInteger) return in.ReadInteger(hash);
  std::string_view digest;
  if (!in.ReadBytes(&digest)) return false;
  *hash = 0;
  for (const char c : digest.substr(digest.size() - std::min<size_t>(digest.size(), 8))) {
    *hash = *hash << 8 | static_cast<uint8_t>(c);
  }
  return !digest.empty();
}

// Nil is no number, and no mistake.
bool ReadOptional(MsgpackReader& in, std::optional<uint64_t>* value) {
  if (in.Peek() == MsgpackKind::kNil) return in.ReadNil();
  uint64_t bits = 0;
  if (!in.ReadInteger(&bits)) return false;
  *value = bits;
  return true;
}

bool ReadOptional(MsgpackReader& in, std::string_view* value) {
  return in.Peek() == MsgpackKind::kNil ? in.ReadNil() : in.ReadString(value);
}

void Fold(std::string_view what, uint64_t* into) { *into = ContentKeys::FoldName(*into, what); }

bool IsDigest(std::string_view s) {
  return s.size() == 64 && std::ranges::all_of(s, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
         });
}

CacheKind KindOf(std::string_view name) {
  if (name.empty()) return CacheKind::kUnknown;
  if (name == "full_attention" || name == "mla_attention" || name == "sink_full_attention") {
    return CacheKind::kFull;
  }
  if (name == "sliding_window" || name == "sliding_window_mla" ||
      name == "chunked_local_attention") {
    return CacheKind::kWindow;
  }
  return name == "mamba" ? CacheKind::kCheckpoint : CacheKind::kOther;
}

}  // namespace

std::string_view EventFaultName(EventFault fault) {
  switch (fault) {
    case EventFault::kUnknownType:
      return "unknown_type";
    case EventFault::kMalformed:
      return "malformed";
    case EventFault::kTooLarge:
      return "too_large";
    case EventFault::kNotDense:
      return "not_dense";
    case EventFault::kUnknownMedium:
      return "unknown_medium";
  }
  return "";
}

std::optional<Tier> TierOf(std::string_view medium) {
  std::string name(medium);
  std::ranges::transform(name, name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  if (name.empty() || name == "gpu") return Tier::kGpu;
  if (name == "cpu" || name == "cpu_pinned") return Tier::kCpu;
  if (name == "disk") return Tier::kDisk;
  if (name == "storage" || name == "external" || name == "shared_storage" ||
      name == "object_store") {
    return Tier::kStorage;
  }
  return std::nullopt;
}

SaltPlace PlaceOfSalt(std::string_view cache_salt) {
  if (cache_salt.starts_with(kSaltPrefix)) return {cache_salt.substr(kSaltPrefix.size()), {}};
  if (!IsDigest(cache_salt)) return {cache_salt, {}};
  return {{}, cache_salt};
}

std::string_view TierName(Tier tier) {
  constexpr std::string_view kNames[kTiers] = {"gpu", "cpu", "disk", "storage"};
  return kNames[static_cast<size_t>(tier)];
}

bool EventDecoder::BreakOff(std::string mistake) {
  mistake_ = std::move(mistake);
  left_ = 0;
  return false;
}

bool EventDecoder::Begin(std::string_view payload) {
  mistake_.clear();
  left_ = 0;
  has_rank_ = false;
  if (payload.size() > kMaxBatchBytes) {
    return BreakOff("a batch of " + std::to_string(payload.size()) + " bytes, above " +
                    std::to_string(kMaxBatchBytes));
  }
  batch_ = MsgpackReader(payload);
  uint32_t fields = 0;
  if (!batch_.ReadArray(&fields)) return BreakOff(batch_.Complaint());
  if (fields < 2) return BreakOff("a batch without events");
  uint32_t events = 0;
  if (!batch_.ReadFloat(&timestamp_) || !batch_.ReadArray(&events)) {
    return BreakOff(batch_.Complaint());
  }
  left_ = events;
  has_rank_ = fields > 2;
  return true;
}

std::optional<uint64_t> EventDecoder::FindRank() const {
  if (!has_rank_) return std::nullopt;
  MsgpackReader in = batch_;
  for (uint32_t i = 0; i < left_; ++i) {
    if (!in.Skip()) return std::nullopt;
  }
  std::optional<uint64_t> rank;
  return ReadOptional(in, &rank) ? rank : std::nullopt;
}

bool EventDecoder::Next(KvEvent* event) {
  while (left_ > 0) {
    --left_;
    const size_t begin = batch_.position();
    const std::optional<EventFault> fault = ReadEvent(batch_, event);
    if (!fault) return true;
    Count(*fault);
    if (*fault == EventFault::kUnknownMedium) return true;
    batch_.SetBack(begin);
    if (!batch_.Skip()) return BreakOff(batch_.Complaint());
  }
  return false;
}

std::optional<EventFault> EventDecoder::ReadEvent(MsgpackReader& in, KvEvent* event) {
  if (in.Peek() == MsgpackKind::kBytes) {
    std::string_view packed;
    if (!in.ReadBytes(&packed)) return EventFault::kMalformed;
    MsgpackReader inner(packed);
    if (inner.Peek() == MsgpackKind::kBytes) return EventFault::kMalformed;
    return ReadEvent(inner, event);
  }
  hashes_.clear();
  tokens_.clear();
  extras_.clear();
  too_large_ = false;
  Fields fields;
  const bool is_map = in.Peek() == MsgpackKind::kMap;
  if (!(is_map ? ReadMapFields(in, &fields) : ReadArrayFields(in, &fields))) {
    return too_large_ ? EventFault::kTooLarge : EventFault::kMalformed;
  }
  return Finish(fields, event);
}

bool EventDecoder::ReadArrayFields(MsgpackReader& in, Fields* fields) {
  constexpr Field kOfStored[] = {Field::kHashes,    Field::kParent, Field::kTokens,
                                 Field::kBlockSize, Field::kLoraId, Field::kMedium,
                                 Field::kLoraName,  Field::kExtras, Field::kGroup,
                                 Field::kKind,      Field::kWindow};
  constexpr Field kOfRemoved[] = {Field::kHashes, Field::kMedium, Field::kGroup, Field::kKind,
                                  Field::kWindow};
  uint32_t size = 0;
  if (!in.ReadArray(&size) || size == 0 || !in.ReadString(&fields->type)) return false;
  std::span<const Field> order;
  if (fields->type == kStored) order = kOfStored;
  if (fields->type == kRemoved) order = kOfRemoved;
  for (uint32_t i = 0; i + 1 < size; ++i) {
    if (!ReadField(i < order.size() ? order[i] : Field::kOther, in, fields)) return false;
  }
  return true;
}

EventDecoder::Field EventDecoder::FieldOf(std::string_view key) {
  struct Entry {
    std::string_view key;
    Field field;
  };
  static constexpr Entry kEntries[] = {
      {"type", Field::kType},
      {"block_hashes", Field::kHashes},
      {"parent_block_hash", Field::kParent},
      {"token_ids", Field::kTokens},
      {"block_size", Field::kBlockSize},
      {"lora_id", Field::kLoraId},
      {"medium", Field::kMedium},
      {"lora_name", Field::kLoraName},
      {"extra_keys", Field::kExtras},
      {"group_idx", Field::kGroup},
      {"kv_cache_spec_kind", Field::kKind},
      {"kv_cache_spec_sliding_window", Field::kWindow},
      {"locality", Field::kLocality},
      {"cache_salt", Field::kSalt},
      {"token_offset", Field::kTokenOffset},
      {"block_mm_infos", Field::kMediaInfos},
  };
  for (const Entry& entry : kEntries) {
    if (entry.key == key) return entry.field;
  }
  return Field::kOther;
}

bool EventDecoder::ReadMapFields(MsgpackReader& in, Fields* fields) {
  uint32_t size = 0;
  if (!in.ReadMap(&size)) return false;
  // The order of keys is the sender's; who reads extra keys wants the adapter's name first.
  size_t extras_at = 0;
  for (uint32_t i = 0; i < size; ++i) {
    std::string_view key;
    if (!in.ReadString(&key)) return false;
    const Field field = FieldOf(key);
    if (field == Field::kExtras) {
      extras_at = in.position();
      if (!in.Skip()) return false;
    } else if (!ReadField(field, in, fields)) {
      return false;
    }
  }
  if (extras_at == 0) return true;
  const size_t end = in.position();
  in.SetBack(extras_at);
  if (!ReadExtras(in, fields)) return false;
  in.SetBack(end);
  return true;
}

bool EventDecoder::ReadField(Field field, MsgpackReader& in, Fields* fields) {
  switch (field) {
    case Field::kType:
      return in.ReadString(&fields->type);
    case Field::kHashes:
      return ReadHashes(in);
    case Field::kParent: {
      if (in.Peek() == MsgpackKind::kNil) return in.ReadNil();
      uint64_t parent = 0;
      if (!ReadHash(in, &parent)) return false;
      // llm-d's simulator says 0 for none.
      if (parent != 0) fields->parent = parent;
      return true;
    }
    case Field::kTokens:
      return ReadTokens(in);
    case Field::kBlockSize:
      return ReadOptional(in, &fields->block_size);
    case Field::kLoraId:
      return ReadOptional(in, &fields->lora_id);
    case Field::kMedium:
      return ReadOptional(in, &fields->medium);
    case Field::kLoraName:
      // SGLang has a map of other things in this place.
      if (in.Peek() == MsgpackKind::kMap) return ReadMetadata(in, fields);
      return ReadOptional(in, &fields->lora_name);
    case Field::kExtras:
      return ReadExtras(in, fields);
    case Field::kGroup:
      return ReadOptional(in, &fields->group);
    case Field::kKind:
      return ReadOptional(in, &fields->kind);
    case Field::kWindow:
      return ReadOptional(in, &fields->window);
    case Field::kLocality:
      return ReadOptional(in, &fields->locality);
    case Field::kSalt:
      return ReadOptional(in, &fields->salt);
    case Field::kTokenOffset:
      return ReadOptional(in, &fields->token_offset);
    case Field::kMediaInfos:
      return ReadMediaInfos(in);
    case Field::kOther:
      break;
  }
  return in.Skip();
}

bool EventDecoder::ReadHashes(MsgpackReader& in) {
  uint32_t size = 0;
  if (!in.ReadArray(&size)) return false;
  if (size > kMaxBlocks) {
    too_large_ = true;
    return false;
  }
  hashes_.resize(size);
  return std::ranges::all_of(hashes_, [&](uint64_t& hash) { return ReadHash(in, &hash); });
}

bool EventDecoder::ReadTokens(MsgpackReader& in) {
  uint32_t size = 0;
  if (!in.ReadArray(&size)) return false;
  if (size == 0 || in.Peek() != MsgpackKind::kArray) return in.AppendUint32s(size, &tokens_);
  // Pairs of a token and the one that follows, where a draft model wants both.
  for (uint32_t i = 0; i < size; ++i) {
    uint32_t pair = 0;
    if (!in.ReadArray(&pair) || pair != 2 || !in.AppendUint32s(1, &tokens_) || !in.Skip()) {
      return false;
    }
  }
  return true;
}

bool EventDecoder::ReadExtras(MsgpackReader& in, Fields* fields) {
  if (in.Peek() == MsgpackKind::kNil) return in.ReadNil();
  uint32_t blocks = 0;
  if (!in.ReadArray(&blocks)) return false;
  if (blocks > kMaxBlocks) {
    too_large_ = true;
    return false;
  }
  if (extras_.size() < blocks) extras_.resize(blocks, 0);  // those of media infos stay
  for (uint32_t i = 0; i < blocks; ++i) {
    if (in.Peek() == MsgpackKind::kNil) {
      if (!in.ReadNil()) return false;
      continue;
    }
    uint32_t keys = 0;
    if (!in.ReadArray(&keys)) return false;
    fields->lora_name_seen = false;
    for (uint32_t k = 0; k < keys; ++k) {
      if (!ReadExtra(in, i == 0 && !fields->parent, fields, &extras_[i])) return false;
    }
  }
  return true;
}

// A name: the adapter's, an image's, or the salt; in a list an image's with its place, or any of
// them behind the word that says what it is; bytes: of embeddings.
bool EventDecoder::ReadExtra(MsgpackReader& in, bool is_root, Fields* fields, uint64_t* folded) {
  std::string_view text;
  switch (in.Peek()) {
    case MsgpackKind::kNil:
      return in.ReadNil();
    case MsgpackKind::kBytes:
      if (!in.ReadBytes(&text)) return false;
      Fold(text, folded);
      return true;
    case MsgpackKind::kArray:
      return ReadListedExtra(in, fields, folded);
    default:
      break;
  }
  if (!in.ReadString(&text)) return false;
  if (text == fields->lora_name && !fields->lora_name_seen) {
    fields->lora_name_seen = true;
  } else if (text.starts_with(kSaltPrefix)) {
    fields->salt_in_keys = text.substr(kSaltPrefix.size());
  } else if (IsDigest(text) || !is_root) {
    Fold(text, folded);
  } else {
    fields->salt_in_keys = text;
  }
  return true;
}

// [name, place], or what vLLM hashes itself and may tell one day: ["mm", name, place], ["lora",
// name, path], ["cache_salt", salt], ["prompt_embeds", bytes].
bool EventDecoder::ReadListedExtra(MsgpackReader& in, Fields* fields, uint64_t* folded) {
  uint32_t size = 0;
  if (!in.ReadArray(&size) || size == 0) return false;
  const auto read_name = [&](std::string_view* name) {
    return in.Peek() == MsgpackKind::kBytes ? in.ReadBytes(name) : in.ReadString(name);
  };
  std::string_view name;
  uint64_t number = 0;
  uint32_t read = 1;
  if (in.Peek() == MsgpackKind::kInteger) {
    if (!in.ReadInteger(&number)) return false;
    name = {reinterpret_cast<const char*>(&number), sizeof number};
  } else if (!read_name(&name)) {
    return false;
  }
  std::string_view kind;
  if (size > 1 && (in.Peek() == MsgpackKind::kString || in.Peek() == MsgpackKind::kBytes)) {
    kind = name;
    if (!read_name(&name)) return false;
    ++read;
  }
  if (kind == "lora" && name == fields->lora_name) {
    fields->lora_name_seen = true;
  } else if (kind == "cache_salt" && !IsDigest(name)) {  // PlaceOfSalt
    fields->salt_in_keys = name;
  } else {
    Fold(name, folded);
  }
  for (; read < size; ++read) {
    if (!in.Skip()) return false;
  }
  return true;
}

// Dynamo's: for each block nil or {"mm_objects": [{"mm_hash": N, ...}, ...]}.
bool EventDecoder::ReadMediaInfos(MsgpackReader& in) {
  if (in.Peek() == MsgpackKind::kNil) return in.ReadNil();
  uint32_t blocks = 0;
  if (!in.ReadArray(&blocks)) return false;
  if (blocks > kMaxBlocks) {
    too_large_ = true;
    return false;
  }
  if (extras_.size() < blocks) extras_.resize(blocks, 0);
  const auto read_object = [&](uint64_t* folded) {
    uint32_t keys = 0;
    if (!in.ReadMap(&keys)) return false;
    for (uint32_t k = 0; k < keys; ++k) {
      std::string_view key;
      uint64_t hash = 0;
      if (!in.ReadString(&key)) return false;
      if (key != "mm_hash") {
        if (!in.Skip()) return false;
        continue;
      }
      if (!in.ReadInteger(&hash)) return false;
      Fold({reinterpret_cast<const char*>(&hash), sizeof hash}, folded);
    }
    return true;
  };
  for (uint32_t i = 0; i < blocks; ++i) {
    if (in.Peek() == MsgpackKind::kNil) {
      if (!in.ReadNil()) return false;
      continue;
    }
    uint32_t keys = 0;
    if (!in.ReadMap(&keys)) return false;
    for (uint32_t k = 0; k < keys; ++k) {
      std::string_view key;
      uint32_t objects = 0;
      if (!in.ReadString(&key)) return false;
      if (key != "mm_objects") {
        if (!in.Skip()) return false;
        continue;
      }
      if (!in.ReadArray(&objects)) return false;
      for (uint32_t o = 0; o < objects; ++o) {
        if (!read_object(&extras_[i])) return false;
      }
    }
  }
  return true;
}

bool EventDecoder::ReadMetadata(MsgpackReader& in, Fields* fields) {
  uint32_t size = 0;
  if (!in.ReadMap(&size)) return false;
  for (uint32_t i = 0; i < size; ++i) {
    std::string_view key;
    if (!in.ReadString(&key)) return false;
    if (!(key == "cache_salt" ? ReadOptional(in, &fields->salt) : in.Skip())) return false;
  }
  return true;
}

std::optional<EventFault> EventDecoder::Finish(Fields& fields, KvEvent* event) {
  *event = {};
  if (fields.type == kCleared) return std::nullopt;
  if (fields.type != kStored && fields.type != kRemoved) return EventFault::kUnknownType;
  if (hashes_.empty()) return EventFault::kMalformed;
  event->type = fields.type == kStored ? KvEvent::Type::kStored : KvEvent::Type::kRemoved;
  event->hashes = hashes_;
  const std::optional<Tier> tier = TierOf(fields.medium);
  event->tier = tier.value_or(Tier::kStorage);
  event->remote = !fields.locality.empty() && fields.locality != "LOCAL";
  event->kind = KindOf(fields.kind);
  if (fields.group) {
    if (*fields.group > UINT16_MAX) return EventFault::kMalformed;
    event->has_group = true;
    event->group = static_cast<uint16_t>(*fields.group);
  }
  if (fields.window.value_or(0) > UINT32_MAX) return EventFault::kMalformed;
  event->window_tokens = static_cast<uint32_t>(fields.window.value_or(0));
  const auto told = tier ? std::nullopt : std::optional(EventFault::kUnknownMedium);
  if (event->type == KvEvent::Type::kRemoved) return told;

  event->parent = fields.parent;
  const uint64_t block_size = fields.block_size.value_or(0);
  if (!tokens_.empty()) {
    // No product that could overflow: both are bounded.
    if (block_size == 0 || block_size > UINT32_MAX ||
        tokens_.size() != hashes_.size() * block_size) {
      return EventFault::kNotDense;
    }
    event->tokens = tokens_;
  }
  if (block_size > UINT32_MAX) return EventFault::kMalformed;
  event->block_size = static_cast<uint32_t>(block_size);
  if (!extras_.empty()) {
    if (extras_.size() > hashes_.size()) return EventFault::kMalformed;
    extras_.resize(hashes_.size(), 0);
    event->extras = extras_;
  }
  event->token_offset = fields.token_offset;
  // Engines that tell a number only: nobody asks for an adapter of this name.
  event->adapter = fields.lora_name;
  if (fields.lora_name.empty() && fields.lora_id.value_or(0) != 0) event->adapter = "#";
  event->salt = fields.salt.empty() ? fields.salt_in_keys : fields.salt;
  return told;
}

}  // namespace penstock::kvcache
