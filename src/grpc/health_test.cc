#include "grpc/health.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>

#include "grpc/testing.h"
#include "proto/health.pb.h"

namespace penstock::grpc {
namespace {

namespace health = ::grpc::health::v1;

class OnlyHealth final : public Handler {
 public:
  explicit OnlyHealth(std::atomic<bool>& serves)
      : service_({.is_serving = [&serves](std::string_view service) -> std::optional<bool> {
                    if (service == "lost") return std::nullopt;
                    return service == "liveness" || serves;
                  },
                  .services = {"liveness", "readiness"}},
                 milliseconds(5)) {}
  std::unique_ptr<CallListener> OnCall(Call& call) override { return service_.OnCall(call); }

 private:
  HealthService service_;
};

class HealthTest : public ::testing::Test {
 protected:
  HealthTest() {
    server_ = *Server::Create(loops_, "127.0.0.1", 0, {},
                              [this](net::Loop&) { return std::make_unique<OnlyHealth>(serves_); });
    loops_.Start();
    client_ = std::make_unique<Client>(server_->port());
  }
  ~HealthTest() override {
    server_.reset();
    loops_.StopAndJoin();
  }

  static std::string Request(const std::string& service) {
    health::HealthCheckRequest request;
    request.set_service(service);
    return Framed(request.SerializeAsString());
  }
  static int StatusOf(const std::string& message) {
    health::HealthCheckResponse response;
    EXPECT_TRUE(response.ParseFromString(message));
    return response.status();
  }
  const Client::Answer& Ask(const std::string& method, const std::string& body) {
    return client_->Finish(client_->Begin(std::string(HealthService::kPrefix) + method, body));
  }

  std::atomic<bool> serves_{true};
  net::LoopPool loops_{1};
  std::unique_ptr<Server> server_;
  std::unique_ptr<Client> client_;
};

TEST_F(HealthTest, CheckSaysWhetherAServiceServes) {
  const auto check = [&](const std::string& service) {
    const auto& answer = Ask("Check", Request(service));
    EXPECT_EQ(answer.Find("grpc-status"), "0");
    return StatusOf(answer.Messages().at(0));
  };
  EXPECT_EQ(check(""), health::HealthCheckResponse::SERVING);
  serves_ = false;
  EXPECT_EQ(check(""), health::HealthCheckResponse::NOT_SERVING);
  EXPECT_EQ(check("liveness"), health::HealthCheckResponse::SERVING);
  EXPECT_EQ(Ask("Check", Request("lost")).Find("grpc-status"), "5");
}

TEST_F(HealthTest, ListNamesTheServices) {
  serves_ = false;
  health::HealthListResponse response;
  ASSERT_TRUE(response.ParseFromString(Ask("List", Framed("")).Messages().at(0)));
  ASSERT_EQ(response.statuses_size(), 2);
  EXPECT_EQ(response.statuses().at("liveness").status(), health::HealthCheckResponse::SERVING);
  EXPECT_EQ(response.statuses().at("readiness").status(), health::HealthCheckResponse::NOT_SERVING);
}

TEST_F(HealthTest, WatchTellsEachChangeOnce) {
  const int32_t stream =
      client_->Begin(std::string(HealthService::kPrefix) + "Watch", Request("readiness"));
  const auto messages = [&] { return client_->answers[stream].Messages(); };
  ASSERT_TRUE(client_->Until([&] { return messages().size() == 1; }));
  EXPECT_EQ(StatusOf(messages()[0]), health::HealthCheckResponse::SERVING);
  serves_ = false;
  ASSERT_TRUE(client_->Until([&] { return messages().size() == 2; }));
  EXPECT_EQ(StatusOf(messages()[1]), health::HealthCheckResponse::NOT_SERVING);
  serves_ = true;
  ASSERT_TRUE(client_->Until([&] { return messages().size() == 3; }));
  const int32_t lost =
      client_->Begin(std::string(HealthService::kPrefix) + "Watch", Request("lost"));
  ASSERT_TRUE(client_->Until([&] { return !client_->answers[lost].Messages().empty(); }));
  EXPECT_EQ(StatusOf(client_->answers[lost].Messages()[0]),
            health::HealthCheckResponse::SERVICE_UNKNOWN);
  EXPECT_FALSE(client_->answers[stream].is_closed);
}

TEST_F(HealthTest, BadRequestsAreRefused) {
  EXPECT_EQ(Ask("Check", "").Find("grpc-status"), "13");
  EXPECT_EQ(Ask("Check", Request("a") + Request("b")).Find("grpc-status"), "13");
  EXPECT_EQ(Ask("Check", Framed("\x0a\xff")).Find("grpc-status"), "3");
  EXPECT_EQ(Ask("Grow", Request("")).Find("grpc-status"), "12");
}

}  // namespace
}  // namespace penstock::grpc
