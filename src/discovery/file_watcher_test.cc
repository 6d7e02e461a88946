#include "discovery/file_watcher.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <mutex>
#include <string>

#include "discovery/testing.h"

namespace penstock::discovery {
namespace {

namespace fs = std::filesystem;

std::string ContentOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Keeps the content that the last call saw.
class Watched {
 public:
  explicit Watched(const std::string& path, WatchOptions options = Fast()) {
    auto watcher = FileWatcher::Start(path, options, [this, path] {
      const std::string now = ContentOf(path);
      std::lock_guard lock(mutex_);
      content_ = now;
      ++calls_;
    });
    if (!watcher) std::abort();
    watcher_ = std::move(*watcher);
  }

  // Events must do it alone: looking comes only every hour.
  static WatchOptions Fast() {
    return {.quiet = milliseconds(2),
            .patience = milliseconds(50),
            .poll = std::chrono::hours(1),
            .poll_alone = milliseconds(2)};
  }
  static WatchOptions Polling() {
    WatchOptions options = Fast();
    options.inotify = WatchOptions::Inotify::kAvoid;
    return options;
  }

  bool Sees(const std::string& content) {
    return Eventually([&] {
      std::lock_guard lock(mutex_);
      return calls_ > 0 && content_ == content;
    });
  }
  int calls() {
    std::lock_guard lock(mutex_);
    return calls_;
  }

 private:
  std::mutex mutex_;
  std::string content_;
  int calls_ = 0;
  std::unique_ptr<FileWatcher> watcher_;
};

TEST(FileWatcher, CallsOnceAtTheStart) {
  TestFolder folder;
  folder.Write("f", "first");
  Watched watched(folder.At("f"));
  EXPECT_TRUE(watched.Sees("first"));
}

TEST(FileWatcher, SeesAnEditInPlace) {
  TestFolder folder;
  folder.Write("f", "first");
  Watched watched(folder.At("f"));
  ASSERT_TRUE(watched.Sees("first"));
  folder.Write("f", "second");
  EXPECT_TRUE(watched.Sees("second"));
}

TEST(FileWatcher, SeesAReplacementAgainAndAgain) {
  TestFolder folder;
  folder.Write("f", "first");
  Watched watched(folder.At("f"));
  for (int i = 0; i < 20; ++i) {
    folder.Replace("f", std::to_string(i));
    ASSERT_TRUE(watched.Sees(std::to_string(i)));
  }
}

TEST(FileWatcher, SeesDeletionAndReturn) {
  TestFolder folder;
  folder.Write("f", "first");
  Watched watched(folder.At("f"));
  ASSERT_TRUE(watched.Sees("first"));
  fs::remove(folder.At("f"));
  ASSERT_TRUE(watched.Sees(""));
  folder.Write("f", "back");
  EXPECT_TRUE(watched.Sees("back"));
}

// A mounted ConfigMap: f -> ..data/f, ..data -> ..1, and an update renames a new link over ..data.
TEST(FileWatcher, SeesTheSwapOfAConfigMap) {
  TestFolder folder;
  fs::create_directory(folder.At("..1"));
  folder.Write("..1/f", "first");
  fs::create_directory_symlink("..1", folder.At("..data"));
  fs::create_symlink("..data/f", folder.At("f"));
  Watched watched(folder.At("f"));
  ASSERT_TRUE(watched.Sees("first"));
  fs::create_directory(folder.At("..2"));
  folder.Write("..2/f", "second");
  fs::create_directory_symlink("..2", folder.At("..data_tmp"));
  fs::rename(folder.At("..data_tmp"), folder.At("..data"));
  fs::remove_all(folder.At("..1"));
  EXPECT_TRUE(watched.Sees("second"));
}

TEST(FileWatcher, IgnoresTheNeighbours) {
  TestFolder folder;
  folder.Write("f", "first");
  Watched watched(folder.At("f"));
  ASSERT_TRUE(watched.Sees("first"));
  const int before = watched.calls();
  for (int i = 0; i < 50; ++i) folder.Write("neighbour", std::to_string(i));
  folder.Replace("f", "second");
  ASSERT_TRUE(watched.Sees("second"));
  // Start and the replacement, whose two events may be told apart.
  EXPECT_LE(watched.calls() - before, 2);
}

TEST(FileWatcher, PollsWithoutInotify) {
  TestFolder folder;
  folder.Write("f", "first");
  Watched watched(folder.At("f"), Watched::Polling());
  ASSERT_TRUE(watched.Sees("first"));
  folder.Replace("f", "second");
  ASSERT_TRUE(watched.Sees("second"));
  fs::remove(folder.At("f"));
  ASSERT_TRUE(watched.Sees(""));
  folder.Write("f", "back");
  EXPECT_TRUE(watched.Sees("back"));
}

TEST(FileWatcher, FindsAFolderThatComesBack) {
  TestFolder folder;
  fs::create_directory(folder.At("d"));
  folder.Write("d/f", "first");
  Watched watched(folder.At("d/f"));
  ASSERT_TRUE(watched.Sees("first"));
  fs::remove_all(folder.At("d"));
  ASSERT_TRUE(watched.Sees(""));
  fs::create_directory(folder.At("d"));
  folder.Write("d/f", "back");
  ASSERT_TRUE(watched.Sees("back"));
  folder.Replace("d/f", "and again");
  EXPECT_TRUE(watched.Sees("and again"));
}

TEST(FileWatcher, SeesWhatALinkIntoAnotherFolderPointsTo) {
  TestFolder folder;
  fs::create_directory(folder.At("elsewhere"));
  folder.Write("elsewhere/f", "first");
  fs::create_symlink("elsewhere/f", folder.At("f"));
  WatchOptions options = Watched::Fast();
  options.poll = milliseconds(2);
  Watched watched(folder.At("f"), options);
  ASSERT_TRUE(watched.Sees("first"));
  folder.Write("elsewhere/f", "second");
  EXPECT_TRUE(watched.Sees("second"));
}

TEST(FileWatcher, StopsAtOnceWhileItWaits) {
  TestFolder folder;
  for (int i = 0; i < 20; ++i) Watched watched(folder.At("missing"));
}

}  // namespace
}  // namespace penstock::discovery
