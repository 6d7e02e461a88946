#include "intake/preparer.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

namespace penstock::intake {

// The reader's seed is that of request ids, which it is not asked for.
LongRequest::LongRequest(std::string body, const std::vector<model::HeaderView>& headers)
    : body_(std::move(body)), reader_(0) {
  size_t bytes = 0;
  for (const model::HeaderView& h : headers) bytes += h.name.size() + h.value.size();
  std::string& texts = header_texts_.emplace_back();
  // More than fits into the string itself: views of it stay when header_texts grows.
  texts.reserve(std::max<size_t>(bytes, 64));
  const auto keep = [&texts](std::string_view text) {
    texts.append(text);
    return std::string_view(texts).substr(texts.size() - text.size());
  };
  headers_.reserve(headers.size());
  for (const model::HeaderView& h : headers) {
    const std::string_view name = keep(h.name);
    headers_.push_back({name, keep(h.value)});
  }
}

std::expected<void, api::ApiError> LongRequest::Read(const api::Route& route, std::string id) {
  auto read = reader_.Read(route, std::move(id), std::move(headers_), body_);
  if (!read) return std::unexpected(std::move(read.error()));
  incoming_ = *std::move(read);
  return {};
}

void LongRequest::Begin(sched::RequestContext context) {
  context_ = std::move(context);
  context_.header_texts = std::move(header_texts_);
}

Waiting& Waiting::operator=(Waiting&& other) {
  Leave();
  request_ = std::move(other.request_);
  return *this;
}

Waiting::~Waiting() { Leave(); }

void Waiting::Leave() {
  if (request_ != nullptr) request_->then_ = nullptr;
}

Preparer::Preparer(const sched::Scheduler& scheduler, size_t threads)
    : scheduler_(scheduler), is_needed_(scheduler.PreparesSlowly()) {
  if (!is_needed_) return;
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { Run(); });
    pthread_setname_np(threads_.back().native_handle(), "prepare");
  }
}

Preparer::~Preparer() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
    tasks_.clear();
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool Preparer::Takes(size_t body_bytes) {
  if (!is_needed_ || body_bytes < kMinBodyBytes) return false;
  const std::lock_guard lock(mutex_);
  const bool fits = tasks_.size() < kMaxWaiting && waiting_bytes_ + body_bytes <= kMaxWaitingBytes;
  if (tasks_.empty() || fits) return true;
  refused_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

Waiting Preparer::Start(std::shared_ptr<LongRequest> request, Time received, net::Loop& loop,
                        std::move_only_function<void(LongRequest*)> then) {
  request->received_ = received;
  request->then_ = std::move(then);
  Waiting waiting(request);
  {
    const std::lock_guard lock(mutex_);
    const size_t bytes = request->body_.size();
    waiting_bytes_ += bytes;
    tasks_.push_back({std::move(request), &loop, bytes});
  }
  changed_.notify_one();
  return waiting;
}

void Preparer::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return is_ending_ || !tasks_.empty(); });
    if (is_ending_) return;
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    waiting_bytes_ -= task.bytes;
    lock.unlock();
    scheduler_.Prepare(task.request->context_, task.request->received_);
    prepared_.fetch_add(1, std::memory_order_relaxed);
    task.loop->Post([this, request = std::move(task.request)] {
      if (!request->then_) {
        abandoned_.fetch_add(1, std::memory_order_relaxed);
        return;
      }
      // Whoever waits may go in the call.
      auto then = std::exchange(request->then_, nullptr);
      then(request.get());
    });
    lock.lock();
  }
}

Preparer::Stats Preparer::stats() const {
  Stats stats{.prepared = prepared_.load(std::memory_order_relaxed),
              .abandoned = abandoned_.load(std::memory_order_relaxed),
              .refused = refused_.load(std::memory_order_relaxed)};
  const std::lock_guard lock(mutex_);
  stats.waiting = tasks_.size();
  return stats;
}

}  // namespace penstock::intake
