#include "extproc/stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "extproc/testing.h"

namespace penstock::extproc {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::FakeCall;
using ::testing::HasSubstr;
using testing::Heard;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;
using testing::RequestBody;
using testing::RequestHeaders;
using testing::RequestTrailers;
using testing::ResponseBody;
using testing::ResponseHeaders;
using testing::ResponseTrailers;
using testing::Rig;
using testing::Says;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr std::string_view kBody = R"({"model": "m", "prompt": "hello there"})";

Says Head(testing::Pairs more = {}) {
  testing::Pairs headers = {{":method", "POST"}, {":path", "/v1/completions"}};
  headers.insert(headers.end(), more.begin(), more.end());
  return RequestHeaders().Headers(headers).Modes(4, 4);
}
Says AnswerHead(const std::string& status = "200", const std::string& type = "application/json") {
  return ResponseHeaders().Headers({{":status", status}, {"content-type", type}});
}

class StreamTest : public ::testing::Test {
 protected:
  explicit StreamTest(Options options = {}, uint64_t budget = uint64_t{1} << 30)
      : rig(2, options, budget), call(rig.loop), stream(new Stream(*rig.part, call)) {}
  void Say(const Says& says) { stream->OnMessage(says.Message()); }
  void SayRequest(testing::Pairs more = {}) {
    Say(Head(std::move(more)));
    Say(RequestBody().Body(kBody).Last());
  }
  std::shared_ptr<const director::DecisionRecord> Record() {
    const auto latest = rig.director->decisions().Latest(1);
    return latest.empty() ? nullptr : latest.front();
  }
  double Errors(std::string_view code) {
    return static_cast<double>(rig.registry.Expose().find("error_code=\"" + std::string(code) +
                                                          "\"") != std::string::npos);
  }

