#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using ::testing::ElementsAre;
using testing::ErrorsOf;
using ::testing::HasSubstr;
using testing::Made;

constexpr std::string_view kType = "header-profile-handler";

int Next(const Made<sched::ProfileHandler>& handler, std::string_view header,
         std::string_view value) {
  const std::vector<std::string> profiles = {"encode", "prefill", "decode"};
  sched::RequestContext context;
  if (!header.empty()) context.request.headers = {{header, value}};
  return handler->Next(context, profiles, {});
}

TEST(HeaderProfileHandler, RunsTheProfileThatTheHeaderNames) {
  const Made<sched::ProfileHandler> handler(kType);
  EXPECT_EQ(Next(handler, "epp-profile", "prefill"), 1);
  EXPECT_EQ(Next(handler, "epp-profile", " encode "), 0);
  EXPECT_EQ(Next(handler, "epp-profile", "Prefill"), -1);
  EXPECT_EQ(Next(handler, "epp-profile", "none"), -1);
}

TEST(HeaderProfileHandler, WithoutTheHeaderRunsTheDefault) {
  EXPECT_EQ(Next(Made<sched::ProfileHandler>(kType), "", ""), 2);
  EXPECT_EQ(Next(Made<sched::ProfileHandler>(kType), "epp-profile", ""), 2);
  const Made<sched::ProfileHandler> other(kType, "{headerName: x-stage, defaultProfile: encode}");
  EXPECT_EQ(Next(other, "epp-profile", "prefill"), 0);
  EXPECT_EQ(Next(other, "X-Stage", "prefill"), 1);
}

TEST(HeaderProfileHandler, RunsOneProfileOnly) {
  const Made<sched::ProfileHandler> handler(kType);
  const std::vector<std::string> profiles = {"decode"};
  const std::vector<sched::ProfileResult> results(1);
  EXPECT_EQ(handler->Next({}, profiles, results), -1);
  EXPECT_EQ(handler->Primary(results), 0u);
  EXPECT_EQ(handler->CheckProfiles(profiles), "");
}

TEST(HeaderProfileHandler, NeedsAHeader) {
  EXPECT_THAT(ErrorsOf(kType, "{headerName: ''}"), ElementsAre(HasSubstr("headerName")));
}

}  // namespace
}  // namespace penstock::plugins
