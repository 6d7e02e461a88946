#include "net/tls_client.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <utility>

#include "net/tls_reason.h"

namespace penstock::net {
namespace {

bool IsAddress(const std::string& host) {
  std::array<unsigned char, 16> bytes;
  return inet_pton(AF_INET, host.c_str(), bytes.data()) == 1 ||
         inet_pton(AF_INET6, host.c_str(), bytes.data()) == 1;
}

Result<> Trust(SSL_CTX* context, const std::string& ca_file) {
  if (ca_file.empty()) {
    if (SSL_CTX_set_default_verify_paths(context) == 1) return {};
    return Fail(Code::kInternal, "the system's certificates cannot be read: " + TlsReason());
  }
  if (SSL_CTX_load_verify_file(context, ca_file.c_str()) == 1) return {};
  return Fail(Code::kInvalidArgument,
              "'" + ca_file + "' holds no certificates of authorities in PEM: " + TlsReason());
}

// A key that wants a password is refused, where OpenSSL would ask the terminal for it.
int NoPassword(char*, int, int, void*) { return -1; }

Result<> Show(SSL_CTX* context, const TlsClientOptions& options) {
  if (options.certificate_file.empty() && options.key_file.empty()) return {};
  if (options.certificate_file.empty() || options.key_file.empty()) {
    return Fail(Code::kInvalidArgument, "a client's certificate and its key go together");
  }
  SSL_CTX_set_default_passwd_cb(context, NoPassword);
  if (SSL_CTX_use_certificate_chain_file(context, options.certificate_file.c_str()) != 1) {
    return Fail(Code::kInvalidArgument, "'" + options.certificate_file +
                                            "' holds no client certificate in PEM: " + TlsReason());
  }
  if (SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(), SSL_FILETYPE_PEM) != 1) {
    return Fail(Code::kInvalidArgument,
                "'" + options.key_file + "' holds no private key in PEM, without a password, of '" +
                    options.certificate_file + "': " + TlsReason());
  }
  return {};
}

}  // namespace

TlsClientContext::~TlsClientContext() { SSL_CTX_free(context_); }

Result<std::shared_ptr<TlsClientContext>> TlsClientContext::Create(TlsClientOptions options) {
  std::shared_ptr<TlsClientContext> made(new TlsClientContext(std::move(options)));
  SSL_CTX* const raw = made->context_ = SSL_CTX_new(TLS_client_method());
  if (raw == nullptr) return Fail(Code::kInternal, "OpenSSL does not start: " + TlsReason());
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(raw, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(raw, 1);  // one system call for a record's head and body
  const std::string& protocol = made->options_.protocol;
  if (!protocol.empty()) {
    const std::string list = static_cast<char>(protocol.size()) + protocol;
    SSL_CTX_set_alpn_protos(raw, reinterpret_cast<const unsigned char*>(list.data()),
                            static_cast<unsigned>(list.size()));
  }
  if (made->options_.verification == TlsClientOptions::Verification::kChainAndName) {
    if (auto trusted = Trust(raw, made->options_.ca_file); !trusted) {
      return std::unexpected(trusted.error());
    }
    SSL_CTX_set_verify(raw, SSL_VERIFY_PEER, NoteRefused);
  }
  if (auto shown = Show(raw, made->options_); !shown) return std::unexpected(shown.error());
  return made;
}

ssl_st* TlsClientContext::NewConnection(std::string_view host) const {
  std::string name(options_.server_name.empty() ? host : options_.server_name);
  if (name.ends_with('.')) name.pop_back();  // "a.example." is "a.example", written out
  SSL* const ssl = SSL_new(context_);
  if (ssl == nullptr) return nullptr;
  bool is_set;
  if (IsAddress(name)) {
    is_set = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) == 1;
  } else {
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    is_set =
        SSL_set1_host(ssl, name.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, name.c_str()) == 1;
  }
  if (is_set) return ssl;
  SSL_free(ssl);
  return nullptr;
}

}  // namespace penstock::net
