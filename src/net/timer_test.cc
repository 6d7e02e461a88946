#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "net/loop.h"

namespace penstock::net {
namespace {

TEST(Timer, FiresOnceOnItsLoopAndNotInsideStart) {
  Loop loop;
  int fired = 0;
  Timer timer(loop, [&] { ++fired; });
  EXPECT_FALSE(timer.pending());
  timer.Start(Duration(0));
  EXPECT_TRUE(timer.pending());
  EXPECT_EQ(fired, 0);
  Timer stop(loop, [&] { loop.Stop(); });
  stop.Start(milliseconds(5));
  loop.Run();
  EXPECT_EQ(fired, 1);
  EXPECT_FALSE(timer.pending());
}

TEST(Timer, NeverFiresEarly) {
  Loop loop;
  const Time begin = loop.Now();
  Timer timer(loop, [&] { loop.Stop(); });
  timer.Start(milliseconds(3));
  loop.Run();
  EXPECT_GE(loop.Now() - begin, milliseconds(3));
}

TEST(Timer, FireInTheOrderOfTheirTimes) {
  Loop loop;
  std::mt19937 random(7);
  std::vector<int> delays(500);
  std::iota(delays.begin(), delays.end(), 0);
  std::shuffle(delays.begin(), delays.end(), random);
  std::vector<int> fired;
  std::vector<std::unique_ptr<Timer>> timers;
  // Started far apart, against the time that the starting itself takes.
  for (const int delay : delays) {
    timers.push_back(std::make_unique<Timer>(loop, [&fired, &loop, delay] {
      fired.push_back(delay);
      if (delay == 499) loop.Stop();
    }));
  }
  loop.Post([&] {
    const Time begin = loop.Now();
    for (size_t i = 0; i < timers.size(); ++i)
      timers[i]->Start(begin + microseconds(100) * delays[i] - loop.Now());
  });
  loop.Run();
  EXPECT_TRUE(std::is_sorted(fired.begin(), fired.end()));
  EXPECT_EQ(fired.size(), delays.size());
}

TEST(Timer, CancelledAndDestroyedTimersDoNotFire) {
  Loop loop;
  std::mt19937 random(11);
  int fired = 0;
  std::vector<std::unique_ptr<Timer>> timers;
  for (int i = 0; i < 300; ++i) {
    timers.push_back(std::make_unique<Timer>(loop, [&] { ++fired; }));
    timers.back()->Start(microseconds(random() % 1000));
  }
  std::shuffle(timers.begin(), timers.end(), random);
  for (int i = 0; i < 100; ++i) {
    timers[i]->Cancel();
    timers[i]->Cancel();
    EXPECT_FALSE(timers[i]->pending());
    timers[100 + i].reset();
  }
  Timer stop(loop, [&] { loop.Stop(); });
  stop.Start(milliseconds(10));
  loop.Run();
  EXPECT_EQ(fired, 100);
}

TEST(Timer, StartReplacesThePendingOne) {
  Loop loop;
  int fired = 0;
  Timer sooner(loop, [&] { ++fired; });
  sooner.Start(std::chrono::hours(1));
  sooner.Start(Duration(0));
  Timer later(loop, [&] { ++fired; });
  later.Start(Duration(0));
  later.Start(std::chrono::hours(1));
  Timer stop(loop, [&] { loop.Stop(); });
  stop.Start(milliseconds(5));
  loop.Run();
  EXPECT_EQ(fired, 1);
  EXPECT_TRUE(later.pending());
}

TEST(Timer, MayStartAgainInsideItsFunction) {
  Loop loop;
  int fired = 0;
  Timer timer(loop, [&] {
    EXPECT_FALSE(timer.pending());
    if (++fired == 10) return loop.Stop();
    timer.Start(Duration(0));
    EXPECT_TRUE(timer.pending());
  });
  timer.Start(Duration(0));
  loop.Run();
  EXPECT_EQ(fired, 10);
}

TEST(Timer, ThatStartsItselfAgainLeavesRoomForOthers) {
  Loop loop;
  Timer timer(loop, [&] { timer.Start(Duration(-1)); });
  timer.Start(Duration(0));
  loop.Post([&] { loop.Post([&] { loop.Stop(); }); });
  loop.Run();
}

TEST(Timer, MayBeDestroyedInsideItsFunction) {
  Loop loop;
  std::unique_ptr<Timer> timer;
  auto token = std::make_shared<int>(1);
  std::weak_ptr<int> watched = token;
  timer = std::make_unique<Timer>(loop, [&timer, &loop, token = std::move(token)] {
    timer->Start(Duration(0));  // of no effect: it goes
    timer.reset();
    EXPECT_EQ(*token, 1) << "what the function holds stays until it returns";
    loop.Post([&loop] { loop.Stop(); });
  });
  timer->Start(Duration(0));
  loop.Run();
  EXPECT_TRUE(watched.expired());
}

TEST(Timer, MayDestroyAndCancelOthersThatAreDue) {
  Loop loop;
  int fired = 0;
  std::vector<std::unique_ptr<Timer>> timers;
  Timer cancelled(loop, [&] { ++fired; });
  Timer first(loop, [&] {
    timers.clear();
    cancelled.Cancel();
  });
  loop.Post([&] {
    first.Start(Duration(-100));
    for (int i = 0; i < 20; ++i) {
      timers.push_back(std::make_unique<Timer>(loop, [&] { ++fired; }));
      timers.back()->Start(Duration(0));
    }
    cancelled.Start(Duration(0));
  });
  Timer stop(loop, [&] { loop.Stop(); });
  stop.Start(milliseconds(5));
  loop.Run();
  EXPECT_EQ(fired, 0);
}

TEST(Timer, MayOutliveItsLoop) {
  auto loop = std::make_unique<Loop>();
  Timer timer(*loop, [] {});
  timer.Start(std::chrono::hours(1));
  loop.reset();
  EXPECT_FALSE(timer.pending());
}

}  // namespace
}  // namespace penstock::net
