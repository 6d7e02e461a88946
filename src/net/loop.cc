#include "net/loop.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <future>
#include <string>
#include <utility>

#include "net/internal_asio.h"

namespace penstock::net {

// --- timers

TimerHeap::TimerHeap(asio::io_context& io) : timer_(io.get_executor()) {}

TimerHeap::~TimerHeap() {
  for (TimerNode* node : heap_) node->index_ = TimerNode::kNone;
}

void TimerHeap::Place(TimerNode* node, size_t index) {
  heap_[index] = node;
  node->index_ = index;
}

void TimerHeap::SiftUp(size_t index) {
  TimerNode* node = heap_[index];
  while (index > 0) {
    const size_t parent = (index - 1) / 2;
    if (heap_[parent]->when_ <= node->when_) break;
    Place(heap_[parent], index);
    index = parent;
  }
  Place(node, index);
}

void TimerHeap::SiftDown(size_t index) {
  TimerNode* node = heap_[index];
  while (true) {
    size_t child = 2 * index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1]->when_ < heap_[child]->when_) ++child;
    if (node->when_ <= heap_[child]->when_) break;
    Place(heap_[child], index);
    index = child;
  }
  Place(node, index);
}

void TimerHeap::Insert(TimerNode& node, Time when) {
  if (node.pending()) Remove(node);
  node.when_ = when;
  heap_.push_back(&node);
  node.index_ = heap_.size() - 1;
  SiftUp(node.index_);
  if (heap_[0] == &node) Arm();
}

void TimerHeap::Remove(TimerNode& node) {
  const size_t index = node.index_;
  TimerNode* last = heap_.back();
  heap_.pop_back();
  node.index_ = TimerNode::kNone;
  if (last == &node) return;
  Place(last, index);
  SiftUp(index);
  SiftDown(last->index_);
}

void TimerHeap::Arm() {
  if (heap_.empty() || armed_ <= heap_[0]->when_) return;
  armed_ = heap_[0]->when_;
  timer_.expires_at(armed_);
  timer_.async_wait([this](boost::system::error_code error) {
    if (error) return;  // armed again, for an earlier time
    OnTimer();
  });
}

void TimerHeap::OnTimer() {
  armed_ = Time::max();
  const Time now = std::chrono::steady_clock::now();
  while (!heap_.empty() && heap_[0]->when_ <= now) {
    TimerNode* node = heap_[0];
    Remove(*node);
    node->Fire();
  }
  Arm();
}

void TimerNode::Start(Time when) { loop_.impl().timers.Insert(*this, when); }

void TimerNode::Cancel() {
  if (pending()) loop_.impl().timers.Remove(*this);
}

struct Timer::Impl : TimerNode {
  Impl(Loop& loop, std::move_only_function<void()> fire)
      : TimerNode(loop), on_fire(std::move(fire)) {}
  void Fire() override {
    is_firing = true;
    on_fire();
    is_firing = false;
    if (is_orphan) delete this;
  }
  std::move_only_function<void()> on_fire;
  bool is_firing = false;
  bool is_orphan = false;
};

Timer::Timer(Loop& loop, std::move_only_function<void()> on_fire)
    : impl_(std::make_unique<Impl>(loop, std::move(on_fire))) {}

Timer::~Timer() {
  if (!impl_->is_firing) return;
  // The function runs, and what it captured must stay until it returns.
  impl_->Cancel();
  impl_.release()->is_orphan = true;
}

void Timer::Start(Duration delay) { impl_->Start(std::chrono::steady_clock::now() + delay); }
void Timer::Cancel() { impl_->Cancel(); }
bool Timer::pending() const { return impl_->pending(); }

// --- turns

void TurnQueue::Add(Stream& stream) {
  if (std::exchange(stream.is_deferred_, true)) return;
  waiting_.emplace_back(&stream);
  if (std::exchange(is_run_due_, true)) return;
  asio::post(io_, [this] { Run(); });
}

void TurnQueue::Run() {
  while (!waiting_.empty()) {
    running_.swap(waiting_);
    for (Ref<Stream>& stream : running_) {
      stream->is_deferred_ = false;
      stream->OnTurnEnd();
      stream.reset();
    }
    running_.clear();
  }
  is_run_due_ = false;
}

