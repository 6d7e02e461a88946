// The compatibility matrix of KV events: every encoding that engines have had, and what is wrong
// with them.
#include "kvcache/event_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace penstock::kvcache {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A list whatever is in it: two texts in braces alone would be a pair of an object.
json List(std::initializer_list<json> elements) {
  json list = json::array();
  for (const json& element : elements) list.push_back(element);
  return list;
}

std::string Packed(const json& value) {
  const std::vector<uint8_t> bytes = json::to_msgpack(value);
  return {bytes.begin(), bytes.end()};
}

std::string Batch(const json& events) { return Packed(json::array({1.5, events, nullptr})); }

json Binary(std::string_view bytes) { return json::binary({bytes.begin(), bytes.end()}); }

// What its spans pointed to.
struct Seen {
  KvEvent event;
  std::vector<uint64_t> hashes, extras;
  std::vector<uint32_t> tokens;
  std::string adapter, salt;
};

struct Decoded {
  std::vector<Seen> events;
  std::string complaint;
  std::map<std::string, uint64_t> faults;
};

Decoded Decode(const std::string& payload) {
  EventDecoder decoder;
  Decoded out;
  decoder.Begin(payload);
  for (KvEvent event; decoder.Next(&event);) {
    out.events.push_back({event,
                          {event.hashes.begin(), event.hashes.end()},
                          {event.extras.begin(), event.extras.end()},
                          {event.tokens.begin(), event.tokens.end()},
                          std::string(event.adapter),
                          std::string(event.salt)});
  }
  if (!decoder.ok()) out.complaint = decoder.Complaint();
  for (size_t i = 0; i < kEventFaults; ++i) {
    const auto fault = static_cast<EventFault>(i);
    if (decoder.faults(fault) > 0)
      out.faults[std::string(EventFaultName(fault))] = decoder.faults(fault);
  }
  return out;
}

// One stored event of two blocks of two tokens.
json StoredMap(json more = json::object()) {
  json event = {{"type", "BlockStored"},     {"block_hashes", {11, 12}}, {"parent_block_hash", 10},
                {"token_ids", {1, 2, 3, 4}}, {"block_size", 2},          {"lora_id", nullptr},
                {"medium", "GPU"},           {"lora_name", nullptr}};
  event.update(more);
  return event;
}

Seen One(const json& event) {
  const Decoded decoded = Decode(Batch(json::array({event})));
  EXPECT_EQ(decoded.complaint, "");
  EXPECT_THAT(decoded.faults, IsEmpty()) << event;
  EXPECT_EQ(decoded.events.size(), 1u) << event;
  return decoded.events.empty() ? Seen() : decoded.events.front();
}

std::string FaultOf(const json& event) {
  // Between two that are well: neither suffers.
  const Decoded decoded = Decode(Batch({StoredMap(), event, {"AllBlocksCleared"}}));
  EXPECT_EQ(decoded.complaint, "");
  EXPECT_EQ(decoded.events.size(), 2u) << event;
  EXPECT_EQ(decoded.faults.size(), 1u) << event;
  return decoded.faults.empty() ? "" : decoded.faults.begin()->first;
}

// --- encodings

struct Encoding {
  const char* name;
  json stored;
};

