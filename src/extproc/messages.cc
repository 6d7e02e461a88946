#include "extproc/messages.h"

#include <array>

#include "wire/protobuf.h"

namespace penstock::extproc {
namespace {

using wire::ProtoField;
using wire::ProtoReader;
using wire::ProtoWriter;

constexpr std::string_view kSubsetNamespace = "envoy.lb.subset_hint";
constexpr std::string_view kSubsetKey = "x-gateway-destination-endpoint-subset";
constexpr std::string_view kRoutingNamespace = "envoy.lb";
constexpr std::string_view kServedKey = "x-gateway-destination-endpoint-served";
constexpr std::string_view kScoresKey = "x-gateway-destination-endpoint-scores";
constexpr uint64_t kOverwrite = 2;  // HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD

// --- reading; a reader that is malformed says so to whoever began it

// google.protobuf.Value: a view of its string_value or list_value, with the field's number.
bool ReadValue(std::string_view bytes, uint32_t* kind, std::string_view* out) {
  ProtoReader fields(bytes);
  for (ProtoField field; fields.Next(&field);) {
    *kind = field.number;
    *out = field.bytes;
  }
  return fields.ok();
}
constexpr uint32_t kStringValue = 3;
constexpr uint32_t kListValue = 6;

// An entry of a map with names for keys.
bool ReadEntry(std::string_view bytes, std::string_view* key, std::string_view* value) {
  ProtoReader fields(bytes);
  for (ProtoField field; fields.Next(&field);) {
    if (field.number == 1) *key = field.bytes;
    if (field.number == 2) *value = field.bytes;
  }
  return fields.ok();
}

bool ReadSubset(std::string_view list, std::vector<std::string_view>* out) {
  ProtoReader values(list);
  for (ProtoField value_field; values.Next(&value_field);) {
    if (value_field.number != 1) continue;
    uint32_t kind = 0;
    std::string_view text;
    if (!ReadValue(value_field.bytes, &kind, &text)) return false;
    if (kind == kStringValue) out->push_back(text);  // others are ignored, as llm-d does
  }
  return values.ok();
}

// config.core.v3.Metadata.
bool ReadMetadata(std::string_view bytes, Incoming* out) {
  ProtoReader metadata(bytes);
  for (ProtoField entry; metadata.Next(&entry);) {
    if (entry.number != 1) continue;  // filter_metadata
    std::string_view name, fields_bytes;
    if (!ReadEntry(entry.bytes, &name, &fields_bytes)) return false;
    if (name != kSubsetNamespace && name != kRoutingNamespace) continue;
    ProtoReader fields(fields_bytes);
    for (ProtoField field; fields.Next(&field);) {
      if (field.number != 1) continue;
      std::string_view key, value_bytes, value;
      uint32_t kind = 0;
      if (!ReadEntry(field.bytes, &key, &value_bytes) || !ReadValue(value_bytes, &kind, &value)) {
        return false;
      }
      if (name == kSubsetNamespace && key == kSubsetKey && kind == kListValue) {
        out->subset.emplace();
        if (!ReadSubset(value, &*out->subset)) return false;
      } else if (name == kRoutingNamespace && key == kServedKey && kind == kStringValue) {
        out->served = value;
      }
    }
    if (!fields.ok()) return false;
  }
  return metadata.ok();
}

// Takes a header from the front of a HeaderMap, if it stands there as Envoy writes nearly all: key,
// then value or raw_value, all lengths of one byte. 20 of a request cost 4,300 instructions field
// by field, and a third of it so.
bool ReadPlainHeader(std::string_view* map, std::vector<model::HeaderView>* out) {
  constexpr char kEntryTag = 1 << 3 | 2, kKeyTag = 1 << 3 | 2;
  constexpr char kValueTag = 2 << 3 | 2, kRawTag = 3 << 3 | 2;
  constexpr size_t kLeast = 6;  // three tags, three lengths
  const std::string_view bytes = *map;
  if (bytes.size() < kLeast || bytes[0] != kEntryTag || bytes[2] != kKeyTag) return false;
  const auto size = static_cast<unsigned char>(bytes[1]);
  const auto key = static_cast<unsigned char>(bytes[3]);
  if (size >= 0x80 || size + 2u > bytes.size() || key + 4u > size) return false;
  const char* const value = bytes.data() + 4 + key;  // its tag
  const auto value_size = static_cast<unsigned char>(value[1]);
  if ((value[0] != kRawTag && value[0] != kValueTag) || key + 4u + value_size != size) return false;
  out->push_back({bytes.substr(4, key), {value + 2, value_size}});
  map->remove_prefix(size + 2u);
  return true;
}

// config.core.v3.HeaderMap.
bool ReadHeaderMap(std::string_view bytes, std::vector<model::HeaderView>* out) {
  while (ReadPlainHeader(&bytes, out)) {
  }
  ProtoReader map(bytes);
  for (ProtoField entry; map.Next(&entry);) {
    if (entry.number != 1) continue;
    model::HeaderView header;
    std::string_view value, raw;
    ProtoReader fields(entry.bytes);
    for (ProtoField field; fields.Next(&field);) {
      if (field.number == 1) header.name = field.bytes;
      if (field.number == 2) value = field.bytes;
      if (field.number == 3) raw = field.bytes;
    }
    if (!fields.ok()) return false;
    header.value = raw.empty() ? value : raw;
    out->push_back(header);
  }
  return map.ok();
}

bool ReadHttpHeaders(std::string_view bytes, Incoming* out) {
  ProtoReader fields(bytes);
  for (ProtoField field; fields.Next(&field);) {
    if (field.number == 1) {
      const char* const begin = out->head.empty() ? field.bytes.data() : out->head.data();
      out->head = {begin, field.bytes.data() + field.bytes.size()};
      if (!ReadHeaderMap(field.bytes, &out->headers)) return false;
    }
    if (field.number == 3) out->is_last = field.value != 0;
  }
  return fields.ok();
}

bool ReadHttpBody(std::string_view bytes, Incoming* out) {
  ProtoReader fields(bytes);
  for (ProtoField field; fields.Next(&field);) {
    if (field.number == 1) out->body = field.bytes;
    if (field.number == 2) out->is_last = field.value != 0;
  }
  return fields.ok();
}

bool ReadModes(std::string_view bytes, Incoming* out) {
  std::pair<uint32_t, uint32_t> modes{0, 0};
  ProtoReader fields(bytes);
  for (ProtoField field; fields.Next(&field);) {
    if (field.number == 1) modes.first = static_cast<uint32_t>(field.value);
    if (field.number == 2) modes.second = static_cast<uint32_t>(field.value);
  }
  out->body_modes = modes;
  return fields.ok();
}

bool ReadField(const ProtoField& field, Incoming* out) {
  switch (field.number) {
    case 2:
    case 3:
      out->kind = Incoming::Kind::kHeaders;
      out->side = field.number == 2 ? Side::kRequest : Side::kResponse;
      return ReadHttpHeaders(field.bytes, out);
    case 4:
    case 5:
      out->kind = Incoming::Kind::kBody;
      out->side = field.number == 4 ? Side::kRequest : Side::kResponse;
      return ReadHttpBody(field.bytes, out);
    case 6:
    case 7:
      out->kind = Incoming::Kind::kTrailers;
      out->side = field.number == 6 ? Side::kRequest : Side::kResponse;
      return true;
    case 8:
      return ReadMetadata(field.bytes, out);
    case 10:
      out->is_observed = field.value != 0;
      return true;
    case 11:
      return ReadModes(field.bytes, out);
    default:
      return true;
  }
}

// --- writing

size_t FieldSize(size_t bytes) { return 1 + wire::VarintSize(bytes) + bytes; }

void WriteSet(const Header& header, ProtoWriter& writer) {
  const size_t value = FieldSize(header.name.size()) + FieldSize(header.value.size());
  writer.BytesAhead(1, FieldSize(value) + 2);  // HeaderValueOption
  writer.BytesAhead(1, value);                 // HeaderValue
  writer.Bytes(1, header.name);
  writer.Bytes(3, header.value);
  writer.Varint(3, kOverwrite);
}

void WriteMutation(uint32_t number, const HeaderChanges& changes, ProtoWriter& writer) {
  const size_t mutation = writer.Begin(number);
  for (const Header& header : changes.set) WriteSet(header, writer);
  for (const std::string_view name : changes.remove) writer.Bytes(2, name);
  writer.End(mutation);
}

// An entry of a Struct, up to its Value, which the caller writes.
std::pair<size_t, size_t> BeginField(std::string_view key, ProtoWriter& writer) {
  const size_t entry = writer.Begin(1);
  writer.Bytes(1, key);
  return {entry, writer.Begin(2)};
}
void EndField(std::pair<size_t, size_t> marks, ProtoWriter& writer) {
  writer.End(marks.second);
  writer.End(marks.first);
}

void WriteRouting(const Routing& routing, ProtoWriter& writer) {
  const size_t metadata = writer.Begin(8);
  const auto space = BeginField(kRoutingNamespace, writer);
  const size_t fields = writer.Begin(5);  // struct_value
  const auto destination = BeginField(kDestinationHeader, writer);
  writer.Bytes(kStringValue, routing.destination);
  EndField(destination, writer);
  if (!routing.scores.empty()) {
    const auto scores = BeginField(kScoresKey, writer);
    const size_t by_address = writer.Begin(5);
    for (const auto& [address, score] : routing.scores) {
      const auto one = BeginField(address, writer);
      writer.Real(2, score);
      EndField(one, writer);
    }
    writer.End(by_address);
    EndField(scores, writer);
  }
  writer.End(fields);
  EndField(space, writer);
  writer.End(metadata);
}

}  // namespace

std::string_view BodySendModeName(uint32_t mode) {
  constexpr std::array<std::string_view, 6> kNames = {
      "NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED", "GRPC"};
  return mode < kNames.size() ? kNames[mode] : "unknown";
}

bool ReadIncoming(std::string_view message, Incoming* out) {
  std::vector<model::HeaderView> headers = std::move(out->headers);
  headers.clear();
  *out = {};
  out->headers = std::move(headers);
  ProtoReader fields(message);
  for (ProtoField field; fields.Next(&field);) {
    if (!ReadField(field, out)) return false;
  }
  return fields.ok();
}

void AppendHeaders(Side side, const HeaderChanges& changes, const Routing* routing,
                   std::string* out) {
  ProtoWriter writer(out);
  const size_t headers = writer.Begin(side == Side::kRequest ? 1 : 2);  // HeadersResponse
  const size_t common = writer.Begin(1);                                // CommonResponse
  WriteMutation(2, changes, writer);
  if (routing != nullptr) writer.Flag(5, true);  // clear_route_cache
  writer.End(common);
  writer.End(headers);
  if (routing != nullptr) WriteRouting(*routing, writer);
}

void AppendBodyAhead(Side side, size_t size, bool is_last, std::string* out) {
  // BodyResponse{CommonResponse{BodyMutation{StreamedBodyResponse}}}: the payload comes last, so
  // its lengths are reckoned from the inside.
  const size_t flag = is_last ? 2 : 0;
  const size_t streamed = flag + FieldSize(size);
  const size_t mutation = FieldSize(streamed);
  const size_t common = FieldSize(mutation);
  const size_t body = FieldSize(common);
  ProtoWriter writer(out);
  writer.BytesAhead(side == Side::kRequest ? 3 : 4, body);
  writer.BytesAhead(1, common);
  writer.BytesAhead(3, mutation);
  writer.BytesAhead(3, streamed);
  if (is_last) writer.Flag(2, true);
  writer.BytesAhead(1, size);
}

void AppendTrailers(Side side, std::string* out) {
  ProtoWriter(out).BytesAhead(side == Side::kRequest ? 5 : 6, 0);  // TrailersResponse, empty
}

void AppendImmediate(int status, std::span<const Header> headers, std::string_view body,
                     std::string* out) {
  ProtoWriter writer(out);
  const size_t immediate = writer.Begin(7);
  const size_t code = writer.Begin(1);  // HttpStatus
  writer.Varint(1, static_cast<uint64_t>(status));
  writer.End(code);
  if (!headers.empty()) {
    const size_t mutation = writer.Begin(2);
    for (const Header& header : headers) WriteSet(header, writer);
    writer.End(mutation);
  }
  writer.Bytes(3, body);
  writer.End(immediate);
}

}  // namespace penstock::extproc
