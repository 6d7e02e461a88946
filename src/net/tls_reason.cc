#include "net/tls_reason.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <utility>

namespace penstock::net {
namespace {

constexpr int kMaxNames = 4;
constexpr size_t kMaxNameBytes = 128;

// An entry of a certificate's names as people write it; "" for other kinds.
std::string NameText(const GENERAL_NAME& name) {
  if (name.type == GEN_DNS) {
    const auto* text = reinterpret_cast<const char*>(ASN1_STRING_get0_data(name.d.dNSName));
    std::string out(text, static_cast<size_t>(ASN1_STRING_length(name.d.dNSName)));
    // Whoever made the certificate chose it, and it goes into logs.
    std::ranges::replace_if(
        out, [](char c) { return c < 0x21 || c > 0x7e; }, '?');
    out.resize(std::min(out.size(), kMaxNameBytes));
    return out;
  }
  if (name.type != GEN_IPADD) return "";
  const int bytes = ASN1_STRING_length(name.d.iPAddress);
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = bytes == 4 ? AF_INET : AF_INET6;
  if ((bytes != 4 && bytes != 16) || inet_ntop(family, ASN1_STRING_get0_data(name.d.iPAddress),
                                               text.data(), text.size()) == nullptr) {
    return "";
  }
  return text.data();
}

std::string NamesOf(const X509* certificate) {
  auto* const raw = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> names(raw,
                                                                            GENERAL_NAMES_free);
  std::string out;
  int count = 0;
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const std::string text = NameText(*sk_GENERAL_NAME_value(names.get(), i));
    if (text.empty()) continue;
    if (++count > kMaxNames) return out + ", ...";
    out.append(out.empty() ? "" : ", ").append(text);
  }
  return out;
}

// Of the certificate that was refused last on this thread; whoever tells of it comes right after.
std::string& RefusedNames() {
  static thread_local std::string names;
  return names;
}

// Of a certificate that was not accepted.
std::string_view VerifyAdvice(long result) {
  switch (result) {
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      return "; give the certificate of its authority as CA file";
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return "; renew it, or set the clock";
    default:
      return "";
  }
}

std::string_view HandshakeAdvice(int reason) {
  switch (reason) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
      return "; does it speak plain HTTP there?";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
      return "; does it want a client certificate?";
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_UNSUPPORTED_PROTOCOL:
      return "; TLS 1.2 is the oldest that is spoken here";
    default:
      return "";
  }
}

}  // namespace

std::string TlsReason() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  ERR_clear_error();
  return reason != nullptr ? reason : "no reason given";
}

int NoteRefused(int is_accepted, x509_store_ctx_st* store) {
  X509* const certificate = X509_STORE_CTX_get_current_cert(store);
  if (is_accepted == 0 && certificate != nullptr) RefusedNames() = NamesOf(certificate);
  return is_accepted;
}

std::string ClientReason(ssl_st* ssl) {
  const bool verifies = SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE;
  const long result = verifies ? SSL_get_verify_result(ssl) : X509_V_OK;
  if (result != X509_V_OK) {
    std::string out = "its certificate is not accepted: ";
    out += X509_verify_cert_error_string(result);
    if (result == X509_V_ERR_HOSTNAME_MISMATCH || result == X509_V_ERR_IP_ADDRESS_MISMATCH) {
      const std::string names = std::exchange(RefusedNames(), {});
      out += names.empty() ? ": it is for nobody"
                           : ": it is for " + names +
                                 "; reach it by that name, or set the server "
                                 "name that is expected";
    }
    ERR_clear_error();
    return out + std::string(VerifyAdvice(result));
  }
  const std::string_view advice = HandshakeAdvice(ERR_GET_REASON(ERR_peek_last_error()));
  return std::string("TLS: ").append(TlsReason()).append(advice);
}

}  // namespace penstock::net
