#include "api/parsers.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "core/text.h"

namespace penstock::api {
namespace {

using model::Api;

constexpr std::string_view kHttpAndH2c[] = {"http", "h2c"};
constexpr std::string_view kH2c[] = {"h2c"};

struct KindRow {
  ParserKind kind;
  std::string_view type;
  std::span<const std::string_view> protocols;
};
constexpr KindRow kKinds[] = {
    {ParserKind::kOpenAi, "openai-parser", kHttpAndH2c},
    {ParserKind::kAnthropic, "anthropic-parser", kHttpAndH2c},
    {ParserKind::kVllmHttp, "vllmhttp-parser", kHttpAndH2c},
    {ParserKind::kSglangHttp, "sglanghttp-parser", kHttpAndH2c},
    {ParserKind::kVllmGrpc, "vllmgrpc-parser", kH2c},
    {ParserKind::kVertexAi, "vertexai-parser", kH2c},
    {ParserKind::kPassthrough, "passthrough-parser", {}},
};

const KindRow& RowOf(ParserKind kind) { return *std::ranges::find(kKinds, kind, &KindRow::kind); }

static_assert(std::endian::native == std::endian::little);
// The last eight bytes, the last one highest; zeros before a shorter text.
uint64_t TailOf(std::string_view text) {
  uint64_t tail = 0;
  const size_t size = std::min(sizeof(tail), text.size());
  char bytes[sizeof(tail)] = {};
  if (size > 0) std::memcpy(bytes + sizeof(tail) - size, text.data() + text.size() - size, size);
  std::memcpy(&tail, bytes, sizeof(tail));
  return tail;
}

std::string_view PathOf(std::string_view target, std::string* decoded) {
  target = target.substr(0, target.find('?'));
  target = target.substr(0, target.find('#'));
  if (target.find('%') == std::string_view::npos) return target;
  return *decoded = PercentDecoded(target);
}

}  // namespace

struct ParserSet::Claim {
  enum class Match : uint8_t {
    kSuffix,   // the path ends so
    kWhole,    // it is all of the path
    kMethods,  // the path up to its last slash ends so
  };
  bool Matches(std::string_view target) const {
    if (match == Match::kWhole) return target == path;
    if (match == Match::kMethods) target = target.substr(0, target.rfind('/') + 1);
    return target.ends_with(path);
  }

