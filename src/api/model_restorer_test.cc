#include "api/model_restorer.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

namespace penstock::api {
namespace {

std::string Restored(std::string_view served, std::string_view named, std::string_view answer,
                     size_t piece) {
  ModelRestorer restorer(served, named);
  std::string out;
  for (size_t at = 0; at < answer.size(); at += std::min(piece, answer.size() - at)) {
    restorer.Feed(answer.substr(at, piece), &out);
  }
  restorer.Finish(&out);
  return out;
}

TEST(ModelRestorer, GivesTheNameBackHoweverTheAnswerIsCut) {
  struct Case {
    std::string_view answer, restored;
  };
  for (const Case& c : {
           Case{R"({"id":"1","model":"llama-v2","choices":[]})",
                R"({"id":"1","model":"llama","choices":[]})"},
           Case{R"({"model": "llama-v2"})", R"({"model": "llama"})"},
           Case{"data: {\"model\":\"llama-v2\"}\n\ndata: {\"model\": \"llama-v2\"}\n\n",
                "data: {\"model\":\"llama\"}\n\ndata: {\"model\": \"llama\"}\n\n"},
           Case{R"({"response":{"model":"llama-v2"},"model":"llama-v2"})",
                R"({"response":{"model":"llama"},"model":"llama"})"},
           Case{R"("model":"llama-v2)", R"("model":"llama-v2)"},
           Case{R"("model":)", R"("model":)"},
           Case{"\"", "\""},
           // Other models, other fields, other spaces, and what a model wrote.
           Case{R"({"model":"llama-v22","model":"xllama-v2","model":  "llama-v2"})",
                R"({"model":"llama-v22","model":"xllama-v2","model":  "llama-v2"})"},
           Case{R"({"base_model":"llama-v2","models":"llama-v2"})",
                R"({"base_model":"llama-v2","models":"llama-v2"})"},
           Case{R"({"content":"{\"model\":\"llama-v2\"}"})",
                R"({"content":"{\"model\":\"llama-v2\"}"})"},
           Case{R"({"a\"model":"llama-v2"})", R"({"a\"model":"llama-v2"})"},
       }) {
    for (size_t piece = 1; piece <= c.answer.size(); ++piece) {
      EXPECT_EQ(Restored("llama-v2", "llama", c.answer, piece), c.restored) << piece;
    }
  }
}

TEST(ModelRestorer, TakesWhatItReplacedForNoKey) {
  for (size_t piece = 1; piece < 20; ++piece) {
    EXPECT_EQ(Restored("", "n", R"("model":""model":"")", piece), R"("model":"n"model":"")");
  }
}

TEST(ModelRestorer, EscapesNames) {
  EXPECT_EQ(Restored("a\"b", "c\\d", R"({"model":"a\"b"})", 5), R"({"model":"c\\d"})");
  EXPECT_EQ(Restored("same", "same", R"({"model":"same"})", 3), R"({"model":"same"})");
}

TEST(ModelRestorer, HoldsBackNoMoreThanItMust) {
  ModelRestorer restorer("served", "named");
  std::string out;
  restorer.Feed("data: {\"model\":\"served\"}\n\n", &out);
  EXPECT_EQ(out, "data: {\"model\":\"named\"}\n\n");
  restorer.Feed("data: {\"mod", &out);
  EXPECT_EQ(out, "data: {\"model\":\"named\"}\n\ndata: {");
  restorer.Feed("ern\":1}", &out);
  EXPECT_EQ(out, "data: {\"model\":\"named\"}\n\ndata: {\"modern\":1}");
  restorer.Feed(R"("model":"serv)", &out);
  EXPECT_TRUE(out.ends_with("1}"));
  restorer.Feed(R"(ice"})", &out);
  EXPECT_TRUE(out.ends_with(R"("model":"service"})"));
  EXPECT_EQ(restorer.replaced(), 1u);
}

RC_GTEST_PROP(ModelRestorer, AnyCutsGiveTheSame,
              (const std::vector<uint8_t>& choices, const std::vector<uint8_t>& cuts)) {
  constexpr std::string_view kPieces[] = {"\"model\":", " ",  "\"m\"", "\"mo", "del\":", "\"",
                                          "m",          "\\", "{",     ",",    "model",  ":"};
  std::string answer;
  for (const uint8_t choice : choices) answer += kPieces[choice % std::size(kPieces)];
  ModelRestorer restorer("m", "n");
  std::string out;
  size_t at = 0;
  for (const uint8_t cut : cuts) {
    restorer.Feed(std::string_view(answer).substr(at, cut % 16), &out);
    at = std::min<size_t>(at + cut % 16, answer.size());
  }
  restorer.Feed(std::string_view(answer).substr(at), &out);
  restorer.Finish(&out);
  RC_ASSERT(out == Restored("m", "n", answer, answer.size() + 1));
}

}  // namespace
}  // namespace penstock::api
