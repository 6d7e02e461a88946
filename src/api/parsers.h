// Which parser reads a request, and as what: llm-d's request parsers, chosen by the path.
//
// THREADS: const methods from any thread.
// SOURCE: llm-d-router request parsers; spec endpoint-picker 4.1, 4.2.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "model/request.h"

namespace penstock::api {

enum class ParserKind : uint8_t {
  kOpenAi,
  kAnthropic,
  kVllmHttp,  // everything of kOpenAi besides its own
  kSglangHttp,
  kVllmGrpc,
  kVertexAi,
  kPassthrough,  // whatever no parser before it claims
};
// llm-d's plugin type: "openai-parser", ...
std::string_view ParserType(ParserKind kind);
std::optional<ParserKind> ParserOfType(std::string_view type);
// The application protocols that a pool of this parser may speak ("http", "h2c"); none for the
// passthrough parser, which takes any.
std::span<const std::string_view> AppProtocols(ParserKind kind);

// What the bytes of a body are.
enum class Framing : uint8_t {
  kNone,    // the JSON text itself
  kVllm,    // a gRPC message of vllm.grpc.engine
  kVertex,  // a gRPC message of PredictionService: an HttpBody that holds the JSON text
};

// What BodyReader needs to know of a path.
struct Route {
  ParserKind parser = ParserKind::kPassthrough;
  // kOther within kVertex: a chat or a request for a response, whichever the JSON text is.
  model::Api api = model::Api::kOther;
  Framing framing = Framing::kNone;
  // False: llm-d's "skip response processing". Nothing in the answer is of interest.
  bool reads_answer = true;
};

class ParserSet {
 public:
  // In the order of the configuration. What follows a passthrough parser is never asked.
  explicit ParserSet(std::span<const ParserKind> parsers);
  // openai, anthropic, vllmhttp, passthrough.
  static const ParserSet& Default();

  // The route whose suffix is the longest that `path` ends with, of equals that of the parser
  // configured first; else the passthrough parser's. Nothing when no parser claims the path, which
  // is answered with 400. A query does not matter, and escapes are what they stand for.
  std::optional<Route> Find(std::string_view path) const;

  // For the gateway, which serves paths as engines do: the same routes, but the whole path has to
  // match, with or without /v1.
  std::optional<Route> FindWhole(std::string_view path) const;

 private:
  struct Claim;
  static std::span<const Claim> ClaimsOf(ParserKind kind);

  struct Entry {
    const Claim* claim;
    ParserKind parser;
    // The last letters of the path, as far as they tell that another one does not match.
    uint64_t tail, tail_mask;
  };
  static Entry MakeEntry(const Claim& claim, ParserKind parser);
  std::optional<Route> RouteOf(const Entry* entry) const;

  std::vector<Entry> entries_;
  bool passes_ = false;  // there is a passthrough parser
};

}  // namespace penstock::api
