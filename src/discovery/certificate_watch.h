// Keeps a server's certificate as its files are: reloads it when tls.crt or tls.key of a directory
// change. A pair that is no good (half written, of two different keys) is told in the log, and the
// certificate stays as it was until the files change again.
//
// THREADS: reloads on the watcher's thread. The destructor stops and joins it.
// OWNS: the watcher; shares the TlsContext.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "core/result.h"
#include "discovery/file_watcher.h"
#include "net/tls.h"

namespace penstock::discovery {

class CertificateWatch {
 public:
  // `shown` is what the context was made with. Fails as FileWatcher does.
  static Result<std::unique_ptr<CertificateWatch>> Start(std::shared_ptr<net::TlsContext> tls,
                                                         std::string directory,
                                                         net::Certificate shown,
                                                         WatchOptions options = {});
  // Changes that gave no good certificate.
  uint64_t failed_reloads() const { return failed_reloads_.load(std::memory_order_relaxed); }

 private:
  CertificateWatch(std::shared_ptr<net::TlsContext> tls, std::string directory,
                   net::Certificate shown);
  void OnChange();

  const std::shared_ptr<net::TlsContext> tls_;
  const std::string directory_;
  std::atomic<uint64_t> failed_reloads_{0};
  net::Certificate shown_;  // of the watcher's thread
  std::unique_ptr<FileWatcher> watcher_;
};

}  // namespace penstock::discovery
