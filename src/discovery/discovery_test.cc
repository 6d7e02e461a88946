#include "discovery/discovery.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "discovery/endpoints_file.h"
#include "discovery/testing.h"

namespace penstock::discovery {
namespace {

using ::testing::HasSubstr;
using Names = std::set<std::string>;

class DiscoveryTest : public ::testing::Test {
 protected:
  void AddEngine(std::string url, std::string name) {
    config::EngineConfig engine;
    engine.url = std::move(url);
    engine.name = std::move(name);
    config_.engines.push_back(std::move(engine));
  }
  void UseFile(std::string_view text) {
    folder_.Write("endpoints.yaml", text);
    config_.endpoints_file = folder_.At("endpoints.yaml");
  }
  Result<> Start() {
    auto discovery = Discovery::Start(config_, fleet_, registry_,
                                      {.quiet = milliseconds(2), .poll = std::chrono::hours(1)});
    if (!discovery) return std::unexpected(discovery.error());
    discovery_ = std::move(*discovery);
    return {};
  }
  Names Present() const {
    Names out;
    const auto pool = fleet_.snapshot().Get();
    for (const auto& endpoint : pool->endpoints) out.insert(endpoint.spec.name);
    return out;
  }
  uint64_t Count(std::string_view name) { return registry_.AddCounter(name, "").Value(); }
  uint64_t Errors() { return Count("penstock_discovery_reload_errors_total"); }
  uint64_t Reloads() { return Count("penstock_discovery_reloads_total"); }

  TestFolder folder_;
  config::ServeConfig config_;
  director::Fleet fleet_{8};
  telemetry::Registry registry_;
  std::unique_ptr<Discovery> discovery_;
};

TEST_F(DiscoveryTest, TakesTheEnginesOfTheConfiguration) {
  AddEngine("http://10.0.0.1:1", "a");
  AddEngine("http://10.0.0.2:1", "");
  ASSERT_TRUE(Start());
  EXPECT_EQ(Present(), (Names{"a", "10.0.0.2:1"}));
  EXPECT_EQ(registry_.AddGauge("penstock_discovery_endpoints", "").Value(), 2);
}

TEST_F(DiscoveryTest, UnitesConfigurationAndFile) {
  AddEngine("http://10.0.0.1:1", "a");
  UseFile("endpoints: [{url: 'http://10.0.0.2:1', name: b}]");
  ASSERT_TRUE(Start());
  EXPECT_EQ(Present(), (Names{"a", "b"}));
  folder_.Replace("endpoints.yaml", "endpoints: []");
  EXPECT_TRUE(Eventually([&] { return Present() == Names{"a"}; }));
  EXPECT_TRUE(Eventually([&] { return Reloads() == 1; }));
  EXPECT_EQ(Errors(), 0u);
}

TEST_F(DiscoveryTest, NothingNamedIsAnEmptyFleet) {
  ASSERT_TRUE(Start());
  EXPECT_TRUE(Present().empty());
}

TEST_F(DiscoveryTest, MissingFileAtTheStartIsAnError) {
  config_.endpoints_file = folder_.At("nowhere.yaml");
  const Result<> started = Start();
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, Code::kNotFound);
  EXPECT_THAT(started.error().message, HasSubstr("nowhere.yaml"));
}

TEST_F(DiscoveryTest, WrongFileAtTheStartIsAnError) {
  UseFile("endpoints: [{uri: x}]");
  EXPECT_THAT(Start().error().message, HasSubstr("endpoints.yaml:1:14"));
}

TEST_F(DiscoveryTest, FolderOrHugeFileIsAnError) {
  config_.endpoints_file = folder_.path().string();
  EXPECT_THAT(Start().error().message, HasSubstr("is not a file"));
  UseFile(std::string(kMaxEndpointsFileBytes + 1, ' '));
  EXPECT_THAT(Start().error().message, HasSubstr("larger than 4 MiB"));
}

TEST_F(DiscoveryTest, ClashOfConfigurationAndFileNamesBoth) {
  AddEngine("http://10.0.0.1:1", "a");
  UseFile("endpoints: [{url: 'http://10.0.0.1:1', name: b}]");
  const std::string message = Start().error().message;
  EXPECT_THAT(message, HasSubstr("endpoints.yaml:1:13"));
  EXPECT_THAT(message, HasSubstr("engine 1 of the configuration"));
}

TEST_F(DiscoveryTest, BrokenEditKeepsTheLastGoodState) {
  UseFile("endpoints: [{url: 'http://10.0.0.1:1', name: a}]");
  ASSERT_TRUE(Start());
  const std::string_view kBroken[] = {
      "endpoints: [",
      "",
      "endpoints: [{url: 'http://10.0.0.1:99999'}]",
      "endpoints: [{url: 'http://h:1'}, {url: 'http://h:1'}]",
      "endpoints: [{url: 'http://h:1', ranks: 9}]",  // more than the fleet takes
  };
  uint64_t errors = 0;
  for (std::string_view text : kBroken) {
    folder_.Replace("endpoints.yaml", text);
    ++errors;
    ASSERT_TRUE(Eventually([&] { return Errors() == errors; })) << text;
    EXPECT_EQ(Present(), Names{"a"});
  }
  EXPECT_EQ(Reloads(), 0u);
  folder_.Replace("endpoints.yaml", "endpoints: [{url: 'http://10.0.0.2:1', name: b}]");
  EXPECT_TRUE(Eventually([&] { return Present() == Names{"b"}; }));
  EXPECT_TRUE(Eventually([&] { return Reloads() == 1; }));
}

TEST_F(DiscoveryTest, DeletedFileKeepsTheEndpointsAndIsToldOnce) {
  UseFile("endpoints: [{url: 'http://10.0.0.1:1', name: a}]");
  ASSERT_TRUE(Start());
  std::filesystem::remove(config_.endpoints_file);
  ASSERT_TRUE(Eventually([&] { return Errors() == 1; }));
  EXPECT_EQ(Present(), Names{"a"});
  folder_.Replace("endpoints.yaml", "endpoints: [{url: 'http://10.0.0.2:1', name: b}]");
  EXPECT_TRUE(Eventually([&] { return Present() == Names{"b"}; }));
  EXPECT_EQ(Errors(), 1u);
}

TEST_F(DiscoveryTest, SameContentAgainIsNoReload) {
  const std::string_view text = "endpoints: [{url: 'http://10.0.0.1:1', name: a}]";
  UseFile(text);
  ASSERT_TRUE(Start());
  folder_.Replace("endpoints.yaml", text);
  folder_.Replace("endpoints.yaml", "endpoints: [{url: 'http://10.0.0.1:1', name: b}]");
  ASSERT_TRUE(Eventually([&] { return Reloads() == 1; }));
  EXPECT_EQ(Present(), Names{"b"});
}

}  // namespace
}  // namespace penstock::discovery
