#include "tokens/bpe.h"

#include <fmt/format.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <boost/unordered/unordered_flat_map.hpp>
#include <boost/unordered/unordered_flat_set.hpp>
#include <cstring>
#include <functional>
#include <queue>

#include "core/text.h"
#include "tokens/byte_alphabet.h"
#include "tokens/unicode.h"

namespace penstock::tokens {
namespace {

constexpr uint32_t kNoRank = UINT32_MAX;
// Up to here the lowest rank is found by looking at all: no allocation, and the ranks stay in one
// or two cache lines.
constexpr size_t kFewSymbols = 48;

struct TextHash {
  size_t operator()(std::string_view text) const { return XXH3_64bits(text.data(), text.size()); }
};
using TokenMap = boost::unordered_flat_map<std::string_view, uint32_t, TextHash>;

uint64_t Pair(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }
uint64_t Spread(uint64_t pair) { return pair * 0x9e3779b97f4a7c15ULL; }

// A short piece and its tokens.
struct alignas(64) KnownPiece {
  uint32_t owner = 0;
  uint8_t bytes = 0;
  uint8_t count = 0;
  std::array<char, 26> text;
  std::array<uint32_t, 8> tokens;
};
static_assert(sizeof(KnownPiece) == 64);
constexpr size_t kKnownPieces = 32768;  // 2 MiB

KnownPiece* KnownPieces() {
  thread_local const std::unique_ptr<KnownPiece[]> pieces =
      std::make_unique<KnownPiece[]>(kKnownPieces);
  return pieces.get();
}

std::atomic<uint32_t> next_serial{1};

std::string Shown(std::string_view token) {
  std::string out;
  AppendValidUtf8(token.substr(0, 64), &out);
  return out;
}

}  // namespace

struct Bpe::Index {
  enum State : uint8_t { kUnknown, kAlone, kNot };

  TokenMap tokens;  // by bytes
  // By id: whether the merges make this token, and nothing else, of its own bytes. Found out when
  // first asked; every thread finds the same.
  std::unique_ptr<std::atomic<uint8_t>[]> whole;
  boost::unordered_flat_map<uint32_t, uint32_t> chars;  // kChars: tokens of one code point
  boost::unordered_flat_set<uint64_t> joins;  // kChars: code points side by side within a token
  bool is_joining_fallbacks = false;          // merges have tokens that stand for other bytes
};

struct Bpe::Scratch {
  std::vector<uint32_t> symbols;
  std::vector<uint32_t> ranks;
  std::vector<uint32_t> next;
  std::vector<uint32_t> previous;

