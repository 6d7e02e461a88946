#include "app/docs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

namespace penstock::app {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Key;

class Docs : public ::testing::Test {
 protected:
  Docs() { std::filesystem::remove_all(folder_); }
  ~Docs() override { std::filesystem::remove_all(folder_); }

  std::map<std::string, std::string> Read() const {
    std::map<std::string, std::string> texts;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      std::ostringstream text;
      text << std::ifstream(entry.path()).rdbuf();
      texts[entry.path().filename()] = text.str();
    }
    return texts;
  }

  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("penstock_docs_test." + std::to_string(getpid()));
};

TEST_F(Docs, WritesTheSameFilesEveryTime) {
  const std::string inner = folder_ / "made/on/the/way";
  ASSERT_TRUE(WriteDocs(inner));
  std::filesystem::remove_all(folder_);
  ASSERT_TRUE(WriteDocs(folder_));
  const auto first = Read();
  EXPECT_THAT(first, ElementsAre(Key("configuration.md"), Key("configuration.schema.json"),
                                 Key("metrics.md"), Key("plugins.md")));
  ASSERT_TRUE(WriteDocs(folder_));
  EXPECT_EQ(Read(), first);
}

// Each is registered by another module; the gateway has to bring them together.
TEST_F(Docs, KnowTheMetricsOfEveryModule) {
  ASSERT_TRUE(WriteDocs(folder_));
  const std::string metrics = Read().at("metrics.md");
  for (const std::string_view name :
       {"llm_d_epp_request_total", "llm_d_epp_ready_endpoints", "llm_d_epp_prefix_indexer_size",
        "penstock_retries_total", "penstock_scrapes_total", "penstock_discovery_reloads_total",
        "penstock_http_requests_total", "process_cpu_seconds_total"}) {
    EXPECT_THAT(metrics, HasSubstr("| `" + std::string(name) + "` |"));
  }
}

TEST_F(Docs, NameTheFolderThatCannotBeWritten) {
  std::ofstream(folder_) << "a file";
  const auto written = WriteDocs(folder_);
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error().message, HasSubstr(folder_.string()));
}

}  // namespace
}  // namespace penstock::app
