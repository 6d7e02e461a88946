#include "wire/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock::wire {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string ErrorOf(std::string_view text) {
  const Result<YamlNode> tree = ParseYaml(text, "f.yaml");
  return tree ? "no error" : tree.error().message;
}

TEST(Yaml, RemembersWhereEveryNodeStood) {
  const Result<YamlNode> tree = ParseYaml("a: 1\nb:\n  - x\n  - {c: \"2\"}\n", "f.yaml");
  ASSERT_TRUE(tree) << tree.error().message;
  ASSERT_EQ(tree->kind, YamlNode::Kind::kMap);
  const YamlNode* a = tree->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->scalar, "1");
  EXPECT_FALSE(a->quoted);
  EXPECT_EQ(a->line, 1u);
  EXPECT_EQ(a->column, 4u);
  const YamlNode* b = tree->Find("b");
  ASSERT_NE(b, nullptr);
  ASSERT_EQ(b->items.size(), 2u);
  EXPECT_EQ(b->items[0].line, 3u);
  EXPECT_EQ(b->items[0].column, 5u);
  const YamlNode* c = b->items[1].Find("c");
  ASSERT_NE(c, nullptr);
  EXPECT_TRUE(c->quoted);
  EXPECT_EQ(c->line, 4u);
  EXPECT_EQ(At("f.yaml", *c, "wrong"), "f.yaml:4:9: wrong");
  EXPECT_EQ(tree->Find("d"), nullptr);
}

TEST(Yaml, BlockScalarsAreTexts) {
  const Result<YamlNode> tree = ParseYaml("a: |\n  12\nb: !!str 7\n", "f.yaml");
  ASSERT_TRUE(tree) << tree.error().message;
  EXPECT_TRUE(tree->Find("a")->quoted);
  EXPECT_EQ(tree->Find("a")->scalar, "12\n");
  EXPECT_TRUE(tree->Find("b")->quoted);
}

TEST(Yaml, AcceptsJson) {
  const Result<YamlNode> tree =
      ParseYaml("{\"a\":[1,2.5,true,null],\n\t\"b\":{\"c\":\"x\\n\\u00e9\\/\"}}", "f.json");
  ASSERT_TRUE(tree) << tree.error().message;
  ASSERT_EQ(tree->Find("a")->items.size(), 4u);
  EXPECT_EQ(tree->Find("a")->items[3].kind, YamlNode::Kind::kNull);
  EXPECT_EQ(tree->Find("b")->Find("c")->scalar, "x\n\xC3\xA9/");
}

TEST(Yaml, EmptyTextIsNull) {
  for (std::string_view text : {"", "# nothing\n", "---\n", "\xEF\xBB\xBF"}) {
    const Result<YamlNode> tree = ParseYaml(text, "f.yaml");
    ASSERT_TRUE(tree) << tree.error().message;
    EXPECT_EQ(tree->kind, YamlNode::Kind::kNull);
  }
}

TEST(Yaml, AliasesAreCopies) {
  const Result<YamlNode> tree = ParseYaml("a: &x {k: [1, 2]}\nb: *x\n", "f.yaml");
  ASSERT_TRUE(tree) << tree.error().message;
  const YamlNode* b = tree->Find("b");
  ASSERT_NE(b, nullptr);
  ASSERT_NE(b->Find("k"), nullptr);
  EXPECT_EQ(b->Find("k")->items[1].scalar, "2");
}

