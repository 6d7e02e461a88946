#include "wire/json.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <simdjson.h>

#include <cmath>
#include <limits>

namespace penstock::wire {
namespace {

TEST(JsonWriter, PlacesCommas) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Field("a", 1).Key("b").BeginArray().Value(true).Null().BeginObject();
  json.EndObject().BeginArray().EndArray().EndArray().Field("c", "x").EndObject();
  EXPECT_EQ(out, R"({"a":1,"b":[true,null,{},[]],"c":"x"})");
}

TEST(JsonWriter, WritesNumbers) {
  std::string out;
  JsonWriter json(&out);
  json.BeginArray().Value(std::numeric_limits<int64_t>::min());
  json.Value(std::numeric_limits<uint64_t>::max()).Value(0.1).Value(1e300).Value(uint8_t{7});
  json.Value(std::numeric_limits<double>::infinity()).Value(std::nan("")).EndArray();
  EXPECT_EQ(out, "[-9223372036854775808,18446744073709551615,0.1,1e+300,7,null,null]");
}

TEST(JsonWriter, ReplacesBytesThatAreNotUtf8) {
  struct Case {
    std::string_view text, json;
  };
  std::string out;
  for (const auto& [text, json] :
       {Case{"q\"b\\n\n\x01", R"("q\"b\\n\n\u0001")"},
        Case{"h\xC3\xA9\xF0\x9F\x98\x80", "\"h\xC3\xA9\xF0\x9F\x98\x80\""},
        Case{"a\xFFz", "\"a\xEF\xBF\xBDz\""}, Case{"\xC3", "\"\xEF\xBF\xBD\""}}) {
    out.clear();
    AppendJsonString(text, &out);
    EXPECT_EQ(out, json);
  }
}

TEST(ValidUtf8Length, FindsTheFirstBadByte) {
  EXPECT_EQ(ValidUtf8Length("plain \xC3\xA9"), 8u);
  for (std::string_view bad :
       {"\x80", "\xC0\xAF", "\xC3", "\xE0\x80\x80", "\xED\xA0\x80", "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE2\x82", "\xF0\x9F\x98", "\xE2\x82\x41"}) {
    EXPECT_EQ(ValidUtf8Length("ok" + std::string(bad)), 2u);
  }
}

RC_GTEST_PROP(JsonWriter, AnyBytesGiveValidJson,
              (const std::string& key, const std::string& text)) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Field(key, text).EndObject();
  RC_ASSERT(ValidUtf8Length(out) == out.size());
  simdjson::dom::parser parser;
  simdjson::dom::object object;
  RC_ASSERT(parser.parse(out).get_object().get(object) == simdjson::SUCCESS);
  if (ValidUtf8Length(text) == text.size()) {
    RC_ASSERT(std::string((*object.begin()).value.get_string().value()) == text);
  }
}

RC_GTEST_PROP(ValidUtf8Length, AgreesWithSimdjson, (const std::string& text)) {
  RC_ASSERT((ValidUtf8Length(text) == text.size()) ==
            simdjson::validate_utf8(text.data(), text.size()));
}

}  // namespace
}  // namespace penstock::wire
