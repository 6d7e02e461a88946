#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using sched::Picker;
using sched::Scorer;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::FloatEq;
using ::testing::FloatNear;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Kept;
using testing::Made;
using ::testing::Pointwise;
using testing::Scores;
using testing::TestPool;

sched::RequestContext With(std::string_view name, std::string_view value) {
  sched::RequestContext context;
  context.request.headers.push_back({name, value});
  return context;
}

// "default/e1"
constexpr std::string_view kE1 = "ZGVmYXVsdC9lMQ==";

TEST(SessionAffinityScorer, TheEndpointOfTheTokenScoresOne) {
  TestPool pool(3);
  const Made<Scorer> scorer("session-affinity-scorer");
  EXPECT_THAT(Scores(*scorer, pool, With("X-Session-Token", kE1)), ElementsAre(0, 1, 0));
  EXPECT_THAT(Scores(*scorer, pool), Each(0));
  EXPECT_THAT(Scores(*scorer, pool, With("x-session-token", "not base64!")), Each(0));
  // "default/e9"
  EXPECT_THAT(Scores(*scorer, pool, With("x-session-token", "ZGVmYXVsdC9lOQ==")), Each(0));
}

TEST(SessionAffinityScorer, ANameWithANamespaceKeepsIt) {
  TestPool pool(2);
  pool.pool.endpoints[0].spec.name = "prod/llama-0";
  pool.Index();
  const Made<Scorer> scorer("session-affinity-scorer");
  sched::RequestContext context;
  scorer->OnPicked(context, pool.columns, pool.Pick(0));
  ASSERT_EQ(context.response_headers.size(), 1u);
  EXPECT_EQ(context.response_headers[0].first, "x-session-token");
  const std::string token = context.response_headers[0].second;
  EXPECT_THAT(Scores(*scorer, pool, With("x-session-token", token)), ElementsAre(1, 0));
}

TEST(SessionAffinityScorer, ABindingChangesOnlyWhenItsEndpointIsGone) {
  TestPool pool(3);
  const Made<Scorer> scorer("session-affinity-scorer");
  sched::RequestContext context = With("x-session-token", kE1);
  scorer->OnPicked(context, pool.columns, pool.Pick(2));
  EXPECT_EQ(context.response_headers.at(0).second, kE1);
  pool.pool.endpoints[1].health = model::Health::kFailed;
  pool.Index();
  EXPECT_THAT(Scores(*scorer, pool, context), Each(0));
  scorer->OnPicked(context, pool.columns, pool.Pick(2));
  ASSERT_EQ(context.response_headers.size(), 1u);
  EXPECT_EQ(context.response_headers[0].second, "ZGVmYXVsdC9lMg==");  // "default/e2"
}

TEST(SessionAffinityScorer, RemembersSessionsById) {
  TestPool pool(3);
  const Made<Scorer> scorer("session-affinity-scorer", "{strategy: session_id}");
  sched::RequestContext anna = With("x-session-id", "anna");
  scorer->OnPicked(anna, pool.columns, pool.Pick(2));
  EXPECT_THAT(Scores(*scorer, pool, anna), ElementsAre(0, 0, 1));
  EXPECT_THAT(Scores(*scorer, pool, With("x-session-id", "bert")), Each(0));
  EXPECT_THAT(anna.response_headers, IsEmpty());
  scorer->OnPicked(anna, pool.columns, pool.Pick(0));
  EXPECT_THAT(Scores(*scorer, pool, anna), ElementsAre(0, 0, 1));
  scorer->OnEndpointRemoved(pool.pool.slots[2]);
  EXPECT_THAT(Scores(*scorer, pool, anna), Each(0));
}

TEST(SessionAffinityScorer, ForgetsSessionsThatRest) {
  TestPool pool(2);
  const Made<Scorer> scorer("session-affinity-scorer",
                            "{strategy: session_id, sessionIdConfig: {evictionTtlSeconds: 60}}");
  sched::RequestContext anna = With("x-session-id", "anna");
  const Time start = FromNanos(5'000'000'000);
  pool.columns.now = start;
  scorer->OnPicked(anna, pool.columns, pool.Pick(1, start));
  pool.columns.now = start + seconds(59);
  EXPECT_THAT(Scores(*scorer, pool, anna), ElementsAre(0, 1));
  scorer->OnPicked(anna, pool.columns, pool.Pick(1, pool.columns.now));
  pool.columns.now = start + seconds(118);
  EXPECT_THAT(Scores(*scorer, pool, anna), ElementsAre(0, 1));
  pool.columns.now = start + seconds(121);
  EXPECT_THAT(Scores(*scorer, pool, anna), Each(0));
}

TEST(SessionAffinityScorer, TakesTheFirstSourceThatIsThere) {
  TestPool pool(2);
  const Made<Scorer> scorer("session-affinity-scorer",
                            "{strategy: session_id, sessionIdConfig: {sources: [{header: x-a}, "
                            "{attribute: SessionID, producer: cookie}]}}");
  EXPECT_EQ(scorer->Needs().size(), 1u);
  EXPECT_EQ(scorer->Needs()[0].producer, "cookie");
  sched::RequestContext context;
  context.session_id = "from-cookie";
  scorer->OnPicked(context, pool.columns, pool.Pick(1));
  EXPECT_THAT(Scores(*scorer, pool, context), ElementsAre(0, 1));
  context.request.headers.push_back({"x-a", "from-header"});
  EXPECT_THAT(Scores(*scorer, pool, context), Each(0));
}

TEST(SessionAffinityScorer, RefusesSourcesThatSayNothingOrTooMuch) {
  EXPECT_THAT(ErrorsOf("session-affinity-scorer", "{sessionIdConfig: {sources: [{}]}}"),
              ElementsAre(HasSubstr("either header or attribute")));
  EXPECT_THAT(ErrorsOf("session-affinity-scorer", "{sessionIdConfig: {sources: []}}"),
              ElementsAre(HasSubstr("at least one")));
  EXPECT_THAT(ErrorsOf("session-affinity-scorer", "{strategy: cookie}"),
              ElementsAre(HasSubstr("session_id")));
}

}  // namespace
}  // namespace penstock::plugins
