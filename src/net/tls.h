// TLS for servers: which certificate is shown, and by which rules a connection is taken.
//
// A TlsContext is made once and given to a server. Reload puts another certificate in place:
// connections that come later get it, those that are there go on as they began. Sessions are not
// resumed.
//
// THREADS: all from any thread. OWNS: OpenSSL's contexts. COST: accepting a connection and shaking
// hands takes 0.8 ms of CPU with a P-256 key, 7.6 ms with an RSA key of 4096 bits.
// SOURCE: RFC 8446, RFC 7301 (ALPN); names of versions and cipher suites are those of Go.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/mutex.h"
#include "core/result.h"
#include "core/time.h"

struct ssl_ctx_st;
struct ssl_st;

namespace penstock::net {

enum class TlsVersion : uint8_t { k10, k11, k12, k13 };

// "VersionTLS10" to "VersionTLS13"; an error lists them.
Result<TlsVersion> ParseTlsVersion(std::string_view name);

// What a server shows, in PEM: its certificate and those above it, and its private key.
struct Certificate {
  std::string chain_pem;
  std::string key_pem;
  bool operator==(const Certificate&) const = default;
};

// From tls.crt and tls.key of a directory, as Kubernetes mounts a secret of type tls.
Result<Certificate> ReadCertificate(const std::string& directory);
// A new P-256 key and a certificate for it that it signs itself: good for ten years, for servers,
// for the name "localhost". For clients that do not verify.
Result<Certificate> MakeSelfSigned();

struct TlsOptions {
  TlsVersion min_version = TlsVersion::k12;
  // "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": for versions up to 1.2. Empty: OpenSSL's choice.
  std::vector<std::string> cipher_suites;
  // What is spoken inside ("h2"): a client that does not offer it by ALPN is refused. Empty: that
  // is not looked at.
  std::string protocol = "h2";
  // Clients must show a certificate that comes from one of these authorities, in PEM. Empty: they
  // show none.
  std::string client_ca_file;
  Duration handshake_timeout = seconds(10);
};

struct TlsStats {                  // monotonic
  uint64_t handshakes = 0;         // that succeeded
  uint64_t failed_handshakes = 0;  // wrong versions, no common protocol, no TLS at all, ...
  uint64_t late_handshakes = 0;    // of the failed ones, because of the timeout
  uint64_t reloads = 0;
};

// Behind TlsStats, for those who count.
struct TlsCounters {
  std::atomic<uint64_t> handshakes{0}, failed{0}, late{0}, reloads{0};
  TlsStats Read() const;
};

class TlsContext {
 public:
  // kInvalidArgument: the certificate and the key are none, or none of each other; a cipher suite
  // that is not known (the error lists the known ones);
  // a file of authorities that holds none.
  static Result<std::shared_ptr<TlsContext>> Create(TlsOptions options,
                                                    const Certificate& certificate);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

  // Takes another certificate; leaves everything as it was when that is not a good one.
  Result<> Reload(const Certificate& certificate);
  TlsStats Stats() const;

 private:
  friend class TlsSession;
  struct Free {
    void operator()(ssl_ctx_st* context) const;
  };
  using Context = std::unique_ptr<ssl_ctx_st, Free>;
  explicit TlsContext(TlsOptions options);
  Result<Context> Make(const Certificate& certificate) const;
  // A connection by the rules of now; null when there is no memory.
  ssl_st* NewConnection() EXCLUDES_LOCK(mutex_);

  const TlsOptions options_;
  TlsCounters counters_;
  Mutex mutex_;  // connections are accepted on every loop, certificates come on another thread
  Context context_ GUARDED_BY(mutex_);
};

}  // namespace penstock::net