// The same two blocks, as each version says it.
std::vector<Encoding> Encodings() {
  const json tokens = {1, 2, 3, 4};
  const std::string digest_10 = std::string(24, 'x') + std::string(7, '\0') + '\x0a';
  const std::string digest_11 = std::string(24, 'y') + std::string(7, '\0') + '\x0b';
  const std::string digest_12 = std::string(24, 'z') + std::string(7, '\0') + '\x0c';
  return {
      {"vLLM 0.9", {"BlockStored", {11, 12}, 10, tokens, 2, nullptr}},
      {"with medium", {"BlockStored", {11, 12}, 10, tokens, 2, nullptr, "GPU"}},
      {"with lora_name", {"BlockStored", {11, 12}, 10, tokens, 2, nullptr, "GPU", nullptr}},
      {"with extra_keys",
       {"BlockStored", {11, 12}, 10, tokens, 2, nullptr, "GPU", nullptr, {nullptr, nullptr}}},
      {"with group and kind",
       {"BlockStored",
        {11, 12},
        10,
        tokens,
        2,
        nullptr,
        "GPU",
        nullptr,
        nullptr,
        0,
        "full_attention",
        nullptr}},
      {"digests of 32 bytes",
       {"BlockStored",
        {Binary(digest_11), Binary(digest_12)},
        Binary(digest_10),
        tokens,
        2,
        nullptr,
        "GPU"}},
      {"digests of 8 bytes",
       {"BlockStored",
        {Binary(digest_11.substr(24)), Binary(digest_12.substr(24))},
        Binary(digest_10.substr(24)),
        tokens,
        2,
        nullptr}},
      {"pairs of tokens",
       {"BlockStored", {11, 12}, 10, {{1, 2}, {2, 3}, {3, 4}, {4, 5}}, 2, nullptr}},
      {"SGLang's metadata in place of lora_name",
       {"BlockStored", {11, 12}, 10, tokens, 2, nullptr, "GPU", {{"session_id", "s"}}}},
      {"a tail that nobody knows yet",
       {"BlockStored",
        {11, 12},
        10,
        tokens,
        2,
        nullptr,
        "GPU",
        nullptr,
        nullptr,
        nullptr,
        nullptr,
        nullptr,
        {{"new", {1, 2}}},
        7}},
      {"a map", StoredMap()},
      {"a map without what has defaults",
       {{"type", "BlockStored"},
        {"block_hashes", {11, 12}},
        {"parent_block_hash", 10},
        {"token_ids", tokens},
        {"block_size", 2}}},
      {"a map with keys of later versions", StoredMap({{"locality", "LOCAL"},
                                                       {"ownership", "me"},
                                                       {"session_id", "s"},
                                                       {"zz_new", {{"a", 1}}}})},
      {"an array in bytes",
       Binary(Packed({"BlockStored", {11, 12}, 10, tokens, 2, nullptr, "GPU"}))},
      {"a map in bytes", Binary(Packed(StoredMap()))},
  };
}

TEST(EventDecoder, TakesEveryEncoding) {
  json all = json::array();
  for (const Encoding& encoding : Encodings()) {
    const Seen seen = One(encoding.stored);
    SCOPED_TRACE(encoding.name);
    EXPECT_EQ(seen.event.type, KvEvent::Type::kStored);
    EXPECT_THAT(seen.hashes, ElementsAre(11, 12));
    EXPECT_EQ(seen.event.parent, 10u);
    EXPECT_THAT(seen.tokens, ElementsAre(1, 2, 3, 4));
    EXPECT_EQ(seen.event.block_size, 2u);
    EXPECT_EQ(seen.event.tier, Tier::kGpu);
    EXPECT_EQ(seen.adapter, "");
    EXPECT_FALSE(seen.event.remote);
    all.push_back(encoding.stored);
  }
  const Decoded mixed = Decode(Batch(all));
  EXPECT_EQ(mixed.events.size(), all.size());
  EXPECT_THAT(mixed.faults, IsEmpty());
}

TEST(EventDecoder, ReadsRemovalsAndClearing) {
  for (const json& removed :
       {json{"BlockRemoved", {11, 12}}, json{"BlockRemoved", {11, 12}, nullptr},
        json{"BlockRemoved", {11, 12}, "GPU", 0, "full_attention", nullptr},
        json{{"type", "BlockRemoved"}, {"block_hashes", {11, 12}}, {"medium", "gpu"}}}) {
    const Seen seen = One(removed);
    EXPECT_EQ(seen.event.type, KvEvent::Type::kRemoved);
    EXPECT_THAT(seen.hashes, ElementsAre(11, 12));
    EXPECT_EQ(seen.event.tier, Tier::kGpu);
  }
  EXPECT_EQ(One({"AllBlocksCleared"}).event.type, KvEvent::Type::kCleared);
  EXPECT_EQ(One({{"type", "AllBlocksCleared"}}).event.type, KvEvent::Type::kCleared);
}

TEST(EventDecoder, ReadsBatchesOfAnyLength) {
  const json events = json::array({StoredMap()});
  struct {
    json batch;
    std::optional<uint64_t> rank;
  } const cases[] = {
      {{1.5, events}, {}},          {{1.5, events, nullptr}, {}}, {{1.5, events, 3}, 3},
      {{1.5, events, 3, "new"}, 3}, {{1, events, 0}, 0},          {{1.5, events, "odd"}, {}},
  };
  for (const auto& [batch, rank] : cases) {
    const std::string bytes = Packed(batch);
    EventDecoder decoder;
    ASSERT_TRUE(decoder.Begin(bytes)) << decoder.Complaint();
    EXPECT_EQ(decoder.timestamp(), batch[0].get<double>());
    EXPECT_EQ(decoder.FindRank(), rank) << batch;
    KvEvent event;
    EXPECT_TRUE(decoder.Next(&event));
    EXPECT_FALSE(decoder.Next(&event));
    EXPECT_TRUE(decoder.ok());
  }
}

