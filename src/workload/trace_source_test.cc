#include "workload/trace_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <list>
#include <map>
#include <set>
#include <string>

#include "workload/open.h"
#include "workload/testing.h"

namespace penstock::workload {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Reader = std::unique_ptr<Source> (*)(LineReader, const TraceOptions&);

std::unique_ptr<Source> Read(Reader reader, std::string_view text,
                             const TraceOptions& options = {}) {
  static std::list<std::string> texts;  // a source borrows its text
  return reader(LineReader::OfText(texts.emplace_back(text), "t"), options);
}

constexpr TraceOptions kSkip{.skips_bad_lines = true};

std::string DataFile(std::string_view name) { return "tests/data/traces/" + std::string(name); }

// "" when the measured data are not there.
std::string MeasuredFile(std::string_view name) {
  const char* folder = std::getenv("PENSTOCK_DATA");
  const std::string base = folder != nullptr ? folder : "../shared/data";
  const std::string path = base + "/traces/" + std::string(name);
  return std::filesystem::exists(path) ? path : "";
}

// --- what all formats have in common

constexpr std::string_view kHeader = "TIMESTAMP,ContextTokens,GeneratedTokens\n";

std::string Azure(std::string_view rows) { return std::string(kHeader) + std::string(rows); }

TEST(Trace, TimesCountFromTheFirstRequest) {
  const std::string text = Azure(
      "2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109\r\n"
      "2023-11-16 18:15:50.9951690,1,1");
  const Played played = Play(*Read(ReadAzure, text));
  ASSERT_EQ(played.jobs.size(), 3u);
  EXPECT_EQ(played.jobs[0].at, Duration(0));
  EXPECT_EQ(played.jobs[1].at, Duration(4'314'579'000));
  EXPECT_EQ(played.jobs[2].at, played.jobs[1].at);
  const Played fast = Play(*Read(ReadAzure, text, {.rate_scale = 2}));
  EXPECT_EQ(fast.jobs[1].at, Duration(2'157'289'500));
}

TEST(Trace, AFailureComesAfterTheRequestsBeforeIt) {
  const auto source = Read(ReadAzure, Azure("2023-11-16 18:15:46,3,4\n2023-11-16 18:15:47,x,4\n"
                                            "2023-11-16 18:15:48,3,4\n"));
  ASSERT_TRUE(source->NextAt().has_value());
  EXPECT_FALSE(source->Failure().has_value());
  source->Take();
  EXPECT_FALSE(source->NextAt().has_value());
  ASSERT_TRUE(source->Failure().has_value());
  EXPECT_EQ(source->Failure()->code, Code::kInvalidArgument);
  EXPECT_EQ(source->Failure()->message,
            "t:3: a number is not one: ContextTokens is 'x', not a number of tokens");
}

TEST(Trace, TimeThatGoesBackIsAFailureOrRaised) {
  const std::string text =
      Azure("2023-11-16 18:15:46,3,4\n2023-11-16 18:15:49,3,4\n2023-11-16 18:15:47.5,3,4\n");
  const auto strict = Read(ReadAzure, text);
  EXPECT_EQ(Play(*strict).jobs.size(), 2u);
  EXPECT_EQ(strict->Failure()->message, "t:4: time goes back: by 1.500 s");
  const auto source = Read(ReadAzure, text, kSkip);
  const Played played = Play(*source);
  ASSERT_EQ(played.jobs.size(), 3u);
  EXPECT_EQ(played.jobs[2].at, seconds(3));
  EXPECT_FALSE(source->Failure().has_value());
  EXPECT_THAT(source->Skipped(), ElementsAre("1 line: time goes back (first: 4)"));
}

TEST(Trace, BadLinesAreCountedByReason) {
  const auto source = Read(ReadAzure,
                           Azure("2023-11-16 18:15:46,3,4\n2023-11-16 18:15:46,0,4\n\n"
                                 "2023-11-16 18:15:46,3\nyesterday,3,4\n2023-11-16 18:15:46,3,0\n" +
                                 std::string(LineReader::kMaxLineBytes + 1, 'x') +
                                 "\n2023-11-16 18:15:46,,4\n2023-11-16 18:15:47,3,4\n"),
                           kSkip);
  EXPECT_EQ(Play(*source).jobs.size(), 2u);
  EXPECT_THAT(
      source->Skipped(),
      ElementsAre("1 line: a field is missing (first: 9)", "1 line: a time is not one (first: 6)",
                  "1 line: a wrong number of columns (first: 5)",
                  "1 line: longer than 1 MiB (first: 8)", "2 lines: zero tokens (first: 3)"));
}

TEST(Trace, AFileWithoutRequestsIsAFailure) {
  for (const Reader reader : {ReadMooncake, ReadAzure, ReadOpenTelemetry}) {
    const auto source = Read(reader, "\n\n");
    EXPECT_FALSE(source->NextAt().has_value());
    EXPECT_EQ(source->Failure()->message, "t: has no request in it");
  }
  const auto source = Read(ReadAzure, Azure("a,b,c\n"), kSkip);
  EXPECT_EQ(source->Failure()->message, "t: has no request in it");
  EXPECT_EQ(source->Skipped().size(), 1u);
}

// --- Mooncake

std::string ErrorOf(Reader reader, std::string_view text) {
  const auto source = Read(reader, text);
  Play(*source);
  return source->Failure() ? source->Failure()->message : "";
}

// Reads what is well-formed in another way than the reader does.
std::vector<Job> MooncakeByHand(const std::string& path, uint64_t* tokens) {
  std::vector<Job> jobs;
  std::ifstream file(path);
  std::string line;
  std::vector<std::pair<uint64_t, uint64_t>> seen;  // id and content
  while (std::getline(file, line)) {
    unsigned long long at = 0;
    unsigned input = 0;
    unsigned output = 0;
    int used = 0;
    EXPECT_EQ(std::sscanf(line.c_str(),
                          R"({"timestamp": %llu, "input_length": %u, "output_length": %u, )"
                          R"("hash_ids": [%n)",
                          &at, &input, &output, &used),
              3);
    Job job;
    job.at = milliseconds(at);
    job.output_tokens = output;
    *tokens += input;
    const char* text = line.c_str() + used;
    while (*text != ']') {
      char* end = nullptr;
      job.prompt.push_back({std::strtoull(text, &end, 10), std::min(input, 512u)});
      input -= job.prompt.back().tokens;
      text = end + std::strspn(end, ", ");
    }
    EXPECT_EQ(input, 0u);
    jobs.push_back(std::move(job));
  }
  return jobs;
}

void ExpectSameMooncake(const std::string& path, uint64_t* tokens) {
  const std::vector<Job> by_hand = MooncakeByHand(path, tokens);
  auto source = Open("mooncake:" + path, {}, {});
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const Played played = Play(**source);
  EXPECT_FALSE((*source)->Failure().has_value());
  ASSERT_EQ(played.jobs.size(), by_hand.size());
  std::map<uint64_t, uint64_t> content_of;
  std::map<uint64_t, uint64_t> id_of;
  for (size_t i = 0; i < by_hand.size(); ++i) {
    const Job& job = played.jobs[i];
    EXPECT_EQ(job.at, by_hand[i].at);
    EXPECT_EQ(job.output_tokens, by_hand[i].output_tokens);
    ASSERT_EQ(job.prompt.size(), by_hand[i].prompt.size());
    for (size_t k = 0; k < job.prompt.size(); ++k) {
      EXPECT_EQ(job.prompt[k].tokens, by_hand[i].prompt[k].tokens);
      const uint64_t id = by_hand[i].prompt[k].content;
      // Equal ids are equal contents, and the other way round.
      EXPECT_EQ(content_of.try_emplace(id, job.prompt[k].content).first->second,
                job.prompt[k].content);
      EXPECT_EQ(id_of.try_emplace(job.prompt[k].content, id).first->second, id);
    }
  }
}

TEST(Mooncake, IsReadAsItStands) {
  uint64_t tokens = 0;
  ExpectSameMooncake(DataFile("mooncake_conversation_60.jsonl"), &tokens);
  EXPECT_GT(tokens, 0u);
}

TEST(Mooncake, TheWholeHour) {
  const std::string path = MeasuredFile("mooncake_conversation.jsonl");
  if (path.empty()) GTEST_SKIP() << "the measured traces are not there; see PENSTOCK_DATA";
  uint64_t tokens = 0;
  ExpectSameMooncake(path, &tokens);
  auto source = Open("mooncake:" + path, {}, {});
  const Played played = Play(**source);
  EXPECT_EQ(played.jobs.size(), 12'031u);
  EXPECT_EQ(played.jobs.back().at, milliseconds(3'536'999));
}

TEST(Mooncake, SaysWhatIsWrong) {
  const auto error = [](std::string_view line) { return ErrorOf(ReadMooncake, line); };
  EXPECT_EQ(error(R"({"timestamp":5,"input_length":513,"output_length":1,"hash_ids":[1,2]})"), "");
  EXPECT_EQ(error(R"({"timestamp":"5.5","input_length":1,"output_length":1,"hash_ids":[1]})"), "");
  struct Case {
    const char* line;
    const char* error;
  };
  const Case cases[] = {
      {R"({"timestamp":5,"input_length":513,"output_length":1,"hash_ids":[1]})",
       "t:1: hash ids do not fit the prompt: 1 ids for 513 tokens, which are 2 blocks of 512"},
      {R"({"timestamp":5,"input_length":0,"output_length":1,"hash_ids":[]})",
       "t:1: zero tokens: input_length is 0"},
      {R"({"timestamp":5,"input_length":1,"output_length":0,"hash_ids":[1]})",
       "t:1: zero tokens: output_length is 0"},
      {R"({"timestamp":5,"input_length":1,"hash_ids":[1]})",
       "t:1: a field is missing: there is no output_length"},
      {R"({"timestamp":5,"input_length":1,"output_length":1})", "there is no hash_ids"},
      {R"({"timestamp":null,"input_length":1,"output_length":1,"hash_ids":[1]})",
       "there is no timestamp"},
      {R"({"timestamp":-5,"input_length":1,"output_length":1,"hash_ids":[1]})",
       "timestamp is '-5', not milliseconds"},
      {R"({"timestamp":1e300,"input_length":1,"output_length":1,"hash_ids":[1]})",
       "not milliseconds"},
      {R"({"timestamp":5,"input_length":1e9,"output_length":1,"hash_ids":[1]})",
       "input_length is '1e9', not a number of tokens"},
      {R"({"timestamp":5,"input_length":200000000,"output_length":1,"hash_ids":[1]})",
       "not a number of tokens"},
      {R"({"timestamp":5,"input_length":1,"output_length":1,"hash_ids":[-1]})",
       "hash_ids has '-1'"},
      {R"({"timestamp":5,"input_length":1,"output_length":1,"hash_ids":["a"]})",
       "not a JSON object"},
      {R"({"timestamp":5,"input_length":1,"output_length":1,"hash_ids":[1],"type":"chat"})",
       "t:1: unknown fields: 'type'; known are timestamp"},
      {R"({"timestamp":5,"input_length":1,"output_le)", "t:1: not a JSON object: expected"},
      {R"([1,2])", "t:1: not a JSON object"},
      {"timestamp,input_length", "t:1: not a JSON object"},
  };
  for (const Case& c : cases) EXPECT_THAT(error(c.line), HasSubstr(c.error)) << c.line;
}

TEST(Mooncake, UnknownFieldsArePassedOverWhenAsked) {
  const auto source = Read(
      ReadMooncake,
      R"({"timestamp":5,"input_length":1,"output_length":1,"hash_ids":[1],"type":"chat"})", kSkip);
  EXPECT_EQ(Play(*source).jobs.size(), 1u);
  EXPECT_THAT(source->Skipped(), ElementsAre("1 fields: unknown, passed over"));
}

// --- Azure

TEST(Azure, ColumnsAreFoundByName) {
  const Played played = Play(*Read(ReadAzure,
                                   "\xef\xbb\xbf\"GeneratedTokens\", timestamp ,ContextTokens\n"
                                   "44,2024-05-10 00:00:00.009930+00:00,374\n"));
  ASSERT_EQ(played.jobs.size(), 1u);
  EXPECT_EQ(played.jobs[0].prompt_tokens(), 374u);
  EXPECT_EQ(played.jobs[0].output_tokens, 44u);
}

TEST(Azure, EveryPromptIsTextOfItsOwn) {
  auto source = Open("azure:" + DataFile("azure_2023_conv_100.csv"), {}, {});
  ASSERT_TRUE(source.has_value()) << source.error().message;
  std::set<uint64_t> contents;
  for (const Job& job : Play(**source).jobs) {
    contents.insert(job.prompt[0].content);
    contents.insert(job.output_content);
  }
  EXPECT_EQ(contents.size(), 200u);
}

TEST(Azure, TheWholeHour) {
  const std::string path = MeasuredFile("azure_2023_conv.csv");
  if (path.empty()) GTEST_SKIP() << "the measured traces are not there; see PENSTOCK_DATA";
  uint64_t input = 0;
  uint64_t output = 0;
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  while (std::getline(file, line)) {
    unsigned in = 0;
    unsigned out = 0;
    ASSERT_EQ(std::sscanf(line.c_str(), "%*[^,],%u,%u", &in, &out), 2) << line;
    input += in;
    output += out;
  }
  auto source = Open("azure:" + path, {}, {});
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const Played played = Play(**source);
  EXPECT_EQ(played.jobs.size(), 19'366u);
  for (const Job& job : played.jobs) {
    input -= job.prompt_tokens();
    output -= job.output_tokens;
  }
  EXPECT_EQ(input, 0u);
  EXPECT_EQ(output, 0u);
  // 18:15:46.68059 to 19:14:08.402527
  EXPECT_EQ(played.jobs.back().at, Duration(3'501'721'937'000));
}

TEST(Azure, SaysWhatIsWrong) {
  const auto error = [](std::string_view text) { return ErrorOf(ReadAzure, text); };
  EXPECT_EQ(error("TIMESTAMP,ContextTokens,GeneratedToken\n"),
            "t:1: the header is not that of a trace: unknown column 'GeneratedToken', did you mean "
            "'GeneratedTokens'?; known are TIMESTAMP, ContextTokens and GeneratedTokens");
  EXPECT_THAT(error("TIMESTAMP,ContextTokens\n"), HasSubstr("there is no column GeneratedTokens"));
  EXPECT_THAT(error("TIMESTAMP,TIMESTAMP,ContextTokens\n"), HasSubstr("TIMESTAMP comes twice"));
  EXPECT_THAT(error(std::string(5000, ',')), HasSubstr("too many columns"));
  EXPECT_THAT(error(Azure("2023-11-16 18:15:46,3\n")),
              HasSubstr("t:2: a wrong number of columns: 2 instead of 3"));
  EXPECT_THAT(error(Azure("2023-11-16 18:15:46,,4\n")), HasSubstr("ContextTokens is empty"));
  EXPECT_THAT(error(Azure("2023-11-16 18:15:46,3,0\n")), HasSubstr("GeneratedTokens is 0"));
  EXPECT_THAT(error(Azure("2023-11-16 18:15:46,3,-4\n")),
              HasSubstr("'-4', not a number of tokens"));
  EXPECT_THAT(error(Azure("16.11.2023 18:15,3,4\n")), HasSubstr("TIMESTAMP is '16.11.2023 18:15'"));
  // A header that cannot be read is one also when bad lines are left out.
  const auto source = Read(ReadAzure, "when,ContextTokens,GeneratedTokens\na,1,1\n", kSkip);
  EXPECT_THAT(source->Failure()->message, HasSubstr("there is no column TIMESTAMP"));
}

TEST(Azure, UnknownColumnsArePassedOverWhenAsked) {
  const auto source = Read(ReadAzure,
                           "TIMESTAMP,Region,ContextTokens,GeneratedTokens\n"
                           "2023-11-16 18:15:46,west,3,4\n",
                           kSkip);
  EXPECT_EQ(Play(*source).jobs.size(), 1u);
  EXPECT_THAT(source->Skipped(), ElementsAre("columns not known, passed over: 'Region'"));
}

// --- OpenTelemetry

TEST(OpenTelemetry, ReadsAllFormsAndContinuesConversations) {
  auto source = Open("otel:" + DataFile("otel_spans.jsonl"), {}, {});
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const auto jobs = Play(**source).jobs;
  EXPECT_FALSE((*source)->Failure().has_value());
  EXPECT_THAT((*source)->Skipped(), ElementsAre("1 line: no model call (first: 2)"));
  ASSERT_EQ(jobs.size(), 4u);
  EXPECT_EQ(jobs[0].max_output_tokens, 64u);
  EXPECT_THAT(jobs[0].prompt, ElementsAre(Piece{jobs[0].prompt[0].content, 100}));
  // Written after a span that began later.
  EXPECT_EQ(jobs[1].at, seconds(3));
  EXPECT_EQ(jobs[1].session, jobs[0].session);
  EXPECT_THAT(jobs[1].prompt, ElementsAre(jobs[0].prompt[0], Piece{jobs[0].output_content, 20},
                                          Piece{jobs[1].prompt[2].content, 30}));
  EXPECT_EQ(jobs[2].at, milliseconds(3500));
  EXPECT_EQ(jobs[2].session, 0u);
  EXPECT_EQ(jobs[2].group, 1u);
  // Shorter than prompt and answer before: as far as the length allows.
  EXPECT_THAT(jobs[3].prompt, ElementsAre(jobs[0].prompt[0], Piece{jobs[0].output_content, 10}));
}

std::string SpanOf(uint64_t second, std::string_view conversation, int input, int output) {
  return "{\"startTimeUnixNano\":" + std::to_string(second * 1'000'000'000) +
         ",\"attributes\":{\"gen_ai.conversation.id\":\"" + std::string(conversation) +
         "\",\"gen_ai.usage.input_tokens\":" + std::to_string(input) +
         ",\"gen_ai.usage.output_tokens\":" + std::to_string(output) + "}}\n";
}

TEST(OpenTelemetry, SpansAreOrderedByTheirStart) {
  std::string text;
  for (uint64_t i = 0; i < 3000; ++i) text += SpanOf(5000 + (i ^ 255), "c", 10, 1);
  const auto source = Read(ReadOpenTelemetry, text);
  EXPECT_EQ(Play(*source).jobs.size(), 3000u);
  EXPECT_FALSE(source->Failure().has_value());
  // Out of reach of what is held.
  const std::string late = text + SpanOf(5000, "c", 10, 1);
  EXPECT_THAT(ErrorOf(ReadOpenTelemetry, late), HasSubstr("t:3001: time goes back"));
}

TEST(OpenTelemetry, ConversationsAreForgottenWhenTheyAreMany) {
  std::string text = SpanOf(0, "first", 100, 1);
  for (int i = 0; i < 5000; ++i) text += SpanOf(1, "c" + std::to_string(i), 10, 1);
  text += SpanOf(2, "first", 200, 1) + SpanOf(2, "c4999", 20, 1);
  const auto source = Read(ReadOpenTelemetry, text);
  const auto jobs = Play(*source).jobs;
  ASSERT_EQ(jobs.size(), 5003u);
  EXPECT_EQ(jobs[5001].prompt.size(), 1u);  // forgotten
  EXPECT_EQ(jobs[5002].prompt.size(), 3u);  // remembered
  EXPECT_EQ(source->Skipped().size(), 1u);
}

TEST(OpenTelemetry, ALongConversationStaysBounded) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += SpanOf(static_cast<uint64_t>(i), "c", 10 * (i + 1), 5);
  const auto source = Read(ReadOpenTelemetry, text);
  for (const Job& job : Play(*source).jobs) EXPECT_LE(job.prompt.size(), 1025u);
}

TEST(OpenTelemetry, SaysWhatIsWrong) {
  const auto error = [](std::string_view line) { return ErrorOf(ReadOpenTelemetry, line); };
  EXPECT_THAT(error(R"({"attributes":{"gen_ai.usage.input_tokens":1}})"),
              HasSubstr("t:1: a field is missing: there is no startTimeUnixNano"));
  EXPECT_THAT(error(R"({"start_time":"now","gen_ai.usage.input_tokens":1})"),
              HasSubstr("t:1: a time is not one: 'now'"));
  EXPECT_THAT(error(R"({"start_time":9,"end_time":8,"gen_ai.usage.input_tokens":1})"),
              HasSubstr("a span ends before it begins"));
  EXPECT_THAT(error(R"({"start_time":9,"gen_ai.request.model":"m"})"),
              HasSubstr("there is no gen_ai.usage.input_tokens"));
  EXPECT_THAT(error(R"({"start_time":9,"gen_ai.usage.input_tokens":3})"),
              HasSubstr("there is no gen_ai.usage.output_tokens"));
  EXPECT_THAT(
      error(R"({"start_time":9,"gen_ai.usage.input_tokens":3,"gen_ai.usage.output_tokens":0})"),
      HasSubstr("gen_ai.usage.output_tokens is 0"));
  EXPECT_THAT(error(R"({"resourceSpans":[{"scopeSpans":[]}]})"), HasSubstr("jq -c"));
  EXPECT_THAT(error(R"({"attributes":[{"key":"gen_ai.usage.input_tokens","value":{"intV)"),
              HasSubstr("t:1: not a JSON object"));
  EXPECT_THAT(error(R"({"name":"GET /"})"), HasSubstr("has no request in it"));
}

// --- times

TEST(ParseTimestamp, AgreesWithTimegm) {
  rc::check([](int32_t raw) {
    const time_t at = std::abs(static_cast<int64_t>(raw)) * 3;
    const tm parts = *gmtime(&at);
    char text[40];
    std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
    RC_ASSERT(ParseTimestamp(text) == at * 1'000'000'000);
    RC_ASSERT(
        ParseTimestamp(std::string(text) + ".25+01:30") ==
        (at >= 5400 ? std::optional((at - 5400) * 1'000'000'000 + 250'000'000) : std::nullopt));
  });
}

TEST(ParseTimestamp, RefusesWhatIsNone) {
  EXPECT_EQ(ParseTimestamp("1970-01-01 00:00:01.123456789Z"), 1'123'456'789);
  for (const char* text :
       {"", "2023", "2023-13-01 00:00:00", "2023-02-29 00:00:00", "2023-01-01 24:00:00",
        "2023-01-01 00:60:00", "2023-01-01 00:00:61", "2023-01-01 00:00:00.",
        "2023-01-01 00:00:00.1234567890", "2023-01-01 00:00:00+1", "2023-01-01 00:00:00 UTC",
        "1969-12-31 23:59:59", "2201-01-01 00:00:00", "2023-1-1 00:00:00", "-023-01-01 00:00:00"}) {
    EXPECT_EQ(ParseTimestamp(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace penstock::workload
