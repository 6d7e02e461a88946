#include "grpc/health.h"

#include <utility>

#include "net/loop.h"
#include "proto/health.pb.h"

namespace penstock::grpc {
namespace {

namespace health = ::grpc::health::v1;
using Judge = std::shared_ptr<const HealthJudge>;
using Serving = health::HealthCheckResponse::ServingStatus;

Serving StatusOf(const HealthJudge& judge, const std::string& service, Serving unknown) {
  const std::optional<bool> serves = judge.is_serving(service);
  if (!serves) return unknown;
  return *serves ? health::HealthCheckResponse::SERVING : health::HealthCheckResponse::NOT_SERVING;
}

void SendStatus(Call& call, Serving status) {
  health::HealthCheckResponse response;
  response.set_status(status);
  call.Send(response.SerializeAsString());
}

// Takes the one message of a request and answers when it has come.
class OneRequest : public CallListener {
 public:
  OneRequest(Call& call, Judge judge) : call_(call), judge_(std::move(judge)) {}

  void OnMessage(std::string_view message) override {
    if (std::exchange(has_message_, true)) {
      return call_.Finish(Status::kInternal, "more than one message");
    }
    if (!request_.ParseFromArray(message.data(), static_cast<int>(message.size()))) {
      call_.Finish(Status::kInvalidArgument, "the message is no HealthCheckRequest");
    }
  }
  void OnHalfClose() override {
    if (!has_message_) return call_.Finish(Status::kInternal, "no message");
    Answer();
  }
  void OnCancel() override {}

 protected:
  virtual void Answer() = 0;

  Call& call_;
  const Judge judge_;
  // A HealthListRequest is one without fields.
  health::HealthCheckRequest request_;

 private:
  bool has_message_ = false;
};

class Check final : public OneRequest {
 public:
  using OneRequest::OneRequest;

 private:
  void Answer() override {
    const Serving status =
        StatusOf(*judge_, request_.service(), health::HealthCheckResponse::SERVICE_UNKNOWN);
    if (status == health::HealthCheckResponse::SERVICE_UNKNOWN) {
      return call_.Finish(Status::kNotFound, "unknown service " + request_.service());
    }
    SendStatus(call_, status);
    call_.Finish(Status::kOk);
  }
};

class List final : public OneRequest {
 public:
  using OneRequest::OneRequest;

 private:
  void Answer() override {
    health::HealthListResponse response;
    for (const std::string& service : judge_->services) {
      (*response.mutable_statuses())[service].set_status(
          StatusOf(*judge_, service, health::HealthCheckResponse::SERVICE_UNKNOWN));
    }
    call_.Send(response.SerializeAsString());
    call_.Finish(Status::kOk);
  }
};

// Sends the status, and again when it is another one, until the client goes.
class Watch final : public OneRequest {
 public:
  Watch(Call& call, Judge judge, Duration interval)
      : OneRequest(call, std::move(judge)),
        interval_(interval),
        timer_(call.loop(), [this] { Look(); }) {}

  void OnCancel() override { timer_.Cancel(); }

 private:
  void Answer() override { Look(); }

  void Look() {
    const Serving now =
        StatusOf(*judge_, request_.service(), health::HealthCheckResponse::SERVICE_UNKNOWN);
    // One that does not read learns the newest when it does.
    if (now != last_ && !call_.above_high_watermark()) {
      last_ = now;
      SendStatus(call_, now);
    }
    timer_.Start(interval_);
  }

  const Duration interval_;
  net::Timer timer_;
  Serving last_ = health::HealthCheckResponse::UNKNOWN;  // what no judge says
};

}  // namespace

HealthService::HealthService(HealthJudge judge, Duration watch_interval)
    : judge_(std::make_shared<const HealthJudge>(std::move(judge))),
      watch_interval_(watch_interval) {}

HealthService::~HealthService() = default;

std::unique_ptr<CallListener> HealthService::OnCall(Call& call) {
  std::string_view method = call.path();
  if (!method.starts_with(kPrefix)) return nullptr;
  method.remove_prefix(kPrefix.size());
  if (method == "Check") return std::make_unique<Check>(call, judge_);
  if (method == "List") return std::make_unique<List>(call, judge_);
  if (method == "Watch") return std::make_unique<Watch>(call, judge_, watch_interval_);
  return nullptr;
}

}  // namespace penstock::grpc
