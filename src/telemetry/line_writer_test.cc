#include "telemetry/line_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace penstock::telemetry {
namespace {

using namespace std::chrono_literals;

constexpr auto kPatience = 60s;

std::string Gap(uint64_t dropped) { return std::to_string(dropped) + " missing\n"; }

// A pipe of the smallest size.
struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    read_end = ends[0];
    write_end = ends[1];
    EXPECT_GE(fcntl(write_end, F_SETPIPE_SZ, 4096), 4096);
  }
  ~Pipe() {
    close(read_end);
    close(write_end);
  }
  // Reads until `is_enough` holds for what has come.
  std::string ReadUntil(const std::function<bool(const std::string&)>& is_enough) const {
    std::string text;
    std::array<char, 4096> buffer{};
    while (!is_enough(text)) {
      const ssize_t count = read(read_end, buffer.data(), buffer.size());
      if (count <= 0) break;
      text.append(buffer.data(), static_cast<size_t>(count));
    }
    return text;
  }
  std::string ReadUntil(std::string_view end) const {
    return ReadUntil([end](const std::string& text) { return text.ends_with(end); });
  }
  int read_end = -1;
  int write_end = -1;
};

TEST(LineWriter, LinesArriveInOrder) {
  Pipe pipe;
  LineWriter writer(pipe.write_end, 1000, Gap);
  writer.Put("one\n");
  writer.Put("two\n");
  EXPECT_TRUE(writer.Flush(kPatience));
  EXPECT_EQ(pipe.ReadUntil("two\n"), "one\ntwo\n");
  EXPECT_EQ(writer.Dropped(), 0u);
}

TEST(LineWriter, AReaderThatStandsStillHoldsNobodyUpAndLearnsWhatItMissed) {
  Pipe pipe;
  LineWriter writer(pipe.write_end, 10'000, Gap);
  const std::string line(99, 'x');
  for (int i = 0; i < 1000; ++i) writer.Put(line + "\n");
  EXPECT_FALSE(writer.Flush(1ms));
  const uint64_t dropped = writer.Dropped();
  EXPECT_GT(dropped, 0u);

  // Lines and gaps: more than one if the thread was late to begin.
  uint64_t arrived = 0, missing = 0;
  (void)pipe.ReadUntil([&](const std::string& text) {
    arrived = missing = 0;
    for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
      if (text[at] == 'x') {
        EXPECT_EQ(end - at, 99u);
        ++arrived;
      } else {
        missing += std::stoull(text.substr(at));
      }
    }
    return arrived + missing == 1000;
  });
  EXPECT_EQ(missing, dropped);
  EXPECT_GE(arrived, 100u);
  EXPECT_TRUE(writer.Flush(kPatience));
  writer.Put("after\n");
  EXPECT_EQ(pipe.ReadUntil("after\n"), "after\n");
  EXPECT_EQ(writer.Dropped(), dropped);
}

TEST(LineWriter, ALineBeyondTheBufferIsAGap) {
  Pipe pipe;
  LineWriter writer(pipe.write_end, 10, Gap);
  writer.Put("first\n");
  EXPECT_EQ(pipe.ReadUntil("\n"), "first\n");  // its thread waits now, or soon
  EXPECT_TRUE(writer.Flush(kPatience));
  writer.Put("longer than ten\n");
  EXPECT_EQ(pipe.ReadUntil("\n"), "1 missing\n");
}

TEST(LineWriter, LinesToNobodyAreCounted) {
  signal(SIGPIPE, SIG_IGN);
  Pipe pipe;
  LineWriter writer(pipe.write_end, 1000, Gap);
  close(pipe.read_end);
  pipe.read_end = -1;
  writer.Put("one\n");
  writer.Put("two\n");
  EXPECT_TRUE(writer.Flush(kPatience));
  EXPECT_EQ(writer.Dropped(), 2u);
}

TEST(LineWriter, ADescriptorThatDoesNotBlockIsWaitedFor) {
  Pipe pipe;
  ASSERT_EQ(fcntl(pipe.write_end, F_SETFL, O_NONBLOCK), 0);
  LineWriter writer(pipe.write_end, 100'000, Gap);
  const std::string line(9'999, 'x');
  writer.Put(line + "\n");
  writer.Put("end\n");
  const std::string text = pipe.ReadUntil("end\n");
  EXPECT_EQ(text.size(), 10'004u);
  EXPECT_EQ(writer.Dropped(), 0u);
}

TEST(LineWriter, LinesOfSeveralThreadsDoNotMix) {
  Pipe pipe;
  LineWriter writer(pipe.write_end, 1'000'000, Gap);
  std::vector<std::jthread> threads;
  for (const char c : {'a', 'b', 'c', 'd'}) {
    threads.emplace_back([&writer, c] {
      for (int i = 0; i < 500; ++i) writer.Put(std::string(50, c) + "\n");
    });
  }
  threads.clear();
  writer.Put("end\n");
  const std::string text = pipe.ReadUntil("end\n");
  ASSERT_EQ(text.size(), 4u * 500 * 51 + 4);
  for (size_t at = 0; at + 51 < text.size(); at += 51) {
    ASSERT_EQ(text.substr(at, 51), std::string(50, text[at]) + "\n");
  }
}

}  // namespace
}  // namespace penstock::telemetry