TEST(EventDecoder, KnowsHashesByTheirBits) {
  EXPECT_THAT(One(StoredMap({{"block_hashes", {-1, 18446744073709551615ULL}}})).hashes,
              ElementsAre(~0ULL, ~0ULL));
  EXPECT_THAT(One(StoredMap({{"block_hashes", {-2, Binary("\x01\x02")}}})).hashes,
              ElementsAre(~0ULL - 1, 0x0102));
}

TEST(EventDecoder, ARootHasNoParent) {
  EXPECT_EQ(One(StoredMap({{"parent_block_hash", nullptr}})).event.parent, std::nullopt);
  EXPECT_EQ(One(StoredMap({{"parent_block_hash", 0}})).event.parent, std::nullopt);
}

TEST(EventDecoder, KnowsPlacesByTheirNames) {
  const std::pair<const char*, Tier> cases[] = {
      {"GPU", Tier::kGpu},
      {"", Tier::kGpu},
      {"CPU", Tier::kCpu},
      {"CPU_PINNED", Tier::kCpu},
      {"DISK", Tier::kDisk},
      {"STORAGE", Tier::kStorage},
      {"EXTERNAL", Tier::kStorage},
      {"SHARED_STORAGE", Tier::kStorage},
      {"OBJECT_STORE", Tier::kStorage},
  };
  for (const auto& [medium, tier] : cases) {
    EXPECT_EQ(One(StoredMap({{"medium", medium}})).event.tier, tier) << medium;
    EXPECT_EQ(One({"BlockRemoved", {1}, medium}).event.tier, tier) << medium;
  }
  const Decoded unknown = Decode(Batch(json::array({StoredMap({{"medium", "TAPE"}})})));
  ASSERT_EQ(unknown.events.size(), 1u) << "nothing is lost for a name";
  EXPECT_EQ(unknown.events[0].event.tier, Tier::kStorage);
  EXPECT_EQ(unknown.faults.at("unknown_medium"), 1u);
}

TEST(EventDecoder, StoresWithoutTokensAreKept) {
  // Offload: only the place is new. llm-d's file system back end has a block size of 0.
  const Seen seen =
      One(StoredMap({{"token_ids", json::array()}, {"medium", "CPU"}, {"block_size", 0}}));
  EXPECT_THAT(seen.tokens, IsEmpty());
  EXPECT_THAT(seen.hashes, ElementsAre(11, 12));
  EXPECT_EQ(seen.event.tier, Tier::kCpu);
}

TEST(EventDecoder, KnowsGroupsAndTheirKinds) {
  const std::pair<const char*, CacheKind> cases[] = {
      {"full_attention", CacheKind::kFull},
      {"mla_attention", CacheKind::kFull},
      {"sink_full_attention", CacheKind::kFull},
      {"sliding_window", CacheKind::kWindow},
      {"sliding_window_mla", CacheKind::kWindow},
      {"chunked_local_attention", CacheKind::kWindow},
      {"mamba", CacheKind::kCheckpoint},
      {"cross_attention", CacheKind::kOther},
      {"", CacheKind::kUnknown},
  };
  for (const auto& [kind, want] : cases) {
    const Seen seen = One(StoredMap(
        {{"group_idx", 3}, {"kv_cache_spec_kind", kind}, {"kv_cache_spec_sliding_window", 128}}));
    EXPECT_EQ(seen.event.kind, want) << kind;
    EXPECT_TRUE(seen.event.has_group);
    EXPECT_EQ(seen.event.group, 3);
    EXPECT_EQ(seen.event.window_tokens, 128u);
  }
  EXPECT_FALSE(One(StoredMap()).event.has_group);
}

TEST(EventDecoder, WhatIsElsewhereIsNotTheEngines) {
  EXPECT_FALSE(One(StoredMap({{"locality", "LOCAL"}})).event.remote);
  EXPECT_TRUE(One(StoredMap({{"locality", "REMOTE"}})).event.remote);
  EXPECT_TRUE(One(StoredMap({{"locality", "MOON"}})).event.remote);
}

TEST(EventDecoder, NamesAdapters) {
  EXPECT_EQ(One(StoredMap({{"lora_id", 4}, {"lora_name", "sql"}})).adapter, "sql");
  // A number alone names nothing that a request could ask for, and is not the base model.
  EXPECT_EQ(One({"BlockStored", {11, 12}, 10, {1, 2, 3, 4}, 2, 4}).adapter, "#");
  EXPECT_EQ(One(StoredMap({{"lora_id", 0}})).adapter, "");
}

// --- extra keys

const std::string kImage(64, 'a');
const std::string kOther(64, 'b');

