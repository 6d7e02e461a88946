#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using sched::Picker;
using sched::Scorer;
using ::testing::Each;
using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Kept;
using testing::Made;
using testing::TestPool;

std::string SessionOf(std::string_view parameters, std::vector<model::HeaderView> headers) {
  sched::RequestContext context;
  context.request.headers = std::move(headers);
  Made<sched::Producer>("session-id-producer", parameters)->Prepare(context, Time());
  return context.session_id;
}

TEST(SessionIdProducer, ReadsAHeader) {
  EXPECT_EQ(SessionOf("{headerName: x-user}", {{"X-User", " anna "}}), "anna");
  EXPECT_EQ(SessionOf("{headerName: x-user}", {}), "");
}

TEST(SessionIdProducer, ReadsACookie) {
  const std::string_view parameters = "{cookieName: sid}";
  EXPECT_EQ(SessionOf(parameters, {{"cookie", "a=1; sid=anna; b=2"}}), "anna");
  EXPECT_EQ(SessionOf(parameters, {{"cookie", "sid=\"anna\""}}), "anna");
  EXPECT_EQ(SessionOf(parameters, {{"cookie", "xsid=1; sid2=2; sid"}}), "");
  EXPECT_EQ(SessionOf(parameters, {{"cookie", ";;=;"}}), "");
  EXPECT_EQ(SessionOf(parameters, {}), "");
}

TEST(SessionIdProducer, NeedsExactlyOneSource) {
  EXPECT_THAT(ErrorsOf("session-id-producer", "{}"), ElementsAre(HasSubstr("exactly one")));
  EXPECT_THAT(ErrorsOf("session-id-producer", "{headerName: a, cookieName: b}"),
              ElementsAre(HasSubstr("exactly one")));
}

}  // namespace
}  // namespace penstock::plugins
