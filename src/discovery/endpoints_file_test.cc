#include "discovery/endpoints_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock::discovery {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

std::vector<model::EndpointSpec> Specs(std::string_view text) {
  const Result<EndpointsFile> file = ParseEndpointsFile(text, "e.yaml");
  if (!file) {
    ADD_FAILURE() << file.error().message;
    return {};
  }
  std::vector<model::EndpointSpec> out;
  for (const SourcedEndpoint& endpoint : file->endpoints) out.push_back(endpoint.spec);
  return out;
}

TEST(EndpointsFile, ReadsTheShapeOfLlmd) {
  const auto specs = Specs(
      "endpoints:\n"
      "- name: a\n"
      "  namespace: default\n"
      "  address: 10.0.0.1\n"
      "  port: \"8000\"\n"
      "  labels: {llm-d.ai/role: decode, zone: eu}\n"
      "- {name: b, namespace: other, address: gpu-2.local, port: 8001}\n"
      "- {address: 'fd00::1', port: 8000, kvEventsPort: 5600}\n");
  ASSERT_EQ(specs.size(), 3u);
  EXPECT_EQ(specs[0].name, "a");
  EXPECT_EQ(specs[0].host, "10.0.0.1");
  EXPECT_EQ(specs[0].port, 8000);
  EXPECT_EQ(specs[0].metrics_port, 0);
  EXPECT_THAT(specs[0].labels, ElementsAre(Pair("llm-d.ai/role", "decode"), Pair("zone", "eu")));
  EXPECT_EQ(specs[1].name, "other/b");
  EXPECT_EQ(specs[1].host, "gpu-2.local");
  EXPECT_EQ(specs[2].name, "[fd00::1]:8000");
  EXPECT_EQ(specs[2].host, "fd00::1");
  EXPECT_EQ(specs[2].kv_events_port, 5600);
}

TEST(EndpointsFile, ReadsTheShortShape) {
  const auto specs = Specs(
      "endpoints:\n"
      "- {url: http://10.0.0.2:8000, name: n, role: prefill, engineType: sglang, metricsPort: 9000,"
      " ranks: 2}\n"
      "- {url: http://10.0.0.3}\n");
  ASSERT_EQ(specs.size(), 3u);
  EXPECT_EQ(specs[0].name, "n-rank-0");
  EXPECT_EQ(specs[1].name, "n-rank-1");
  EXPECT_EQ(specs[1].port, 8001);
  EXPECT_EQ(specs[1].metrics_port, 9001);
  EXPECT_THAT(specs[0].labels, ElementsAre(Pair(model::kEngineTypeLabel, "sglang"),
                                           Pair(model::kRoleLabel, "prefill")));
  EXPECT_EQ(specs[2].name, "10.0.0.3:80");
}

TEST(EndpointsFile, ReadsJson) {
  const auto specs = Specs(
      R"({"endpoints": [{"name": "a", "address": "127.0.0.1", "port": "80", "labels": {"z": "1"}}]})");
  ASSERT_EQ(specs.size(), 1u);
  EXPECT_EQ(specs[0].name, "a");
  EXPECT_THAT(specs[0].labels, ElementsAre(Pair("z", "1")));
}

TEST(EndpointsFile, TakesAnEmptyListWhenItIsSaid) { EXPECT_TRUE(Specs("endpoints: []\n").empty()); }

TEST(EndpointsFile, TellsWhereAnEndpointStands) {
  const auto file = ParseEndpointsFile("endpoints:\n- {url: http://a:1}\n- url: http://a:2\n", "f");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->endpoints[0].source, "f:2:3");
  EXPECT_EQ(file->endpoints[1].source, "f:3:3");
}

struct Wrong {
  std::string_view text;
  std::string_view message;
};

