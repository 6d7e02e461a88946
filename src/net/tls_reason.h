// What OpenSSL says about failures, in words. For .cc files of this module only.
#pragma once

#include <string>

struct ssl_st;
struct x509_store_ctx_st;

namespace penstock::net {

// Of the last thing that went wrong on this thread, which is forgotten then.
std::string TlsReason();
// For SSL_CTX_set_verify: OpenSSL forgets a certificate that it refuses, and its names are worth
// telling. Leaves the verdict as it is.
int NoteRefused(int is_accepted, x509_store_ctx_st* store);
// Why a client's handshake or read failed, and what may help: "its certificate is not accepted:
// ...".
std::string ClientReason(ssl_st* ssl);

}  // namespace penstock::net