  Rig rig;
  FakeCall call;
  std::unique_ptr<Stream> stream;
};

TEST_F(StreamTest, HoldsTheRequestBackUntilAllOfItIsThere) {
  Say(Head());
  Say(RequestBody().Body(kBody.substr(0, 10)));
  EXPECT_THAT(call.messages, IsEmpty());
  Say(RequestBody().Body(kBody.substr(10)).Last());
  const std::vector<Heard> heard = call.AllHeard();
  ASSERT_THAT(heard, SizeIs(2));
  EXPECT_EQ(heard[0].number, 1u);
  EXPECT_TRUE(heard[0].clears_route);
  EXPECT_THAT(heard[0].destination, StartsWith("10.0.0."));
  EXPECT_THAT(heard[0].set, Contains(Pair(kDestinationHeader, heard[0].destination)));
  EXPECT_THAT(heard[0].set, Contains(Pair("content-length", std::to_string(kBody.size()))));
  EXPECT_THAT(heard[0].set, Contains(Pair("x-request-id", SizeIs(32))));
  EXPECT_EQ(heard[1].number, 3u);
  EXPECT_EQ(heard[1].body, kBody);
  EXPECT_TRUE(heard[1].is_last);
  EXPECT_EQ(rig.InFlight(), 1);
  EXPECT_EQ(rig.bodies.used(), 0u) << "what is handed on is not held any more";
}

TEST_F(StreamTest, FollowsTheAnswerToItsEnd) {
  SayRequest({{"x-request-id", "mine"}});
  EXPECT_THAT(call.AllHeard()[0].set, Not(Contains(Key("x-request-id"))));
  call.messages.clear();
  Say(AnswerHead());
  Say(ResponseBody().Body(R"({"usage": {"prompt_tok)"));
  Say(ResponseBody().Body(R"(ens": 7, "completion_tokens": 3}})").Last());
  const std::vector<Heard> heard = call.AllHeard();
  ASSERT_THAT(heard, SizeIs(3));
  EXPECT_EQ(heard[0].number, 2u);
  EXPECT_THAT(heard[0].set, Contains(Pair("x-went-into-resp-headers", "true")));
  EXPECT_FALSE(heard[0].clears_route);
  EXPECT_EQ(heard[1].number, 4u);
  EXPECT_FALSE(heard[1].is_last);
  EXPECT_TRUE(heard[2].is_last);
  EXPECT_EQ(heard[1].body + heard[2].body,
            R"({"usage": {"prompt_tokens": 7, "completion_tokens": 3}})");
  EXPECT_EQ(rig.InFlight(), 0);
  ASSERT_NE(Record(), nullptr);
  EXPECT_EQ(Record()->request_id, "mine");
  EXPECT_EQ(Record()->end, director::EndKind::kComplete);
  EXPECT_EQ(Record()->reported_input_tokens, 7u);
  EXPECT_EQ(Record()->output_tokens, 3u);
  EXPECT_FALSE(call.status);
  stream->OnHalfClose();
  EXPECT_EQ(call.status, grpc::Status::kOk);
}

TEST_F(StreamTest, CutsBodiesIntoChunksThatEnvoyTakes) {
  std::string prompt(150'000, 'x');
  const std::string body = R"({"model": "m", "prompt": ")" + prompt + "\"}";
  Say(Head());
  Say(RequestBody().Body(body).Last());
  std::string sent;
  std::vector<Heard> heard = call.AllHeard();
  for (size_t i = 1; i < heard.size(); ++i) {
    EXPECT_LE(heard[i].body.size(), kMaxChunk);
    EXPECT_EQ(heard[i].is_last, i + 1 == heard.size());
    sent += heard[i].body;
  }
  EXPECT_EQ(sent, body);
  call.messages.clear();
  Say(AnswerHead());
  Say(ResponseBody().Body(prompt).Last());
  heard = call.AllHeard();
  ASSERT_THAT(heard, SizeIs(4));
  EXPECT_EQ(heard[1].body + heard[2].body + heard[3].body, prompt);
  EXPECT_FALSE(heard[2].is_last);
  EXPECT_TRUE(heard[3].is_last);
}

TEST_F(StreamTest, SendsNoMoreOfABodyThanIsTaken) {
  const std::string body =
      R"({"model": "m", "prompt": ")" + std::string(4 * kMaxChunk, 'x') + "\"}";
  Say(Head());
  call.full_at = 3;
  Say(RequestBody().Body(body).Last());
  EXPECT_THAT(call.messages, SizeIs(3));
  EXPECT_GT(rig.bodies.used(), 0u);
  call.full_at = SIZE_MAX;
  stream->OnDrained();
  std::string sent;
  for (const Heard& h : call.AllHeard()) sent += h.body;
  EXPECT_EQ(sent, body);
  EXPECT_EQ(rig.bodies.used(), 0u);
  stream->OnDrained();
  EXPECT_THAT(call.messages, SizeIs(6));
}

TEST_F(StreamTest, AnswersThatComeEarlyDoNotEndTheRequestsBody) {
  const std::string body =
      R"({"model": "m", "prompt": ")" + std::string(4 * kMaxChunk, 'x') + "\"}";
  Say(Head());
  call.full_at = 2;
  Say(RequestBody().Body(body).Last());
  Say(AnswerHead());
  call.full_at = SIZE_MAX;
  stream->OnDrained();
  std::string sent;
  for (const Heard& h : call.AllHeard()) {
    if (h.number == 3) sent += h.body;
  }
  EXPECT_EQ(sent, body);
}

TEST_F(StreamTest, LeavesOutWhatOnlyTheRouterMaySay) {
  Say(Head({{"x-prefiller-host-port", "1.2.3.4:5"},
            {"X-Slo-Ttft-Ms", "7"},
            {"x-session-id", "s"},
            {std::string(kDestinationHeader), "6.6.6.6:6"}}));
  Say(RequestBody()
          .Body(R"({"model": "m", "kv_transfer_params": {"a": 1}, "prompt": "p"})")
          .Last());
  const std::vector<Heard> heard = call.AllHeard();
  EXPECT_THAT(heard[0].removed,
              ::testing::UnorderedElementsAre("x-prefiller-host-port", "X-Slo-Ttft-Ms"));
  EXPECT_EQ(heard[1].body, R"({"model": "m", "prompt": "p"})");
  EXPECT_EQ(heard[0].set.at("content-length"), std::to_string(heard[1].body.size()));
}

