#include "tokens/media_features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock::tokens {
namespace {

using model::MediaSpan;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// What is wrong, "" for nothing.
std::string WrongWith(std::string_view text, size_t tokens = 100) {
  wire::JsonScanner json(text);
  MediaFeatures features;
  if (!features.Read(json)) return "no JSON";
  const auto spans = features.Spans(tokens);
  return spans ? "" : spans.error().message;
}

TEST(MediaFeatures, GivesSpansInOrder) {
  wire::JsonScanner json(R"({"kwargs_data": null,
    "mm_placeholders": {"image": [{"offset": 9, "length": 3, "is_embed": null}, {"length": 1, "offset": 2}],
                        "audio": [{"offset": 3, "length": 6}]},
    "mm_hashes": {"audio": ["a"], "image": ["i", "j"], "video": []}})");
  MediaFeatures features;
  ASSERT_TRUE(features.Read(json));
  EXPECT_FALSE(features.empty());
  EXPECT_THAT(*features.Spans(12),
              ElementsAre(MediaSpan{2, 1, "j"}, MediaSpan{3, 6, "a"}, MediaSpan{9, 3, "i"}));
  EXPECT_THAT(features.Spans(11).error().message, HasSubstr("not within the prompt"));
}

TEST(MediaFeatures, MayBeNone) {
  for (const char* text : {"null", "{}", R"({"mm_hashes": {}, "mm_placeholders": {"image": []}})",
                           R"({"mm_hashes": null})", R"({"mm_hashes": {"image": null}})"}) {
    wire::JsonScanner json(text);
    MediaFeatures features;
    EXPECT_TRUE(features.Read(json)) << text;
    EXPECT_TRUE(features.empty()) << text;
  }
}

TEST(MediaFeatures, SaysWhatIsWrong) {
  EXPECT_EQ(WrongWith(R"({"mm_hashes": {"image": ["a"]})"), "no JSON");
  EXPECT_THAT(WrongWith(R"({"mm_hashes": {"image": ["a"]}})"), HasSubstr("as many hashes"));
  EXPECT_THAT(WrongWith(R"({"mm_hashes": {"image": [5]}})"), HasSubstr("another form"));
  EXPECT_THAT(WrongWith(R"({"mm_hashes": {"image": ["\u0061"]}})"), HasSubstr("another form"));
  EXPECT_THAT(WrongWith(R"({"mm_hashes": {"image": {}}})"), HasSubstr("another form"));
  const auto places = [](std::string_view image) {
    return WrongWith(R"({"mm_hashes": {"image": ["a", "b"]}, "mm_placeholders": {"image": [)" +
                     std::string(image) + "]}}");
  };
  EXPECT_EQ(places(R"({"offset": 0, "length": 50}, {"offset": 50, "length": 50})"), "");
  EXPECT_THAT(places(R"({"offset": 0, "length": 51}, {"offset": 50, "length": 50})"),
              HasSubstr("overlap"));
  EXPECT_THAT(places(R"({"offset": 7, "length": 1}, {"offset": 7, "length": 1})"),
              HasSubstr("overlap"));
  for (const char* odd :
       {R"({"offset": -1, "length": 5})", R"({"offset": 0})", "7", R"({"offset": 0, "length": 0})",
        R"({"offset": 0, "length": 1.5})", R"({"offset": 18446744073709551615, "length": 2})",
        R"({"offset": 2, "length": 18446744073709551615})"}) {
    EXPECT_THAT(places(std::string(odd) + R"(, {"offset": 50, "length": 1})"),
                HasSubstr("not within"))
        << odd;
  }
}

TEST(MediaFeatures, AreBounded) {
  std::string hashes = "\"h\"", kinds = "\"k\": []";
  for (size_t i = 0; i < MediaFeatures::kMaxItems; ++i) hashes += ", \"h\"";
  EXPECT_THAT(WrongWith(R"({"mm_hashes": {"image": [)" + hashes + "]}}"), HasSubstr("too many"));
  for (size_t i = 0; i < MediaFeatures::kMaxKinds; ++i)
    kinds += ", \"" + std::to_string(i) + "\": []";
  EXPECT_THAT(WrongWith(R"({"mm_hashes": {)" + kinds + "}}"), HasSubstr("too many"));
  const std::string name(MediaFeatures::kMaxNameBytes + 1, 'h');
  EXPECT_THAT(WrongWith(R"({"mm_hashes": {"image": [")" + name + "\"]}}"),
              HasSubstr("another form"));
}

}  // namespace
}  // namespace penstock::tokens
