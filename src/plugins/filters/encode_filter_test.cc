#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "plugins/testing.h"

namespace penstock::plugins {
namespace {

using sched::Filter;
using ::testing::ElementsAre;
using testing::Kept;
using testing::Made;
using testing::TestPool;

TEST(EncodeFilter, KeepsItsRolesAndNoUnlabelledOnes) {
  const std::vector<std::string> roles = {
      "decode", "prefill",        "prefill-decode",       "both",
      "encode", "encode-prefill", "encode-prefill-decode"};
  TestPool pool(roles.size() + 1);
  for (size_t i = 0; i < roles.size(); ++i) {
    pool.pool.endpoints[i].spec.labels = {{std::string(model::kRoleLabel), roles[i]}};
  }
  pool.Index();
  EXPECT_THAT(Kept(*Made<Filter>("encode-filter"), pool), ElementsAre(4, 5, 6));
}

}  // namespace
}  // namespace penstock::plugins
