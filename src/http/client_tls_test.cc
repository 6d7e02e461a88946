// Requests over TLS: who is believed, what is kept, and how it fails.
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "http/client.h"
#include "http/client_testing.h"
#include "http/server.h"
#include "net/tls.h"
#include "net/tls_client.h"

namespace penstock::http {
namespace {

using testing::Get;
using ::testing::HasSubstr;
using testing::Peer;
using testing::Post;
using testing::RawServer;
using testing::Recorder;
using testing::Request;
using Verification = net::TlsClientOptions::Verification;

// Sends back what it gets, head and all.
class Echo final : public Handler {
 public:
  void Handle(Exchange& exchange) override {
    const std::string body(exchange.body());
    exchange.Respond(200, {}, body);
  }
};

class ClientTls : public testing::ClientTest {
 protected:
  ClientTls()
      : folder_(std::filesystem::temp_directory_path() /
                ("penstock_client_tls_test_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
    certificate_ = *net::MakeSelfSigned();
    pool_.Start();
  }
  ~ClientTls() override {
    server_.reset();
    pool_.StopAndJoin();
    std::filesystem::remove_all(folder_);
  }

  std::string File(const std::string& name, const std::string& text) {
    const std::string path = folder_ / name;
    std::ofstream(path) << text;
    return path;
  }
  // A server that shows certificate_, which is for "localhost".
  uint16_t Serve(net::TlsOptions tls = {.protocol = ""}) {
    ServerOptions options;
    options.tls = *net::TlsContext::Create(std::move(tls), certificate_);
    auto server = Server::Create(pool_, "127.0.0.1", 0, std::move(options),
                                 [](net::Loop&) { return std::make_unique<Echo>(); });
    EXPECT_TRUE(server.has_value());
    server_ = std::move(*server);
    return server_->port();
  }
  // What trusts certificate_ alone.
  net::TlsClientOptions Trusting() { return {.ca_file = File("ca.pem", certificate_.chain_pem)}; }
  static CallOptions With(net::TlsClientOptions options) {
    auto made = net::TlsClientContext::Create(std::move(options));
    EXPECT_TRUE(made) << made.error().message;
    CallOptions call;
    call.tls = *made;
    return call;
  }
  Recorder::Heard Ask(uint16_t port, const CallOptions& options,
                      std::string_view host = "localhost") {
    return Send(port, Get(), {}, options, nullptr, host).WaitForEnd();
  }

  const std::filesystem::path folder_;
  net::Certificate certificate_;
  net::LoopPool pool_{1};
  std::unique_ptr<Server> server_;
};

TEST_F(ClientTls, AnswersOfAllSizesComeWholeOnOneConnection) {
  const uint16_t port = Serve();
  const CallOptions options = With(Trusting());
  for (const size_t size : {size_t{0}, size_t{1}, size_t{16'384}, size_t{3'000'000}}) {
    const std::string body(size, 'x');
    const Recorder::Heard heard =
        Send(port, Post(size), {body}, options, nullptr, "localhost").WaitForEnd();
    EXPECT_EQ(heard.status, 200) << heard.message;
    EXPECT_TRUE(heard.body == body) << size;
  }
  EXPECT_EQ(Stats().connections_opened, 1u);
  EXPECT_EQ(Stats().reused, 3u);
  EXPECT_EQ(options.tls->Stats().handshakes, 1u);
  EXPECT_EQ(options.tls->Stats().failed_handshakes, 0u);
}

TEST_F(ClientTls, ConnectionsOfDifferentContextsAreKeptApart) {
  const uint16_t port = Serve();
  const CallOptions trusting = With(Trusting());
  const CallOptions careless = With({.verification = Verification::kNone});
  EXPECT_EQ(Ask(port, trusting).status, 200);
  EXPECT_EQ(Ask(port, careless).status, 200);
  EXPECT_EQ(Stats().connections_opened, 2u);
  On([&] { client_->Forget("localhost", port); });
  Eventually([&] { return client_->idle_connections() == 0; });
}

TEST_F(ClientTls, ACertificateOfNobodyThatIsTrustedIsRefused) {
  const CallOptions options = With({});
  const Recorder::Heard heard = Ask(Serve(), options);
  EXPECT_EQ(heard.failures, 1);
  EXPECT_EQ(heard.failure, CallFailure::kTls);
  EXPECT_THAT(heard.message, HasSubstr("its certificate is not accepted: self-signed certificate"));
  EXPECT_THAT(heard.message, HasSubstr("give the certificate of its authority as CA file"));
  EXPECT_EQ(options.tls->Stats().failed_handshakes, 1u);
  EXPECT_EQ(server_->Stats().requests, 0u);
}

TEST_F(ClientTls, ACertificateMustBeForTheHost) {
  const uint16_t port = Serve();
  const Recorder::Heard heard = Ask(port, With(Trusting()), "127.0.0.1");
  EXPECT_EQ(heard.failure, CallFailure::kTls);
  EXPECT_THAT(heard.message, HasSubstr("IP address mismatch: it is for localhost"));
  net::TlsClientOptions named = Trusting();
  named.server_name = "localhost";
  EXPECT_EQ(Ask(port, With(named), "127.0.0.1").status, 200);
  named.server_name = "other.example";
  EXPECT_THAT(Ask(port, With(named), "127.0.0.1").message,
              HasSubstr("hostname mismatch: it is for localhost"));
  named.server_name = "localhost.";
  EXPECT_EQ(Ask(port, With(named), "127.0.0.1").status, 200);
}

TEST_F(ClientTls, WithoutVerificationAnyCertificateWillDo) {
  EXPECT_EQ(Ask(Serve(), With({.verification = Verification::kNone}), "127.0.0.1").status, 200);
}

TEST_F(ClientTls, AServerWithoutTlsIsToldFromABadOne) {
  RawServer plain([](Peer& peer, int) {
    peer.Write("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    peer.WaitForEnd();
  });
  const Recorder::Heard heard = Ask(plain.port(), With({}), "127.0.0.1");
  EXPECT_EQ(heard.failure, CallFailure::kTls);
  EXPECT_THAT(heard.message, HasSubstr("does it speak plain HTTP there?"));
}

TEST_F(ClientTls, AServerThatClosesOrIsSilentEndsTheCall) {
  RawServer closing([](Peer& peer, int) { peer.Close(); });
  EXPECT_EQ(Ask(closing.port(), With({}), "127.0.0.1").failure, CallFailure::kTls);

  RawServer silent([](Peer& peer, int) { peer.WaitForEnd(); });
  CallOptions options = With({});
  options.connect_timeout = milliseconds(50);
  Recorder::Heard heard = Ask(silent.port(), options, "127.0.0.1");
  EXPECT_EQ(heard.failure, CallFailure::kTls);
  EXPECT_EQ(heard.message, "the TLS handshake timed out; does it speak TLS there?");
  EXPECT_EQ(options.tls->Stats().failed_handshakes, 1u);

  CallOptions patient = With({.handshake_timeout = milliseconds(50)});
  heard = Ask(silent.port(), patient, "127.0.0.1");
  EXPECT_EQ(heard.message, "it took too long");
  EXPECT_EQ(patient.tls->Stats().late_handshakes, 1u);
}

TEST_F(ClientTls, ACallThatIsDroppedInTheHandshakeHearsNothing) {
  testing::Signal accepted;
  RawServer silent([&](Peer& peer, int) {
    accepted.Raise();
    peer.WaitForEnd();
  });
  const CallOptions options = With({});
  Request& request = Send(silent.port(), Get(), {}, options);
  accepted.Wait();
  On([&] { request.call.reset(); });
  EXPECT_FALSE(request.heard().is_over());
  EXPECT_EQ(Stats().cancelled, 1u);
}

TEST_F(ClientTls, AServerThatAsksForACertificateRefusesThoseWithoutAGoodOne) {
  const net::Certificate own = *net::MakeSelfSigned();
  const std::string own_file = File("own.crt", own.chain_pem);
  const uint16_t port = Serve({.protocol = "", .client_ca_file = own_file});
  net::TlsClientOptions options = Trusting();
  // The server says so after the client has done its part, when the request may be out.
  const Recorder::Heard heard = Ask(port, With(options));
  EXPECT_EQ(heard.failures, 1);
  EXPECT_THAT(heard.message, HasSubstr("does it want a client certificate?"));
  EXPECT_EQ(server_->Stats().requests, 0u);
  options.certificate_file = own_file;
  options.key_file = File("own.key", own.key_pem);
  // Certificates "for servers" are none for clients: the server's answer is the same.
  EXPECT_EQ(Ask(port, With(options)).failures, 1);
}

TEST_F(ClientTls, WrongFilesAreErrorsThatNameThem) {
  const auto error = [](net::TlsClientOptions options) {
    const auto made = net::TlsClientContext::Create(std::move(options));
    return made ? std::string() : made.error().message;
  };
  const std::string empty = File("empty", "");
  const std::string crt = File("a.crt", certificate_.chain_pem);
  EXPECT_THAT(error({.ca_file = "/nowhere/ca.pem"}), HasSubstr("'/nowhere/ca.pem'"));
  EXPECT_THAT(error({.ca_file = empty}), HasSubstr(empty));
  EXPECT_THAT(error({.certificate_file = crt}), HasSubstr("go together"));
  EXPECT_THAT(error({.certificate_file = empty, .key_file = empty}), HasSubstr(empty));
  EXPECT_THAT(error({.certificate_file = crt, .key_file = empty}), HasSubstr("private key"));
  const std::string other = File("other.key", net::MakeSelfSigned()->key_pem);
  EXPECT_THAT(error({.certificate_file = crt, .key_file = other}), HasSubstr("other.key"));
}

}  // namespace
}  // namespace penstock::http