TEST(Yaml, ErrorsSayWhere) {
  EXPECT_EQ(ErrorOf("a: 1\na: 2\n"), "f.yaml:2:1: key 'a' is given twice");
  EXPECT_EQ(ErrorOf("{\"a\":1, \"a\":2}"), "f.yaml:1:9: key 'a' is given twice");
  EXPECT_EQ(ErrorOf("a: &x {b: 1}\nc:\n  <<: *x\n"),
            "f.yaml:3:3: merge keys (<<) are not supported");
  EXPECT_THAT(ErrorOf("a: *x\n"), StartsWith("f.yaml:1:4: "));
  EXPECT_EQ(ErrorOf("a: &x [*x]\n"), "f.yaml:1:8: an alias refers to a node that contains it");
  EXPECT_EQ(ErrorOf("a: 1\n---\nb: 2\n"),
            "f.yaml:2:1: more content after the end of the first document");
  EXPECT_EQ(ErrorOf("? [a]\n: 1\n"), "f.yaml:1:3: a key must be a text");
  EXPECT_EQ(ErrorOf("a: !!binary aGk=\n"),
            "f.yaml:1:4: tag 'tag:yaml.org,2002:binary' is not supported");
  EXPECT_THAT(ErrorOf("a: [1, 2\n"), StartsWith("f.yaml:"));
  EXPECT_THAT(ErrorOf("a: b: c\n"), StartsWith("f.yaml:1:"));
}

TEST(Yaml, RefusesBytesThatAreNoText) {
  EXPECT_EQ(ErrorOf("a: 1\nb: \xFF\n"), "f.yaml:2:4: the text is not valid UTF-8");
  EXPECT_EQ(ErrorOf("a: \xC0\x80"), "f.yaml:1:4: the text is not valid UTF-8");
  EXPECT_EQ(ErrorOf("a: \xED\xA0\x80"), "f.yaml:1:4: the text is not valid UTF-8");
  EXPECT_EQ(ErrorOf("a: \xE2\x82"), "f.yaml:1:4: the text is not valid UTF-8");
  EXPECT_EQ(ErrorOf(std::string_view("a: \0b", 5)),
            "f.yaml:1:4: control character 0 is not allowed");
  // yaml-cpp would take this one for the end of the text and lose the rest in silence.
  EXPECT_EQ(ErrorOf("a: 1\n\x04\nb: 2\n"), "f.yaml:2:1: control character 4 is not allowed");
  EXPECT_THAT(ErrorOf(std::string_view("\xFF\xFE"
                                       "a\0",
                                       4)),
              HasSubstr("UTF-8"));
}

TEST(Yaml, DepthIsBounded) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_EQ(ErrorOf(nested(64)), "no error");
  EXPECT_EQ(ErrorOf(nested(65)), "f.yaml:1:65: nested deeper than 64 levels");
  EXPECT_THAT(ErrorOf(std::string(1u << 20, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(ErrorOf(std::string(1u << 20, '{')), StartsWith("f.yaml:1:"));
  // An alias may not smuggle depth in.
  const std::string deep = "a: &x " + nested(60) + "\nb: [[[[*x]]]]\n";
  EXPECT_THAT(ErrorOf(deep), HasSubstr("nested deeper"));
}

TEST(Yaml, AliasBombsAreStopped) {
  std::string nodes = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string n = std::to_string(i), before = std::to_string(i - 1);
    nodes += "a" + n + ": &a" + n + " [";
    for (int k = 0; k < 10; ++k) nodes += (k ? ",*a" : "*a") + before;
    nodes += "]\n";
  }
  EXPECT_THAT(ErrorOf(nodes), HasSubstr("more than 200000 nodes"));

  std::string bytes = "a: &a \"" + std::string(1u << 20, 'x') + "\"\nb: [";
  for (int i = 0; i < 1000; ++i) bytes += "*a, ";
  bytes += "]\n";
  EXPECT_THAT(ErrorOf(bytes), HasSubstr("larger than 16 MiB"));
}

TEST(Yaml, SizeIsBounded) {
  EXPECT_THAT(ErrorOf(std::string((4u << 20) + 1, ' ')), HasSubstr("more than 4194304"));
  std::string many = "[";
  for (int i = 0; i < 200'001; ++i) many += "1,";
  EXPECT_THAT(ErrorOf(many + "]"), HasSubstr("more than 200000 nodes"));
}

}  // namespace
}  // namespace penstock::wire