  static Scratch& OfThread() {
    thread_local Scratch scratch;
    return scratch;
  }
};

Bpe::Bpe() : index_(std::make_unique<Index>()) {
  byte_tokens_.fill(kNoToken);
  ascii_tokens_.fill(kNoToken);
}
Bpe::Bpe(Bpe&&) noexcept = default;
Bpe& Bpe::operator=(Bpe&&) noexcept = default;
Bpe::~Bpe() = default;

Result<Bpe> Bpe::Make(const Model& model) {
  Bpe bpe;
  bpe.serial_ = next_serial.fetch_add(1);
  bpe.alphabet_ = model.alphabet;
  bpe.fuse_unknown_ = model.fuse_unknown;
  bpe.byte_fallback_ = model.byte_fallback;
  bpe.ignore_merges_ = model.ignore_merges;
  if (auto added = bpe.AddVocabulary(model); !added) return std::unexpected(added.error());
  if (auto added = bpe.AddMerges(model); !added) return std::unexpected(added.error());
  return bpe;
}

Result<> Bpe::AddVocabulary(const Model& model) {
  uint32_t largest = 0;
  size_t bytes = 0;
  for (const auto& [text, id] : model.vocabulary) {
    if (id > kMaxId) {
      return Fail(Code::kOutOfRange,
                  fmt::format("token '{}': id {} is above {}", Shown(text), id, kMaxId));
    }
    largest = std::max(largest, id);
    bytes += text.size();
  }
  if (bytes > UINT32_MAX)
    return Fail(Code::kOutOfRange, "the vocabulary has more than 4 GiB of text");
  spans_.resize(model.vocabulary.empty() ? 0 : largest + 1);
  // On the heap, however short it is: views of it outlive a move.
  text_.reserve(std::max<size_t>(bytes, 64));
  for (const auto& [text, id] : model.vocabulary) {
    const size_t begin = text_.size();
    if (spans_[id].second != 0) {
      return Fail(Code::kInvalidArgument, fmt::format("tokens '{}' and '{}' have the same id {}",
                                                      Shown(Bytes(id)), Shown(text), id));
    }
    // What GPT-2's characters do not spell can come out of no text; it keeps its spelling.
    if (alphabet_ == Alphabet::kChars || !AppendBytesOf(text, &text_)) {
      text_.resize(begin);
      text_.append(text);
    }
    spans_[id] = {static_cast<uint32_t>(begin), static_cast<uint32_t>(text_.size() - begin)};
  }
  index_->whole = std::make_unique<std::atomic<uint8_t>[]>(spans_.size());
  std::string spelled;
  for (const auto& [text, id] : model.vocabulary) {
    if (Bytes(id).empty()) continue;
    spelled.clear();
    const bool is_spelled = alphabet_ == Alphabet::kChars || AppendBytesOf(text, &spelled);
    if (!is_spelled) continue;
    index_->tokens.insert_or_assign(Bytes(id), id);
    if (alphabet_ == Alphabet::kChars) {
      const Char first = CharAt(text, 0);
      if (first.size == text.size()) {
        index_->chars.insert_or_assign(first.code, id);
        if (first.code < 128) ascii_tokens_[first.code] = id;
      }
    } else if (spelled.size() == 1) {
      byte_tokens_[static_cast<unsigned char>(spelled[0])] = id;
    }
  }
  if (alphabet_ == Alphabet::kBytes && byte_fallback_ &&
      std::ranges::count(byte_tokens_, kNoToken) > 0) {
    return Fail(Code::kInvalidArgument,
                "byte_fallback beside ByteLevel is not supported when the vocabulary lacks a byte");
  }
  if (alphabet_ == Alphabet::kChars && byte_fallback_) {
    for (unsigned byte = 0; byte < 256; ++byte) {
      const auto found = index_->tokens.find(fmt::format("<0x{:02X}>", byte));
      if (found != index_->tokens.end()) byte_tokens_[byte] = found->second;
    }
  }
  return {};
}

Result<> Bpe::AddMerges(const Model& model) {
  TokenMap spelled;
  spelled.reserve(model.vocabulary.size());
  for (const auto& [text, id] : model.vocabulary) spelled.insert_or_assign(text, id);
  vocabulary_size_ = spelled.size();
  if (model.unknown) {
    const auto found = spelled.find(*model.unknown);
    if (found != spelled.end()) {
      unknown_ = found->second;
    } else if (alphabet_ == Alphabet::kChars) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("unk_token '{}' is not in the vocabulary", Shown(*model.unknown)));
    }
  }
  const size_t slots = std::bit_ceil(std::max<size_t>(2 * model.merges.size(), 16));
  merges_.resize(slots);
  merge_shift_ = 64 - static_cast<unsigned>(std::countr_zero(slots));
  boost::unordered_flat_set<uint32_t> fallbacks;
  if (alphabet_ == Alphabet::kChars) fallbacks.insert(unknown_);
  if (alphabet_ == Alphabet::kChars && byte_fallback_) {
    fallbacks.insert(byte_tokens_.begin(), byte_tokens_.end());
  }
  std::string joined;
  for (uint32_t rank = 0; rank < model.merges.size(); ++rank) {
    const auto& [left, right] = model.merges[rank];
    joined.assign(left).append(right);
    const auto a = spelled.find(left);
    const auto b = spelled.find(right);
    const auto ab = spelled.find(joined);
    if (a == spelled.end() || b == spelled.end() || ab == spelled.end()) {
      const std::string_view missing = a == spelled.end()   ? left
                                       : b == spelled.end() ? right
                                                            : joined;
      return Fail(Code::kInvalidArgument,
                  fmt::format("merge {}: '{}' is not in the vocabulary", rank, Shown(missing)));
    }
    AddMerge(Pair(a->second, b->second), rank, ab->second);
    if (fallbacks.contains(a->second) || fallbacks.contains(b->second)) {
      index_->is_joining_fallbacks = true;
    }
    if (alphabet_ == Alphabet::kChars) NoteJoins(joined);
  }
  return {};
}

// Of two merges of one pair the later one counts.
void Bpe::AddMerge(uint64_t pair, uint32_t rank, uint32_t id) {
  size_t slot = Spread(pair) >> merge_shift_;
  while (merges_[slot].pair != UINT64_MAX && merges_[slot].pair != pair) {
    slot = (slot + 1) & (merges_.size() - 1);
  }
  merges_[slot] = {pair, rank, id};
}

