#include "traffic/chat_plan.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <set>

namespace penstock::traffic {
namespace {

// Everything a chat says, when each turn adds its own length to the context.
std::vector<Turn> Play(ChatPlan& plan) {
  std::vector<Turn> turns;
  uint64_t context = 0;
  while (auto turn = plan.Next(context)) {
    context += turn->text.size() / 4 + turn->max_tokens;
    turns.push_back(std::move(*turn));
  }
  return turns;
}

ChatShape SmallShape() {
  ChatShape shape;
  shape.agents = 8;
  return shape;
}

TEST(ChatPlan, TheSameSeedSaysTheSame) {
  const ChatShape shape = SmallShape();
  const Agents agents(shape), again(shape);
  for (uint64_t index : {0, 1, 77}) {
    ChatPlan a(shape, agents, index), b(shape, again, index);
    EXPECT_EQ(a.system_message(), b.system_message());
    const std::vector<Turn> left = Play(a), right = Play(b);
    ASSERT_EQ(left.size(), right.size());
    for (size_t i = 0; i < left.size(); ++i) {
      EXPECT_EQ(left[i].text, right[i].text);
      EXPECT_EQ(left[i].think, right[i].think);
      EXPECT_EQ(left[i].max_tokens, right[i].max_tokens);
      EXPECT_EQ(left[i].is_streamed, right[i].is_streamed);
    }
  }
}

TEST(ChatPlan, OtherSeedsAndOtherChatsSaySomethingElse) {
  const ChatShape shape = SmallShape();
  ChatShape other = shape;
  other.seed = 2;
  const Agents agents(shape), other_agents(other);
  EXPECT_NE(agents.message(0), other_agents.message(0));
  std::set<std::string> first_texts;
  for (uint64_t index = 0; index < 50; ++index) {
    first_texts.insert(ChatPlan(shape, agents, index).Next(0)->text);
    first_texts.insert(ChatPlan(other, other_agents, index).Next(0)->text);
  }
  EXPECT_EQ(first_texts.size(), 100u);
}

TEST(ChatPlan, SystemPromptsDifferFromTheirFirstWordsOn) {
  const Agents agents(SmallShape());
  std::set<std::string_view> beginnings;
  for (uint32_t i = 0; i < agents.size(); ++i) beginnings.insert(agents.message(i).substr(0, 64));
  EXPECT_EQ(beginnings.size(), agents.size());
}

TEST(ChatPlan, ChatsShareTheirAgentsPromptAndPopularAgentsGetMore) {
  ChatShape shape = SmallShape();
  shape.agent_skew = 1;
  const Agents agents(shape);
  std::vector<int> chats(agents.size());
  double shared_bytes = 0, all_bytes = 0;
  for (uint64_t index = 0; index < 2000; ++index) {
    ChatPlan plan(shape, agents, index);
    ++chats[plan.agent()];
    EXPECT_EQ(plan.system_message(), agents.message(plan.agent()));
    shared_bytes += static_cast<double>(plan.system_message().size());
    all_bytes += static_cast<double>(plan.system_message().size() + plan.Next(0)->text.size());
  }
  // Of 1 + 1/2 + ... + 1/8 = 2.72 shares the first has one, the last an eighth.
  EXPECT_NEAR(chats[0] / 2000.0, 1 / 2.718, 0.05);
  EXPECT_NEAR(chats[7] / 2000.0, 0.125 / 2.718, 0.02);
  EXPECT_GT(shared_bytes / all_bytes, 0.8);
}

TEST(ChatPlan, SizesStayWithinTheirBounds) {
  ChatShape shape = SmallShape();
  shape.max_turns = 10;
  shape.max_context_tokens = 2000;
  const Agents agents(shape);
  for (uint32_t i = 0; i < agents.size(); ++i) {
    const double tokens = static_cast<double>(agents.message(i).size()) / 5;
    EXPECT_GT(tokens, shape.system_tokens.least * 0.7);
    EXPECT_LT(tokens, shape.system_tokens.most * 1.2);
  }
  bool saw_whole = false;
  for (uint64_t index = 0; index < 500; ++index) {
    ChatPlan plan(shape, agents, index);
    uint64_t context = 0;
    uint32_t turns = 0;
    while (auto turn = plan.Next(context)) {
      EXPECT_LE(++turns, shape.max_turns);
      EXPECT_EQ(turn->think == Duration(0), turns == 1);
      EXPECT_LE(turn->think, FromSeconds(shape.think_s.most));
      EXPECT_GE(turn->max_tokens, shape.answer_tokens.least);
      EXPECT_LE(turn->max_tokens, shape.answer_tokens.most);
      EXPECT_LE(turn->text.size(), shape.user_tokens.most * 7);
      saw_whole |= !turn->is_streamed;
      context += turn->text.size() / 5 + turn->max_tokens;
    }
    EXPECT_GE(turns, 1u);
    // Only a first turn, which is never held back, may go beyond.
    if (turns > 1) {
      EXPECT_LE(context, shape.max_context_tokens * 1.1);
    }
  }
  EXPECT_TRUE(saw_whole);
}

TEST(ChatPlan, ItsMeanNumberOfTurnsIsAsAskedFor) {
  ChatShape shape = SmallShape();
  shape.mean_turns = 4;
  shape.max_turns = 1000;
  shape.max_context_tokens = 1'000'000;
  const Agents agents(shape);
  double turns = 0;
  for (uint64_t index = 0; index < 2000; ++index) {
    ChatPlan plan(shape, agents, index);
    while (plan.Next(0)) ++turns;
  }
  EXPECT_NEAR(turns / 2000, 4, 0.3);
}

TEST(ChatPlan, SystemMessagesAreJson) {
  const Agents agents(SmallShape());
  boost::json::error_code bad;
  const boost::json::value value = boost::json::parse(agents.message(3), bad);
  ASSERT_FALSE(bad);
  EXPECT_EQ(value.at("role").as_string(), "system");
}

TEST(ChatPlan, ShapesThatCannotBeAreRefusedByName) {
  const auto complaint = [](auto change) {
    ChatShape shape;
    change(shape);
    const Result<> ok = Check(shape);
    return ok ? std::string() : ok.error().message;
  };
  EXPECT_EQ(complaint([](ChatShape&) {}), "");
  EXPECT_NE(complaint([](ChatShape& s) { s.agents = 0; }).find("agents"), std::string::npos);
  EXPECT_NE(complaint([](ChatShape& s) { s.max_turns = 0; }).find("turns"), std::string::npos);
  EXPECT_NE(complaint([](ChatShape& s) { s.user_tokens.median = 0; }).find("user tokens"),
            std::string::npos);
  EXPECT_NE(complaint([](ChatShape& s) { s.answer_tokens.least = 0; }).find("answer tokens"),
            std::string::npos);
  EXPECT_NE(complaint([](ChatShape& s) { s.think_s.most = 1e9; }).find("think time"),
            std::string::npos);
}

}  // namespace
}  // namespace penstock::traffic
