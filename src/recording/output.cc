#include "recording/output.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include <zstd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

namespace penstock::recording {
namespace {

// What is lost at most when the process is killed.
constexpr auto kFlushInterval = std::chrono::seconds(1);
constexpr size_t kBatchBytes = 1 << 20;
// The chain of keys of a conversation's turn before is found this far back.
constexpr int kWindowLog = 24;
// Room for the last line and what the compressor still holds.
constexpr uint64_t kReservedBytes = 64 << 10;

}  // namespace

struct ZstdOutput::Stream {
  int fd = -1;
  ZSTD_CCtx* context = ZSTD_createCCtx();
  std::vector<char> buffer = std::vector<char>(ZSTD_CStreamOutSize());
  ~Stream() {
    ZSTD_freeCCtx(context);
    if (fd >= 0) ::close(fd);
  }
};

Result<std::unique_ptr<ZstdOutput>> ZstdOutput::Open(
    const Options& options, std::function<std::string(std::string_view)> last_line,
    std::function<void(std::string_view)> on_end) {
  auto stream = std::make_unique<Stream>();
  stream->fd = ::open(options.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (stream->fd < 0) {
    return Fail(Code::kUnavailable, options.path + ": cannot be written: " + std::strerror(errno));
  }
  ZSTD_CCtx_setParameter(stream->context, ZSTD_c_compressionLevel, 1);
  ZSTD_CCtx_setParameter(stream->context, ZSTD_c_windowLog, kWindowLog);
  ZSTD_CCtx_setParameter(stream->context, ZSTD_c_enableLongDistanceMatching, 1);
  ZSTD_CCtx_setParameter(stream->context, ZSTD_c_checksumFlag, 1);
  return std::unique_ptr<ZstdOutput>(
      new ZstdOutput(options, std::move(last_line), std::move(on_end), std::move(stream)));
}

ZstdOutput::ZstdOutput(const Options& options,
                       std::function<std::string(std::string_view)> last_line,
                       std::function<void(std::string_view)> on_end, std::unique_ptr<Stream> stream)
    : options_(options),
      last_line_(std::move(last_line)),
      on_end_(std::move(on_end)),
      stream_(std::move(stream)) {
  // Signals are for the threads that wait for them.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { Run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

ZstdOutput::~ZstdOutput() { Close("stopped"); }

void ZstdOutput::EndLocked(std::string_view why) {
  if (why_.empty()) why_ = why;
  changed_.notify_all();
}

void ZstdOutput::End(std::string_view why) {
  std::lock_guard lock(mutex_);
  EndLocked(why);
}

void ZstdOutput::Close(std::string_view why) {
  {
    std::lock_guard lock(mutex_);
    is_closing_ = true;
    EndLocked(why);
  }
  if (thread_.joinable()) thread_.join();
}

bool ZstdOutput::Put(std::string_view line) {
  std::lock_guard lock(mutex_);
  if (!why_.empty()) return false;
  if (waiting_.size() + line.size() > options_.max_waiting_bytes) {
    EndLocked("the disk is too slow");
    return false;
  }
  waiting_.append(line);
  if (waiting_.size() >= kBatchBytes) changed_.notify_all();
  return true;
}

void ZstdOutput::Run() {
  std::string batch;
  std::string why;
  std::string failure;
  while (why.empty()) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kFlushInterval,
                        [this] { return !why_.empty() || waiting_.size() >= kBatchBytes; });
      std::swap(batch, waiting_);
      why = why_;
    }
    // By lines, so that one that finds no room is left out whole.
    size_t begin = 0;
    const auto has_room = [&] { return bytes() + kReservedBytes < options_.max_bytes; };
    while (begin < batch.size() && has_room()) {
      size_t end = batch.find('\n', std::min(begin + (64 << 10), batch.size() - 1));
      end = end == std::string::npos ? batch.size() : end + 1;
      if (!Write(std::string_view(batch).substr(begin, end - begin), false, &failure)) break;
      begin = end;
    }
    if (begin < batch.size()) why = failure.empty() ? "full" : failure;
    batch.clear();
  }
  bool is_closing = false;
  {
    std::lock_guard lock(mutex_);
    why_ = why;
    is_closing = is_closing_;
    waiting_ = {};
  }
  if (failure.empty()) Write(last_line_(why), true, &failure);
  if (!is_closing) on_end_(why);
}

bool ZstdOutput::Write(std::string_view text, bool is_last, std::string* failure) {
  ZSTD_inBuffer in{text.data(), text.size(), 0};
  const ZSTD_EndDirective directive = is_last ? ZSTD_e_end : ZSTD_e_flush;
  for (;;) {
    ZSTD_outBuffer out{stream_->buffer.data(), stream_->buffer.size(), 0};
    const size_t left = ZSTD_compressStream2(stream_->context, &out, &in, directive);
    if (ZSTD_isError(left) != 0) {
      *failure = std::string("cannot be compressed: ") + ZSTD_getErrorName(left);
      return false;
    }
    for (size_t done = 0; done < out.pos;) {
      const ssize_t n = ::write(stream_->fd, stream_->buffer.data() + done, out.pos - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        *failure = std::string("cannot be written: ") + std::strerror(errno);
        return false;
      }
      done += static_cast<size_t>(n);
      bytes_.fetch_add(static_cast<uint64_t>(n), std::memory_order_relaxed);
    }
    if (left == 0) return true;
  }
}

}  // namespace penstock::recording
