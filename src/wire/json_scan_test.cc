#include "wire/json_scan.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <simdjson.h>

#include <optional>
#include <vector>

namespace penstock::wire {
namespace {

bool IsValid(std::string_view text, std::string* complaint = nullptr) {
  JsonScanner json(text);
  const bool valid = json.Skip() && json.Finish();
  if (!valid && complaint != nullptr) *complaint = json.Complaint();
  return valid;
}

std::string Unescape(std::string_view quoted) {
  JsonScanner json(quoted);
  JsonString string;
  if (!json.ReadString(&string)) return "invalid";
  std::string text(string.raw.size(), '\0');
  text.resize(UnescapeJson(string.raw, text.data()));
  return text;
}

TEST(JsonScanner, PullsFieldsAndElements) {
  JsonScanner json(R"( {"a" : [1, -2.5e3 , "x\n"], "b":{}, "c":[ ] ,"d":true,"e":null} )");
  std::string seen;
  JsonString key;
  for (json.EnterObject(); json.NextField(&key);) {
    seen += key.raw;
    if (key.raw != "a") {
      EXPECT_TRUE(json.Skip());
      continue;
    }
    std::string_view number;
    JsonString string;
    json.EnterArray();
    EXPECT_TRUE(json.NextElement() && json.ReadNumber(&number));
    EXPECT_EQ(number, "1");
    EXPECT_TRUE(json.NextElement() && json.ReadNumber(&number));
    EXPECT_EQ(number, "-2.5e3");
    EXPECT_TRUE(json.NextElement() && json.ReadString(&string));
    EXPECT_EQ(string.raw, "x\\n");
    EXPECT_TRUE(string.escaped);
    EXPECT_FALSE(json.NextElement());
  }
  EXPECT_TRUE(json.Finish());
  EXPECT_EQ(seen, "abcde");
}

TEST(JsonScanner, SaysWhereAndWhatIsWrong) {
  struct Case {
    std::string_view text, complaint;
  };
  for (const auto& [text, complaint] :
       {Case{"", "expected a value at byte 0, where the text ends"},
        Case{R"({"a":1)", "expected ',' or '}' at byte 6, where the text ends"},
        Case{R"({"a":1,})", "expected a key in double quotes at byte 7, found '}'"},
        Case{R"({"a" 1})", "expected ':' at byte 5, found '1'"},
        Case{R"({a:1})", "expected a key in double quotes at byte 1, found 'a'"},
        Case{R"([1,])", "expected a value at byte 3, found ']'"},
        Case{R"([1 2])", "expected ',' or ']' at byte 3, found '2'"},
        Case{R"([1}])", "expected ',' or ']' at byte 2, found '}'"},
        Case{R"({} x)", "expected the end at byte 3, found 'x'"},
        Case{R"("abc)", "expected '\"' at the end of a string at byte 4, where the text ends"},
        Case{R"("a\)", "expected an escape at byte 3, where the text ends"},
        Case{R"("a\x")", "expected one of \"\\/bfnrtu after a backslash at byte 3, found 'x'"},
        Case{R"("\u12g4")", "expected four hexadecimal digits after \\u at byte 5, found 'g'"},
        Case{R"("\u12)",
             "expected four hexadecimal digits after \\u at byte 5, where the text ends"},
        Case{"\"a\nb\"",
             "expected control characters in strings to be escaped at byte 2, found byte 0x0a"},
        Case{"tru", "expected true or false at byte 0, found 't'"},
        Case{"nul", "expected null at byte 0, found 'n'"},
        Case{"NaN", "expected a value at byte 0, found 'N'"},
        Case{"-", "expected a digit at byte 1, where the text ends"},
        Case{"01", "expected the end at byte 1, found '1'"},
        Case{"1.e5", "expected a digit at byte 2, found 'e'"},
        Case{"1e", "expected a digit at byte 2, where the text ends"},
        Case{"\xEF\xBB\xBF{}", "expected a value at byte 0, found byte 0xef"}}) {
    std::string found;
    EXPECT_FALSE(IsValid(text, &found)) << text;
    EXPECT_EQ(found, complaint) << text;
  }
}

TEST(JsonScanner, ReadsListsOfWholeNumbers) {
  const auto read = [](std::string_view text) {
    JsonScanner json(text);
    std::vector<uint32_t> values;
    const bool is_read = json.ReadUints(&values) && json.Finish();
    EXPECT_EQ(is_read, json.ok());
    return is_read ? std::optional(values) : std::nullopt;
  };
  using List = std::vector<uint32_t>;
  EXPECT_EQ(read("[]"), List());
  EXPECT_EQ(read(" [ ] "), List());
  EXPECT_EQ(read("[0]"), List({0}));
  EXPECT_EQ(read("[1,2, 3 ,4,  5,\n6]"), List({1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(read("[4294967295, 10, 0]"), List({4294967295, 10, 0}));
  for (const std::string_view text : {"",
                                      "[",
                                      "[1",
                                      "[1,",
                                      "[1, ",
                                      "[1,]",
                                      "[,1]",
                                      "[1 2]",
                                      "[1,,2]",
                                      "[01]",
                                      "[1, 00]",
                                      "[-1]",
                                      "[1.0]",
                                      "[1e2]",
                                      "[1E2]",
                                      "[4294967296]",
                                      "[99999999999999999999999999]",
                                      "[\"1\"]",
                                      "[null]",
                                      "[[1]]",
                                      "[{}]",
                                      "1",
                                      "{}",
                                      "[1] x",
                                      "[1}",
                                      "[1a]",
                                      "[+1]"}) {
    EXPECT_EQ(read(text), std::nullopt) << text;
  }
  JsonScanner json("[1, -2]");
  std::vector<uint32_t> values;
  EXPECT_FALSE(json.ReadUints(&values));
  EXPECT_EQ(json.Complaint(), "expected a whole number below 2^32 at byte 4, found '-'");
}

TEST(JsonScanner, StopsAtTheFirstMistake) {
  JsonScanner json(R"([1,}2])");
  int elements = 0;
  for (json.EnterArray(); json.NextElement();) elements += json.Skip() ? 1 : 0;
  EXPECT_EQ(elements, 1);
  EXPECT_FALSE(json.Skip());
  EXPECT_FALSE(json.EnterArray());
  EXPECT_FALSE(json.Finish());
  EXPECT_EQ(json.Peek(), JsonScanner::Kind::kNone);
  EXPECT_EQ(json.offset(), 3u);
}

TEST(JsonScanner, LimitsNesting) {
  const auto nested = [](size_t levels) {
    return std::string(levels, '[') + std::string(levels, ']');
  };
  EXPECT_TRUE(IsValid(nested(JsonScanner::kMaxDepth)));
  const std::string deep = nested(JsonScanner::kMaxDepth + 1);
  JsonScanner json(deep);
  EXPECT_FALSE(json.Skip());
  EXPECT_TRUE(json.too_deep());
  EXPECT_FALSE(IsValid(std::string(1 << 20, '[')));
}

TEST(UnescapeJson, UndoesEveryEscape) {
  EXPECT_EQ(Unescape(R"("\"\\\/\b\f\n\r\t")"), "\"\\/\b\f\n\r\t");
  EXPECT_EQ(Unescape(R"("\u0041\u00e9\u20AC\ud83d\uDE00")"),
            "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
  EXPECT_EQ(Unescape(R"("a\u0000b")"), std::string("a\0b", 3));
}

TEST(UnescapeJson, ReplacesLoneSurrogates) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(Unescape(R"("\ud83d")"), bad);
  EXPECT_EQ(Unescape(R"("\ude00x")"), bad + "x");
  EXPECT_EQ(Unescape(R"("\ud83d\ud83d\ude00")"), bad + "\xF0\x9F\x98\x80");
  EXPECT_EQ(Unescape(R"("\ud83d\n")"), bad + "\n");
}

TEST(FindStringStop, FindsAtEveryOffset) {
  for (const char stop : {'"', '\\', '\x1F', '\0'}) {
    for (size_t at = 0; at < 40; ++at) {
      std::string text(40, 'a');
      text[at] = stop;
      EXPECT_EQ(FindStringStop(text.data(), text.data() + text.size()) - text.data(),
                static_cast<ptrdiff_t>(at));
    }
  }
  const std::string plain = std::string(33, '\x20') + "\x7F\x80\xFF";
  EXPECT_EQ(FindStringStop(plain.data(), plain.data() + plain.size()), plain.data() + plain.size());
}

// Pieces of JSON put together at random: seldom valid, always close to it.
std::string Assemble(const std::vector<uint8_t>& choices) {
  constexpr std::string_view kPieces[] = {
      "{",           "}",  "[",         "]",    ",",    ":",    "\"k\":", "\"a\"", "\"\\n\"",
      "\"\\u00e9\"", "1",  "-0",        "2.50", "true", "null", "false",  " ",     "\n",
      "[]",          "{}", "{\"x\":1}", "\"",   "\\",   "0",    "1e5"};
  std::string text;
  for (const uint8_t choice : choices) text += kPieces[choice % std::size(kPieces)];
  return text;
}

// simdjson refuses numbers beyond its types, too, so its word on numbers is not asked for.
void ExpectAgreement(const std::string& text) {
  simdjson::dom::parser parser;
  simdjson::dom::element element;
  const simdjson::error_code error = parser.parse(text).get(element);
  RC_PRE(error != simdjson::NUMBER_ERROR);
  RC_ASSERT(IsValid(text) == (error == simdjson::SUCCESS));
}

RC_GTEST_PROP(JsonScanner, AgreesWithSimdjsonOnFragments, (const std::vector<uint8_t>& choices)) {
  ExpectAgreement(Assemble(choices));
}

RC_GTEST_PROP(JsonScanner, AgreesWithSimdjsonOnDamagedJson,
              (size_t at, uint8_t byte, uint8_t damage)) {
  const std::string whole =
      R"({"model":"m","n":[1,-2,0.5,true,false,null],"s":"a\"\\\n\u00e9","o":{"p":{},"q":[]}} )";
  std::string text = whole;
  at %= text.size();
  const char c = "{}[],:\"\\0a-. \n"[byte % 14];
  if (damage % 3 == 0) text[at] = c;
  if (damage % 3 == 1) text.insert(at, 1, c);
  if (damage % 3 == 2) text.resize(at);
  ExpectAgreement(text);
}

}  // namespace
}  // namespace penstock::wire
