#include "intake/preparer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <semaphore>
#include <thread>

namespace penstock::intake {
namespace {

using ::testing::ElementsAre;

// Waits in Prepare until it is told to go on, and keeps what it saw.
class SlowScheduler final : public sched::Scheduler {
 public:
  void Prepare(sched::RequestContext& context, Time) const override {
    entered.release();
    go_on.acquire();
    context.input_tokens = context.request.prompt.size();
    context.session_id = context.request.Header("x-session");
  }
  bool PreparesSlowly() const override { return is_slow; }
  void FillColumns(const sched::RequestContext&, const model::PoolSnapshot&,
                   const model::LiveColumns&, Time, model::EndpointColumns*) const override {}
  void Schedule(const sched::RequestContext&, const model::EndpointColumns&, const Mask&, Random&,
                sched::Workspace&, sched::DecisionTrace*, sched::Decision*) const override {}
  int64_t TokensToCharge(const sched::RequestContext&, const model::EndpointColumns&,
                         uint32_t) const override {
    return 0;
  }
  void OnPicked(sched::RequestContext&, const model::EndpointColumns&,
                const sched::Picked&) override {}
  void OnEndpointRemoved(uint32_t) override {}
  void OnEndpointRestarted(uint32_t) override {}
  void OnEndpointChanged(const model::EndpointInfo&) override {}
  void OnTick(Time) override {}
  uint64_t MaxBytes() const override { return 0; }
  bool NeedsMetrics() const override { return false; }
  std::vector<std::string> Describe() const override { return {}; }

  bool is_slow = true;
  mutable std::counting_semaphore<1000> entered{0}, go_on{0};
};

constexpr api::Route kChat = {.api = model::Api::kChatCompletions};

std::shared_ptr<LongRequest> Request(size_t body_bytes = 100) {
  const std::string session = "from a buffer of the caller's that is gone soon";
  std::string body = R"({"model": "m", "messages": [{"role": "user", "content": ")" +
                     std::string(body_bytes, 'a') + R"("}]})";
  auto request = std::make_shared<LongRequest>(
      std::move(body), std::vector<model::HeaderView>{{"x-session", session}});
  EXPECT_TRUE(request->Read(kChat, "id"));
  sched::RequestContext context;
  context.request = std::move(request->incoming().request);
  request->Begin(std::move(context));
  return request;
}

// A loop on a thread of its own.
class PreparerTest : public ::testing::Test {
 protected:
  PreparerTest() : thread_([this] { loop_.Run(); }) {}
  ~PreparerTest() override {
    loop_.Stop();
    thread_.join();
  }

  // On the loop; the place of who waits is kept in waiting_.
  void Start(Preparer& preparer, std::shared_ptr<LongRequest> request) {
    loop_.RunAndWait([&] {
      waiting_.push_back(preparer.Start(std::move(request), Time(), loop_, [&](LongRequest* done) {
        EXPECT_TRUE(loop_.IsCurrent());
        sessions_.push_back(done->context().session_id);
        tokens_.push_back(done->context().input_tokens);
        done_.release();
      }));
    });
  }

  SlowScheduler scheduler_;
  net::Loop loop_;
  std::thread thread_;
  std::vector<Waiting> waiting_;
  std::vector<std::string> sessions_;
  std::vector<uint64_t> tokens_;
  std::counting_semaphore<1000> done_{0};
};

TEST_F(PreparerTest, PreparesBesideTheLoopAndGoesOnThere) {
  Preparer preparer(scheduler_, 1);
  Start(preparer, Request());
  scheduler_.entered.acquire();
  bool has_run = false;
  loop_.RunAndWait([&] { has_run = true; });  // the loop is free meanwhile
  EXPECT_TRUE(has_run);
  scheduler_.go_on.release();
  done_.acquire();
  EXPECT_THAT(sessions_, ElementsAre("from a buffer of the caller's that is gone soon"));
  EXPECT_THAT(tokens_, ElementsAre(2));  // role and content
  EXPECT_EQ(preparer.stats().prepared, 1u);
  EXPECT_EQ(preparer.stats().abandoned, 0u);
}

TEST_F(PreparerTest, WhoLeavesIsNotCalled) {
  Preparer preparer(scheduler_, 1);
  Start(preparer, Request());
  Start(preparer, Request());
  scheduler_.entered.acquire();
  loop_.RunAndWait([&] { waiting_.erase(waiting_.begin()); });
  scheduler_.go_on.release(2);
  done_.acquire();  // the second one's
  EXPECT_EQ(sessions_.size(), 1u);
  EXPECT_EQ(preparer.stats().prepared, 2u);
  EXPECT_EQ(preparer.stats().abandoned, 1u);
}

TEST_F(PreparerTest, TakesLongOnesWhileThereIsRoom) {
  Preparer preparer(scheduler_, 1);
  EXPECT_FALSE(preparer.Takes(Preparer::kMinBodyBytes - 1));
  EXPECT_TRUE(preparer.Takes(Preparer::kMinBodyBytes));
  EXPECT_TRUE(preparer.Takes(2 * Preparer::kMaxWaitingBytes)) << "when nobody waits";
  Start(preparer, Request());
  scheduler_.entered.acquire();
  Start(preparer, Request());
  EXPECT_FALSE(preparer.Takes(Preparer::kMaxWaitingBytes));
  EXPECT_TRUE(preparer.Takes(Preparer::kMinBodyBytes));
  for (size_t i = 1; i < Preparer::kMaxWaiting; ++i) Start(preparer, Request());
  EXPECT_EQ(preparer.stats().waiting, Preparer::kMaxWaiting);
  EXPECT_FALSE(preparer.Takes(Preparer::kMinBodyBytes));
  EXPECT_EQ(preparer.stats().refused, 2u);
  scheduler_.go_on.release(1 + Preparer::kMaxWaiting);
  for (size_t i = 0; i <= Preparer::kMaxWaiting; ++i) done_.acquire();
  EXPECT_EQ(preparer.stats().waiting, 0u);
}

TEST_F(PreparerTest, EndsWithRequestsWaiting) {
  Preparer preparer(scheduler_, 1);
  Start(preparer, Request());
  Start(preparer, Request());
  scheduler_.entered.acquire();
  scheduler_.go_on.release(2);
}

TEST_F(PreparerTest, TakesNothingWhenNoPluginIsSlow) {
  scheduler_.is_slow = false;
  Preparer preparer(scheduler_, 1);
  EXPECT_FALSE(preparer.Takes(10 * Preparer::kMinBodyBytes));
  EXPECT_EQ(preparer.stats().refused, 0u);
}

}  // namespace
}  // namespace penstock::intake
