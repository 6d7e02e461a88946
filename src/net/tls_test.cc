#include "net/tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/file.h"
#include "net/listener.h"
#include "net/stream.h"
#include "net/tls_testing.h"

namespace penstock::net {
namespace {

using ::testing::HasSubstr;

enum class Reading { kWhenReadable, kIntoMemory };

struct Log {
  std::atomic<int> opened{0}, closed{0}, last_error{0};
};

// Sends back what it gets, and reads only while little of that is left.
class Echo final : public Stream {
 public:
  Echo(Loop& loop, Reading reading, Log& log) : Stream(loop), reading_(reading), log_(log) {}
  ~Echo() override { ++log_.closed; }

  void Open(int fd, const std::shared_ptr<TlsContext>& tls) {
    ++log_.opened;
    ASSERT_EQ(Adopt(fd, false, tls), 0);
    ReadOn();
    // Something to say before anything was heard, as a server of HTTP/2 has.
    out_ = "> ";
    Defer();
  }
  void End() {
    if (is_open()) Close();
  }

 private:
  void ReadOn() {
    if (reading_ == Reading::kWhenReadable) return WaitReadable();
    StartRead(bytes_, sizeof(bytes_));
  }
  void OnConnect(int) override {}
  void OnReadable() override { Take(ReadNow(bytes_, sizeof(bytes_))); }
  void OnRead(IoResult result) override { Take(result); }
  void Take(IoResult result) {
    if (result.error == EAGAIN) return ReadOn();
    if (result.error != 0) log_.last_error = result.error;
    if (result.error != 0 || result.bytes == 0) {
      const Ref<Echo> keep(this);
      return Close();
    }
    out_.append(bytes_, result.bytes);
    Defer();
  }
  void OnWritable() override { Send(); }
  void OnTurnEnd() override { Send(); }
  void Send() {
    if (!is_open()) return;
    while (!out_.empty()) {
      // In pieces of several sizes, as those come that a protocol makes.
      const std::string_view all = out_;
      const size_t cut = std::min<size_t>(all.size(), 100);
      const std::string_view parts[] = {all.substr(0, cut), {}, all.substr(cut)};
      std::vector<iovec> pieces;
      for (const std::string_view part : parts) {
        pieces.push_back({const_cast<char*>(part.data()), part.size()});
      }
      const IoResult result = WriteNow(pieces);
      if (result.error == EAGAIN) return WaitWritable();
      if (result.error != 0) return Close();
      out_.erase(0, result.bytes);
    }
    if (!is_reading()) ReadOn();
  }
  void OnDeadline() override {}

