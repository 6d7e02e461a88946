#include "signals/models_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock::signals {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(ReadModels, ReadsBaseModelsAndAdapters) {
  const auto models = ReadModels(
      R"({"object":"list","data":[{"id":"qwen","object":"model","root":"/m","parent":null,
          "max_model_len":4096},{"id":"a-lora","parent":"qwen"}]})");
  ASSERT_TRUE(models);
  EXPECT_THAT(models->ids, ElementsAre("a-lora", "qwen"));
  EXPECT_THAT(models->adapters, ElementsAre("a-lora"));
  EXPECT_EQ(models->json,
            R"({"id":"qwen","object":"model","root":"/m","parent":null,"max_model_len":4096},)"
            R"({"id":"a-lora","parent":"qwen"})");
}

TEST(ReadModels, PassesOverWhatHasNoName) {
  const auto models = ReadModels(R"({"data":[1,null,{"id":5},{},{"id":""},{"id":"m"},{"id":"m"},
      {"id":")" + std::string(513, 'x') +
                                 R"("}]})");
  ASSERT_TRUE(models);
  EXPECT_THAT(models->ids, ElementsAre("m"));
}

TEST(ReadModels, AnEmptyListIsEmpty) {
  const auto models = ReadModels(R"({"data":[]})");
  ASSERT_TRUE(models);
  EXPECT_THAT(models->ids, IsEmpty());
  EXPECT_EQ(models->json, "");
}

TEST(ReadModels, SaysWhatIsWrong) {
  for (std::string_view body :
       {R"({"data": [{"id": )", "", "not json", "\xff", R"({"data":[{"id":"\xff"}]})"}) {
    EXPECT_THAT(ReadModels(body).error().message, HasSubstr("not valid JSON")) << body;
  }
  for (std::string_view body : {"{}", "[]", "5", R"({"data":{}})", R"({"data":null})"}) {
    EXPECT_THAT(ReadModels(body).error().message, HasSubstr("no list \"data\"")) << body;
  }
  std::string many = R"({"data":[)";
  for (size_t i = 0; i <= kMaxModels; ++i) many += R"({"id":"m)" + std::to_string(i) + "\"},";
  many += "{}]}";
  EXPECT_EQ(ReadModels(many).error().code, Code::kOutOfRange);
}

TEST(ReadModels, DeepNestingIsRefused) {
  const std::string deep(100'000, '[');
  EXPECT_FALSE(ReadModels("{\"data\":" + deep));
}

}  // namespace
}  // namespace penstock::signals
