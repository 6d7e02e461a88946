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

TEST(DecodeFilter, KeepsRolesThatDecodeAndUnlabelledOnes) {
  const std::vector<std::string> roles = {
      "decode", "prefill",        "prefill-decode",       "both",
      "encode", "encode-prefill", "encode-prefill-decode"};
  TestPool pool(roles.size() + 1);
  for (size_t i = 0; i < roles.size(); ++i) {
    pool.pool.endpoints[i].spec.labels = {{std::string(model::kRoleLabel), roles[i]}};
  }
  pool.Index();
  EXPECT_THAT(Kept(*Made<Filter>("decode-filter"), pool), ElementsAre(0, 2, 3, 6, 7));
}

}  // namespace
}  // namespace penstock::plugins
