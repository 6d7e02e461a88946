#include "admin/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "admin/testing.h"

namespace penstock::admin {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(Explain, TellsTheWholeStoryInOrder) {
  Rig rig(4);
  rig.scheduler->keep = {true, true, false, true};
  rig.scheduler->scores = {0.9F, 0.5F, 1.0F, 0.1F};
  rig.scheduler->other_scores = {0.5F, 0.4F};
  rig.scheduler->matched = {80, 3};
  EXPECT_THAT(Explain(*rig.Complete("r")),
              ElementsAre("The request asks for llama with about 5,200 input tokens.",
                          "4 of 4 engines could take it.",
                          "e0 is believed to hold 80 of the prompt's 85 blocks in its cache (94 "
                          "%); the best of the "
                          "others, e1, 3.",
                          "The filter told-filter kept 3 of 4: e0, e1 and e3.",
                          "e0 had the highest total, 2.30 (told-scorer 0.90 × 2 + other-scorer "
                          "0.50 × 1), before e1 "
                          "with 1.40. What made the difference: best score of told-scorer.",
                          "The first byte came after 120 ms. The answer (status 200) was complete "
                          "after 3.50 s, with "
                          "214 output tokens.",
                          "The engine found 5,000 of 5,210 input tokens in its cache (96 %)."));
}

TEST(Explain, SaysWhoToldOfTheMatch) {
  using model::MatchSource;
  Rig rig(3);
  rig.scheduler->scores = {0.9F, 0.5F};
  rig.scheduler->matched = {80, 3, 0};
  rig.scheduler->told_blocks = {80, 0, 0};
  rig.scheduler->match_sources = {MatchSource::kExact, MatchSource::kApproximate,
                                  MatchSource::kDegraded};
  EXPECT_THAT(Explain(*rig.Complete("exact")),
              Contains("e0 holds 80 of the prompt's 85 blocks in its cache (94 %), as its engine "
                       "told; the best of the others, e1, 3."));
  rig.scheduler->told_blocks = {20, 0, 0};
  rig.scheduler->match_sources[0] = MatchSource::kDegraded;
  EXPECT_THAT(
      Explain(*rig.Complete("degraded")),
      Contains("e0 holds 20 of the prompt's 85 blocks in its cache (24 %), 80 with requests "
               "on their way, as its engine told, though something was missed; the best of "
               "the others, e1, 3."));
  rig.scheduler->told_blocks = {84, 0, 0};
  rig.scheduler->match_sources[0] = MatchSource::kExact;
  EXPECT_THAT(Explain(*rig.Complete("queued")),
              Contains("e0 holds 84 of the prompt's 85 blocks in its cache (99 %), counted as 80, "
                       "as its engine told; the best of the others, e1, 3."));
}

TEST(Explain, ATieAndADrawAreCalledWhatTheyAre) {
  Rig rig(3);
  rig.scheduler->scores = {0.5F, 0.5F, 0.1F};
  EXPECT_THAT(Explain(*rig.Complete("tie")),
              Contains(HasSubstr("e0 and 1 other tied at the highest "
                                 "total, 1.00")));
  rig.scheduler->pick = 2;
  EXPECT_THAT(Explain(*rig.Complete("low")),
              Contains(HasSubstr("The picker drew e2 with a total of 0.20, although e0 had 1.00")));
  rig.scheduler->scores.clear();
  EXPECT_THAT(Explain(*rig.Complete("none")), Contains(HasSubstr("The picker drew e2 among 3")));
}

std::string Briefly(Rig& rig, std::string id) {
  return ExplainBriefly(*rig.Complete(std::move(id)));
}

TEST(ExplainBriefly, StickinessSaysHowMuchIsHeld) {
  Rig rig(4);
  rig.scheduler->filter_type = "prefix-cache-affinity-filter";
  rig.scheduler->scorer_type = "token-load-scorer";
  rig.scheduler->matched = {84, 0, 0, 80};
  rig.scheduler->keep = {true};
  rig.scheduler->scores = {0.5F};
  EXPECT_EQ(Briefly(rig, "one"), "holds 84 of 85 prompt blocks; sticky");
  rig.scheduler->keep = {true, false, false, true};
  rig.scheduler->in_flight_tokens = {1248, 0, 0, 9000};
  rig.scheduler->scores = {0.9F, 1, 1, 0.5F};
  EXPECT_EQ(Briefly(rig, "two"),
            "holds 84 of 85 prompt blocks; sticky; fewest uncached tokens in flight (1,348)");
}

TEST(ExplainBriefly, LeastTimeSaysWhatItDependsOn) {
  Rig rig(4);
  rig.scheduler->scorer_type = "least-cost-scorer";
  rig.scheduler->matched = {84, 0, 0, 80};
  rig.scheduler->in_flight_tokens = {0, 0, 0, 9000};
  rig.scheduler->scores = {0.9F, 0.5F, 0.5F, 0.7F};
  EXPECT_EQ(Briefly(rig, "one"),
            "least time, its own and the others' (holds 84 of 85 prompt blocks)");
  EXPECT_THAT(Explain(*rig.Complete("long")),
              Contains(HasSubstr("(holds 84 of 85 prompt blocks); e3 holds 80 of 85 prompt blocks, "
                                 "9,000 uncached tokens in flight.")));
}

TEST(ExplainBriefly, SaysWhyNobodyIsSticky) {
  Rig rig(4);
  rig.scheduler->filter_type = "prefix-cache-affinity-filter";
  rig.scheduler->why_all_pass = "nobody holds enough of the prompt";
  rig.scheduler->scorer_type = "token-load-scorer";
  rig.scheduler->keep = {true, true, true, true};
  rig.scheduler->in_flight_tokens = {1248, 2000, 2000, 2000};
  rig.scheduler->scores = {0.99999F, 0.9999F, 0.9999F, 0.9999F};
  EXPECT_EQ(Briefly(rig, "r"),
            "nobody holds enough of the prompt; fewest uncached tokens in flight (1,348)");
  const auto sentences = Explain(*rig.Complete("long"));
  EXPECT_THAT(sentences, Contains("The filter told-filter let all 4 pass: nobody holds enough of "
                                  "the prompt."));
  EXPECT_THAT(sentences, Contains(HasSubstr("1.999980 (told-scorer 1.00 × 2")));
  EXPECT_THAT(sentences, Contains(HasSubstr("What made the difference: fewest uncached tokens in "
                                            "flight (1,348); e1 2,100.")));
}

TEST(ExplainBriefly, TiesDrawsAndRetriesAreCalledWhatTheyAre) {
  Rig rig(4);
  rig.scheduler->scores = {1, 1, 1, 1};
  EXPECT_EQ(Briefly(rig, "tie"), "tie of 4, drawn at random");
  // Closer than two digits tell, and yet no tie.
  rig.scheduler->scores = {1, 0.9999999F, 0.5F, 0.5F};
  rig.scheduler->scorer_type = "queue-scorer";
  EXPECT_EQ(Briefly(rig, "close"), "shortest queue (3)");
  rig.scheduler->picker_type = "weighted-random-picker";
  EXPECT_EQ(Briefly(rig, "weighted"), "drawn by score among 4");
  rig.scheduler->picker_type = "random-picker";
  EXPECT_EQ(Briefly(rig, "random"), "drawn at random among 4");
  rig.scheduler->picker_type = "round-robin-picker";
  EXPECT_EQ(Briefly(rig, "turn"), "its turn among 4");
  rig.scheduler->picker_type = "random-picker";
  director::Arrival arrival = rig.Arrive("retry");
  ASSERT_TRUE(arrival.flight->OnTryFailed(director::TryFailure::kStatus503, Time() + seconds(2)));
  EXPECT_EQ(ExplainBriefly(arrival.flight->record()),
            "e0 failed (status_503); drawn at random among 3");
}

TEST(ExplainBriefly, TheScorerThatDecidedIsNamedInPlainWords) {
  Rig rig(2);
  rig.scheduler->scores = {0.5F, 0.6F};
  rig.scheduler->other_scores = {1, 0};
  rig.scheduler->scorer_type = "kv-cache-utilization-scorer";
  EXPECT_EQ(Briefly(rig, "other"), "best score of other-scorer");
  rig.scheduler->scores = {0.6F, 0.5F};
  rig.scheduler->other_scores = {};
  rig.scheduler->scorer_type = "prefix-cache-scorer";
  rig.scheduler->matched = {31, 0};
  EXPECT_EQ(Briefly(rig, "prefix"), "holds 31 of 85 prompt blocks");
  rig.scheduler->told_blocks = {31, 0};
  rig.scheduler->match_sources = {model::MatchSource::kExact, model::MatchSource::kApproximate};
  EXPECT_EQ(Briefly(rig, "exact"), "exact: holds 31 of 85 prompt blocks");
  rig.scheduler->match_sources[0] = model::MatchSource::kApproximate;
  EXPECT_EQ(Briefly(rig, "approximate"), "approximate: holds 31 of 85 prompt blocks");
  rig.scheduler->scorer_type = "session-affinity-scorer";
  EXPECT_EQ(Briefly(rig, "session"), "the session is bound to it");
  rig.fleet.ScrapeFailed(1, "timeout", Time());
  EXPECT_EQ(Briefly(rig, "only"), "the only candidate");
}

TEST(Explain, TheOnlyOneLeftNeedsNoScore) {
  Rig rig(2);
  rig.scheduler->keep = {false, true};
  rig.scheduler->scores = {1, 0};
  const auto record = rig.Complete("r");
  EXPECT_THAT(Explain(*record), Contains("e1 was the only one left, so it was picked."));
  EXPECT_EQ(ExplainBriefly(*record), "told-filter kept 1 of 2");
}

TEST(Explain, ARetryNamesTheFailureAndLeavesTheFirstOut) {
  Rig rig(3);
  director::Arrival arrival = rig.Arrive("r");
  ASSERT_TRUE(arrival.flight->OnTryFailed(director::TryFailure::kConnect, Time() + seconds(2)));
  arrival.flight->OnEnd(director::EndKind::kClientGone, 0, "", {}, Time() + seconds(3));
  const auto record = rig.director->decisions().Find("r");
  ASSERT_EQ(record->attempts.size(), 2u);
  EXPECT_FALSE(CandidatesOf(*record, 1).Test(0));
  const std::vector<std::string> sentences = Explain(*record);
  EXPECT_THAT(sentences,
              Contains("e0 did not answer (connect), so the request was tried elsewhere."));
  EXPECT_THAT(sentences, Contains("2 of 3 engines could take it: e0 had been tried."));
  EXPECT_THAT(sentences.back(), HasSubstr("The client went away after 1.00 s"));
}

TEST(Explain, WhoIsNoCandidateIsNamedWithTheReason) {
  Rig rig(5);
  rig.fleet.ScrapeFailed(1, "connection refused", Time() + seconds(1));
  rig.fleet.ModelsRead(2, {"gemma"}, R"({"id":"gemma"})");
  EXPECT_THAT(
      Explain(*rig.Complete("r")),
      Contains("3 of 5 engines could take it: e1 is not healthy (connection refused); e2 does "
               "not serve the model."));
}

TEST(Explain, WhoIsOutsideOfTheProxysSubsetIsNoCandidate) {
  Rig rig(3);
  const auto record = std::const_pointer_cast<director::DecisionRecord>(rig.Complete("r"));
  director::DecisionRecord& restricted = *record;
  const auto& endpoints = record->attempts[0].pool->endpoints;
  restricted.subset = {endpoints[1].spec.host};
  EXPECT_EQ(CandidatesOf(restricted, 0).Count(), 1U);
  EXPECT_TRUE(CandidatesOf(restricted, 0).Test(1));
  EXPECT_EQ(WhyNotACandidate(restricted, 0, 2), "is none that the proxy allows");
}

TEST(Explain, ARefusalGivesTheStatusAndTheReason) {
  Rig rig(2);
  rig.scheduler->drain = true;
  EXPECT_EQ(rig.Arrive("full").flight, nullptr);
  EXPECT_THAT(Explain(*rig.director->decisions().Find("full")).back(),
              HasSubstr("The client got status 429: No engine can take the request now: the filter "
                        "'told-filter' left none."));
  EXPECT_EQ(rig.Arrive("unknown", "gemma").flight, nullptr);
  EXPECT_THAT(Explain(*rig.director->decisions().Find("unknown")).back(), HasSubstr("status 404"));
  EXPECT_THAT(ExplainBriefly(*rig.director->decisions().Find("unknown")), HasSubstr("gemma"));
}

TEST(Explain, EveryEndHasItsSentence) {
  using director::EndKind;
  for (EndKind end : {EndKind::kRunning, EndKind::kComplete, EndKind::kClientGone,
                      EndKind::kEngineGone, EndKind::kTimeout, EndKind::kRejected}) {
    director::DecisionRecord record;
    record.end = end;
    record.reason = "silence";
    const std::vector<std::string> sentences = Explain(record);
    ASSERT_EQ(sentences.size(), 2u);
    EXPECT_THAT(sentences[0], HasSubstr("names no model"));
    EXPECT_THAT(sentences[1], testing::AnyOf(testing::EndsWith("."), testing::EndsWith("silence")));
  }
}

TEST(Explain, AnEndpointThatIsGoneFromThePoolIsNoMystery) {
  Rig rig(2);
  const auto kept = std::const_pointer_cast<director::DecisionRecord>(rig.Complete("r"));
  director::DecisionRecord& record = *kept;
  record.attempts[0].slot = 12;
  EXPECT_THAT(Explain(record), Not(Contains(HasSubstr("picked"))));
  EXPECT_EQ(ExplainBriefly(record), "");
  record.attempts[0].pool = nullptr;
  EXPECT_EQ(ExplainBriefly(record), "");
  EXPECT_EQ(Explain(record).size(), 3u);
}

}  // namespace
}  // namespace penstock::admin
