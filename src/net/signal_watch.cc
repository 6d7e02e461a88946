#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <boost/asio/posix/basic_stream_descriptor.hpp>

#include "net/internal_asio.h"
#include "net/loop.h"
#include "telemetry/log.h"

namespace penstock::net {

// The signals are blocked and read from a descriptor: nothing of ours runs inside a handler.
struct SignalWatch::Impl : std::enable_shared_from_this<SignalWatch::Impl> {
  Impl(Loop& l, std::function<void(int)> f)
      : on_signal(std::move(f)), descriptor(l.impl().io.get_executor()) {
    sigset_t signals;
    sigemptyset(&signals);
    for (int signo : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, signo);
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    const int fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    boost::system::error_code error;
    if (fd >= 0) descriptor.assign(fd, error);
    if (fd < 0 || error) telemetry::log::Err("signals cannot be watched", {{"errno", errno}});
  }

  void Wait() {
    if (!descriptor.is_open()) return;
    descriptor.async_wait(asio::posix::descriptor_base::wait_read,
                          [self = shared_from_this()](boost::system::error_code error) {
                            if (error || !self->descriptor.is_open()) return;
                            self->Read();
                          });
  }

  void Read() {
    signalfd_siginfo info;
    while (descriptor.is_open() &&
           ::read(descriptor.native_handle(), &info, sizeof(info)) == sizeof(info)) {
      on_signal(static_cast<int>(info.ssi_signo));
    }
    Wait();
  }

  std::function<void(int)> on_signal;
  asio::posix::basic_stream_descriptor<Executor> descriptor;
  sigset_t before;
};

SignalWatch::SignalWatch(Loop& loop, std::function<void(int)> on_signal)
    : impl_(std::make_shared<Impl>(loop, std::move(on_signal))) {
  impl_->Wait();
}

SignalWatch::~SignalWatch() {
  boost::system::error_code ignored;  // nothing can be done about a close that fails
  impl_->descriptor.close(ignored);
  pthread_sigmask(SIG_SETMASK, &impl_->before, nullptr);
}

}  // namespace penstock::net
