#include "discovery/file_watcher.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

namespace penstock::discovery {
namespace {

constexpr uint32_t kEvents = IN_CLOSE_WRITE | IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVED_TO |
                             IN_MOVED_FROM | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

Time Now() { return std::chrono::steady_clock::now(); }

// What of a file's status changes with its content; all zero while it is not there.
struct Signature {
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  int64_t modified_ns = 0;
  int64_t changed_ns = 0;
  bool operator==(const Signature&) const = default;
};

Signature SignatureOf(const std::string& path) {
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return {};
  constexpr int64_t kNanos = 1'000'000'000;
  return {status.st_dev, status.st_ino, status.st_size,
          status.st_mtim.tv_sec * kNanos + status.st_mtim.tv_nsec,
          status.st_ctim.tv_sec * kNanos + status.st_ctim.tv_nsec};
}

bool IsLink(const std::string& path) {
  struct stat status;
  return lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode);
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

struct FileWatcher::Impl {
  Impl(std::string file, const WatchOptions& o, std::function<void()> callback)
      : path(std::move(file)), folder(FolderOf(path)), options(o), on_change(std::move(callback)) {
    names = options.siblings;
    names.push_back(path.substr(path.rfind('/') + 1));  // npos + 1 is 0
  }

  ~Impl() {
    if (thread.joinable()) {
      const uint64_t one = 1;
      // An eventfd takes 8 bytes or nothing, and has room for this one.
      [[maybe_unused]] const ssize_t written = write(stop_fd, &one, sizeof(one));
      thread.join();
    }
    if (stop_fd >= 0) close(stop_fd);
    if (inotify_fd >= 0) close(inotify_fd);
  }

  // The folder may have been replaced by another one: that gets the watch then.
  void WatchFolder() {
    if (inotify_fd < 0) return;
    const int now = inotify_add_watch(inotify_fd, folder.c_str(), kEvents);
    if (watch >= 0 && watch != now) inotify_rm_watch(inotify_fd, watch);
    watch = now;
  }

  bool Concerns(const inotify_event& event) const {
    if (event.mask & IN_Q_OVERFLOW) return true;
    if (event.wd != watch) return false;  // of a folder that is not watched any more
    if (event.len == 0 || is_link) return true;
    return std::ranges::find(names, event.name) != names.end();
  }

  // Reads all events that wait. Returns whether one of them may be about the file.
  bool DrainEvents() {
    alignas(inotify_event) std::array<char, 16 * 1024> buffer;
    bool concerns = false;
    for (;;) {
      const ssize_t count = read(inotify_fd, buffer.data(), buffer.size());
      if (count <= 0) return concerns;
      for (const char* at = buffer.data(); at < buffer.data() + count;) {
        const auto* event = reinterpret_cast<const inotify_event*>(at);
        at += sizeof(inotify_event) + event->len;
        if (Concerns(*event)) concerns = true;
        if ((event->mask & IN_IGNORED) && event->wd == watch) watch = -1;
      }
    }
  }

  void Tell() {
    WatchFolder();
    is_link = std::ranges::any_of(names, [&](const auto& name) { return IsLink(At(name)); });
    seen = Signatures();  // before the callback reads: what comes later is seen later
    first_event.reset();
    on_change();
    next_poll = Now() + (watch >= 0 ? options.poll : options.poll_alone);
  }

  void Look() {
    WatchFolder();
    if (Signatures() != seen) return Tell();
    next_poll = Now() + (watch >= 0 ? options.poll : options.poll_alone);
  }

  std::string At(const std::string& name) const { return folder + "/" + name; }
  std::vector<Signature> Signatures() const {
    std::vector<Signature> all;
    for (const std::string& name : names) all.push_back(SignatureOf(At(name)));
    return all;
  }

  Time NextWake() const {
    if (!first_event) return next_poll;
    return std::min(last_event + options.quiet, *first_event + options.patience);
  }

  void Run() {
    Tell();
    for (;;) {
      std::array<pollfd, 2> fds = {{{stop_fd, POLLIN, 0}, {inotify_fd, POLLIN, 0}}};
      const auto wait = std::chrono::ceil<milliseconds>(NextWake() - Now()).count();
      poll(fds.data(), fds.size(), static_cast<int>(std::clamp<int64_t>(wait, 0, 3'600'000)));
      if (fds[0].revents != 0) return;
      if (fds[1].revents != 0 && DrainEvents()) {
        last_event = Now();
        if (!first_event) first_event = last_event;
      }
      if (Now() < NextWake()) continue;
      first_event ? Tell() : Look();
    }
  }

  const std::string path;
  const std::string folder;
  std::vector<std::string> names;
  const WatchOptions options;
  const std::function<void()> on_change;
  int stop_fd = -1;
  int inotify_fd = -1;  // poll() ignores a negative one
  std::thread thread;

  // Of the thread.
  int watch = -1;
  bool is_link = false;  // what it points to may change by any event in the folder
  std::vector<Signature> seen;
  std::optional<Time> first_event;  // of those that have not been told
  Time last_event;
  Time next_poll;
};

FileWatcher::FileWatcher(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FileWatcher::~FileWatcher() = default;

Result<std::unique_ptr<FileWatcher>> FileWatcher::Start(std::string path,
                                                        const WatchOptions& options,
                                                        std::function<void()> on_change) {
  auto impl = std::make_unique<Impl>(std::move(path), options, std::move(on_change));
  impl->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (impl->stop_fd < 0) {
    return Fail(Code::kResourceExhausted,
                fmt::format("cannot watch {}: eventfd: {}", impl->path, std::strerror(errno)));
  }
  if (options.inotify == WatchOptions::Inotify::kUse) {
    impl->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
  }
  // Signals are for the main thread; the new one inherits the mask.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::string failure;
  try {
    impl->thread = std::thread([raw = impl.get()] { raw->Run(); });
    pthread_setname_np(impl->thread.native_handle(), "penstock-watch");
  } catch (const std::system_error& e) {
    failure = e.what();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!failure.empty()) {
    return Fail(Code::kResourceExhausted,
                fmt::format("cannot watch {}: no thread: {}", impl->path, failure));
  }
  return std::unique_ptr<FileWatcher>(new FileWatcher(std::move(impl)));
}

}  // namespace penstock::discovery