TEST(EndpointsFile, SaysWhereAndWhatIsWrong) {
  const Wrong kTable[] = {
      {"", "endpoints"},
      {"endpoints:\n", "e.yaml:1:"},
      {"- {url: http://a:1}\n", "e.yaml:1:1"},
      {"endpoints: [", "e.yaml:1:"},
      {"endpoints: 5\n", "e.yaml:1:12"},
      {"endpoints:\n- {url: http://a:99999}\n", "e.yaml:2:3: endpoints[0]: 'http://a:99999': port"},
      {"endpoints:\n- {url: http://a:0}\n", "port 0"},
      {"endpoints:\n- {url: ftp://a:1}\n", "no engine address"},
      {"endpoints:\n- {uri: http://x:1}\n", "e.yaml:2:4"},
      {"endpoints:\n- {uri: http://x:1}\n", "did you mean 'url'"},
      {"endpoints:\n- {adress: a, port: 1}\n", "did you mean 'address'"},
      {"endpoint:\n- {url: http://x:1}\n", "did you mean 'endpoints'"},
      {"endpoints:\n- {name: a}\n", "e.yaml:2:3: endpoints[0]: give url, or address and port"},
      {"endpoints:\n- {address: 10.0.0.1}\n", "address '10.0.0.1' needs a port"},
      {"endpoints:\n- {address: 10.0.0.1, port: [1]}\n", "needs a port"},
      {"endpoints:\n- {address: 10.0.0.1, port: abc}\n", "port"},
      {"endpoints:\n- {address: 10.0.0.1, port: 70000}\n", "port 70000 is above 65535"},
      {"endpoints:\n- {address: 10.0.0.999, port: 1}\n", "10.0.0.999"},
      {"endpoints:\n- {address: 'http://a', port: 1}\n", "address 'http://a' is not a host name"},
      {"endpoints:\n- {url: http://a:1, port: 1}\n", "not both"},
      {"endpoints:\n- {url: http://a:1, address: b}\n", "not both"},
      {"endpoints:\n- {url: http://a:1, ranks: 65}\n", "e.yaml:2:28: endpoints[0].ranks"},
      {"endpoints:\n- {url: http://a:1, role: cook}\n", "role"},
      {"endpoints:\n- {url: http://a:1, role: decode, labels: {llm-d.ai/role: prefill}}\n",
       "contradicts label"},
      {"endpoints:\n- {url: http://a:1}\n- {url: http://a:1, url: http://a:2}\n", "e.yaml:3:"},
      {std::string_view("endpoints:\0", 11), "control character"},
  };
  for (const Wrong& wrong : kTable) {
    const auto file = ParseEndpointsFile(wrong.text, "e.yaml");
    ASSERT_FALSE(file) << wrong.text;
    EXPECT_THAT(file.error().message, HasSubstr(wrong.message)) << wrong.text;
    EXPECT_THAT(file.error().message, HasSubstr("e.yaml:")) << wrong.text;
  }
}

TEST(EndpointsFile, TellsAllMistakesButNotWithoutEnd) {
  std::string text = "endpoints:\n";
  for (int i = 0; i < 1000; ++i) text += "- {url: nowhere}\n";
  const auto file = ParseEndpointsFile(text, "e.yaml");
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message, HasSubstr("e.yaml:2:3: endpoints[0]"));
  EXPECT_THAT(file.error().message, HasSubstr("e.yaml:3:3: endpoints[1]"));
  EXPECT_THAT(file.error().message, HasSubstr("and 980 more"));
}

TEST(EndpointsFile, WarnsOfNothingInAGoodFile) {
  EXPECT_TRUE(ParseEndpointsFile("endpoints: [{url: 'http://a:1'}]", "f")->warnings.empty());
}

SourcedEndpoint Endpoint(std::string name, uint16_t port, std::string source) {
  SourcedEndpoint out;
  out.spec.name = std::move(name);
  out.spec.host = "h";
  out.spec.port = port;
  out.source = std::move(source);
  return out;
}

TEST(Unite, KeepsTheOrder) {
  const auto all = Unite({Endpoint("a", 1, "x")}, {Endpoint("b", 2, "y"), Endpoint("c", 3, "z")});
  ASSERT_TRUE(all);
  ASSERT_EQ(all->size(), 3u);
  EXPECT_EQ((*all)[0].name, "a");
  EXPECT_EQ((*all)[2].name, "c");
}

TEST(Unite, NamesBothSidesOfAClash) {
  const auto address = Unite({Endpoint("a", 1, "engine 1")}, {Endpoint("b", 1, "f:2:3")});
  ASSERT_FALSE(address);
  EXPECT_EQ(address.error().code, Code::kAlreadyExists);
  EXPECT_EQ(address.error().message,
            "f:2:3: endpoint 'b' has the address h:1 of endpoint 'a' (engine 1)");
  const auto name = Unite({Endpoint("a", 1, "engine 1")}, {Endpoint("a", 2, "f:2:3")});
  ASSERT_FALSE(name);
  EXPECT_EQ(name.error().message,
            "f:2:3: the endpoint at h:2 has the name 'a' of the endpoint at h:1 (engine 1)");
}

TEST(Unite, FindsClashesInsideOneList) {
  EXPECT_FALSE(Unite({}, {Endpoint("a", 1, "f:2:3"), Endpoint("a", 1, "f:3:3")}));
}

}  // namespace
}  // namespace penstock::discovery
