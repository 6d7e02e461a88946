// Lines into a Zstandard file of bounded size, on a thread of its own.
//
// THREADS: Put from one thread at a time; Stats from any.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "core/result.h"

namespace penstock::recording {

class ZstdOutput {
 public:
  struct Options {
    std::string path;  // PATH.part until Keep()
    uint64_t max_bytes = 0;
    size_t max_waiting_bytes = 0;
  };
  // `last_line` makes the line that says why the file ends; `on_end` is told the same, from the
  // writing thread, when the file ends before Close: "full", "the disk is too slow", or what the
  // disk says.
  static Result<std::unique_ptr<ZstdOutput>> Open(
      const Options& options, std::function<std::string(std::string_view)> last_line,
      std::function<void(std::string_view)> on_end);
  ~ZstdOutput();

  // Makes the file PATH; what stood there becomes PATH.1. One that was not kept is deleted at last.
  Result<> Keep();
  // False after the end, which a line that finds no room to wait brings about.
  bool Put(std::string_view line);
  // Ends the file with what waits and the last line, soon.
  void End(std::string_view why);
  // The same, and waits for it.
  void Close(std::string_view why);
  uint64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  struct Stream;
  ZstdOutput(const Options& options, std::function<std::string(std::string_view)> last_line,
             std::function<void(std::string_view)> on_end, std::unique_ptr<Stream> stream);
  void EndLocked(std::string_view why);
  void Run();
  // Compresses and writes; false: the disk refused, and says why in `failure`.
  bool Write(std::string_view text, bool is_last, std::string* failure);

  const Options options_;
  const std::function<std::string(std::string_view)> last_line_;
  const std::function<void(std::string_view)> on_end_;
  std::unique_ptr<Stream> stream_;
  std::atomic<uint64_t> bytes_{0};

  std::mutex mutex_;
  std::condition_variable changed_;
  std::string waiting_;  // whole lines
  std::string why_;      // it ends; "": it does not
  bool is_closing_ = false;
  std::thread thread_;
};

}  // namespace penstock::recording
