#include "app/scheduling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock::app {
namespace {

constexpr std::string_view kWithTokenizer = R"(
plugins:
- {type: single-profile-handler, name: handler}
- {type: tokenizer, name: tokens, parameters: {models: [{tokenizer: /nowhere/model}]}}
- {type: precise-prefix-cache-producer, name: precise}
- {type: least-cost-scorer, name: cost}
- {type: max-score-picker, name: picker}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: cost}, {pluginRef: picker}]
)";

TEST(SchedulerOfYaml, OpensNoFileThatARecordingNames) {
  const auto scheduler = SchedulerOfYaml(std::string(kWithTokenizer));
  ASSERT_TRUE(scheduler) << scheduler.error().message;
  EXPECT_NE((*scheduler)->knows_caches(), nullptr);
  EXPECT_FALSE((*scheduler)->PreparesSlowly());
}

TEST(SchedulerOfYaml, SaysWhatIsMissing) {
  EXPECT_THAT(SchedulerOfYaml("plugins: []").error().message,
              ::testing::HasSubstr("plugins and schedulingProfiles are needed"));
}

}  // namespace
}  // namespace penstock::app
