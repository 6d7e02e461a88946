#include "kvcache/prompt_extras.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "core/file.h"
#include "kvcache/content_keys.h"
#include "kvcache/event_decoder.h"
#include "kvcache/holder.h"

namespace penstock::kvcache {
namespace {

using model::MediaSpan;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

uint64_t Names(std::initializer_list<std::string_view> names) {
  uint64_t folded = 0;
  for (const std::string_view name : names) folded = ContentKeys::FoldName(folded, name);
  return folded;
}

TEST(PromptExtras, NamesTheMediaOfEachBlock) {
  const std::vector<MediaSpan> media = {{3, 10, "a"}, {13, 3, "b"}, {40, 1, "c"}};
  EXPECT_THAT(PromptExtras(media, "", {8, 8}, 100),
              ElementsAre(Names({"a"}), Names({"a", "b"}), 0, 0, 0, Names({"c"})));
  EXPECT_THAT(PromptExtras(media, "", {8, 8}, 2), ElementsAre(Names({"a"}), Names({"a", "b"})));
  EXPECT_THAT(PromptExtras(media, "", {8, 8}, 0), IsEmpty());
  EXPECT_THAT(PromptExtras({}, "", {8, 8}, 9), IsEmpty());
}

TEST(PromptExtras, ALargerBlockOfTheEngineNamesAllInIt) {
  const std::vector<MediaSpan> media = {{3, 2, "a"}, {30, 3, "b"}};
  EXPECT_THAT(PromptExtras(media, "", {8, 16}, 100),
              ElementsAre(Names({"a"}), Names({"a"}), Names({"b"}), Names({"b"}), Names({"b"}),
                          Names({"b"})));
  EXPECT_THAT(PromptExtras({}, "s", {8, 16}, 100), ElementsAre(Names({"s"}), Names({"s"})));
  EXPECT_THAT(PromptExtras(media, "s", {8, 16}, 3),
              ElementsAre(Names({"a", "s"}), Names({"a", "s"}), Names({"b"})));
}

TEST(PromptExtras, SmallerOnesGiveTheirsTogether) {
  const std::vector<MediaSpan> media = {{3, 3, "a"}, {10, 2, "b"}};
  EXPECT_THAT(PromptExtras(media, "s", {16, 4}, 100),
              ElementsAre(ContentKeys::FoldExtras(
                  ContentKeys::FoldExtras(Names({"a", "s"}), Names({"a"})), Names({"b"}))));
}

// What vLLM was recorded to publish, tests/conformance/kv_media.json: a prompt that is made of the
// same things is found whole.
TEST(PromptExtras, MeetTheEventsOfVllm) {
  const auto cases = nlohmann::json::parse(*ReadFile("tests/conformance/kv_media.json", 1 << 22));
  ASSERT_GE(cases.size(), 50u);
  size_t compared = 0;
  for (const auto& one : cases) {
    const auto tokens = one.at("tokens").get<std::vector<uint32_t>>();
    const auto salt = one.at("salt").get<std::string>();
    const auto adapter = one.at("adapter").get<std::string>();
    std::vector<MediaSpan> media;
    for (const auto& span : one.at("media")) {
      media.push_back({span.at("offset"), span.at("length"), span.at("name")});
    }
    for (const char* form : {"event", "tagged event"}) {
      for (const uint32_t index_tokens : {8u, 16u, 64u}) {
        ChainIndex index({.block_tokens = index_tokens});
        const ContentKeys keys("a secret of sixteen bytes", index_tokens);
        const ChainIndex::Slot slot = *index.Join();
        Holder holder(index, keys, slot, {.model = "m"});
        EventDecoder decoder;
        const auto hex = one.at(form).get<std::string>();
        std::string bytes;
        for (size_t i = 0; i < hex.size(); i += 2) {
          bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
        }
        ASSERT_TRUE(decoder.Begin(bytes));
        for (KvEvent event; decoder.Next(&event);) {
          EXPECT_EQ(holder.Apply(event, Time()), Holder::Outcome::kApplied);
        }
        ASSERT_TRUE(decoder.ok()) << decoder.Complaint();
        const SaltPlace place = PlaceOfSalt(salt);
        const size_t blocks = tokens.size() / index_tokens;
        std::vector<uint64_t> prompt;
        keys.Append(tokens,
                    PromptExtras(media, place.folded, {index_tokens, one.at("block_size")}, blocks),
                    &prompt);
        ChainIndex::Reader reader(index);
        const auto found = [&] {
          std::vector<PrefixHold> holds(slot.index + 1u);
          reader.Match(keys.Namespace(adapter.empty() ? "m" : adapter, place.salt), prompt, holds);
          return holds[slot.index].blocks;
        };
        EXPECT_EQ(found(), blocks) << one.dump() << " " << form << " " << index_tokens;
        compared += blocks;
        // Another image is another prompt.
        if (media.empty() || media[0].offset >= blocks * index_tokens) continue;
        std::vector<MediaSpan> other = media;
        other[0].name = "another";
        prompt.clear();
        keys.Append(tokens,
                    PromptExtras(other, place.folded, {index_tokens, one.at("block_size")}, blocks),
                    &prompt);
        EXPECT_LE(found(), media[0].offset / index_tokens);
      }
    }
  }
  EXPECT_GT(compared, 1000u);
}

}  // namespace
}  // namespace penstock::kvcache
