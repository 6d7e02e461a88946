#include "recording/output.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>
#include <zstd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <system_error>
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
  std::filesystem::path path;  // without links
  bool is_kept = false;
  int fd = -1;
  ZSTD_CCtx* context = ZSTD_createCCtx();
  std::vector<char> buffer = std::vector<char>(ZSTD_CStreamOutSize());

  std::string part() const { return path.string() + ".part"; }
  ~Stream() {
    ZSTD_freeCCtx(context);
    if (fd < 0) return;
    if (!is_kept) ::unlink(part().c_str());
    ::close(fd);
  }
};

namespace {

// Whoever writes a recording holds this lock as long as it does.
bool Lock(int fd) { return ::flock(fd, LOCK_EX | LOCK_NB) == 0; }

// Whether a recording may take the place of what is there.
Result<> CheckPlace(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found) return {};
  if (status.type() != std::filesystem::file_type::regular) {
    return Fail(Code::kInvalidArgument, path.string() + ": is not a file");
  }
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  const bool is_free = fd < 0 || Lock(fd);
  if (fd >= 0) ::close(fd);
  if (is_free) return {};
  return Fail(Code::kAlreadyExists, path.string() + ": another gateway records there");
}

}  // namespace

Result<std::unique_ptr<ZstdOutput>> ZstdOutput::Open(
    const Options& options, std::function<std::string(std::string_view)> last_line,
    std::function<void(std::string_view)> on_end) {
  auto stream = std::make_unique<Stream>();
  std::error_code error;
  stream->path = std::filesystem::weakly_canonical(options.path, error);
  if (error) stream->path = options.path;
  if (auto place = CheckPlace(stream->path); !place) return std::unexpected(place.error());
  const int fd = ::open(stream->part().c_str(),
                        O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0640);
  if (fd < 0) {
    return Fail(Code::kUnavailable,
                stream->part() + ": cannot be written: " + std::strerror(errno));
  }
  if (!Lock(fd)) {
    ::close(fd);
    return Fail(Code::kAlreadyExists, stream->part() + ": another gateway records there");
  }
  stream->fd = fd;
  if (::ftruncate(fd, 0) != 0) {
    return Fail(Code::kUnavailable,
                stream->part() + ": cannot be written: " + std::strerror(errno));
  }
  ZSTD_CCtx_setParameter(stream->context, ZSTD_c_compressionLevel, 1);
  ZSTD_CCtx_setParameter(stream->context, ZSTD_c_windowLog, kWindowLog);
  ZSTD_CCtx_setParameter(stream->context, ZSTD_c_enableLongDistanceMatching, 1);
  ZSTD_CCtx_setParameter(stream->context, ZSTD_c_checksumFlag, 1);
  return std::unique_ptr<ZstdOutput>(
      new ZstdOutput(options, std::move(last_line), std::move(on_end), std::move(stream)));
}

Result<> ZstdOutput::Keep() {
  const std::string path = stream_->path.string();
  const std::string before = path + ".1";
  const auto complain = [&](const std::string& what) {
    return Fail(Code::kUnavailable, what + ": " + std::strerror(errno));
  };
  // Without one before there is nothing to keep.
  if (::rename(path.c_str(), before.c_str()) != 0 && errno != ENOENT) {
    return complain(path + ": cannot be kept as " + before);
  }
  if (::rename(stream_->part().c_str(), path.c_str()) != 0) {
    return complain(stream_->part() + ": cannot be renamed");
  }
  stream_->is_kept = true;
  return {};
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
    while (begin < batch.size()) {
      size_t end = batch.find('\n', std::min(begin + (64 << 10), batch.size() - 1));
      end = end == std::string::npos ? batch.size() : end + 1;
      const uint64_t most = bytes() + ZSTD_compressBound(end - begin) + kReservedBytes;
      if (most > options_.max_bytes) break;
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
