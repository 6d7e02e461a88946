#include "net/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "core/file.h"
#include "net/tls_reason.h"

namespace penstock::net {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;
constexpr long kSelfSignedSeconds = 10L * 365 * 24 * 60 * 60;

template <auto kFree>
struct Freed {
  template <class T>
  void operator()(T* pointer) const {
    kFree(pointer);
  }
};
template <class T, auto kFree>
using Owned = std::unique_ptr<T, Freed<kFree>>;
using OwnedBio = Owned<BIO, BIO_free>;
using OwnedKey = Owned<EVP_PKEY, EVP_PKEY_free>;
using OwnedX509 = Owned<X509, X509_free>;

// --- names

constexpr std::array<std::pair<std::string_view, int>, 4> kVersions = {{
    {"VersionTLS10", TLS1_VERSION},
    {"VersionTLS11", TLS1_1_VERSION},
    {"VersionTLS12", TLS1_2_VERSION},
    {"VersionTLS13", TLS1_3_VERSION},
}};

// Go's name and OpenSSL's. Those of TLS 1.3 are not chosen from, as in Go. Go's suites with RC4 and
// 3DES are not here: OpenSSL is built without them.
struct Suite {
  std::string_view name;
  std::string_view openssl;
};
constexpr Suite kSuites[] = {
    {"TLS_AES_128_GCM_SHA256", ""},
    {"TLS_AES_256_GCM_SHA384", ""},
    {"TLS_CHACHA20_POLY1305_SHA256", ""},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA"},
    {"TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256"},
    {"TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256"},
    {"TLS_RSA_WITH_AES_256_CBC_SHA", "AES256-SHA"},
    {"TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384"},
};

// A list as OpenSSL reads it; empty when no suite can be chosen.
Result<std::string> SuiteList(std::span<const std::string> names) {
  std::string list;
  for (const std::string& name : names) {
    const auto* found = std::ranges::find(kSuites, name, &Suite::name);
    if (found == std::end(kSuites)) {
      std::string known;
      for (const Suite& suite : kSuites) {
        known.append(known.empty() ? "" : ", ").append(suite.name);
      }
      return Fail(Code::kInvalidArgument,
                  "cipher suite '" + name + "' is not known; known are " + known);
    }
    if (found->openssl.empty()) continue;
    list.append(list.empty() ? "" : ":").append(found->openssl);
  }
  return list;
}

// --- certificates

// A key that wants a password is refused, where OpenSSL would ask the terminal for it.
int NoPassword(char*, int, int, void*) { return -1; }

OwnedBio Reader(const std::string& pem) {
  return OwnedBio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

OwnedX509 NextCertificate(BIO* from) {
  return OwnedX509(PEM_read_bio_X509(from, nullptr, NoPassword, nullptr));
}

Result<> Show(SSL_CTX* context, const Certificate& certificate) {
  const OwnedBio chain = Reader(certificate.chain_pem);
  const OwnedX509 own = NextCertificate(chain.get());
  if (own == nullptr || SSL_CTX_use_certificate(context, own.get()) != 1) {
    return Fail(Code::kInvalidArgument, "the certificate is none in PEM: " + TlsReason());
  }
  while (OwnedX509 above = NextCertificate(chain.get())) {
    if (SSL_CTX_add0_chain_cert(context, above.get()) != 1) {
      return Fail(Code::kInvalidArgument,
                  "the chain of certificates cannot be used: " + TlsReason());
    }
    (void)above.release();
  }
  const bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (!is_end) {
    return Fail(Code::kInvalidArgument, "the chain of certificates is damaged: " + TlsReason());
  }
  ERR_clear_error();
  const OwnedKey key(
      PEM_read_bio_PrivateKey(Reader(certificate.key_pem).get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) {
    return Fail(Code::kInvalidArgument,
                "the private key is none in PEM without a password: " + TlsReason());
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    return Fail(Code::kInvalidArgument,
                "the private key does not belong to the certificate: " + TlsReason());
  }
  return {};
}

bool AddExtension(X509* certificate, int name, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  const Owned<X509_EXTENSION, X509_EXTENSION_free> extension(
      X509V3_EXT_conf_nid(nullptr, &context, name, value));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool Sign(X509* certificate, EVP_PKEY* key) {
  const Owned<BIGNUM, BN_free> serial(BN_new());
  X509_NAME* const name = X509_get_subject_name(certificate);
  const auto add = [&](const char* field, const char* value) {
    return X509_NAME_add_entry_by_txt(name, field, MBSTRING_ASC,
                                      reinterpret_cast<const unsigned char*>(value), -1, -1,
                                      0) == 1;
  };
  return serial != nullptr &&
         BN_rand(serial.get(), 127, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate)) != nullptr &&
         X509_set_version(certificate, X509_VERSION_3) == 1 && add("O", "Penstock") &&
         add("CN", "penstock") && X509_set_issuer_name(certificate, name) == 1 &&
         X509_gmtime_adj(X509_getm_notBefore(certificate), 0) != nullptr &&
         X509_gmtime_adj(X509_getm_notAfter(certificate), kSelfSignedSeconds) != nullptr &&
         X509_set_pubkey(certificate, key) == 1 &&
         AddExtension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
         AddExtension(certificate, NID_key_usage, "critical,digitalSignature") &&
         AddExtension(certificate, NID_ext_key_usage, "serverAuth") &&
         AddExtension(certificate, NID_subject_alt_name, "DNS:localhost") &&
         X509_sign(certificate, key, EVP_sha256()) > 0;
}

std::string Content(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<size_t>(size)};
}

// --- the protocol inside

int ChooseProtocol(SSL*, const unsigned char** out, unsigned char* out_size,
                   const unsigned char* offered, unsigned size, void* wanted) {
  const auto& protocol = *static_cast<const std::string*>(wanted);
  for (unsigned at = 0; at < size; at += 1 + offered[at]) {
    const std::string_view name(reinterpret_cast<const char*>(offered) + at + 1, offered[at]);
    if (name != protocol) continue;
    *out = offered + at + 1;
    *out_size = offered[at];
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

}  // namespace

Result<TlsVersion> ParseTlsVersion(std::string_view name) {
  for (size_t i = 0; i < kVersions.size(); ++i) {
    if (kVersions[i].first == name) return static_cast<TlsVersion>(i);
  }
  return Fail(Code::kInvalidArgument,
              "TLS version '" + std::string(name) +
                  "' is none of VersionTLS10, VersionTLS11, VersionTLS12, VersionTLS13");
}

Result<Certificate> ReadCertificate(const std::string& directory) {
  constexpr int kTries = 10;
  auto chain = ReadFile(directory + "/tls.crt", kMaxFileBytes);
  for (int i = 0; i < kTries && chain; ++i) {
    auto key = ReadFile(directory + "/tls.key", kMaxFileBytes);
    if (!key) return std::unexpected(key.error());
    // Kubernetes swaps both at once, which may be between the two.
    auto again = ReadFile(directory + "/tls.crt", kMaxFileBytes);
    if (again && *again == *chain) return Certificate{std::move(*chain), std::move(*key)};
    chain = std::move(again);
  }
  if (!chain) return std::unexpected(chain.error());
  return Fail(Code::kUnavailable, "'" + directory + "/tls.crt' changes while it is read");
}

Result<Certificate> MakeSelfSigned() {
  const OwnedKey key(EVP_EC_gen("P-256"));
  const OwnedX509 certificate(X509_new());
  const OwnedBio chain(BIO_new(BIO_s_mem())), secret(BIO_new(BIO_s_mem()));
  if (key == nullptr || certificate == nullptr || chain == nullptr || secret == nullptr ||
      !Sign(certificate.get(), key.get()) ||
      PEM_write_bio_X509(chain.get(), certificate.get()) != 1 ||
      PEM_write_bio_PrivateKey(secret.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) !=
          1) {
    return Fail(Code::kInternal, "cannot make a self-signed certificate: " + TlsReason());
  }
  return Certificate{Content(chain.get()), Content(secret.get())};
}

void TlsContext::Free::operator()(ssl_ctx_st* context) const { SSL_CTX_free(context); }

TlsContext::TlsContext(TlsOptions options) : options_(std::move(options)) {}

TlsContext::~TlsContext() = default;

Result<TlsContext::Context> TlsContext::Make(const Certificate& certificate) const {
  const auto suites = SuiteList(options_.cipher_suites);
  if (!suites) return std::unexpected(suites.error());
  Context context(SSL_CTX_new(TLS_server_method()));
  SSL_CTX* const raw = context.get();
  if (raw == nullptr) return Fail(Code::kInternal, "OpenSSL does not start: " + TlsReason());
  // OpenSSL's levels above 0 know no version before 1.2.
  if (options_.min_version < TlsVersion::k12) SSL_CTX_set_security_level(raw, 0);
  SSL_CTX_set_min_proto_version(raw, kVersions[static_cast<size_t>(options_.min_version)].second);
  SSL_CTX_set_options(raw,
                      SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_num_tickets(raw, 0);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(raw, 1);  // one system call for a record's head and body
  if (!options_.protocol.empty()) {
    SSL_CTX_set_alpn_select_cb(raw, ChooseProtocol, const_cast<std::string*>(&options_.protocol));
  }
  if (!suites->empty() && SSL_CTX_set_cipher_list(raw, suites->c_str()) != 1) {
    return Fail(Code::kInvalidArgument, "OpenSSL has none of the cipher suites: " + TlsReason());
  }
  if (const std::string& file = options_.client_ca_file; !file.empty()) {
    STACK_OF(X509_NAME)* const names = SSL_load_client_CA_file(file.c_str());
    if (names == nullptr || SSL_CTX_load_verify_file(raw, file.c_str()) != 1) {
      sk_X509_NAME_pop_free(names, X509_NAME_free);
      return Fail(Code::kInvalidArgument,
                  "'" + file + "' holds no certificates of authorities in PEM: " + TlsReason());
    }
    SSL_CTX_set_client_CA_list(raw, names);
    SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  if (auto shown = Show(raw, certificate); !shown) return std::unexpected(shown.error());
  return context;
}

Result<std::shared_ptr<TlsContext>> TlsContext::Create(TlsOptions options,
                                                       const Certificate& certificate) {
  std::shared_ptr<TlsContext> made(new TlsContext(std::move(options)));
  auto context = made->Make(certificate);
  if (!context) return std::unexpected(context.error());
  const MutexLock lock(made->mutex_);
  made->context_ = std::move(*context);
  return made;
}

Result<> TlsContext::Reload(const Certificate& certificate) {
  auto context = Make(certificate);
  if (!context) return std::unexpected(context.error());
  counters_.reloads.fetch_add(1, std::memory_order_relaxed);
  const MutexLock lock(mutex_);
  context_.swap(*context);
  return {};
}

ssl_st* TlsContext::NewConnection() {
  const MutexLock lock(mutex_);
  return SSL_new(context_.get());
}

TlsStats TlsContext::Stats() const { return counters_.Read(); }

TlsStats TlsCounters::Read() const {
  return {handshakes.load(std::memory_order_relaxed), failed.load(std::memory_order_relaxed),
          late.load(std::memory_order_relaxed), reloads.load(std::memory_order_relaxed)};
}

}  // namespace penstock::net
