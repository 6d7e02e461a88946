// Prepares requests with long prompts beside the loops: the tokens of a prompt of a megabyte that
// was not seen before take 20 to 50 ms, which nobody else's request should wait for.
//
// A few threads take them in order from one bounded queue; when it is full a request is prepared on
// its own loop, as short ones are. A client that leaves meanwhile costs the rest of the work and
// nothing else: what is prepared is owned here, and whoever waits for it may go.
//
// THREADS: Takes and Start from any loop; the loops outlive this. The destructor ends the threads
// and drops what waits.
// OWNS: the bodies and readers of what waits, within kMaxWaitingBytes, and one a thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/time.h"
#include "intake/request_reader.h"
#include "net/loop.h"
#include "sched/scheduler.h"

namespace penstock::intake {

// A request that is prepared beside its loop, or waits for something else before it is decided
// about. It has what it needs for itself.
class LongRequest : public std::enable_shared_from_this<LongRequest> {
 public:
  // Takes the body over, and copies of the headers.
  LongRequest(std::string body, const std::vector<model::HeaderView>& headers);

  // As RequestReader::Read; once.
  std::expected<void, api::ApiError> Read(const api::Route& route, std::string id);

  IncomingRequest& incoming() { return incoming_; }
  std::string& body() { return body_; }
  // What the lane began with incoming().request, with the headers that it points to.
  void Begin(sched::RequestContext context);
  sched::RequestContext& context() { return context_; }

 private:
  friend class Preparer;
  friend class Waiting;
  std::string body_;
  std::vector<std::string> header_texts_;
  std::vector<model::HeaderView> headers_;
  RequestReader reader_;
  IncomingRequest incoming_;
  sched::RequestContext context_;
  Time received_;
  // The loop's own; empty: nobody waits. With a pointer, as g++ 12 has no references to what is not
  // complete here.
  std::move_only_function<void(LongRequest*)> then_;
};

// Whoever waits for a request. Destroyed, on the loop, before it is prepared: he does not any more.
class Waiting {
 public:
  Waiting() = default;
  explicit Waiting(std::shared_ptr<LongRequest> request) : request_(std::move(request)) {}
  Waiting(Waiting&&) = default;
  Waiting& operator=(Waiting&& other);
  ~Waiting();

 private:
  void Leave();
  std::shared_ptr<LongRequest> request_;
};

class Preparer {
 public:
  static constexpr size_t kMinBodyBytes = 256 << 10;
  static constexpr size_t kMaxWaiting = 64;
  static constexpr size_t kMaxWaitingBytes = size_t{64} << 20;  // of bodies; one may be larger

  struct Stats {
    uint64_t prepared = 0;   // beside the loops
    uint64_t abandoned = 0;  // of these, for clients that had left
    uint64_t refused = 0;    // long ones for which there was no room
    uint64_t waiting = 0;    // now
  };

  Preparer(const sched::Scheduler& scheduler, size_t threads);
  ~Preparer();
  Preparer(const Preparer&) = delete;
  Preparer& operator=(const Preparer&) = delete;

  // Whether a request with such a body is to be prepared here. Counts it when there is no room.
  bool Takes(size_t body_bytes);
  // Prepares it, then calls `then` on the loop, unless nobody waits any more. `received` is when
  // its head came. REQUIRES: Begin was called.
  Waiting Start(std::shared_ptr<LongRequest> request, Time received, net::Loop& loop,
                std::move_only_function<void(LongRequest*)> then);
  Stats stats() const;

 private:
  struct Task {
    std::shared_ptr<LongRequest> request;
    net::Loop* loop;
    size_t bytes;
  };
  void Run();

  const sched::Scheduler& scheduler_;
  const bool is_needed_;
  std::atomic<uint64_t> prepared_{0}, abandoned_{0}, refused_{0};
  mutable std::mutex mutex_;  // loops put in, threads take out
  std::condition_variable changed_;
  std::deque<Task> tasks_;    // this and what follows under mutex_
  size_t waiting_bytes_ = 0;  // of their bodies
  bool is_ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace penstock::intake
