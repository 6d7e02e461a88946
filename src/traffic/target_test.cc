#include "traffic/target.h"

#include <gtest/gtest.h>

namespace penstock::traffic {
namespace {

TEST(Target, LoopbackAddressesAreTaken) {
  const struct {
    const char* url;
    const char* address;
  } kCases[] = {
      {"http://127.0.0.1:8080", "127.0.0.1:8080"},  {"http://127.8.9.10:1", "127.8.9.10:1"},
      {"http://localhost:8080/", "127.0.0.1:8080"}, {"http://LocalHost:80", "127.0.0.1:80"},
      {"http://[::1]:65535", "[::1]:65535"},
  };
  for (const auto& c : kCases) {
    const Result<Target> target = ParseTarget(c.url);
    ASSERT_TRUE(target) << c.url << ": " << target.error().message;
    EXPECT_EQ(AddressOf(*target), c.address);
  }
}

TEST(Target, EverythingElseIsRefusedWithAReason) {
  for (const char* url :
       {"http://10.0.0.1:8080", "http://128.0.0.1:80", "http://0.0.0.0:80", "http://[::]:80",
        "http://[::ffff:10.0.0.1]:80", "http://[fe80::1]:80", "http://example.com:80",
        "http://127.0.0.1.example.com:80", "http://localhost.example.com:80"}) {
    const Result<Target> target = ParseTarget(url);
    ASSERT_FALSE(target) << url;
    EXPECT_EQ(target.error().code, Code::kInvalidArgument);
    EXPECT_NE(target.error().message.find("not on this machine"), std::string::npos)
        << target.error().message;
  }
}

TEST(Target, WhatIsNoAddressIsRefused) {
  for (const char* url : {"", "127.0.0.1:8080", "https://127.0.0.1:8080", "http://127.0.0.1:99999",
                          "http://127.0.0.1:0", "http://127.0.0.1:80/v1", "http://u@127.0.0.1:80",
                          "ftp://127.0.0.1:80", "http://"}) {
    const Result<Target> target = ParseTarget(url);
    ASSERT_FALSE(target) << url;
    EXPECT_EQ(target.error().code, Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace penstock::traffic
