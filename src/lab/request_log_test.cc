#include "lab/request_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace penstock::lab {
namespace {

using ::testing::HasSubstr;

std::string Complaint(std::string_view text, std::string_view endpoint = "") {
  const auto log = ParseRequestLog(text, "f", endpoint);
  return log ? "" : log.error().message;
}

constexpr std::string_view kHeader = "arrival_s,prompt_tokens,output_tokens,ttft_s,e2e_s\n";

TEST(RequestLog, CsvIsReadInTheOrderOfArrival) {
  const auto log = ParseRequestLog(
      "# mine\nx,output_tokens,arrival_s,ttft_ms,prompt_tokens,end_ts,cached_tokens\r\n"
      ",7, 12.5,250,300,14,160\r\n,9,10,500,20,11,\r\n",
      "f");
  ASSERT_TRUE(log) << log.error().message;
  ASSERT_EQ(log->requests.size(), 2u);
  EXPECT_EQ(log->requests[0].prompt_tokens, 20u);
  EXPECT_EQ(log->requests[0].output_tokens, 9u);
  EXPECT_EQ(log->requests[0].cached_tokens, 0u);
  EXPECT_EQ(log->requests[1].arrival, milliseconds(2500));
  EXPECT_EQ(log->requests[1].cached_tokens, 160u);
  EXPECT_EQ(log->times[1].sent, milliseconds(2500));
  EXPECT_EQ(log->times[1].first_token, milliseconds(2750));
  EXPECT_EQ(log->times[1].last_token, milliseconds(4000));
  EXPECT_EQ(SkippedText(*log), "");
}

TEST(RequestLog, JsonLinesOfLlmServingSim) {
  const auto log = ParseRequestLog(
      R"({"request_id":"a","input_toks":2358,"output_toks":531,"arrival_time":1777142838.3,"queued_ts":479748.25,)"
      R"("scheduled_ts":479748.3,"first_token_ts":479748.5,"last_token_ts":479764.0})"
      "\n",
      "f");
  ASSERT_TRUE(log) << log.error().message;
  EXPECT_EQ(log->requests[0].prompt_tokens, 2358u);
  EXPECT_EQ(log->times[0].first_token, milliseconds(250));
  EXPECT_EQ(log->times[0].last_token, milliseconds(15750));
}

TEST(RequestLog, DecisionsOfTheGateway) {
  const auto decision = [](std::string_view endpoint, std::string_view ttft) {
    return R"({"request_id":"r","unix_micros":1777142838300000,"endpoint":")" +
           std::string(endpoint) +
           R"(","status":200,"input_tokens":64,"cached_tokens":48,"output_tokens":5,"ttft_s":)" +
           std::string(ttft) + R"(,"e2e_s":1.5})";
  };
  const std::string list = "{\"total\":3,\"decisions\":[" + decision("a", "0.5") + ",\n" +
                           decision("b", "0.25") + "," + decision("a", "null") + "]}";
  const auto log = ParseRequestLog(list, "f", "a");
  ASSERT_TRUE(log) << log.error().message;
  ASSERT_EQ(log->requests.size(), 1u);
  EXPECT_EQ(log->rows, 3u);
  EXPECT_EQ(log->requests[0].cached_tokens, 48u);
  EXPECT_EQ(log->times[0].first_token, milliseconds(500));
  EXPECT_EQ(SkippedText(*log),
            "1 row: of another endpoint (first at line 2); "
            "1 row: without a number where one must be (first at line 3)");
  EXPECT_EQ(Complaint(list), "f:2: requests of 'a' and of 'b': name one endpoint");
  EXPECT_TRUE(ParseRequestLog(decision("a", "0.5") + "\n" + decision("a", "0.5") + "\n", "f"));
  EXPECT_TRUE(ParseRequestLog(decision("a", "0.5"), "f"));
}

TEST(RequestLog, AnAnswerInOnePieceHasNoFirstToken) {
  const auto log = ParseRequestLog(std::string(kHeader) + "1,10,5,2,2\n2,10,1,2,2\n", "f");
  ASSERT_TRUE(log) << log.error().message;
  EXPECT_LT(log->times[0].first_token, Duration(0));
  EXPECT_EQ(log->times[0].last_token, seconds(2));
  EXPECT_EQ(log->times[1].first_token, seconds(3));
}

TEST(RequestLog, RowsOfNoUseAreCounted) {
  const auto log = ParseRequestLog(std::string(kHeader) +
                                       "1,10,5,0.1,0.5\n"
                                       "2,0,5,0.1,0.5\n"
                                       "2,10,0,0.1,0.5\n"
                                       "3,10,5,-0.1,0.5\n"
                                       "3,10,5,0.5,0.1\n"
                                       "4,10,5,,\n"
                                       "4,10,5,fast,1\n"
                                       "4,1e300,5,1,2\n"
                                       "5,10,5,0.1",
                                   "f");
  ASSERT_TRUE(log) << log.error().message;
  EXPECT_EQ(log->requests.size(), 1u);
  EXPECT_EQ(log->rows, 9u);
  EXPECT_EQ(
      SkippedText(*log),
      "2 rows: without tokens (first at line 3); 2 rows: times go backwards (first at line "
      "5); 2 rows: without a number where one must be (first at line 7); 1 row: with too many "
      "tokens (first at line 9); 1 row: cut off, or other cells than the header (first at "
      "line 10)");
}

TEST(RequestLog, ComplaintsNameFileAndLine) {
  EXPECT_EQ(Complaint(""), "f: no request");
  EXPECT_EQ(Complaint(kHeader), "f: no request");
  EXPECT_EQ(Complaint("arrival_s,prompt_tokens,output_tokens,ttft_s\n1,2,3,4\n"),
            "f:2: none of the fields last_token_ts, end_ts, e2e_s, e2e_ms");
  EXPECT_EQ(Complaint("\n{\"queued_ts\":1}\n"),
            "f:2: none of the fields input_toks, input_tokens, prompt_tokens");
  EXPECT_EQ(Complaint("{\"queued_ts\":1,\"input_"),
            "f: no request; 1 row: cut off or no JSON object (first at line 1)");
  EXPECT_EQ(Complaint("[1,null]"),
            "f: no request; 2 rows: cut off or no JSON object (first at line 1)");
  EXPECT_THAT(Complaint(std::string(kHeader) + "0,1,2,1,2\n1e12,1,2,1,2\n"),
              HasSubstr("the log is longer than 1e+09 s"));
  EXPECT_THAT(Complaint(std::string(kHeader) + "1e308,1,2,1e308,1e308\n"), HasSubstr("longer"));
  EXPECT_THAT(ReadRequestLog("/nowhere/log").error().message, HasSubstr("/nowhere/log"));
}

}  // namespace
}  // namespace penstock::lab