std::vector<uint64_t> ExtrasOf(const json& keys, json more = json::object()) {
  more["extra_keys"] = keys;
  return One(StoredMap(more)).extras;
}

TEST(EventDecoder, FoldsImagesByAnyOfTheirForms) {
  const uint64_t image = ExtrasOf(List({List({kImage}), nullptr})).at(0);
  EXPECT_NE(image, 0u);
  EXPECT_THAT(ExtrasOf(List({List({List({kImage, 0})}), nullptr})), ElementsAre(image, 0));
  EXPECT_THAT(ExtrasOf(List({List({List({kImage, -7})}), nullptr})), ElementsAre(image, 0));
  EXPECT_THAT(ExtrasOf(List({nullptr, List({kImage})})), ElementsAre(0, image));
  EXPECT_NE(ExtrasOf(List({List({kOther}), nullptr})).at(0), image);
  EXPECT_NE(ExtrasOf(List({List({kImage, kOther}), nullptr})).at(0),
            ExtrasOf(List({List({kOther, kImage}), nullptr})).at(0));
  EXPECT_NE(ExtrasOf(List({List({Binary("0123456789abcdef0123456789abcdef")}), nullptr})).at(0),
            0u);
  EXPECT_THAT(ExtrasOf(List({nullptr})), ElementsAre(0, 0)) << "fewer than blocks";
  const json infos =
      List({json{{"mm_objects", List({json{{"mm_hash", 5}, {"offsets", List({List({0, 4})})}}})}},
            nullptr});
  const uint64_t folded = One(StoredMap({{"block_mm_infos", infos}})).extras.at(0);
  EXPECT_NE(folded, 0u);
  const json keys = List({nullptr, List({kImage})});
  EXPECT_THAT(One(StoredMap({{"block_mm_infos", infos}, {"extra_keys", keys}})).extras,
              ElementsAre(folded, image));
}

TEST(EventDecoder, AnAdaptersNameIsNoImage) {
  EXPECT_THAT(ExtrasOf(List({List({"sql"}), List({"sql"})}), {{"lora_name", "sql"}}),
              ElementsAre(0, 0));
  const uint64_t image = ExtrasOf(List({List({kImage}), nullptr})).at(0);
  EXPECT_THAT(ExtrasOf(List({List({"sql", kImage}), List({"sql"})}), {{"lora_name", "sql"}}),
              ElementsAre(image, 0));
  const Seen seen =
      One(StoredMap({{"lora_name", "sql"},
                     {"parent_block_hash", nullptr},
                     {"extra_keys", List({List({"sql", "secret"}), List({"sql"})})}}));
  EXPECT_EQ(seen.salt, "secret");
}

TEST(EventDecoder, TakesKeysThatSayWhatTheyAre) {
  const uint64_t image = ExtrasOf(List({List({kImage}), nullptr})).at(0);
  EXPECT_THAT(ExtrasOf(List({List({List({"mm", kImage, -7})}), nullptr})), ElementsAre(image, 0));
  const auto bytes = Binary("0123456789abcdef0123456789abcdef");
  EXPECT_EQ(ExtrasOf(List({List({List({"prompt_embeds", bytes})}), nullptr})),
            ExtrasOf(List({List({bytes}), nullptr})));
  const json lora = List({"lora", "sql", "/adapters/sql"});
  EXPECT_THAT(
      ExtrasOf(List({List({lora, List({"mm", kImage, 0})}), List({lora})}), {{"lora_name", "sql"}}),
      ElementsAre(image, 0));
  const auto salted = [](const std::string& salt) {
    return One(StoredMap({{"parent_block_hash", nullptr},
                          {"extra_keys", List({List({List({"cache_salt", salt})}), nullptr})}}));
  };
  EXPECT_EQ(salted("tenant").salt, "tenant");
  EXPECT_EQ(salted(kImage).salt, "") << "as where it is not said";
  EXPECT_THAT(salted(kImage).extras, ElementsAre(image, 0));
}

TEST(EventDecoder, FindsTheSalt) {
  const json root = {{"parent_block_hash", nullptr}};
  const auto salt_of = [&](json more) {
    more.update(root);
    const Seen seen = One(StoredMap(more));
    return std::string(seen.salt);
  };
  EXPECT_EQ(salt_of({{"extra_keys", List({List({"tenant"}), nullptr})}}), "tenant");
  EXPECT_EQ(salt_of({{"extra_keys", List({List({"dynamo-cache-salt:tenant"}), nullptr})}}),
            "tenant");
  EXPECT_EQ(salt_of({{"cache_salt", "tenant"}}), "tenant");
  EXPECT_EQ(salt_of({{"cache_salt", nullptr}}), "");
  EXPECT_EQ(
      One({"BlockStored", {11, 12}, 10, {1, 2, 3, 4}, 2, nullptr, "GPU", {{"cache_salt", "t"}}})
          .salt,
      "t");
  // Only the first block of all has one.
  EXPECT_EQ(One(StoredMap({{"extra_keys", List({List({"odd"}), nullptr})}})).salt, "");
}

