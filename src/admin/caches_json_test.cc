#include "admin/caches_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <numeric>

#include "admin/caches_testing.h"

namespace penstock::admin {
namespace {

namespace json = boost::json;
using events::SourceView;
using kvcache::PublisherReason;
using kvcache::PublisherState;
using ::testing::HasSubstr;

class CachesJson : public ::testing::Test {
 protected:
  HeardCaches heard() {
    return {&knows, &ingest,
            [this] { return std::make_shared<const std::vector<UnheardEndpoint>>(unheard); }};
  }
  json::value All(std::string_view endpoint = "", size_t limit = 10) {
    std::string text;
    wire::JsonWriter writer(&text);
    WriteCaches(heard(), endpoint, limit, &writer);
    return json::parse(text);
  }
  Result<json::value> Match(std::string_view body) {
    std::string text;
    wire::JsonWriter writer(&text);
    if (Result<> ok = WriteMatch(heard(), body, &writer); !ok) return std::unexpected(ok.error());
    return json::parse(text);
  }

  ToldIngest ingest;
  ToldCaches knows;
  std::vector<UnheardEndpoint> unheard;
};

TEST_F(CachesJson, TellOfEveryPublisher) {
  ingest.Add("a", PublisherState::kExact);
  ingest.Add("b", PublisherState::kDegraded, PublisherReason::kGap);
  ingest.views[0].last_sequence = 41;
  ingest.views[0].lag_s = -0.25;
  ingest.views[0].tier_blocks[1] = 5;
  ingest.views[1].faults[1] = 3;
  ingest.views[1].counters.ambiguous = 2;
  knows.drifts = {{.slot = 1, .answers = 12, .error = 0.5, .differs = true, .likely_cause = "x"}};
  const json::value all = All();
  EXPECT_EQ(all.at("settings").at("port").to_number<int>(), 5557);
  EXPECT_EQ(all.at("index").at("block_tokens").to_number<int>(), 16);
  EXPECT_EQ(all.at("unknown_topics").to_number<int>(), 7);
  EXPECT_EQ(all.at("states").at("EXACT").to_number<int>(), 1);
  const json::value& a = all.at("publishers").at(0);
  EXPECT_EQ(a.at("last_sequence").to_number<int>(), 41);
  EXPECT_EQ(a.at("lag_s").to_number<double>(), -0.25);
  EXPECT_EQ(a.at("blocks").at("cpu").to_number<int>(), 5);
  EXPECT_TRUE(a.at("last_batch_age_s").is_null());
  const json::value& b = all.at("publishers").at(1);
  EXPECT_EQ(b.at("state").as_string(), "DEGRADED");
  EXPECT_EQ(b.at("reason").as_string(), "gap");
  EXPECT_THAT(std::string(b.at("why").as_string()), HasSubstr("lost on the way"));
  EXPECT_TRUE(b.at("last_sequence").is_null());
  EXPECT_TRUE(b.at("lag_s").is_null());
  EXPECT_TRUE(a.at("drift").is_null());
  EXPECT_EQ(b.at("drift").at("answers").to_number<int>(), 12);
  EXPECT_EQ(b.at("drift").at("likely_cause").as_string(), "x");
  EXPECT_EQ(json::serialize(b.at("faults")), R"({"malformed":3})");
  EXPECT_EQ(json::serialize(b.at("holder")), R"({"ambiguous":2})");
}

TEST_F(CachesJson, AreBounded) {
  for (int i = 0; i < 5; ++i) ingest.Add("e" + std::to_string(i), PublisherState::kExact);
  for (int i = 0; i < 105; ++i) unheard.push_back({"u" + std::to_string(i), "why"});
  json::value some = All("", 3);
  EXPECT_EQ(some.at("publishers").as_array().size(), 3u);
  EXPECT_EQ(some.at("left_out").to_number<int>(), 2);
  EXPECT_EQ(some.at("unheard").as_array().size(), 100u);
  EXPECT_EQ(some.at("unheard_left_out").to_number<int>(), 5);
  some = All("e4", 3);
  ASSERT_EQ(some.at("publishers").as_array().size(), 1u);
  EXPECT_EQ(some.at("publishers").at(0).at("endpoint").as_string(), "e4");
  EXPECT_EQ(some.at("left_out").to_number<int>(), 0);
  EXPECT_TRUE(some.at("unheard").as_array().empty());
  EXPECT_EQ(All("u3").at("unheard").as_array().size(), 1u);
}

TEST_F(CachesJson, EveryReasonHasWords) {
  for (size_t i = 1; i < kvcache::kPublisherReasons; ++i) {
    SourceView view;
    view.state = PublisherState::kDegraded;
    view.reason = static_cast<PublisherReason>(i);
    EXPECT_GT(ExplainPublisher(view).size(), 20u) << i;
  }
  for (size_t i = 0; i < kvcache::kPublisherStates; ++i) {
    SourceView view;
    view.state = static_cast<PublisherState>(i);
    view.reason = PublisherReason::kSilent;
    EXPECT_NE(ExplainPublisher(view), "") << i;
  }
}

TEST_F(CachesJson, TheLivePageGetsNullWithoutAListener) {
  std::string text;
  wire::JsonWriter writer(&text);
  WriteLiveCaches({}, 10, &writer);
  EXPECT_EQ(text, "null");
}

TEST_F(CachesJson, TheLivePageGetsTheFirstPublishers) {
  for (int i = 0; i < 3; ++i) ingest.Add("e" + std::to_string(i), PublisherState::kSyncing);
  std::string text;
  wire::JsonWriter writer(&text);
  WriteLiveCaches(heard(), 2, &writer);
  const json::value live = json::parse(text);
  EXPECT_EQ(live.at("publishers_total").to_number<int>(), 3);
  EXPECT_EQ(live.at("publishers").as_array().size(), 2u);
}

TEST_F(CachesJson, AMatchTellsWhoHoldsAPrompt) {
  kvcache::ExactCaches& caches = knows.caches();
  ingest.Add("a", PublisherState::kExact);
  ingest.Add("b", PublisherState::kExact);
  std::vector<uint32_t> tokens(40);
  std::iota(tokens.begin(), tokens.end(), 1);
  std::vector<uint64_t> keys;
  caches.keys().Append(tokens, {}, &keys);
  const auto slot = caches.index().Join();
  ASSERT_TRUE(slot);
  kvcache::ChainIndex::Node* node = caches.index().Store(
      {.slot = slot->index, .name_space = caches.keys().Namespace("sql", "s"), .keys = keys});
  auto table = std::make_shared<kvcache::SlotTable>();
  table->entries.resize(2);
  table->entries[1] = {true, *slot, nullptr};
  caches.SetTable(table);
  const std::string ids = json::serialize(json::value_from(tokens));
  const auto found = Match(R"({"token_ids": )" + ids + R"(, "model": "sql", "salt": "s"})");
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->at("blocks").to_number<int>(), 2);
  EXPECT_EQ(found->at("holding_nothing").to_number<int>(), 1);
  ASSERT_EQ(found->at("endpoints").as_array().size(), 1u);
  EXPECT_EQ(found->at("endpoints").at(0).at("endpoint").as_string(), "b");
  EXPECT_EQ(found->at("endpoints").at(0).at("blocks").to_number<int>(), 2);
  EXPECT_TRUE(Match(R"({"token_ids": )" + ids + "}")->at("endpoints").as_array().empty())
      << "another salt";
  caches.index().Unpin(node);
}

TEST_F(CachesJson, AMatchOfNoPromptIsRefused) {
  const std::pair<std::string_view, std::string_view> table[] = {
      {"", "no JSON object"},
      {"[1]", "no JSON object"},
      {"{}", "token_ids is missing"},
      {R"({"token_ids": [1, -1]})", "no token's number"},
      {R"({"token_ids": [1.5]})", "no token's number"},
      {R"({"token_ids": ["1"]})", "no token's number"},
      {R"({"token_ids": [4294967296]})", "no token's number"},
      {R"({"token_ids": [], "modle": ""})", "'modle' is unknown"},
      {R"({"token_ids": [], "salt": 1})", "'salt' is unknown or of the wrong kind"},
      {R"({"token_ids": 1})", "'token_ids' is unknown or of the wrong kind"},
  };
  for (const auto& [body, expected] : table) {
    const auto found = Match(body);
    ASSERT_FALSE(found) << body;
    EXPECT_THAT(found.error().message, HasSubstr(std::string(expected))) << body;
  }
}

}  // namespace
}  // namespace penstock::admin
