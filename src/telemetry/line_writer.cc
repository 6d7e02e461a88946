#include "telemetry/line_writer.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace penstock::telemetry {
namespace {

uint64_t LinesIn(std::string_view text) {
  return static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
}

// Writes all of `text`, however long that takes. Returns what could not be written: empty unless
// the descriptor is gone.
std::string_view WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      pollfd ready{.fd = fd, .events = POLLOUT, .revents = 0};  // whoever shares it made it so
      if (::poll(&ready, 1, -1) < 0 && errno != EINTR) return text;
    } else if (errno != EINTR) {
      return text;
    }
  }
  return {};
}

}  // namespace

struct LineWriter::State {
  const int fd;
  const size_t max_bytes;
  const Gap gap;

  std::mutex mutex;
  std::condition_variable changed;
  std::string waiting;   // whole lines
  uint64_t missing = 0;  // lines dropped after the last of `waiting`
  uint64_t dropped = 0;
  bool is_writing = false;
  bool is_over = false;

  void Put(std::string_view line) {
    std::lock_guard lock(mutex);
    // After a gap no line is let in before the gap has been told, so that it stands in its place.
    if (missing > 0 || waiting.size() + line.size() > max_bytes) {
      ++missing;
      ++dropped;
    } else {
      waiting.append(line);
    }
    changed.notify_all();
  }

  void Run() {
    std::string batch;
    std::unique_lock lock(mutex);
    for (;;) {
      changed.wait(lock, [this] { return is_over || !waiting.empty() || missing > 0; });
      if (is_over) return;
      std::swap(batch, waiting);
      const uint64_t lost = std::exchange(missing, 0);
      is_writing = true;
      lock.unlock();
      if (lost > 0) batch += gap(lost);
      const std::string_view refused = WriteAll(fd, batch);
      // The gap's own line is not one of the writers'.
      const uint64_t refused_lines = LinesIn(refused) - (lost > 0 && !refused.empty() ? 1 : 0);
      batch.clear();
      lock.lock();
      dropped += refused_lines;
      is_writing = false;
      changed.notify_all();
    }
  }
};

LineWriter::LineWriter(int fd, size_t max_bytes, Gap gap)
    : state_(new State{.fd = fd, .max_bytes = max_bytes, .gap = gap}) {
  // Signals are for the threads that wait for them.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  // Detached: a write to a reader that stands still ends when the process does.
  std::thread([state = state_] { state->Run(); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

LineWriter::~LineWriter() {
  std::lock_guard lock(state_->mutex);
  state_->is_over = true;
  state_->changed.notify_all();
}

void LineWriter::Put(std::string_view line) { state_->Put(line); }

bool LineWriter::Flush(std::chrono::milliseconds patience) {
  std::unique_lock lock(state_->mutex);
  return state_->changed.wait_for(lock, patience, [this] {
    return !state_->is_writing && state_->waiting.empty() && state_->missing == 0;
  });
}

uint64_t LineWriter::Dropped() const {
  std::lock_guard lock(state_->mutex);
  return state_->dropped;
}

}  // namespace penstock::telemetry
