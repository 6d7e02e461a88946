// For tests: a TLS client on a blocking socket, by OpenSSL.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <string_view>

namespace penstock::net {

// `receive_buffer` in bytes; 0: what the system gives.
inline int ConnectLoopback(uint16_t port, int receive_buffer = 0) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (receive_buffer > 0) {
    ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const int yes = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
  return fd;
}

struct TlsProbeOptions {
  std::string protocol = "h2";  // "": no ALPN
  int max_version = 0;          // of OpenSSL's; 0: any
  std::string suites;           // of OpenSSL's, up to TLS 1.2; "": its choice
  std::string trusted_pem;  // verifies the server's certificate and name against it; "": does not
  int security_level = -1;  // -1: OpenSSL's choice
};

// Shakes hands with whoever is at the other end of a connected socket, which it takes over.
class TlsClient {
 public:
  explicit TlsClient(int fd, const TlsProbeOptions& options = {}) : fd_(fd) {
    std::signal(SIGPIPE, SIG_IGN);  // which OpenSSL's writes raise
    context_ = SSL_CTX_new(TLS_client_method());
    if (options.security_level >= 0) {
      SSL_CTX_set_security_level(context_, options.security_level);
      SSL_CTX_set_min_proto_version(context_, TLS1_VERSION);
    }
    SSL_CTX_set_max_proto_version(context_, options.max_version);
    if (!options.suites.empty()) {
      EXPECT_EQ(SSL_CTX_set_cipher_list(context_, options.suites.c_str()), 1);
    }
    if (!options.trusted_pem.empty()) Trust(options.trusted_pem);
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, fd_);
    if (!options.trusted_pem.empty()) SSL_set1_host(ssl_, "localhost");
    if (!options.protocol.empty()) {
      const std::string list = static_cast<char>(options.protocol.size()) + options.protocol;
      SSL_set_alpn_protos(ssl_, reinterpret_cast<const unsigned char*>(list.data()),
                          static_cast<unsigned>(list.size()));
    }
    is_connected_ = SSL_connect(ssl_) == 1;
    if (!is_connected_) {
      const char* reason = ERR_reason_error_string(ERR_peek_error());
      error_ = reason != nullptr ? reason : "the connection was closed";
    }
    ERR_clear_error();
  }
  ~TlsClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
    ::close(fd_);
  }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  bool is_connected() const { return is_connected_; }
  const std::string& error() const { return error_; }
  std::string version() const { return SSL_get_version(ssl_); }
  std::string suite() const { return SSL_get_cipher_name(ssl_); }
  // The server's own certificate, in PEM.
  std::string certificate() const {
    X509* const shown = SSL_get1_peer_certificate(ssl_);
    if (shown == nullptr) return "";
    BIO* const bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, shown);
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    std::string pem(data, static_cast<size_t>(size));
    BIO_free(bio);
    X509_free(shown);
    return pem;
  }
  bool Write(std::string_view text) {
    return SSL_write(ssl_, text.data(), static_cast<int>(text.size())) ==
           static_cast<int>(text.size());
  }
  // 0 at the end, also one without a farewell; -1 for an error.
  int Read(char* at, size_t bytes) {
    ERR_clear_error();
    const int got = SSL_read(ssl_, at, static_cast<int>(bytes));
    if (got > 0) return got;
    return SSL_get_error(ssl_, got) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
  }
  // Up to `bytes`, less at the end.
  std::string ReadAll(size_t bytes) {
    std::string text(bytes, '\0');
    size_t filled = 0;
    for (int got; filled < bytes && (got = Read(text.data() + filled, bytes - filled)) > 0;) {
      filled += static_cast<size_t>(got);
    }
    text.resize(filled);
    return text;
  }
  bool has_pending() const { return SSL_pending(ssl_) > 0; }
  // Asks for new keys, and for the server to change its own.
  bool UpdateKeys() {
    return SSL_key_update(ssl_, SSL_KEY_UPDATE_REQUESTED) == 1 && SSL_do_handshake(ssl_) == 1;
  }
  // The farewell.
  void Shutdown() { SSL_shutdown(ssl_); }
  int fd() const { return fd_; }

 private:
  void Trust(const std::string& pem) {
    BIO* const bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
    X509* const trusted = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
    EXPECT_EQ(X509_STORE_add_cert(SSL_CTX_get_cert_store(context_), trusted), 1);
    X509_free(trusted);
    BIO_free(bio);
    SSL_CTX_set_verify(context_, SSL_VERIFY_PEER, nullptr);
  }

  const int fd_;
  SSL_CTX* context_ = nullptr;
  SSL* ssl_ = nullptr;
  bool is_connected_ = false;
  std::string error_;
};

}  // namespace penstock::net