TEST_F(StreamTest, TheLastOfTwoHeadersCounts) {
  SayRequest({{"x-request-id", "first"}, {"x-request-id", "second"}});
  stream->OnCancel();
  EXPECT_EQ(Record()->request_id, "second");
}

TEST_F(StreamTest, DecidesWithoutABody) {
  Say(RequestHeaders().Headers({{":method", "GET"}, {":path", "/v1/models"}}).Last());
  const std::vector<Heard> heard = call.AllHeard();
  ASSERT_THAT(heard, SizeIs(1));
  EXPECT_THAT(heard[0].destination, StartsWith("10.0.0."));
  EXPECT_THAT(heard[0].set, Not(Contains(Key("content-length"))));
  Say(AnswerHead("204").Last());
  EXPECT_EQ(Record()->status, 204);
  EXPECT_EQ(Record()->end, director::EndKind::kComplete);
}

TEST_F(StreamTest, AnEmptyBodyIsHandedOnAsOneEmptyPiece) {
  Say(RequestHeaders().Headers({{":method", "POST"}, {":path", "/elsewhere"}}));
  Say(RequestBody().Last());
  const std::vector<Heard> heard = call.AllHeard();
  ASSERT_THAT(heard, SizeIs(2));
  EXPECT_EQ(heard[1].number, 3u);
  EXPECT_TRUE(heard[1].is_last);
}

TEST_F(StreamTest, TrailersEndABody) {
  Say(Head());
  Say(RequestBody().Body(kBody));
  Say(RequestTrailers());
  std::vector<Heard> heard = call.AllHeard();
  ASSERT_THAT(heard, SizeIs(3));
  EXPECT_THAT(heard[0].set, Not(Contains(Key("content-length"))));
  EXPECT_EQ(heard[1].body, kBody);
  EXPECT_FALSE(heard[1].is_last);
  EXPECT_EQ(heard[2].number, 5u);
  Say(AnswerHead());
  Say(ResponseBody().Body("{}"));
  EXPECT_EQ(rig.InFlight(), 1);
  Say(ResponseTrailers());
  heard = call.AllHeard();
  EXPECT_EQ(heard.back().number, 6u);
  EXPECT_EQ(rig.InFlight(), 0);
  EXPECT_EQ(Record()->end, director::EndKind::kComplete);
}

TEST_F(StreamTest, HeedsTheSubset) {
  Say(Head().Subset({"10.0.0.1:9999", "[fd00::1]:8000"}));
  Say(RequestBody().Body(kBody).Last());
  EXPECT_EQ(call.AllHeard()[0].destination, "10.0.0.1:8000");
  stream->OnCancel();
  EXPECT_THAT(*Record()->subset, ElementsAre("10.0.0.1", "fd00::1"));
}

TEST_F(StreamTest, AnEmptySubsetIsNobody) {
  Say(Head());
  Say(RequestBody().Body(kBody).Subset({}).Last());
  const std::vector<Heard> heard = call.AllHeard();
  ASSERT_THAT(heard, SizeIs(1));
  EXPECT_EQ(heard[0].number, 7u);
  EXPECT_EQ(heard[0].status, 503);
  EXPECT_THAT(heard[0].body, StartsWith("inference error: ServiceUnavailable - "));
  EXPECT_EQ(heard[0].set.at("x-llm-d-request-dropped-reason"), "rejected-no-endpoints");
  EXPECT_EQ(call.status, grpc::Status::kOk);
}

class DeafStreamTest : public StreamTest {
 protected:
  DeafStreamTest() : StreamTest({.heeds_subset = false, .emits_scores = true}) {}
};

TEST_F(DeafStreamTest, SubsetsCanBeTurnedOffAndScoresOn) {
  Say(Head().Subset({}));
  Say(RequestBody().Body(kBody).Last());
  const Heard heard = call.AllHeard()[0];
  EXPECT_EQ(heard.number, 1u);
  EXPECT_THAT(heard.scores, ElementsAre(Key("10.0.0.0:8000"), Key("10.0.0.1:8000")));
}

