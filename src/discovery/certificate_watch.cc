#include "discovery/certificate_watch.h"

#include <utility>

#include "telemetry/log.h"

namespace penstock::discovery {

CertificateWatch::CertificateWatch(std::shared_ptr<net::TlsContext> tls, std::string directory,
                                   net::Certificate shown)
    : tls_(std::move(tls)), directory_(std::move(directory)), shown_(std::move(shown)) {}

Result<std::unique_ptr<CertificateWatch>> CertificateWatch::Start(
    std::shared_ptr<net::TlsContext> tls, std::string directory, net::Certificate shown,
    WatchOptions options) {
  std::unique_ptr<CertificateWatch> watch(
      new CertificateWatch(std::move(tls), std::move(directory), std::move(shown)));
  options.siblings = {"tls.key"};
  auto watcher = FileWatcher::Start(watch->directory_ + "/tls.crt", options,
                                    [raw = watch.get()] { raw->OnChange(); });
  if (!watcher) return std::unexpected(watcher.error());
  watch->watcher_ = std::move(*watcher);
  return watch;
}

void CertificateWatch::OnChange() {
  auto read = net::ReadCertificate(directory_);
  if (read && *read == shown_) return;
  const Result<> taken = read ? tls_->Reload(*read) : std::unexpected(read.error());
  if (!taken) {
    failed_reloads_.fetch_add(1, std::memory_order_relaxed);
    telemetry::log::Warn("the certificate stays as it was",
                         {{"directory", directory_}, {"reason", taken.error().message}});
    return;
  }
  shown_ = std::move(*read);
  telemetry::log::Info("another certificate is shown", {{"directory", directory_}});
}

}  // namespace penstock::discovery