  const Reading reading_;
  Log& log_;
  char bytes_[4096];
  std::string out_;
};

class TlsTest : public ::testing::TestWithParam<Reading> {
 protected:
  void Start(TlsOptions options = {}, const std::string& above = "") {
    certificate_ = *MakeSelfSigned();
    certificate_.chain_pem += above;
    auto made = TlsContext::Create(std::move(options), certificate_);
    ASSERT_TRUE(made) << made.error().message;
    tls_ = *made;
    const int fd = BindListeners(*ParseAddress("127.0.0.1", 0), 1)->front();
    port_ = PortOf(fd);
    loops_.at(0).RunAndWait([&] {
      listener_ =
          std::make_unique<Listener>(loops_.at(0), fd, [this](int accepted, const Address&) {
            const int small = 4096;
            ::setsockopt(accepted, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
            streams_.emplace_back(new Echo(loops_.at(0), GetParam(), log_));
            streams_.back()->Open(accepted, tls_);
          });
    });
    loops_.Start();
  }
  ~TlsTest() override {
    loops_.at(0).RunAndWait([&] {
      listener_.reset();
      for (auto& stream : streams_) stream->End();
      streams_.clear();
    });
    Wait([&] { return log_.opened == log_.closed; });
    loops_.StopAndJoin();
  }
  int Connect(int receive_buffer = 0) const { return ConnectLoopback(port_, receive_buffer); }
  TlsProbeOptions Trusting() const { return {.trusted_pem = certificate_.chain_pem}; }
  void Wait(const std::function<bool()>& holds) {
    while (!holds()) std::this_thread::yield();
  }

  Certificate certificate_;
  std::shared_ptr<TlsContext> tls_;
  LoopPool loops_{1};
  uint16_t port_ = 0;
  std::unique_ptr<Listener> listener_;
  std::vector<Ref<Echo>> streams_;
  Log log_;
};
INSTANTIATE_TEST_SUITE_P(, TlsTest, ::testing::Values(Reading::kWhenReadable, Reading::kIntoMemory),
                         [](const auto& info) {
                           return info.param == Reading::kWhenReadable ? "WhenReadable"
                                                                       : "IntoMemory";
                         });

TEST_P(TlsTest, AClientThatVerifiesIsServed) {
  Start();
  TlsClient client(Connect(), Trusting());
  ASSERT_TRUE(client.is_connected()) << client.error();
  EXPECT_EQ(client.version(), "TLSv1.3");
  EXPECT_TRUE(client.Write("hello"));
  EXPECT_EQ(client.ReadAll(7), "> hello");
  EXPECT_EQ(tls_->Stats().handshakes, 1U);
  EXPECT_EQ(tls_->Stats().failed_handshakes, 0U);
}

TEST_P(TlsTest, AFarewellOfTheClientIsTheEnd) {
  Start();
  TlsClient client(Connect());
  EXPECT_EQ(client.ReadAll(2), "> ");
  client.Shutdown();
  char byte;
  EXPECT_EQ(client.Read(&byte, 1), 0) << "the server's farewell";
  EXPECT_EQ(log_.last_error, 0);
}

TEST_P(TlsTest, AnEndWithoutFarewellIsAnEndToo) {
  Start();
  TlsClient client(Connect());
  EXPECT_EQ(client.ReadAll(2), "> ");
  ::shutdown(client.fd(), SHUT_WR);
  EXPECT_EQ(client.ReadAll(1), "");
  EXPECT_EQ(log_.last_error, 0);
}

TEST_P(TlsTest, AHandshakeMayBeMoreThanTheSocketTakes) {
  const std::string one = MakeSelfSigned()->chain_pem;
  std::string above;
  for (int i = 0; i < 100; ++i) above += one;
  Start({}, above);
  TlsClient client(Connect(4096));
  ASSERT_TRUE(client.is_connected()) << client.error();
  EXPECT_EQ(client.ReadAll(2), "> ");
}

TEST_P(TlsTest, MoreThanTheSocketTakesIsEchoedWhole) {
  Start();
  TlsClient client(Connect(4096));
  EXPECT_EQ(client.ReadAll(2), "> ");
  std::string sent(2 << 20, '\0');
  for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 2654435761U >> 24);
  std::string back;
  for (size_t at = 0; at < sent.size(); at += 128 << 10) {
    const std::string_view part = std::string_view(sent).substr(at, 128 << 10);
    ASSERT_TRUE(client.Write(part));
    back += client.ReadAll(part.size());
  }
  EXPECT_TRUE(back == sent);
}

TEST_P(TlsTest, KeysMayChangeOnTheWay) {
  Start();
  TlsClient client(Connect());
  EXPECT_EQ(client.ReadAll(2), "> ");
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(client.UpdateKeys());
    ASSERT_TRUE(client.Write("again"));
    ASSERT_EQ(client.ReadAll(5), "again");
  }
}

TEST_P(TlsTest, AnotherProtocolOrNoneIsRefused) {
  Start();
  TlsClient other(Connect(), {.protocol = "http/1.1"});
  EXPECT_FALSE(other.is_connected());
  EXPECT_THAT(other.error(), HasSubstr("no application protocol"));
  TlsClient none(Connect(), {.protocol = ""});
  char byte;
  EXPECT_LE(none.Read(&byte, 1), 0);
  Wait([&] { return tls_->Stats().failed_handshakes == 2; });
  EXPECT_EQ(tls_->Stats().handshakes, 0U);
  EXPECT_EQ(log_.last_error, EPROTO);
}

TEST_P(TlsTest, AClientWithoutTlsIsRefused) {
  Start();
  const int fd = Connect();
  const std::string_view request = "GET / HTTP/1.1\r\nHost: here\r\n\r\n";
  ASSERT_EQ(::send(fd, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  char bytes[256];
  while (::recv(fd, bytes, sizeof(bytes), 0) > 0) {
  }
  ::close(fd);
  EXPECT_EQ(tls_->Stats().failed_handshakes, 1U);
}

TEST_P(TlsTest, AClientThatGoesAwayInTheHandshakeIsAFailedOne) {
  Start();
  ::close(Connect());
  Wait([&] { return tls_->Stats().failed_handshakes == 1; });
  EXPECT_EQ(tls_->Stats().late_handshakes, 0U);
}

TEST_P(TlsTest, ASlowHandshakeIsCutOff) {
  Start({.handshake_timeout = milliseconds(20)});
  const int fd = Connect();
  ASSERT_EQ(::send(fd, "\x16\x03\x01", 3, 0), 3);  // the beginning of a hello
  char byte;
  EXPECT_LE(::recv(fd, &byte, 1, 0), 0);
  ::close(fd);
  EXPECT_EQ(tls_->Stats().failed_handshakes, 1U);
  EXPECT_EQ(tls_->Stats().late_handshakes, 1U);
  EXPECT_EQ(log_.last_error, ETIMEDOUT);
}

TEST_P(TlsTest, TheTimeoutIsForTheHandshakeOnly) {
  Start({.handshake_timeout = milliseconds(20)});
  TlsClient client(Connect());
  // The server has heard the end of the handshake when it speaks.
  if (client.ReadAll(2) != "> ") GTEST_SKIP() << "this machine is too slow";
  // The loop has looked at its timers after the time was over.
  std::promise<void> later;
  std::unique_ptr<Timer> timer;
  loops_.at(0).Post([&] {
    timer = std::make_unique<Timer>(loops_.at(0), [&] { later.set_value(); });
    timer->Start(milliseconds(40));
  });
  later.get_future().wait();
  loops_.at(0).RunAndWait([&] { timer.reset(); });
  ASSERT_TRUE(client.Write("still"));
  EXPECT_EQ(client.ReadAll(5), "still");
}

TEST_P(TlsTest, VersionsBelowTheLeastAreRefused) {
  Start({.min_version = TlsVersion::k13});
  TlsClient client(Connect(), {.max_version = TLS1_2_VERSION});
  EXPECT_FALSE(client.is_connected());
  EXPECT_THAT(client.error(), HasSubstr("protocol version"));
}

TEST_P(TlsTest, OldVersionsAreTakenWhenAskedFor) {
  Start({.min_version = TlsVersion::k10});
  TlsClient client(Connect(), {.max_version = TLS1_VERSION, .security_level = 0});
  ASSERT_TRUE(client.is_connected()) << client.error();
  EXPECT_EQ(client.version(), "TLSv1");
  EXPECT_EQ(client.ReadAll(2), "> ");
}

TEST_P(TlsTest, OnlyTheNamedSuitesAreTaken) {
  Start({.cipher_suites = {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256"}});
  TlsClient good(Connect(), {.max_version = TLS1_2_VERSION});
  ASSERT_TRUE(good.is_connected()) << good.error();
  EXPECT_EQ(good.suite(), "ECDHE-ECDSA-AES256-GCM-SHA384");
  TlsClient bad(Connect(),
                {.max_version = TLS1_2_VERSION, .suites = "ECDHE-ECDSA-AES128-GCM-SHA256"});
  EXPECT_FALSE(bad.is_connected());
  TlsClient newer(Connect());
  EXPECT_TRUE(newer.is_connected()) << "suites of 1.3 are not chosen from";
}

TEST_P(TlsTest, AnotherCertificateIsForNewConnections) {
  Start();
  TlsClient before(Connect(), Trusting());
  ASSERT_TRUE(before.is_connected()) << before.error();
  const Certificate next = *MakeSelfSigned();
  ASSERT_TRUE(tls_->Reload(next));
  TlsClient after(Connect(), {.trusted_pem = next.chain_pem});
  ASSERT_TRUE(after.is_connected()) << after.error();
  EXPECT_EQ(before.certificate(), certificate_.chain_pem);
  EXPECT_EQ(after.certificate(), next.chain_pem);
  EXPECT_FALSE(TlsClient(Connect(), Trusting()).is_connected()) << "the old one is not shown now";
  for (TlsClient* client : {&before, &after}) {
    ASSERT_TRUE(client->Write("hello"));
    EXPECT_EQ(client->ReadAll(7), "> hello");
  }
  EXPECT_EQ(tls_->Stats().reloads, 1U);
}

TEST_P(TlsTest, CertificatesMayChangeWhileConnectionsCome) {
  Start();
  std::atomic<bool> is_over{false};
  std::thread changing([&] {
    while (!is_over) EXPECT_TRUE(tls_->Reload(*MakeSelfSigned()));
  });
  for (int i = 0; i < 50; ++i) {
    TlsClient client(Connect());
    ASSERT_TRUE(client.Write("hello"));
    ASSERT_EQ(client.ReadAll(7), "> hello");
  }
  is_over = true;
  changing.join();
}

// --- without connections

TEST(TlsNames, VersionsAreGos) {
  EXPECT_EQ(ParseTlsVersion("VersionTLS10"), TlsVersion::k10);
  EXPECT_EQ(ParseTlsVersion("VersionTLS13"), TlsVersion::k13);
  for (const char* const wrong : {"", "TLS12", "VersionTLS14", "versiontls12"}) {
    const auto parsed = ParseTlsVersion(wrong);
    ASSERT_FALSE(parsed);
    EXPECT_THAT(parsed.error().message, HasSubstr("VersionTLS12"));
  }
}

TEST(TlsNames, AnUnknownSuiteIsAnErrorThatListsTheKnownOnes) {
  const auto made = TlsContext::Create({.cipher_suites = {"TLS_NULL"}}, *MakeSelfSigned());
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, Code::kInvalidArgument);
  EXPECT_THAT(made.error().message, HasSubstr("'TLS_NULL'"));
  EXPECT_THAT(made.error().message, HasSubstr("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"));
}

TEST(TlsNames, EverySuiteIsOneOfOpenSsl) {
  const auto made = TlsContext::Create({.cipher_suites = {"?"}}, *MakeSelfSigned());
  std::string rest = made.error().message;
  rest.erase(0, rest.find("known are ") + 10);
  int count = 0;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(", "), rest.size());
    const std::string name = rest.substr(0, end);
    rest.erase(0, std::min(end + 2, rest.size()));
    EXPECT_TRUE(TlsContext::Create({.cipher_suites = {name}}, *MakeSelfSigned())) << name;
    ++count;
  }
  EXPECT_GT(count, 20);
}

TEST(TlsCertificate, ASelfSignedOneIsForServersAndForTenYears) {
  const Certificate made = *MakeSelfSigned();
  BIO* const bio = BIO_new_mem_buf(made.chain_pem.data(), static_cast<int>(made.chain_pem.size()));
  X509* const certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
  ASSERT_NE(certificate, nullptr);
  EXPECT_EQ(X509_get_extended_key_usage(certificate), static_cast<uint32_t>(XKU_SSL_SERVER));
  EXPECT_EQ(X509_check_host(certificate, "localhost", 0, 0, nullptr), 1);
  int days = 0, rest = 0;
  ASN1_TIME_diff(&days, &rest, X509_get0_notBefore(certificate), X509_get0_notAfter(certificate));
  EXPECT_EQ(days, 3650);
  EXPECT_EQ(EVP_PKEY_get_base_id(X509_get0_pubkey(certificate)), EVP_PKEY_EC);
  EXPECT_NE(*MakeSelfSigned(), made) << "a key is made anew each time";
  X509_free(certificate);
  BIO_free(bio);
}

TEST(TlsCertificate, WhatIsNoneOrDoesNotBelongTogetherIsRefused) {
  const Certificate one = *MakeSelfSigned(), two = *MakeSelfSigned();
  const std::string chain = one.chain_pem;
  const struct {
    Certificate certificate;
    const char* message;
  } wrong[] = {
      {{"", one.key_pem}, "the certificate is none in PEM"},
      {{"rubbish", one.key_pem}, "the certificate is none in PEM"},
      {{chain.substr(0, chain.size() / 2), one.key_pem}, "the certificate is none in PEM"},
      {{chain + chain.substr(0, chain.size() / 2), one.key_pem}, "is damaged"},
      {{chain, ""}, "the private key is none in PEM"},
      {{chain, chain}, "the private key is none in PEM"},
      {{chain, two.key_pem}, "does not belong to the certificate"},
  };
  auto context = *TlsContext::Create({}, two);
  for (const auto& [certificate, message] : wrong) {
    const auto made = TlsContext::Create({}, certificate);
    ASSERT_FALSE(made) << message;
    EXPECT_EQ(made.error().code, Code::kInvalidArgument);
    EXPECT_THAT(made.error().message, HasSubstr(message));
    EXPECT_FALSE(context->Reload(certificate));
  }
  EXPECT_EQ(context->Stats().reloads, 0U);
  EXPECT_TRUE(TlsContext::Create({}, {chain + two.chain_pem, one.key_pem})) << "a chain of two";
}

TEST(TlsCertificate, IsReadFromTheTwoFilesOfADirectory) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("penstock_tls_test_" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  const auto missing = ReadCertificate(folder);
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, HasSubstr("tls.crt"));
  const Certificate made = *MakeSelfSigned();
  ASSERT_TRUE(WriteFile(folder / "tls.crt", made.chain_pem));
  EXPECT_THAT(ReadCertificate(folder).error().message, HasSubstr("tls.key"));
  ASSERT_TRUE(WriteFile(folder / "tls.key", made.key_pem));
  EXPECT_EQ(*ReadCertificate(folder), made);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace penstock::net
