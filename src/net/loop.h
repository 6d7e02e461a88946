// One event loop per core, timers, and messages between loops. The library behind it (Boost.Asio)
// is seen only in .cc files.
//
// THREADS: a Loop runs on one thread; everything made on it is used on it. Only Post, RunAndWait,
// Stop and Now are for other threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "core/time.h"

namespace penstock::net {

class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until Stop. Signals are blocked on this thread by the caller.
  void Run();
  void Stop();
  // Runs `task` on the loop, soon, in order of posting. From any thread. Tasks posted after Run
  // returned are destroyed unrun.
  void Post(std::move_only_function<void()> task);
  // Runs `task` on the loop and returns when it has run; on the calling thread when the loop does
  // not run (not yet, or not any more) or is the caller's own.
  void RunAndWait(std::move_only_function<void()> task);
  // The steady clock, read now.
  Time Now() const;
  // Whether the calling thread is the one that is in Run, or in a task of RunAndWait.
  bool IsCurrent() const;

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// A one-shot timer. Start again replaces the pending one; destruction cancels. Fires on its loop,
// never inside Start.
class Timer {
 public:
  Timer(Loop& loop, std::move_only_function<void()> on_fire);
  ~Timer();
  void Start(Duration delay);
  void Cancel();
  bool pending() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// N loops on N threads (thread names penstock-0, ...). The destructor stops and joins.
class LoopPool {
 public:
  explicit LoopPool(size_t loops);
  ~LoopPool();
  size_t size() const;
  Loop& at(size_t i);
  void Start();
  void StopAndJoin();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Calls `on_signal(signo)` on the loop for SIGINT, SIGTERM and SIGHUP. Make it before threads
// start: it blocks them on the calling thread, and threads inherit that (as do child processes,
// which must unblock them).
class SignalWatch {
 public:
  SignalWatch(Loop& loop, std::function<void(int)> on_signal);
  ~SignalWatch();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace penstock::net