  std::string_view path;
  Api api;
  Match match = Match::kSuffix;
  Framing framing = Framing::kNone;
  bool reads_answer = true;
};

std::span<const ParserSet::Claim> ParserSet::ClaimsOf(ParserKind kind) {
  using Match = Claim::Match;
  // Those with a leading slash are not llm-d's; "/v1/detokenize" is none of them.
  static constexpr Claim kOpenAi[] = {
      {"chat/completions", Api::kChatCompletions},
      {"completions", Api::kCompletions},
      {"embeddings", Api::kEmbeddings},
      {"responses", Api::kResponses},
      {"conversations", Api::kConversations},
      {"chat/completions/render", Api::kChatRender},
      {"completions/render", Api::kCompletionRender},
      {"images/generations", Api::kImages},
      {"/tokenize", Api::kTokenize},
      {"/rerank", Api::kRerank},
      {"/score", Api::kScore},
  };
  static constexpr Claim kAnthropic[] = {
      {"messages", Api::kMessages},
      {"messages/count_tokens", Api::kCountTokens, Match::kSuffix, Framing::kNone, false},
  };
  static constexpr Claim kVllmHttp[] = {{"inference/v1/generate", Api::kVllmGenerate}};
  static constexpr Claim kSglangHttp[] = {{"/generate", Api::kSglangGenerate, Match::kWhole}};
  // Other methods of the two services are passed as they are.
  static constexpr Claim kVllmGrpc[] = {
      {"vllm.grpc.engine.VllmEngine/Generate", Api::kVllmGenerate, Match::kSuffix, Framing::kVllm},
      {"vllm.grpc.engine.VllmEngine/Embed", Api::kVllmEmbed, Match::kSuffix, Framing::kVllm},
      {"vllm.grpc.engine.VllmEngine/", Api::kOther, Match::kMethods, Framing::kNone, false},
  };
  static constexpr Claim kVertexAi[] = {
      {"PredictionService/ChatCompletions", Api::kChatCompletions, Match::kSuffix,
       Framing::kVertex},
      {"PredictionService/StreamRawPredict", Api::kOther, Match::kSuffix, Framing::kVertex},
      {"PredictionService/RawPredict", Api::kOther, Match::kSuffix, Framing::kVertex},
      {"PredictionService/", Api::kOther, Match::kMethods, Framing::kNone, false},
  };
  switch (kind) {
    case ParserKind::kOpenAi:
      return kOpenAi;
    case ParserKind::kAnthropic:
      return kAnthropic;
    case ParserKind::kVllmHttp:
      return kVllmHttp;
    case ParserKind::kSglangHttp:
      return kSglangHttp;
    case ParserKind::kVllmGrpc:
      return kVllmGrpc;
    case ParserKind::kVertexAi:
      return kVertexAi;
    case ParserKind::kPassthrough:
      break;
  }
  return {};
}

std::string_view ParserType(ParserKind kind) { return RowOf(kind).type; }

std::optional<ParserKind> ParserOfType(std::string_view type) {
  const auto* const row = std::ranges::find(kKinds, type, &KindRow::type);
  if (row == std::end(kKinds)) return std::nullopt;
  return row->kind;
}

std::span<const std::string_view> AppProtocols(ParserKind kind) { return RowOf(kind).protocols; }

ParserSet::ParserSet(std::span<const ParserKind> parsers) {
  for (const ParserKind kind : parsers) {
    if (kind == ParserKind::kPassthrough) {
      passes_ = true;
      break;
    }
    for (const Claim& claim : ClaimsOf(kind)) entries_.push_back(MakeEntry(claim, kind));
    if (kind == ParserKind::kVllmHttp) {
      for (const Claim& claim : ClaimsOf(ParserKind::kOpenAi)) {
        entries_.push_back(MakeEntry(claim, kind));
      }
    }
  }
}

ParserSet::Entry ParserSet::MakeEntry(const Claim& claim, ParserKind parser) {
  if (claim.match == Claim::Match::kMethods) return {&claim, parser, 0, 0};
  const size_t bits = 8 * std::min(sizeof(uint64_t), claim.path.size());
  return {&claim, parser, TailOf(claim.path), ~uint64_t{0} << (64 - bits)};
}

const ParserSet& ParserSet::Default() {
  static const ParserSet kDefault(std::array{ParserKind::kOpenAi, ParserKind::kAnthropic,
                                             ParserKind::kVllmHttp, ParserKind::kPassthrough});
  return kDefault;
}

std::optional<Route> ParserSet::RouteOf(const Entry* entry) const {
  if (entry != nullptr) {
    const Claim& claim = *entry->claim;
    return Route{entry->parser, claim.api, claim.framing, claim.reads_answer};
  }
  if (passes_) return Route{};
  return std::nullopt;
}

std::optional<Route> ParserSet::Find(std::string_view path) const {
  std::string decoded;
  path = PathOf(path, &decoded);
  const Entry* best = nullptr;
  const uint64_t tail = TailOf(path);
  for (const Entry& entry : entries_) {
    // Most end otherwise, which is seen at once: a path is found with 500 instructions, not 1,000.
    if (((tail ^ entry.tail) & entry.tail_mask) != 0 || !entry.claim->Matches(path)) continue;
    if (best == nullptr || entry.claim->path.size() > best->claim->path.size()) best = &entry;
  }
  return RouteOf(best);
}

std::optional<Route> ParserSet::FindWhole(std::string_view path) const {
  std::string decoded;
  path = PathOf(path, &decoded);
  if (path.starts_with("/v1/") || path == "/v2/rerank") path.remove_prefix(3);
  const auto entry = std::ranges::find_if(entries_, [&](const Entry& candidate) {
    const std::string_view claimed = candidate.claim->path;
    if (claimed.starts_with('/')) return path == claimed;
    return path.starts_with('/') && path.substr(1) == claimed;
  });
  return RouteOf(entry == entries_.end() ? nullptr : &*entry);
}

}  // namespace penstock::api
