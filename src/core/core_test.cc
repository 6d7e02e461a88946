#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "core/arena.h"
#include "core/file.h"
#include "core/mask.h"
#include "core/random.h"
#include "core/result.h"
#include "core/snapshot.h"
#include "core/text.h"
#include "core/time.h"

namespace penstock {
namespace {

TEST(Text, NearestFindsATypingMistakeAndRefusesAStranger) {
  const std::array<std::string_view, 3> names = {"queue-scorer", "prefix-cache-scorer",
                                                 "random-picker"};
  EXPECT_EQ(Nearest("queue-scoer", names), "queue-scorer");
  EXPECT_EQ(Nearest("Random-Picker", names), "random-picker");
  EXPECT_EQ(Nearest("something-else-entirely", names), "");
  EXPECT_EQ(DidYouMean("prefx-cache-scorer", names), ", did you mean 'prefix-cache-scorer'?");
  EXPECT_EQ(DidYouMean("", names), "");
}

TEST(Arena, ArraysStayWhereTheyAreWhileItGrows) {
  Arena arena;
  std::vector<std::span<uint64_t>> arrays;
  for (uint64_t i = 0; i < 200; ++i) {
    arrays.push_back(arena.New<uint64_t>(i));
    for (uint64_t& value : arrays.back()) EXPECT_EQ(value, 0U);
    std::ranges::fill(arrays.back(), i);
    EXPECT_EQ(arena.Copy(std::vector<char>(i % 7, 'x')).size(), i % 7);
  }
  const Arena moved = std::move(arena);
  for (uint64_t i = 0; i < 200; ++i) {
    EXPECT_EQ(std::ranges::count(arrays[i], i), static_cast<std::ptrdiff_t>(i));
  }
  EXPECT_GE(moved.used(), 8U * 199 * 200 / 2);
  EXPECT_GE(moved.bytes(), moved.used());
}

TEST(Arena, TheNextFillingFindsOneBlock) {
  const std::vector<float> column(300, 1.5F);
  Arena arena;
  const auto fill = [&] {
    for (int i = 0; i < 10; ++i) arena.Copy(column);
  };
  fill();
  const size_t used = arena.used();
  Arena record = std::move(arena);
  EXPECT_EQ(arena.bytes(), 0U);  // NOLINT: it says what it is like then
  fill();
  EXPECT_EQ(arena.bytes(), used);
  EXPECT_EQ(arena.used(), used);
  arena.Clear();
  EXPECT_EQ(arena.bytes(), used) << "kept";
  EXPECT_EQ(arena.used(), 0U);
  record.Clear();
  EXPECT_EQ(record.bytes(), 0U) << "not several";
}

TEST(Mask, AViewReadsWhatAMaskHolds) {
  Mask mask;
  mask.Reset(130);
  for (const size_t i : {0, 64, 129}) mask.Set(i);
  const MaskView view = mask;
  EXPECT_EQ(view.size(), 130U);
  EXPECT_EQ(view.Count(), 3U);
  EXPECT_TRUE(view.Test(129) && !view.Test(128) && !view.Empty());
  EXPECT_EQ(Mask(view), mask);
  EXPECT_TRUE(MaskView().Empty());
}

TEST(Text, NumbersAreReadWholeOrNotAtAll) {
  EXPECT_EQ(ParseUint("18446744073709551615"), UINT64_MAX);
  for (const char* bad : {"", "-1", "+1", "1 ", " 1", "1e3", "18446744073709551616", "0x10"}) {
    EXPECT_EQ(ParseUint(bad), std::nullopt) << bad;
  }
  EXPECT_EQ(ParseDouble("1.5e3"), 1500.0);
  for (const char* bad : {"", "nan", "inf", "1.5x", "1e999"})
    EXPECT_EQ(ParseDouble(bad), std::nullopt) << bad;
}

TEST(Text, Utf8PrefixNeverCutsASequence) {
  const std::string_view s = "a\xc3\xa9\xe2\x82\xac";  // a, e acute, euro sign
  EXPECT_EQ(Utf8Prefix(s, 2), "a");
  EXPECT_EQ(Utf8Prefix(s, 3), "a\xc3\xa9");
  EXPECT_EQ(Utf8Prefix(s, 5), "a\xc3\xa9");
  EXPECT_EQ(Utf8Prefix(s, 99), s);
}

TEST(Text, AppendValidUtf8ReplacesWhatIsNotUtf8) {
  std::string out = "<";
  AppendValidUtf8("a\xc3\xa9\xf0\x9f\x98\x80", &out);
  EXPECT_EQ(out, "<a\xc3\xa9\xf0\x9f\x98\x80");
  out.clear();
  AppendValidUtf8(
      "\xff"
      "b\xc3\xed\xa0\x80\xf4\x90\x80\x80",
      &out);
  std::string bad = "\xef\xbf\xbd";
  std::string want = bad + "b" + bad;
  for (int i = 0; i < 7; ++i) want += bad;
  EXPECT_EQ(out, want);
}

TEST(Text, MarkupEscapedEndsNeitherTextNorValue) {
  EXPECT_EQ(MarkupEscaped("a<b> & \"c\" \xc3\xa9"), "a&lt;b> &amp; &quot;c&quot; \xc3\xa9");
}

TEST(Text, HeaderNamesCompareWithoutCase) {
  EXPECT_TRUE(EqualsIgnoreCase("Content-Length", "content-length"));
  EXPECT_FALSE(EqualsIgnoreCase("content-length", "content-lengt"));
  EXPECT_EQ(TrimSpace(" \t a b\r\n"), "a b");
}

TEST(ReadFile, GivesTheTextOfAFileAndRefusesEverythingElse) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("penstock_file_test." + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  const std::string path = folder / "text";
  std::ofstream(path) << std::string(100'000, 'x');
  EXPECT_EQ(ReadFile(path, 1 << 20).value(), std::string(100'000, 'x'));
  EXPECT_EQ(ReadFile(path, 99'999).error().code, Code::kOutOfRange);
  EXPECT_EQ(ReadFile(folder, 1 << 20).error().code, Code::kInvalidArgument);
  EXPECT_EQ(ReadFile(folder, 1 << 20).error().message, folder.string() + ": is not a file");
  EXPECT_EQ(ReadFile("/dev/zero", 1 << 20).error().code, Code::kInvalidArgument);
  EXPECT_EQ(ReadFile(folder / "none", 1 << 20).error().code, Code::kNotFound);
  std::filesystem::remove_all(folder);
}

TEST(Random, SameSeedSameNumbersAndBoundsHold) {
  Random a(7);
  Random b(7);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(a.Next(), b.Next());
    EXPECT_LT(a.Below(3), 3u);
    (void)b.Below(3);
    const double u = a.Uniform();
    EXPECT_GE(u, 0);
    EXPECT_LT(u, 1);
    (void)b.Uniform();
  }
}

TEST(PercentDecoded, TurnsEscapesIntoBytesAndLeavesTheRest) {
  EXPECT_EQ(PercentDecoded("/v1/%63hat%2Fx%2fy"), "/v1/chat/x/y");
  EXPECT_EQ(PercentDecoded("%00%fF"), std::string("\0\xff", 2));
  EXPECT_EQ(PercentDecoded("%%41%4"), "%A%4");
  EXPECT_EQ(PercentDecoded("%g1%1g%"), "%g1%1g%");
  EXPECT_EQ(PercentDecoded(""), "");
}

TEST(Random, BelowIsUniform) {
  Random random(1);
  std::array<int, 8> counts{};
  for (int i = 0; i < 80'000; ++i) ++counts[random.Below(8)];
  for (int count : counts) EXPECT_NEAR(count, 10'000, 500);
}

TEST(Mask, KeepsCountsAndWalksAcrossWords) {
  Mask mask;
  mask.Reset(130);
  EXPECT_TRUE(mask.Empty());
  for (size_t i : {0u, 63u, 64u, 129u}) mask.Set(i);
  EXPECT_EQ(mask.Count(), 4u);
  std::vector<size_t> seen;
  mask.ForEach([&](size_t i) { seen.push_back(i); });
  EXPECT_EQ(seen, (std::vector<size_t>{0, 63, 64, 129}));
  mask.Keep([](size_t i) { return i >= 64; });
  EXPECT_FALSE(mask.Test(63));
  EXPECT_TRUE(mask.Test(129));
  mask.Clear(129);
  EXPECT_EQ(mask.Count(), 1u);
}

TEST(SnapshotCell, ReadersSeeWhatWasStored) {
  SnapshotCell<int> cell(std::make_shared<int>(0));
  std::jthread writer([&] {
    for (int i = 1; i <= 1000; ++i) cell.Store(std::make_shared<int>(i));
  });
  SnapshotCell<int>::Reader reader;
  int last = 0;
  while (last < 1000) {
    const int now = *reader.Load(cell);
    EXPECT_GE(now, last);
    last = now;
  }
  EXPECT_EQ(*cell.Get(), 1000);
}

TEST(Result, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(Code::kInternal); ++i)
    names.insert(CodeName(static_cast<Code>(i)));
  EXPECT_EQ(names.size(), static_cast<size_t>(Code::kInternal) + 1);
}

TEST(Time, SecondsRoundTrip) {
  EXPECT_DOUBLE_EQ(ToSeconds(FromSeconds(1.25)), 1.25);
  EXPECT_EQ(FromNanos(ToNanos(Time(seconds(3)))), Time(seconds(3)));
}

}  // namespace
}  // namespace penstock