class SmallStreamTest : public StreamTest {
 protected:
  SmallStreamTest() : StreamTest({.max_body_bytes = 100'000}, 300'000) {}
};

TEST_F(SmallStreamTest, RefusesABodyAboveTheLimit) {
  Say(Head());
  Say(RequestBody().Body(std::string(60'000, ' ')));
  Say(RequestBody().Body(std::string(60'000, ' ')));
  const std::vector<Heard> heard = call.AllHeard();
  ASSERT_THAT(heard, SizeIs(1));
  EXPECT_EQ(heard[0].status, 413);
  EXPECT_EQ(rig.bodies.used(), 0u);
  Say(RequestBody().Last());
  EXPECT_THAT(call.messages, SizeIs(1));
}

TEST_F(SmallStreamTest, RefusesBodiesBeyondTheBudgetOfAll) {
  std::vector<std::unique_ptr<FakeCall>> calls;
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 6; ++i) {
    calls.push_back(std::make_unique<FakeCall>(rig.loop));
    streams.push_back(std::make_unique<Stream>(*rig.part, *calls.back()));
    streams.back()->OnMessage(Head().Message());
    streams.back()->OnMessage(RequestBody().Body(std::string(60'000, ' ')).Message());
  }
  EXPECT_LE(rig.bodies.used(), 300'000u);
  EXPECT_THAT(calls[0]->messages, IsEmpty());
  ASSERT_THAT(calls[5]->messages, SizeIs(1));
  EXPECT_EQ(calls[5]->AllHeard()[0].status, 503);
  streams.clear();
  EXPECT_EQ(rig.bodies.used(), 0u);
}

TEST_F(StreamTest, SaysWhatIsWrongWithABody) {
  Say(Head());
  Say(RequestBody().Body("{").Last());
  const Heard heard = call.AllHeard().at(0);
  EXPECT_EQ(heard.status, 400);
  EXPECT_THAT(heard.body, StartsWith("inference error: BadRequest - "));
  EXPECT_THAT(heard.set, IsEmpty());
  EXPECT_EQ(rig.InFlight(), 0);
}

TEST_F(StreamTest, AnAnswerWhoseBodyIsNotToldIsWholeWhenTheStreamEnds) {
  Say(RequestHeaders().Headers({{":method", "POST"}, {":path", "/v1/completions"}}).Modes(4, 0));
  Say(RequestBody().Body(kBody).Last());
  EXPECT_FALSE(stream->is_done());
  Say(AnswerHead());
  EXPECT_TRUE(stream->is_done());
  EXPECT_EQ(rig.InFlight(), 1);
  stream->OnCancel();
  EXPECT_EQ(rig.InFlight(), 0);
  EXPECT_EQ(Record()->end, director::EndKind::kComplete);
}

TEST_F(StreamTest, ASessionThatEndsEarlyIsCountedOnce) {
  SayRequest();
  Say(AnswerHead("200", "text/event-stream"));
  Say(ResponseBody().Body("data: {}\n\n"));
  EXPECT_EQ(rig.InFlight(), 1);
  stream->OnCancel();
  EXPECT_EQ(rig.InFlight(), 0);
  EXPECT_EQ(Record()->end, director::EndKind::kClientGone);
  stream.reset();
  EXPECT_EQ(rig.director->decisions().total(), 1u);
  EXPECT_THAT(rig.registry.Expose(), Not(HasSubstr("error_code=")));
}

TEST_F(StreamTest, HearsWhoServed) {
  SayRequest();
  const std::string picked = call.AllHeard()[0].destination;
  const std::string other = picked == "10.0.0.0:8000" ? "10.0.0.1:8000" : "10.0.0.0:8000";
  Say(AnswerHead().Served(other));
  EXPECT_EQ(rig.InFlight(), 1);
  Say(ResponseBody().Body("{}").Last());
  EXPECT_EQ(rig.InFlight(), 0);
  ASSERT_THAT(Record()->attempts, SizeIs(2));
  EXPECT_EQ(Record()->attempts[0].failure, "passed_over");
  EXPECT_EQ(Record()->attempts[1].address, other);
  // Whoever was picked could not be reached, or so it looks until his next scrape.
  const auto pool = rig.fleet.snapshot().Get();
  for (const auto& e : pool->endpoints) {
    EXPECT_EQ(e.health == model::Health::kHealthy, e.address == other) << e.address;
  }
}

TEST_F(StreamTest, HearsNothingNewOfWhoServed) {
  SayRequest();
  const std::string picked = call.AllHeard()[0].destination;
  Say(AnswerHead().Served(picked).Last());
  EXPECT_THAT(Record()->attempts, SizeIs(1));
  FakeCall second(rig.loop);
  Stream other(*rig.part, second);
  other.OnMessage(Head().Message());
  other.OnMessage(RequestBody().Body(kBody).Last().Message());
  other.OnMessage(AnswerHead().Served("1.2.3.4:5").Last().Message());
  EXPECT_THAT(Record()->attempts, SizeIs(1)) << "nobody of the pool";
}

TEST_F(StreamTest, ErrorsOfTheEngineAreCounted) {
  SayRequest();
  Say(AnswerHead("500").Last());
  EXPECT_EQ(Record()->status, 500);
  EXPECT_EQ(Errors("ModelServerError"), 1);
}

TEST_F(StreamTest, RefusesModesThatItDoesNotSpeak) {
  Say(RequestHeaders().Headers({{":path", "/"}}).Modes(2, 4));
  EXPECT_EQ(call.status, grpc::Status::kFailedPrecondition);
  EXPECT_THAT(call.text, HasSubstr("request_body_mode is BUFFERED"));
  EXPECT_EQ(rig.streams->bad_streams.Value(), 1u);
}

TEST_F(StreamTest, RefusesToBeWatchedOnly) {
  Say(RequestHeaders().Headers({{":path", "/"}}).Observed());
  EXPECT_EQ(call.status, grpc::Status::kFailedPrecondition);
}

TEST_F(StreamTest, RefusesWhatComesOutOfOrder) {
  const std::vector<std::vector<Says>> wrong = {
      {RequestBody().Body("x")},
      {RequestTrailers()},
      {AnswerHead()},
      {ResponseBody().Body("x")},
      {ResponseTrailers()},
      {Head(), Head()},
      {Head(), RequestBody().Body(kBody).Last(), RequestBody().Body("more")},
      {Head(), RequestBody().Body(kBody).Last(), RequestTrailers()},
      {Head(), RequestBody().Body(kBody).Last(), ResponseBody().Body("x")},
      {Head(), RequestBody().Body(kBody).Last(), AnswerHead(), AnswerHead()},
      {Says(12)},
  };
  for (size_t i = 0; i < wrong.size(); ++i) {
    FakeCall other(rig.loop);
    Stream bad(*rig.part, other);
    for (const Says& says : wrong[i]) bad.OnMessage(says.Message());
    EXPECT_EQ(other.status, grpc::Status::kInvalidArgument) << i;
    bad.OnMessage(AnswerHead().Message());
  }
  EXPECT_EQ(rig.InFlight(), 0);
  EXPECT_EQ(rig.streams->bad_streams.Value(), wrong.size());
}

TEST_F(StreamTest, LetsEnvoysOwnAnswersPass) {
  Say(Head());
  Say(RequestBody().Body("{"));
  Say(AnswerHead("408", "text/plain"));
  Say(ResponseBody().Body("too slow").Last());
  const std::vector<Heard> heard = call.AllHeard();
  ASSERT_THAT(heard, SizeIs(2));
  EXPECT_EQ(heard[0].number, 2u);
  EXPECT_EQ(heard[1].body, "too slow");
  EXPECT_EQ(rig.bodies.used(), 0u);
  EXPECT_EQ(rig.director->decisions().total(), 0u);
  stream->OnHalfClose();
  EXPECT_EQ(call.status, grpc::Status::kOk);
}

TEST_F(StreamTest, RefusesBytesThatAreNoMessage) {
  stream->OnMessage("\x12\xff");
  EXPECT_EQ(call.status, grpc::Status::kInvalidArgument);
}

TEST_F(StreamTest, EndsQuietlyAfterTheAnswer) {
  SayRequest();
  Say(AnswerHead().Last());
  Say(ResponseBody().Body("x"));
  EXPECT_FALSE(call.status);
  stream->OnHalfClose();
  EXPECT_EQ(call.status, grpc::Status::kOk);
  EXPECT_EQ(rig.streams->bad_streams.Value(), 0u);
}

}  // namespace
}  // namespace penstock::extproc
