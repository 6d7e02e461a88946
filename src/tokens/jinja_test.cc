// The interpreter where Python cannot be asked: errors, limits, hostile templates. That its texts
// are Python's is held by tests/conformance/test_chat_templates.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <boost/json.hpp>
#include <string>

#include "tokens/chat_template.h"
#include "tokens/chat_template_json.h"

namespace penstock::tokens {
namespace {

namespace json = boost::json;
using testing::HasSubstr;
using testing::StartsWith;

Result<RenderedChat> Render(std::string_view source, const RenderLimits& limits = {},
                            const json::array& messages = {}) {
  const auto parsed = ChatTemplate::Parse(source);
  if (!parsed) return std::unexpected(parsed.error());
  ChatInput input;
  input.messages = &messages;
  return parsed->Render(input, limits);
}

std::string Text(std::string_view source) {
  const auto rendered = Render(source);
  return rendered ? rendered->text : "error: " + rendered.error().message;
}

std::string ErrorOf(std::string_view source) {
  const auto rendered = Render(source);
  return rendered ? "no error: " + rendered->text : rendered.error().message;
}

TEST(Jinja, WritesTextAndValues) {
  EXPECT_EQ(Text("a {{ 1 + 2 }} {{ [1, 'x', none, true, 1.0] }}"), "a 3 [1, 'x', None, True, 1.0]");
  EXPECT_EQ(Text("{% for x in [1, 2] %}{{ loop.index }}:{{ x }} {% endfor %}"), "1:1 2:2 ");
  EXPECT_EQ(Text(""), "");
}

TEST(Jinja, ErrorsSayLineAndWhat) {
  EXPECT_EQ(ErrorOf("\n\n{{ missing.x }}"), "line 3: 'missing' is undefined");
  EXPECT_EQ(ErrorOf("a\n{{ raise_exception('no way') }}"), "line 2: no way");
  EXPECT_EQ(ErrorOf("{% if true %}\n{% endfor %}"),
            "line 2: the tag 'endfor' has nothing to end or continue here");
  EXPECT_EQ(ErrorOf("{{ 'a' | upperr }}"),
            "line 1: no filter named 'upperr', did you mean 'upper'?");
  EXPECT_THAT(ErrorOf("{{ 1 is strin }}"), HasSubstr("did you mean 'string'?"));
  EXPECT_THAT(ErrorOf("{% fro x in y %}"), HasSubstr("unknown tag 'fro', did you mean 'for'?"));
  EXPECT_THAT(ErrorOf("{{ 1 + }}"), HasSubstr("unexpected '}}'"));
}

TEST(Jinja, RefusesWhatChatTemplatesDoNotHave) {
  for (const char* tag : {"include 'x'", "import 'x' as y", "extends 'x'", "from 'x' import y",
                          "block a", "autoescape true"}) {
    EXPECT_THAT(ErrorOf(std::string("{% ") + tag + " %}"), HasSubstr("is not supported"));
  }
  EXPECT_THAT(ErrorOf("{% for x in [] recursive %}{% endfor %}"), HasSubstr("not supported"));
  EXPECT_THAT(ErrorOf("{{ [1] | random }}"), HasSubstr("the filter 'random' is not supported"));
  EXPECT_THAT(ErrorOf("{{ 'a'.encode() }}"), HasSubstr("str.encode() is not supported"));
  EXPECT_THAT(ErrorOf("{{ 'a'.upper }}"), HasSubstr("cannot be printed"));
}

TEST(Jinja, TheSandboxKeepsListsAndDictsAsTheyAre) {
  EXPECT_THAT(ErrorOf("{{ [].append(1) }}"), HasSubstr("'append' of 'list' object is unsafe"));
  EXPECT_THAT(ErrorOf("{{ {}.update({}) }}"), HasSubstr("unsafe"));
  EXPECT_THAT(ErrorOf("{{ ''.__class__.__mro__ }}"), HasSubstr("unsafe"));
}

TEST(Jinja, IntegersBeyond64BitsAreErrors) {
  EXPECT_EQ(Text("{{ 9223372036854775807 }} {{ -9223372036854775807 - 1 }}"),
            "9223372036854775807 -9223372036854775808");
  EXPECT_THAT(ErrorOf("{{ 9223372036854775807 + 1 }}"), HasSubstr("beyond the integers"));
  EXPECT_THAT(ErrorOf("{{ 9223372036854775808 }}"), HasSubstr("beyond the integers"));
  EXPECT_THAT(ErrorOf("{{ 10 ** 19 }}"), HasSubstr("beyond the integers"));
  EXPECT_THAT(ErrorOf("{{ (-9223372036854775807 - 1) // -1 }}"), HasSubstr("beyond the integers"));
  EXPECT_THAT(ErrorOf("{{ '99999999999999999999' | int }}"), HasSubstr("beyond the integers"));
  EXPECT_EQ(Text("{{ (-9223372036854775807 - 1) % -1 }}"), "0");
}

TEST(Jinja, HostileTemplatesEndWithAnError) {
  RenderLimits limits;
  limits.steps = 2'000'000;
  limits.memory_bytes = 32 << 20;
  limits.output_bytes = 4 << 20;
  for (const char* source : {
           "{{ range(10 ** 9) | list }}",
           "{{ 'a' * 10 ** 12 }}",
           "{{ [0] * 10 ** 12 }}",
           "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
           "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
           "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
           "{% macro m() %}{{ m() ~ m() }}{% endmacro %}{{ m() }}",
           "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% "
           "endfor %}",
           "{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% "
           "endfor %}",
           "{% set ns = namespace(l=[]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% "
           "endfor %}"
           "{{ ns.l }}",
           "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% "
           "endfor %}"
           "{{ ns.l == [ns.l] }}",
           "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% "
           "endfor %}"
           "{{ ns.l | tojson }}",
           "{% set ns = namespace() %}{% set ns.n = ns %}{{ ns }}",
           "{{ '%999999999d' % 1 }}",
           "{{ '%.999999999f' % 1 }}",
           "{{ '{:999999999}'.format(1) }}",
           "{{ 'a'.ljust(10 ** 12) }}",
           "{{ ('x' * 1000000).replace('', 'y' * 1000) }}",
           "{{ ('y' * 10000).join('x' * 100000) }}",
           "{% set a = 'a' * 1000000 %}{% set b = 'a' * 500000 ~ 'b' %}"
           "{% for i in range(9999) %}{{ b in a }}{{ a.rfind(b) }}{% endfor %}",
           "{{ range(99999) | list | unique | list | length }}",
           "{{ strftime_now('%99999d') }}",
           "{{ [1] | batch(10 ** 9, 0) | list }}",
           "{{ 'a' | indent(10 ** 9) }}",
           "{{ {} | tojson(indent=10 ** 9) }}",
       }) {
    const auto rendered = Render(source, limits);
    EXPECT_FALSE(rendered) << source;
  }
}

TEST(Jinja, NestingInTheSourceIsBounded) {
  const auto repeated = [](std::string_view text, size_t times) {
    std::string out;
    for (size_t i = 0; i < times; ++i) out += text;
    return out;
  };
  EXPECT_THAT(ErrorOf("{{ " + repeated("(", 5000) + "1" + repeated(")", 5000) + " }}"),
              HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf("{{ " + repeated("[", 5000)), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf("{{ " + repeated("not ", 5000) + "1 }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf("{{ " + repeated("-", 5000) + "1 }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf("{{ 1" + repeated(" + 1", 5000) + " }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf("{{ 1" + repeated(" | abs", 5000) + " }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf("{{ 1" + repeated(" if 1 else 1", 5000) + " }}"), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf(repeated("{% if 1 %}", 5000)), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf("{% set " + repeated("(", 5000)), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf(std::string(300 << 10, 'x')), HasSubstr("262144 at most"));
  EXPECT_THAT(ErrorOf("a\xff"), HasSubstr("byte 1 is not UTF-8"));
}

TEST(Jinja, AnySourceParsesOrSaysWhy) {
  rc::check([] {
    static const char* const kPieces[] = {
        "{{",    "}}",     "{%",   "%}",     "{#",      "#}",       " if ", " for ", " in ",
        "endif", "endfor", "set ", "x",      "1",       "'",        "\"",   "\\",    "(",
        ")",     "[",      "]",    "{",      "}",       ":",        ",",    ".",     "|",
        " is ",  "not ",   "-",    "+",      "~",       "*",        "**",   "=",     "==",
        "\n",    " ",      "raw",  "endraw", "macro m", "endmacro", "else", "elif",  "loop"};
    std::string source;
    const auto count = *rc::gen::inRange(0, 30);
    for (int i = 0; i < count; ++i) {
      source += kPieces[*rc::gen::inRange<size_t>(0, std::size(kPieces))];
    }
    const auto rendered = Render(source);
    if (!rendered) RC_ASSERT(rendered.error().message.starts_with("line "));
  });
}

TEST(ChatTemplate, KnowsWhichBytesAMessageWrote) {
  const json::array messages = {json::object{{"role", "user"}, {"content", "one"}},
                                json::object{{"role", "user"}, {"content", "two"}}};
  const auto rendered = Render(
      "start {% for m in messages %}{% endfor %}"
      "{% for m in messages[1:] + messages[:1] %}<{{ m.content }}>{% endfor %} end",
      {}, messages);
  ASSERT_TRUE(rendered) << rendered.error().message;
  EXPECT_EQ(rendered->text, "start <two><one> end");
  ASSERT_EQ(rendered->messages.size(), 2u);
  EXPECT_EQ(rendered->messages[0].message, 1u);
  EXPECT_EQ(rendered->messages[0].begin, 6u);
  EXPECT_EQ(rendered->messages[0].end, 11u);
  EXPECT_EQ(rendered->messages[1].message, 0u);
  EXPECT_EQ(rendered->messages[1].end, 16u);
}

TEST(ChatTemplate, VariablesOfTheRequestTakeThePlaceOfSpecialTokens) {
  const auto parsed = ChatTemplate::Parse("{{ bos_token }}{{ eos_token }}{{ tools }}{{ x }}");
  ASSERT_TRUE(parsed);
  const json::array messages;
  const NamedTokens tokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  json::object variables = {{"bos_token", "B"}, {"x", json::array{1, 2.5}}, {"unused", 1}};
  ChatInput input;
  input.messages = &messages;
  input.special_tokens = &tokens;
  input.variables = &variables;
  const auto rendered = parsed->Render(input);
  ASSERT_TRUE(rendered) << rendered.error().message;
  EXPECT_EQ(rendered->text, "B</s>None[1, 2.5]");
  EXPECT_TRUE(parsed->Names("x"));
  EXPECT_FALSE(parsed->Names("unused"));
  variables = {{"messages", 1}};
  EXPECT_EQ(parsed->Render(input).error().message, "chat_template_kwargs must not hold 'messages'");
}

TEST(ChatTemplate, FindsHowContentIsTaken) {
  const auto format = [](std::string_view source) {
    return ChatTemplate::Parse(source)->content_format();
  };
  EXPECT_EQ(format("{% for m in messages %}{{ m.content }}{% endfor %}"), ContentFormat::kString);
  EXPECT_EQ(format("{% for m in messages %}{% for c in m['content'] %}{% endfor %}{% endfor %}"),
            ContentFormat::kOpenAi);
  EXPECT_EQ(format("{% set x = messages[1:] %}{% for m in x %}{% for c in m.content | list %}"
                   "{% endfor %}{% endfor %}"),
            ContentFormat::kOpenAi);
  EXPECT_EQ(format("{% for c in content %}{% endfor %}"), ContentFormat::kOpenAi);
  EXPECT_EQ(format("{% macro r(content) %}{% for c in content %}{% endfor %}{% endmacro %}"),
            ContentFormat::kString);
  EXPECT_EQ(format("{% macro r(x) %}{% for c in x %}{% endfor %}{% endmacro %}"
                   "{% for m in messages %}{{ r(m.content) }}{% endfor %}"),
            ContentFormat::kOpenAi);
}

TEST(ChatTemplateJson, ReadsFloatsToTheLastBitAndKeepsOrder) {
  for (const double number : {0.1, 1.0 / 3, 5e-324, 1.7976931348623157e308, 123456.789e-7}) {
    const auto value = ParseJson(json::serialize(json::value(number)));
    ASSERT_TRUE(value);
    EXPECT_EQ(value->as_double(), number);
  }
  const auto value = ParseJson(R"({"b": 1, "a": 2, "b": 3})");
  ASSERT_TRUE(value);
  EXPECT_EQ(json::serialize(*value), R"({"b":3,"a":2})");
  EXPECT_EQ(ParseJson("[18446744073709551616]").error().code, Code::kOutOfRange);
  EXPECT_EQ(ParseJson("[1e400]").error().code, Code::kInvalidArgument);
  EXPECT_EQ(ParseJson("{} x").error().code, Code::kInvalidArgument);
  EXPECT_EQ(ParseJson("[").error().code, Code::kInvalidArgument);
  EXPECT_EQ(ParseJson(std::string(500, '[')).error().code, Code::kOutOfRange);
}

}  // namespace
}  // namespace penstock::tokens