const Bpe::Merge* Bpe::FindMerge(uint32_t left, uint32_t right) const {
  const uint64_t pair = Pair(left, right);
  size_t slot = Spread(pair) >> merge_shift_;
  while (merges_[slot].pair != pair) {
    if (merges_[slot].pair == UINT64_MAX) return nullptr;
    slot = (slot + 1) & (merges_.size() - 1);
  }
  return &merges_[slot];
}

void Bpe::NoteJoins(std::string_view token) {
  uint32_t before = CharAt(token, 0).code;
  for (size_t at = CharAt(token, 0).size; at < token.size();) {
    const Char here = CharAt(token, at);
    index_->joins.insert(Pair(before, here.code));
    before = here.code;
    at += here.size;
  }
}

bool Bpe::NeverJoins(uint32_t first, uint32_t second) const {
  // Behind the cut stands a symbol of its own, so no unknown one is fused across it.
  return alphabet_ == Alphabet::kChars && !index_->is_joining_fallbacks &&
         index_->chars.contains(second) && !index_->joins.contains(Pair(first, second));
}

std::string_view Bpe::Bytes(uint32_t id) const {
  if (id >= spans_.size()) return {};
  return std::string_view(text_).substr(spans_[id].first, spans_[id].second);
}

std::optional<uint8_t> Bpe::FallbackByte(uint32_t id) const {
  if (!byte_fallback_ || alphabet_ == Alphabet::kBytes) return std::nullopt;
  const auto found = std::ranges::find(byte_tokens_, id);
  if (found == byte_tokens_.end()) return std::nullopt;
  return static_cast<uint8_t>(found - byte_tokens_.begin());
}

void Bpe::Encode(std::string_view piece, std::vector<uint32_t>* tokens) const {
  if (piece.empty()) return;
  if (piece.size() > sizeof(KnownPiece::text)) return EncodeWhole(piece, tokens);
  const uint64_t hash = XXH3_64bits_withSeed(piece.data(), piece.size(), serial_);
  KnownPiece& known = KnownPieces()[hash & (kKnownPieces - 1)];
  if (known.owner == serial_ && known.bytes == piece.size() &&
      std::memcmp(known.text.data(), piece.data(), piece.size()) == 0) {
    tokens->insert(tokens->end(), known.tokens.data(), known.tokens.data() + known.count);
    return;
  }
  const size_t before = tokens->size();
  EncodeWhole(piece, tokens);
  const size_t count = tokens->size() - before;
  if (count > known.tokens.size()) return;
  known.owner = serial_;
  known.bytes = static_cast<uint8_t>(piece.size());
  known.count = static_cast<uint8_t>(count);
  std::memcpy(known.text.data(), piece.data(), piece.size());
  std::copy(tokens->begin() + static_cast<ptrdiff_t>(before), tokens->end(), known.tokens.begin());
}

void Bpe::EncodeWhole(std::string_view piece, std::vector<uint32_t>* tokens) const {
  const auto found = index_->tokens.find(piece);
  const bool is_token = found != index_->tokens.end();
  if (is_token && (ignore_merges_ || index_->whole[found->second] == Index::kAlone)) {
    tokens->push_back(found->second);
    return;
  }
  std::vector<uint32_t>& symbols = Scratch::OfThread().symbols;
  symbols.clear();
  AddSymbols(piece, &symbols);
  if (symbols.size() <= kFewSymbols) {
    MergeFew(&symbols);
  } else {
    MergeMany(&symbols);
  }
  if (is_token) {
    const bool is_alone = symbols.size() == 1 && symbols[0] == found->second;
    index_->whole[found->second] = is_alone ? Index::kAlone : Index::kNot;
  }
  tokens->insert(tokens->end(), symbols.begin(), symbols.end());
}

void Bpe::AddSymbols(std::string_view piece, std::vector<uint32_t>* symbols) const {
  if (alphabet_ == Alphabet::kChars) return AddCharSymbols(piece, symbols);
  for (const char c : piece) {
    uint32_t id = byte_tokens_[static_cast<unsigned char>(c)];
    if (id == kNoToken) id = unknown_;
    if (id == kNoToken) continue;  // nothing stands for it: it is left out
    symbols->push_back(id);
  }
}

