#include "plugins/filters/label_selector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock::plugins {
namespace {

using ::testing::HasSubstr;

TEST(LabelSelector, IsReadFromText) {
  const model::Labels labels = {{"llm-d.ai/inference-serving", "true"}, {"zone", "eu"}};
  const std::pair<std::string_view, bool> table[] = {
      {"", true},
      {"  ", true},
      {"llm-d.ai/inference-serving=true", true},
      {"zone==eu", true},
      {"zone = us", false},
      {"zone!=us, llm-d.ai/inference-serving=true", true},
      {"zone!=eu", false},
      {"zone in (us, eu)", true},
      {"zone in (us),zone", false},
      {"zone notin (us,eu)", false},
      {"rack notin (1)", true},
      {"zone", true},
      {"!zone", false},
      {"!rack,zone", true},
      {"rack", false},
      {"zone=", false},
  };
  for (const auto& [text, matches] : table) {
    const auto selector = ParseLabelSelector(text);
    ASSERT_TRUE(selector) << text << ": " << selector.error().message;
    EXPECT_EQ(selector->Problem(), "") << text;
    EXPECT_EQ(selector->Matches(labels), matches) << text;
  }
}

TEST(LabelSelector, NamesAConditionThatIsNone) {
  for (const std::string_view text :
       {"=b", "!=", "a in ()", "a within (b)", "a (b)", "b)", "!", "a b", "a=b,,c=d", "a in (b"}) {
    const auto selector = ParseLabelSelector(text);
    ASSERT_FALSE(selector) << text;
    EXPECT_THAT(selector.error().message, HasSubstr("is no condition on labels"));
  }
}

}  // namespace
}  // namespace penstock::plugins
