#include "net/loop.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>
#include <vector>

namespace penstock::net {
namespace {

// Starts the loops and returns when each is in Run.
void StartAll(LoopPool& pool) {
  pool.Start();
  for (size_t i = 0; i < pool.size(); ++i) {
    std::promise<void> runs;
    pool.at(i).Post([&runs] { runs.set_value(); });
    runs.get_future().wait();
  }
}

TEST(Loop, RunsPostedTasksInOrder) {
  Loop loop;
  std::vector<int> ran;
  loop.Post([&] {
    ran.push_back(1);
    loop.Post([&] {
      ran.push_back(3);
      loop.Stop();
    });
  });
  loop.Post([&] { ran.push_back(2); });
  EXPECT_TRUE(ran.empty()) << "never inside Post";
  loop.Run();
  EXPECT_EQ(ran, (std::vector{1, 2, 3}));
}

TEST(Loop, TasksOfManyThreadsAllRunEachInItsOrder) {
  constexpr int kThreads = 4, kEach = 5000;
  LoopPool pool(1);
  pool.Start();
  std::vector<std::vector<int>> ran(kThreads);
  std::promise<void> all;
  int count = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < kEach; ++i) {
          pool.at(0).Post([&, t, i] {
            ran[t].push_back(i);
            if (++count == kThreads * kEach) all.set_value();
          });
        }
      });
    }
  }
  all.get_future().wait();
  for (const auto& list : ran) {
    ASSERT_EQ(list.size(), static_cast<size_t>(kEach));
    EXPECT_TRUE(std::is_sorted(list.begin(), list.end()));
  }
}

TEST(Loop, TasksPostedAfterRunAreDestroyedUnrun) {
  Loop loop;
  loop.Stop();
  loop.Run();
  auto token = std::make_shared<int>();
  bool has_run = false;
  loop.Post([token, &has_run] { has_run = true; });
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_FALSE(has_run);
}

TEST(Loop, TasksThatWaitWhenRunEndsAreDestroyedUnrun) {
  auto token = std::make_shared<int>();
  bool has_run = false;
  Loop loop;
  loop.Post([&, token] {
    loop.Stop();
    loop.Post([token, &has_run] { has_run = true; });
  });
  loop.Run();
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_FALSE(has_run);
}

TEST(Loop, LoopThatNeverRunsDestroysItsTasks) {
  auto token = std::make_shared<int>();
  {
    Loop loop;
    loop.Post([token] {});
  }
  EXPECT_EQ(token.use_count(), 1);
}

TEST(Loop, RunAndWaitRunsOnTheLoop) {
  LoopPool pool(2);
  StartAll(pool);
  std::thread::id first, second, nested;
  pool.at(0).RunAndWait([&] {
    first = std::this_thread::get_id();
    EXPECT_TRUE(pool.at(0).IsCurrent());
    EXPECT_FALSE(pool.at(1).IsCurrent());
    pool.at(0).RunAndWait([&] { nested = std::this_thread::get_id(); });
    pool.at(1).RunAndWait([&] { second = std::this_thread::get_id(); });
  });
  EXPECT_EQ(first, nested);
  EXPECT_NE(first, second);
  EXPECT_NE(first, std::this_thread::get_id());
}

TEST(Loop, RunAndWaitRunsHereWhenTheLoopDoesNot) {
  Loop loop;
  std::thread::id before, after;
  loop.RunAndWait([&] {
    before = std::this_thread::get_id();
    EXPECT_TRUE(loop.IsCurrent());
    loop.RunAndWait([&] { EXPECT_EQ(before, std::this_thread::get_id()); });
  });
  EXPECT_EQ(before, std::this_thread::get_id());
  EXPECT_FALSE(loop.IsCurrent());
  loop.Stop();
  loop.Run();
  loop.RunAndWait([&] { after = std::this_thread::get_id(); });
  EXPECT_EQ(after, std::this_thread::get_id());
}

// Whoever comes while the loop starts or ends still gets the loop to itself.
TEST(Loop, RunAndWaitExcludesAllOthersAlsoWhileTheLoopStartsAndEnds) {
  for (int round = 0; round < 200; ++round) {
    LoopPool pool(1);
    int unguarded = 0;
    {
      std::vector<std::jthread> threads;
      for (int t = 0; t < 3; ++t) {
        threads.emplace_back([&] {
          for (int i = 0; i < 20; ++i) pool.at(0).RunAndWait([&] { ++unguarded; });
        });
      }
      pool.Start();
      pool.at(0).Post([&] { ++unguarded; });
      std::this_thread::yield();
      pool.at(0).Stop();
    }
    pool.StopAndJoin();
    EXPECT_GE(unguarded, 60);
  }
}

TEST(Loop, RunWaitsForTheTaskOfAnotherThread) {
  Loop loop;
  std::promise<void> inside;
  std::atomic<bool> has_run{false};
  std::thread guest([&] {
    loop.RunAndWait([&] {
      inside.set_value();
      std::this_thread::yield();
      EXPECT_FALSE(has_run);
      loop.Post([&] {
        has_run = true;
        loop.Stop();
      });
    });
  });
  inside.get_future().wait();
  loop.Run();
  EXPECT_TRUE(has_run);
  guest.join();
}

TEST(LoopPool, HasAtLeastOneLoopAndStopsTwice) {
  LoopPool pool(0);
  EXPECT_EQ(pool.size(), 1u);
  pool.Start();
  pool.StopAndJoin();
  pool.StopAndJoin();
}

TEST(LoopPool, ThreadsBlockSignals) {
  LoopPool pool(1);
  StartAll(pool);
  pool.at(0).RunAndWait([] {
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    EXPECT_EQ(sigismember(&blocked, SIGTERM), 1);
  });
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  EXPECT_EQ(sigismember(&blocked, SIGTERM), 0);
}

TEST(SignalWatch, TellsOfEachSignal) {
  Loop loop;
  std::vector<int> told;
  SignalWatch watch(loop, [&](int signo) {
    told.push_back(signo);
    if (told.size() == 1) ::kill(::getpid(), SIGTERM);
    if (told.size() == 2) ::raise(SIGINT);
    if (told.size() == 3) loop.Stop();
  });
  ::kill(::getpid(), SIGHUP);
  loop.Run();
  EXPECT_EQ(told, (std::vector{SIGHUP, SIGTERM, SIGINT}));
}

TEST(SignalWatch, MayGoInsideItsCallback) {
  Loop loop;
  std::unique_ptr<SignalWatch> watch;
  watch = std::make_unique<SignalWatch>(loop, [&](int) {
    watch.reset();
    loop.Stop();
  });
  ::kill(::getpid(), SIGTERM);
  loop.Run();
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  EXPECT_EQ(sigismember(&blocked, SIGTERM), 0) << "as it was before";
}

}  // namespace
}  // namespace penstock::net
