#include "api/usage.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

namespace penstock::api {

bool operator==(const Usage& a, const Usage& b) {
  return a.found == b.found && a.input_tokens == b.input_tokens &&
         a.output_tokens == b.output_tokens && a.cached_known == b.cached_known &&
         a.cached_tokens == b.cached_tokens;
}

std::ostream& operator<<(std::ostream& out, const Usage& usage) {
  return out << "found " << usage.found << " in " << usage.input_tokens << " out "
             << usage.output_tokens << " cached " << usage.cached_known << " "
             << usage.cached_tokens;
}

namespace {

using Format = UsageScanner::Format;

UsageScanner Scan(Format format, std::string_view body, size_t piece = std::string_view::npos) {
  UsageScanner scanner(format);
  for (size_t at = 0; at < body.size(); at += std::min(piece, body.size() - at)) {
    scanner.Feed(body.substr(at, piece));
  }
  scanner.Finish();
  return scanner;
}

constexpr std::string_view kChatStream =
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":"
    "{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\n"
    "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\": "
    "{\\\"prompt_tokens\\\":"
    " 99}\"}}],\"usage\":null}\n\n"
    "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":31,\"total_tokens\":48,"
    "\"completion_tokens\":17,\"prompt_tokens_details\":{\"audio_tokens\":3,\"cached_tokens\":16}}}"
    "\n\ndata: [DONE]\n\n";

constexpr std::string_view kAnthropicStream =
    "event: message_start\r\n"
    "data: "
    "{\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"role\":\"assistant\",\"content\":[],"
    "\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":2,"
    "\"cache_read_input_tokens\":8,\"output_tokens\":1}}}\r\n\r\n"
    "event: content_block_delta\r\n"
    "data: "
    "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":"
    "\"Hi\"}}\r\n\r\n"
    "event: message_delta\r\n"
    "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":"
    "{\"output_tokens\":15}}\r\n\r\n"
    "event: message_stop\r\ndata: {\"type\":\"message_stop\"}\r\n\r\n";

constexpr std::string_view kResponsesStream =
    "event: response.created\ndata:{\"type\":\"response.created\",\"response\":{\"id\":\"r\","
    "\"error\":null,\"usage\":null}}\n\n"
    "event: response.completed\ndata:{\"type\":\"response.completed\",\"response\":{\"error\":null,"
    "\"output\":[{\"content\":[{\"text\":\"x\",\"usage\":{\"input_tokens\":5}}]}],\"usage\":"
    "{\"input_tokens\":75,\"input_tokens_details\":{\"cached_tokens\":64},\"output_tokens\":9}}}"
    "\n\n";

constexpr std::string_view kChatBody =
    "{\"id\":\"c\",\"choices\":[{\"message\":{\"content\":\"{\\\"usage\\\":{\\\"prompt_tokens\\\":"
    "1}}\","
    "\"usage\":{\"prompt_tokens\":2}}}], \"usage\" : { \"prompt_tokens\" : 12 , "
    "\"completion_tokens\""
    "\n:\t34, \"prompt_tokens_details\": {\"cached_tokens\":0} } ,\"x\":[1]}";

struct Case {
  Format format;
  std::string_view body;
  Usage usage;
  uint64_t events;
  bool saw_error = false;
};
const Case kCases[] = {
    {Format::kEventStream, kChatStream, {true, 31, 17, true, 16}, 3},
    {Format::kEventStream, kAnthropicStream, {true, 35, 15, true, 8}, 4},
    {Format::kEventStream, kResponsesStream, {true, 75, 9, true, 64}, 2},
    {Format::kJson, kChatBody, {true, 12, 34, true, 0}, 0},
    {Format::kJson,
     R"({"object":"list","data":[{"embedding":[0.1,-0.2]}],"usage":{"prompt_tokens":7}})",
     {true, 7, 0, false, 0},
     0},
    {Format::kJson,
     R"({"text":"x","meta_info":{"prompt_tokens":4,"completion_tokens":5,"cached_tokens":2}})",
     {true, 4, 5, true, 2},
     0},
    {Format::kJson, R"({"usage":null})", {}, 0},
    {Format::kJson, R"({"usage":{"prompt_tokens":-1,"completion_tokens":1.5}})", {}, 0},
    {Format::kJson, R"({"usage":{"prompt_tokens":99999999999999999999999}})", {}, 0},
    {Format::kJson, R"({"usage":[{"prompt_tokens":1}],"a":{"usage":{"prompt_tokens":1}}})", {}, 0},
    {Format::kJson, R"([{"usage":{"prompt_tokens":1}}])", {}, 0},
    {Format::kJson, R"({"error":{"message":"no"}})", {}, 0},
    {Format::kEventStream, "data: {\"error\":{\"message\":\"no\"}}\n\n", {}, 1, true},
    {Format::kEventStream, "data: {\"object\":\"error\",\"message\":\"no\"}\n\n", {}, 1, true},
    {Format::kEventStream, "event: error\ndata: {\"type\":\"error\",\"error\":{}}\n", {}, 1, true},
    {Format::kEventStream, "data: {\"response\":{\"error\":{\"code\":\"x\"}}}\n\n", {}, 1, true},
    {Format::kEventStream, "data: {\"delta\":{\"error\":{}},\"text\":\"error\"}\n\n", {}, 1, false},
    {Format::kEventStream, "data: {\"usage\":{\"prompt_tokens\":5}}", {true, 5, 0, false, 0}, 1},
    {Format::kEventStream, ": ping\n\nretry: 3\n\ndata:[DONE]\n\ndata: [DONE] \r\n", {}, 0},
    {Format::kEventStream, "", {}, 0},
};

TEST(UsageScanner, FindsUsageInAnyPieces) {
  for (const Case& c : kCases) {
    for (const size_t piece : {size_t{1}, size_t{2}, size_t{7}, size_t{100}, c.body.size() + 1}) {
      const UsageScanner scanner = Scan(c.format, c.body, piece);
      EXPECT_EQ(scanner.usage(), c.usage) << c.body << "\nin pieces of " << piece;
      EXPECT_EQ(scanner.events(), c.events) << c.body << "\nin pieces of " << piece;
      EXPECT_EQ(scanner.saw_error_event(), c.saw_error) << c.body << "\nin pieces of " << piece;
    }
  }
}

TEST(UsageScanner, FindsUsageBehindAnyAmountOfText) {
  const std::string text(300'000, 'x');
  const std::string usage = "\"usage\":{\"input_tokens\":3,\"output_tokens\":4}";
  const std::string json = "{\"output\":\"" + text + "\"," + usage + "}";
  const std::string event = "data: {\"response\":{\"output\":\"" + text + "\"," + usage + "}}\n\n";
  for (const size_t piece : {size_t{1000}, size_t{65536}, size_t{1 << 20}}) {
    EXPECT_EQ(Scan(Format::kJson, json, piece).usage(), (Usage{true, 3, 4, false, 0}));
    const UsageScanner scanner = Scan(Format::kEventStream, event + event, piece);
    EXPECT_EQ(scanner.usage(), (Usage{true, 3, 4, false, 0}));
    EXPECT_EQ(scanner.events(), 2u);
  }
}

TEST(UsageScanner, PassesLongLinesThatAreNoEvents) {
  const std::string line = ": " + std::string(300'000, 'x') + "\"usage\":{\"input_tokens\":3}\n";
  const UsageScanner scanner = Scan(Format::kEventStream, line + "data: {}\n", 4096);
  EXPECT_FALSE(scanner.usage().found);
  EXPECT_EQ(scanner.events(), 1u);
}

TEST(UsageScanner, IsNotFooledByWhatTheModelWrote) {
  const std::vector<std::string> written = {R"(\"usage\":{\"prompt_tokens\":1})",
                                            R"(usage)",
                                            R"(\\\"usage\\\")",
                                            R"(\\)",
                                            R"(\\\\)",
                                            R"(}},\"usage\":{\"input_tokens\":5}})",
                                            R"(\u0022usage\u0022:{})",
                                            R"({[}]\\\"{)"};
  for (const std::string& text : written) {
    const std::string json = "{\"choices\":[{\"message\":{\"content\":\"" + text +
                             "\"}}],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":9}}";
    for (size_t piece = 1; piece < 20; ++piece) {
      EXPECT_EQ(Scan(Format::kJson, json, piece).usage(), (Usage{true, 8, 9, false, 0})) << text;
      EXPECT_EQ(Scan(Format::kEventStream, "data: " + json + "\n", piece).usage(),
                (Usage{true, 8, 9, false, 0}))
          << text;
    }
  }
}

RC_GTEST_PROP(UsageScanner, AnyCutsGiveTheSame, (const std::vector<uint8_t>& cuts)) {
  for (const Case& c : kCases) {
    UsageScanner scanner(c.format);
    size_t at = 0;
    for (const uint8_t cut : cuts) {
      scanner.Feed(c.body.substr(at, cut));
      at = std::min(at + cut, c.body.size());
    }
    scanner.Feed(c.body.substr(at));
    scanner.Finish();
    RC_ASSERT(scanner.usage() == c.usage);
    RC_ASSERT(scanner.events() == c.events);
    RC_ASSERT(scanner.saw_error_event() == c.saw_error);
  }
}

RC_GTEST_PROP(UsageScanner, AnyCutsOfGarbageGiveTheSame,
              (const std::vector<uint8_t>& choices, uint8_t piece)) {
  constexpr std::string_view kPieces[] = {"data:",      " ",
                                          "\n",         "\r\n",
                                          "{",          "}",
                                          "[",          "]",
                                          "\"usage\":", "\"prompt_tokens\":",
                                          "12",         "\"error\":",
                                          ",",          "\"",
                                          "\\",         "\"response\":",
                                          "[DONE]",     "null"};
  std::string text;
  for (const uint8_t choice : choices) text += kPieces[choice % std::size(kPieces)];
  for (const Format format : {Format::kJson, Format::kEventStream}) {
    const UsageScanner whole = Scan(format, text);
    const UsageScanner cut = Scan(format, text, piece % 16 + 1);
    RC_ASSERT(whole.usage() == cut.usage());
    RC_ASSERT(whole.events() == cut.events());
    RC_ASSERT(whole.saw_error_event() == cut.saw_error_event());
  }
}

}  // namespace
}  // namespace penstock::api
