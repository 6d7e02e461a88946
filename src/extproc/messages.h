// Envoy's ext_proc messages, as far as they are spoken here: requests are read as views of their
// bytes, responses are written field by field.
//
// SOURCE: envoy api/envoy/service/ext_proc/v3/external_processor.proto and
// api/envoy/config/core/v3/base.proto (fields and their numbers).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/request.h"

namespace penstock::extproc {

// The one way in which bodies can be told here.
inline constexpr uint32_t kFullDuplexStreamed = 4;
std::string_view BodySendModeName(uint32_t mode);

enum class Side : uint8_t { kRequest, kResponse };

// One ProcessingRequest. Views of the message.
struct Incoming {
  enum class Kind : uint8_t { kNone, kHeaders, kBody, kTrailers };
  Kind kind = Kind::kNone;
  Side side = Side::kRequest;
  bool is_last = false;                    // end_of_stream
  std::string_view body;                   // of kBody
  std::string_view head;                   // of kHeaders: where all of them stand
  std::vector<model::HeaderView> headers;  // of kHeaders; views of it, or of nothing
  // envoy.lb.subset_hint, x-gateway-destination-endpoint-subset: nothing when there is no such key.
  std::optional<std::vector<std::string_view>> subset;
  std::string_view served;  // envoy.lb, x-gateway-destination-endpoint-served
  bool is_observed = false;
  std::optional<std::pair<uint32_t, uint32_t>> body_modes;  // of requests and responses
};

// Replaces what `out` holds and keeps its memory. False: these bytes are no such message.
bool ReadIncoming(std::string_view message, Incoming* out);

struct Header {
  std::string_view name;
  std::string_view value;
};

// What is to happen with headers. Those that are set replace others of the name.
struct HeaderChanges {
  std::vector<Header> set;
  std::vector<std::string_view> remove;
  void Clear() {
    set.clear();
    remove.clear();
  }
};

// What goes into the metadata namespace envoy.lb.
struct Routing {
  std::string_view destination;
  std::span<const std::pair<std::string_view, double>> scores;  // by address; empty: not told
};

inline constexpr std::string_view kDestinationHeader = "x-gateway-destination-endpoint";
// Of a body, in one message; Envoy's limits are above it.
inline constexpr size_t kMaxChunk = 62'000;

// Each appends one ProcessingResponse. With `routing` Envoy picks its route anew.
void AppendHeaders(Side side, const HeaderChanges& changes, const Routing* routing,
                   std::string* out);
// The begin of a body's piece of `size` bytes, which the caller appends; a message ends with it.
void AppendBodyAhead(Side side, size_t size, bool is_last, std::string* out);
void AppendTrailers(Side side, std::string* out);
// The client gets this answer at once.
void AppendImmediate(int status, std::span<const Header> headers, std::string_view body,
                     std::string* out);

}  // namespace penstock::extproc