// --- the loop

void Loop::Impl::DrainPosted() {
  {
    MutexLock lock(mutex);
    running_tasks.swap(posted);
  }
  for (auto& task : running_tasks) {
    task();
    task = nullptr;
  }
  running_tasks.clear();
}

Loop::Impl::Tenant Loop::Impl::Acquire(Tenant wanted) {
  Tenant found = Tenant::kNobody;
  while (!tenant.compare_exchange_strong(found, wanted)) {
    if (found == Tenant::kRun) return found;
    tenant.wait(found);
    found = Tenant::kNobody;
  }
  thread.store(std::this_thread::get_id());
  return wanted;
}

void Loop::Impl::Release() {
  thread.store(std::thread::id());
  tenant.store(Tenant::kNobody);
  tenant.notify_all();
}

Loop::Loop() : impl_(std::make_unique<Impl>()) {}

Loop::~Loop() = default;

void Loop::Run() {
  impl_->Acquire(Impl::Tenant::kRun);
  impl_->io.run();
  impl_->turns.Run();  // of a turn in which the loop was stopped
  std::vector<std::move_only_function<void()>> unrun;
  {
    MutexLock lock(impl_->mutex);
    impl_->closed = true;
    unrun.swap(impl_->posted);
  }
  unrun.clear();
  impl_->Release();
}

void Loop::Stop() { impl_->io.stop(); }

void Loop::Post(std::move_only_function<void()> task) {
  bool is_first = false;
  {
    MutexLock lock(impl_->mutex);
    if (impl_->closed) return;
    is_first = impl_->posted.empty();
    impl_->posted.push_back(std::move(task));
  }
  if (is_first) asio::post(impl_->io, [impl = impl_.get()] { impl->DrainPosted(); });
}

void Loop::RunAndWait(std::move_only_function<void()> task) {
  if (IsCurrent()) return task();
  if (impl_->Acquire(Impl::Tenant::kGuest) == Impl::Tenant::kGuest) {
    task();
    return impl_->Release();
  }
  // The holder says so when the task has run, and also when the loop ended and dropped it.
  struct Holder {
    Holder(std::move_only_function<void()>* t, std::promise<bool>* d) : task(t), done(d) {}
    Holder(Holder&& from) noexcept
        : task(from.task), done(std::exchange(from.done, nullptr)), has_run(from.has_run) {}
    ~Holder() {
      if (done != nullptr) done->set_value(has_run);
    }
    std::move_only_function<void()>* task;
    std::promise<bool>* done;
    bool has_run = false;
  };
  std::promise<bool> done;
  std::future<bool> has_run = done.get_future();
  Post([holder = Holder(&task, &done)]() mutable {
    (*holder.task)();
    holder.has_run = true;
  });
  if (has_run.get()) return;
  impl_->tenant.wait(Impl::Tenant::kRun);
  RunAndWait(std::move(task));
}

Time Loop::Now() const { return std::chrono::steady_clock::now(); }

bool Loop::IsCurrent() const { return impl_->thread.load() == std::this_thread::get_id(); }

// --- the pool

struct LoopPool::Impl {
  std::vector<std::unique_ptr<Loop>> loops;
  std::vector<std::thread> threads;
};

LoopPool::LoopPool(size_t loops) : impl_(std::make_unique<Impl>()) {
  for (size_t i = 0; i < std::max<size_t>(loops, 1); ++i)
    impl_->loops.push_back(std::make_unique<Loop>());
}

LoopPool::~LoopPool() { StopAndJoin(); }

size_t LoopPool::size() const { return impl_->loops.size(); }
Loop& LoopPool::at(size_t i) { return *impl_->loops[i]; }

void LoopPool::Start() {
  // Signals are the main thread's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (size_t i = 0; i < impl_->loops.size(); ++i) {
    impl_->threads.emplace_back([loop = impl_->loops[i].get()] { loop->Run(); });
    pthread_setname_np(impl_->threads.back().native_handle(),
                       ("penstock-" + std::to_string(i)).c_str());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void LoopPool::StopAndJoin() {
  for (auto& loop : impl_->loops) loop->Stop();
  for (std::thread& thread : impl_->threads) thread.join();
  impl_->threads.clear();
}

}  // namespace penstock::net