void Bpe::AddCharSymbols(std::string_view piece, std::vector<uint32_t>* symbols) const {
  bool is_unknown_open = false;  // waits, so that fallback bytes come before it as in the reference
  const auto close = [&] {
    if (is_unknown_open) symbols->push_back(unknown_);
    is_unknown_open = false;
  };
  for (size_t at = 0; at < piece.size();) {
    const Char here = CharAt(piece, at);
    const std::string_view bytes = piece.substr(at, here.size);
    at += here.size;
    uint32_t id = kNoToken;
    if (here.code < 128) {
      id = ascii_tokens_[here.code];
    } else if (const auto found = index_->chars.find(here.code); found != index_->chars.end()) {
      id = found->second;
    }
    if (id != kNoToken) {
      close();
      symbols->push_back(id);
      continue;
    }
    const auto fallback = [&](char c) { return byte_tokens_[static_cast<unsigned char>(c)]; };
    if (byte_fallback_ &&
        std::ranges::all_of(bytes, [&](char c) { return fallback(c) != kNoToken; })) {
      for (const char c : bytes) symbols->push_back(fallback(c));
      continue;
    }
    if (unknown_ == kNoToken) continue;
    if (!fuse_unknown_) close();
    is_unknown_open = true;
  }
  close();
}

void Bpe::MergeFew(std::vector<uint32_t>* symbols) const {
  std::array<uint32_t, kFewSymbols> ranks;
  std::array<uint32_t, kFewSymbols> made;
  uint32_t* s = symbols->data();
  size_t n = symbols->size();
  const auto look = [&](size_t i) {
    const Merge* merge = i + 1 < n ? FindMerge(s[i], s[i + 1]) : nullptr;
    ranks[i] = merge == nullptr ? kNoRank : merge->rank;
    made[i] = merge == nullptr ? 0 : merge->id;
  };
  for (size_t i = 0; i < n; ++i) look(i);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNoRank) break;
    s[best] = made[best];
    for (size_t i = best + 1; i + 1 < n; ++i) {
      s[i] = s[i + 1];
      ranks[i] = ranks[i + 1];
      made[i] = made[i + 1];
    }
    --n;
    look(best);
    if (best > 0) look(best - 1);
  }
  symbols->resize(n);
}

// The symbols as a linked list; the pairs in a heap by rank, then by place. An entry counts while
// the pair at its place still has its rank.
void Bpe::MergeMany(std::vector<uint32_t>* symbols) const {
  Scratch& scratch = Scratch::OfThread();
  std::vector<uint32_t>& s = *symbols;
  const auto n = static_cast<uint32_t>(s.size());
  scratch.ranks.resize(n);
  scratch.next.resize(n);
  scratch.previous.resize(n);
  std::vector<uint64_t> entries;
  entries.reserve(n);
  const auto look = [&](uint32_t i) {
    const Merge* merge = scratch.next[i] < n ? FindMerge(s[i], s[scratch.next[i]]) : nullptr;
    scratch.ranks[i] = merge == nullptr ? kNoRank : merge->rank;
    return scratch.ranks[i] != kNoRank;
  };
  const auto entry = [&](uint32_t i) { return uint64_t{scratch.ranks[i]} << 32 | i; };
  for (uint32_t i = 0; i < n; ++i) {
    scratch.next[i] = i + 1;
    scratch.previous[i] = i - 1;
    if (look(i)) entries.push_back(entry(i));
  }
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> heap(std::greater<>{},
                                                                            std::move(entries));
  while (!heap.empty()) {
    const auto rank = static_cast<uint32_t>(heap.top() >> 32);
    const auto i = static_cast<uint32_t>(heap.top());
    heap.pop();
    if (scratch.ranks[i] != rank) continue;
    const uint32_t gone = scratch.next[i];
    s[i] = FindMerge(s[i], s[gone])->id;
    s[gone] = kNoToken;
    scratch.ranks[gone] = kNoRank;
    scratch.next[i] = scratch.next[gone];
    if (scratch.next[i] < n) scratch.previous[scratch.next[i]] = i;
    if (look(i)) heap.push(entry(i));
    if (i > 0 && look(scratch.previous[i])) heap.push(entry(scratch.previous[i]));
  }
  std::erase(s, kNoToken);
  if (scratch.next.capacity() > (1U << 20)) scratch = Scratch{.symbols = std::move(s)};
}

}  // namespace penstock::tokens
