// TLS for clients: whom to believe, and which certificate to show when a server asks for one.
//
// A TlsClientContext is made once and given to every connection. A server's certificate must come
// from an authority that is trusted and be for the host that was asked for, unless verification is
// off. Sessions are not resumed: connections are kept.
//
// THREADS: all from any thread. OWNS: OpenSSL's context.
// SOURCE: RFC 8446, RFC 6066 (SNI), RFC 9525 (names of services).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/result.h"
#include "core/time.h"
#include "net/tls.h"

namespace penstock::net {

struct TlsClientOptions {
  enum class Verification : uint8_t { kChainAndName, kNone };
  Verification verification = Verification::kChainAndName;
  std::string ca_file;      // certificates in PEM that are trusted; empty: those of the system
  std::string server_name;  // that servers' certificates must be for; empty: the host's
  // Shown to servers that ask, in PEM; both or none.
  std::string certificate_file;
  std::string key_file;
  std::string protocol = "http/1.1";  // offered by ALPN; empty: none
  Duration handshake_timeout = seconds(10);
};

class TlsClientContext {
 public:
  // The error names the file that is missing or wrong.
  static Result<std::shared_ptr<TlsClientContext>> Create(TlsClientOptions options);
  ~TlsClientContext();
  TlsClientContext(const TlsClientContext&) = delete;
  TlsClientContext& operator=(const TlsClientContext&) = delete;

  const TlsClientOptions& options() const { return options_; }
  TlsStats Stats() const { return counters_.Read(); }

 private:
  friend class TlsSession;
  explicit TlsClientContext(TlsClientOptions options) : options_(std::move(options)) {}
  // Null when there is no memory, or `host` is no name that a certificate could be for.
  ssl_st* NewConnection(std::string_view host) const;

  const TlsClientOptions options_;
  TlsCounters counters_;
  ssl_ctx_st* context_ = nullptr;
};

}  // namespace penstock::net
