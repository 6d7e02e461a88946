#include "app/kv_snapshots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <future>

#include "admin/caches_testing.h"
#include "core/file.h"

namespace penstock::app {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr size_t kMaxBytes = 1 << 20;

class KvSnapshotsTest : public ::testing::Test {
 protected:
  KvSnapshotsTest() {
    std::string pattern = (fs::temp_directory_path() / "kv_snapshots.XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
    settings.file = folder + "/kv";
    settings.secret_file = settings.file + ".secret";
    ingest.saved = {{.name = "a",
                     .address = "a:8000",
                     .position = {.sequence = 7},
                     .block_count = 3,
                     .blocks = "blocks"}};
  }
  ~KvSnapshotsTest() override { fs::remove_all(folder); }

  std::unique_ptr<KvSnapshots> Start() {
    auto started = KvSnapshots::Start(caches, ingest, settings);
    EXPECT_TRUE(started) << started.error().message;
    return std::move(*started);
  }
  static mode_t ModeOf(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
    return status.st_mode & 0777;
  }
  static admin::SnapshotMaker::Bytes Make(KvSnapshots& snapshots) {
    std::promise<admin::SnapshotMaker::Bytes> made;
    EXPECT_TRUE(snapshots.Make([&](auto bytes) { made.set_value(std::move(bytes)); }));
    return made.get_future().get();
  }

  std::string folder;
  sched::KvSnapshotSettings settings;
  kvcache::ExactCaches caches{
      {.index = {.block_tokens = 16, .max_slots = 8}, .secret = "sixteen bytes or more"}};
  admin::ToldIngest ingest;
};

TEST_F(KvSnapshotsTest, TheLastOneIsReadAtTheNextStart) {
  auto snapshots = Start();
  EXPECT_TRUE(ingest.restored_from.empty());
  EXPECT_EQ(*ReadFile(settings.secret_file, kMaxBytes), "sixteen bytes or more\n");
  EXPECT_EQ(ModeOf(settings.secret_file), 0600u);
  EXPECT_FALSE(fs::exists(settings.file));
  snapshots.reset();
  EXPECT_EQ(ModeOf(settings.file), 0600u);
  EXPECT_FALSE(fs::exists(settings.file + ".part"));
  snapshots = Start();
  ASSERT_EQ(ingest.restored_from.size(), 1u);
  EXPECT_EQ(ingest.restored_from[0].name, "a");
  EXPECT_EQ(ingest.restored_from[0].position.sequence, 7u);
  EXPECT_EQ(ingest.restored_from[0].blocks, "blocks");
  EXPECT_THAT(snapshots->Describe(), HasSubstr("/kv, every 60 s; 3 blocks of 1 engines from "));
}

TEST_F(KvSnapshotsTest, OneIsMadeForWhoAsks) {
  settings.file.clear();
  const auto snapshots = Start();
  EXPECT_THAT(snapshots->Describe(), HasSubstr("for other routers only"));
  EXPECT_LT(snapshots->stats().age_s, 0);
  const auto bytes = Make(*snapshots);
  ASSERT_NE(bytes, nullptr);
  EXPECT_TRUE(kvcache::DecodeSnapshot(caches.keys(), *bytes, kMaxBytes));
  EXPECT_NE(Make(*snapshots), nullptr);
  const admin::SnapshotStats stats = snapshots->stats();
  EXPECT_EQ(stats.served, 2u);
  EXPECT_EQ(stats.bytes, bytes->size());
  EXPECT_EQ(stats.publishers, 1u);
  EXPECT_EQ(stats.blocks, 3u);
  EXPECT_EQ(stats.written, 0u);
  EXPECT_GE(stats.age_s, 0);
}

TEST_F(KvSnapshotsTest, WhatCannotBeUsedIsCounted) {
  ASSERT_TRUE(WriteFile(settings.file, "something else"));
  EXPECT_EQ(Start()->stats().broken, 1u);
  fs::remove(settings.file);
  fs::create_directory(settings.file);
  auto snapshots = Start();
  EXPECT_EQ(snapshots->stats().unreadable, 1u);
  snapshots.reset();  // nor can it be written
  fs::remove(settings.file);
  Start().reset();
  const kvcache::ExactCaches others{
      {.index = {.block_tokens = 16, .max_slots = 8}, .secret = "another secret of theirs"}};
  ingest.restored_from.clear();
  EXPECT_EQ((*KvSnapshots::Start(others, ingest, settings))->stats().refused, 1u);
  EXPECT_TRUE(ingest.restored_from.empty());
}

TEST_F(KvSnapshotsTest, AFolderThatIsNotThereEndsTheStart) {
  settings.secret_file = folder + "/nowhere/secret";
  EXPECT_THAT(KvSnapshots::Start(caches, ingest, settings).error().message,
              HasSubstr("kvSnapshot.secretFile: " + settings.secret_file +
                        ": cannot be written: No such file"));
}

TEST_F(KvSnapshotsTest, ASiblingThatDoesNotAnswerIsCountedAndTheFileCounts) {
  Start().reset();
  settings.siblings = {"http://127.0.0.1:1", "http://[::1]:1/"};
  const auto snapshots = Start();
  EXPECT_EQ(snapshots->stats().unreachable, 2u);
  EXPECT_EQ(ingest.restored_from.size(), 1u);
}

}  // namespace
}  // namespace penstock::app