// --- what is wrong

TEST(EventDecoder, LeavesOutWhatItDoesNotUnderstandAndNothingElse) {
  const json long_hashes = std::vector<int>(EventDecoder::kMaxBlocks + 1, 1);
  const std::pair<json, const char*> cases[] = {
      {{"BlockMoved", {1}}, "unknown_type"},
      {{{"type", "BlockMoved"}}, "unknown_type"},
      {json::object(), "unknown_type"},
      {json::array(), "malformed"},
      {7, "malformed"},
      {nullptr, "malformed"},
      {Binary("\xc1"), "malformed"},
      {Binary(Packed(Binary("x"))), "malformed"},
      {{"BlockStored"}, "malformed"},
      {{"BlockStored", json::array(), nullptr, json::array(), 2, nullptr}, "malformed"},
      {{"BlockStored", 11, nullptr, {1, 2}, 2, nullptr}, "malformed"},
      {{"BlockStored", {"a"}, nullptr, {1, 2}, 2, nullptr}, "malformed"},
      {{"BlockStored", {Binary("")}, nullptr, {1, 2}, 2, nullptr}, "malformed"},
      {{"BlockStored", {1}, 1.5, {1, 2}, 2, nullptr}, "malformed"},
      {{"BlockStored", {1}, nullptr, {1, -2}, 2, nullptr}, "malformed"},
      {{"BlockStored", {1}, nullptr, {1, "x"}, 2, nullptr}, "malformed"},
      {{"BlockStored", {1}, nullptr, {{1, 2, 3}, {1, 2, 3}}, 2, nullptr}, "malformed"},
      {{"BlockStored", {1, 2}, nullptr, {1, 2, 3}, 2, nullptr}, "not_dense"},
      {{"BlockStored", {1}, nullptr, {1, 2}, 0, nullptr}, "not_dense"},
      {{"BlockStored", {1}, nullptr, {1, 2}, nullptr, nullptr}, "not_dense"},
      {{"BlockStored", {1}, nullptr, {1, 2}, -1, nullptr}, "not_dense"},
      {StoredMap({{"group_idx", 70'000}}), "malformed"},
      {StoredMap({{"extra_keys", List({nullptr, nullptr, nullptr})}}), "malformed"},
      {StoredMap({{"extra_keys", List({List({json::array()})})}}), "malformed"},
      {{"BlockRemoved", long_hashes}, "too_large"},
      {{{"type", "BlockRemoved"}}, "malformed"},
  };
  for (const auto& [event, fault] : cases)
    EXPECT_EQ(FaultOf(event), fault) << event.dump().substr(0, 200);
}

TEST(EventDecoder, SaysWhereABatchBreaksOff) {
  EXPECT_THAT(Decode("").complaint, HasSubstr("at byte 0"));
  EXPECT_THAT(Decode(Packed({{"ts", 1}})).complaint, HasSubstr("no array"));
  EXPECT_THAT(Decode(Packed({1.5})).complaint, HasSubstr("without events"));
  EXPECT_THAT(Decode(Packed({"now", json::array()})).complaint, HasSubstr("no number"));
  EXPECT_THAT(Decode(Packed({1.5, "none"})).complaint, HasSubstr("no array"));
  const std::string whole = Batch({StoredMap(), StoredMap()});
  for (size_t size = 0; size < whole.size() - 1; ++size) {
    const Decoded cut = Decode(whole.substr(0, size));
    EXPECT_THAT(cut.complaint, HasSubstr(", at byte ")) << size;
    EXPECT_LE(cut.events.size(), 2u);
  }
  EXPECT_THAT(Decode(std::string(EventDecoder::kMaxBatchBytes + 1, '\x90')).complaint,
              HasSubstr("above 67108864"));
}

TEST(EventDecoder, ADecoderGoesOnAfterABrokenBatch) {
  EventDecoder decoder;
  KvEvent event;
  EXPECT_FALSE(decoder.Begin("\xc1"));
  EXPECT_FALSE(decoder.Next(&event));
  const std::string good = Batch(json::array({StoredMap()}));
  EXPECT_TRUE(decoder.Begin(good));
  EXPECT_TRUE(decoder.Next(&event));
  EXPECT_TRUE(decoder.ok());
}

}  // namespace
}  // namespace penstock::kvcache
