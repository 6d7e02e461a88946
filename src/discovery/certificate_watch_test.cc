#include "discovery/certificate_watch.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <memory>

#include "discovery/testing.h"

namespace penstock::discovery {
namespace {

// Events must do it alone: looking comes only every hour.
WatchOptions Fast() {
  return {.quiet = milliseconds(2), .patience = milliseconds(50), .poll = std::chrono::hours(1)};
}

class CertificateWatchTest : public ::testing::Test {
 protected:
  CertificateWatchTest() {
    Write(first);
    tls = *net::TlsContext::Create({}, first);
  }
  void Start(WatchOptions options = Fast()) {
    auto started = CertificateWatch::Start(tls, folder.At(""), first, options);
    ASSERT_TRUE(started) << started.error().message;
    watch = std::move(*started);
  }
  void Write(const net::Certificate& certificate) {
    folder.Write("tls.crt", certificate.chain_pem);
    folder.Write("tls.key", certificate.key_pem);
  }
  bool HasReloaded(uint64_t times) {
    return Eventually([&] { return tls->Stats().reloads == times; });
  }

  TestFolder folder;
  const net::Certificate first = *net::MakeSelfSigned(), second = *net::MakeSelfSigned();
  std::shared_ptr<net::TlsContext> tls;
  std::unique_ptr<CertificateWatch> watch;
};

TEST_F(CertificateWatchTest, TakesAnotherPairOfFiles) {
  Start();
  Write(second);
  EXPECT_TRUE(HasReloaded(1));
  Write(first);
  EXPECT_TRUE(HasReloaded(2));
}

TEST_F(CertificateWatchTest, WorksByLookingAlone) {
  WatchOptions options = Fast();
  options.inotify = WatchOptions::Inotify::kAvoid;
  options.poll_alone = milliseconds(2);
  Start(options);
  Write(second);
  EXPECT_TRUE(HasReloaded(1));
}

TEST_F(CertificateWatchTest, TakesAVolumeThatKubernetesSwaps) {
  for (const char* const name : {"tls.crt", "tls.key"}) {
    std::filesystem::remove(folder.At(name));
    std::filesystem::create_symlink(std::string("..data/") + name, folder.At(name));
  }
  const auto publish = [&](const std::string& version, const net::Certificate& certificate) {
    std::filesystem::create_directory(folder.At(version));
    folder.Write(version + "/tls.crt", certificate.chain_pem);
    folder.Write(version + "/tls.key", certificate.key_pem);
    std::filesystem::create_symlink(version, folder.At("..tmp"));
    std::filesystem::rename(folder.At("..tmp"), folder.At("..data"));
  };
  publish("..1", first);
  Start();
  publish("..2", second);
  EXPECT_TRUE(HasReloaded(1));
  EXPECT_EQ(watch->failed_reloads(), 0U);
}

TEST_F(CertificateWatchTest, KeepsTheOldOneUntilThePairIsGood) {
  Start();
  folder.Write("tls.crt", second.chain_pem);
  EXPECT_TRUE(Eventually([&] { return watch->failed_reloads() > 0; }));
  EXPECT_EQ(tls->Stats().reloads, 0U);
  folder.Write("tls.key", second.key_pem);
  EXPECT_TRUE(HasReloaded(1));
  const uint64_t before = watch->failed_reloads();
  std::filesystem::remove(folder.At("tls.key"));
  EXPECT_TRUE(Eventually([&] { return watch->failed_reloads() > before; }));
  EXPECT_EQ(tls->Stats().reloads, 1U);
}

TEST_F(CertificateWatchTest, FilesThatAreTheSameAgainChangeNothing) {
  Start();
  Write(first);
  folder.Write("other", "nothing");
  Write(second);
  EXPECT_TRUE(HasReloaded(1));
}

}  // namespace
}  // namespace penstock::discovery
