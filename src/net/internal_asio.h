// What stands behind net::Loop. For .cc files of this module only.
#pragma once

#include <atomic>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <thread>
#include <vector>

#include "core/mutex.h"
#include "net/loop.h"
#include "net/stream.h"

namespace penstock::net {

namespace asio = boost::asio;
using Executor = asio::io_context::executor_type;

// An entry of the loop's timer heap. Cancelled by destruction.
class TimerNode {
 public:
  explicit TimerNode(Loop& loop) : loop_(loop) {}
  virtual ~TimerNode() { Cancel(); }
  TimerNode(const TimerNode&) = delete;
  TimerNode& operator=(const TimerNode&) = delete;
  void Start(Time when);
  void Cancel();
  bool pending() const { return index_ != kNone; }
  Time when() const { return when_; }
  virtual void Fire() = 0;

 private:
  friend class TimerHeap;
  static constexpr size_t kNone = ~size_t{0};
  Loop& loop_;
  Time when_{};
  size_t index_ = kNone;
};

// A binary heap in which every node knows its place: starting and cancelling allocate nothing, and
// the operating system hears of it only when the earliest time comes nearer.
class TimerHeap {
 public:
  explicit TimerHeap(Loop::Impl& loop);
  ~TimerHeap();  // leaves the nodes cancelled
  void Insert(TimerNode& node, Time when);
  void Remove(TimerNode& node);

 private:
  void Place(TimerNode* node, size_t index);
  void SiftUp(size_t index);
  void SiftDown(size_t index);
  void Arm();
  void OnTimer();

  Loop::Impl& loop_;
  asio::basic_waitable_timer<std::chrono::steady_clock,
                             asio::wait_traits<std::chrono::steady_clock>, Executor>
      timer_;
  std::vector<TimerNode*> heap_;
  Time armed_ = Time::max();
};

// Streams that asked for OnTurnEnd.
class TurnQueue {
 public:
  void Add(Stream& stream);
  void Run();
  bool empty() const { return waiting_.empty(); }

 private:
  std::vector<Ref<Stream>> waiting_, running_;
};

struct Loop::Impl {
  // Who has the loop to itself: the thread in Run, or for the time of one task a thread that found
  // nobody in Run.
  enum class Tenant : uint8_t { kNobody, kRun, kGuest };
  // Waits for a guest to leave; returns kRun at once, without having acquired, when another thread
  // is in Run.
  Tenant Acquire(Tenant wanted);
  void Release();

  void DrainPosted();
  void EnterTurn() { ++turn_depth; }
  void LeaveTurn() {
    if (--turn_depth == 0 && !turns.empty()) {
      ++turn_depth;
      turns.Run();
      --turn_depth;
    }
  }

  // One loop, one thread: descriptors need no locks, the queue of handlers keeps them for Post.
  asio::io_context io{static_cast<int>(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE_IO)};
  asio::executor_work_guard<Executor> work{io.get_executor()};
  TimerHeap timers{*this};
  TurnQueue turns;
  int turn_depth = 0;
  std::atomic<Tenant> tenant{Tenant::kNobody};
  std::atomic<std::thread::id> thread{};  // the tenant's

  Mutex mutex;  // Post is called from every thread
  std::vector<std::move_only_function<void()>> posted GUARDED_BY(mutex);
  bool closed GUARDED_BY(mutex) = false;
  std::vector<std::move_only_function<void()>> running_tasks;
};

// Wraps every callback that asio makes.
class Turn {
 public:
  explicit Turn(Loop::Impl& loop) : loop_(loop) { loop_.EnterTurn(); }
  ~Turn() { loop_.LeaveTurn(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Loop::Impl& loop_;
};

}  // namespace penstock::net
