#include "extproc/stream_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "extproc/testing.h"

namespace penstock::extproc {
namespace {

using testing::FakeCall;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::RequestBody;
using testing::RequestHeaders;
using testing::ResponseBody;
using testing::ResponseHeaders;
using testing::Rig;
using testing::Says;

Says Head(testing::Pairs more = {}) {
  testing::Pairs headers = {{":method", "POST"}, {":path", "/v1/completions"}};
  headers.insert(headers.end(), more.begin(), more.end());
  return RequestHeaders().Headers(headers).Modes(4, 4);
}

class StreamMetricsTest : public ::testing::Test {
 protected:
  void Open() {
    call = std::make_unique<FakeCall>(rig.loop);
    stream = std::make_unique<Stream>(*rig.part, *call);
  }
  void Say(const Says& says) { stream->OnMessage(says.Message()); }
  void Ask(std::string_view body = R"({"model": "m", "prompt": "hi"})", testing::Pairs more = {}) {
    Open();
    Say(Head(std::move(more)));
    Say(RequestBody().Body(body).Last());
  }
  void Answer(const std::string& status, const std::string& type = "application/json") {
    Say(ResponseHeaders().Headers({{":status", status}, {"content-type", type}}));
    Say(ResponseBody().Body("{}").Last());
  }
  // Errors in all, and of this code.
  std::pair<double, double> Errors(const std::string& code) {
    const std::string page = rig.registry.Expose();
    double all = 0, of_code = 0;
    constexpr std::string_view kName = "\nllm_d_epp_request_error_total{";
    for (size_t at = page.find(kName); at != std::string::npos; at = page.find(kName, at + 1)) {
      const std::string line = page.substr(at + 1, page.find('\n', at + 1) - at - 1);
      const double value = std::stod(line.substr(line.rfind(' ')));
      all += value;
      if (line.find("error_code=\"" + code + "\"") != std::string::npos) of_code += value;
    }
    return {all, of_code};
  }

  Rig rig{2};
  std::unique_ptr<FakeCall> call;
  std::unique_ptr<Stream> stream;
};

using Twice = std::pair<double, double>;

TEST_F(StreamMetricsTest, EveryErrorIsCountedOnceUnderLlmdsCode) {
  Ask("{");  // no JSON
  EXPECT_EQ(Errors("BadRequest"), Twice(1, 1));
  Ask();
  Answer("503");
  stream->OnHalfClose();
  EXPECT_EQ(Errors("ModelServerError"), Twice(2, 1));
  Ask(R"({"model": "m", "prompt": "x"})", {{"x-llm-d-inference-fairness-id", "t"}});
  Answer("200");
  EXPECT_EQ(Errors("ModelServerError"), Twice(2, 1));
  Ask();
  Say(Head());  // out of order
  EXPECT_EQ(Errors("Unknown"), Twice(3, 1));
  Ask();
  stream->OnCancel();  // the client left
  EXPECT_EQ(Errors("Unknown"), Twice(3, 1));
  Ask();
  Say(ResponseHeaders().Headers({{":status", "500"}}));
  stream->OnCancel();  // the same, but the engine had failed before
  EXPECT_EQ(Errors("ModelServerError"), Twice(4, 2));
  const auto pool = rig.fleet.snapshot().Get();
  for (const auto& e : pool->endpoints) {
    rig.fleet.ScrapeFailed(e.slot, "gone", Time());
  }
  Ask();
  EXPECT_EQ(Errors("ServiceUnavailable"), Twice(5, 1));
}

TEST_F(StreamMetricsTest, EveryWholeAnswerIsMeasuredOnce) {
  Ask();
  Answer("200");
  stream->OnHalfClose();
  Ask();
  Answer("200", "text/event-stream");
  Ask();
  Say(ResponseHeaders().Headers({{":status", "200"}}));
  stream->OnCancel();
  EXPECT_EQ(rig.streams->answer_seconds.Count(), 2u);
}

TEST_F(StreamMetricsTest, StreamsAreCountedByTheirEnd) {
  Ask();
  EXPECT_THAT(rig.registry.Expose(), HasSubstr("\nllm_d_epp_extproc_streams_inflight 1\n"));
  Answer("200");
  stream->OnHalfClose();
  stream.reset();
  Ask();
  EXPECT_FALSE(stream->is_done());
  Answer("200");
  EXPECT_TRUE(stream->is_done());
  stream->OnCancel();  // the reset by which Envoy ends it
  stream.reset();
  Ask();
  stream->OnCancel();
  stream.reset();
  Ask();
  Say(Head());
  stream.reset();
  const std::string page = rig.registry.Expose();
  EXPECT_THAT(page, HasSubstr("\nllm_d_epp_extproc_streams_inflight 0\n"));
  EXPECT_THAT(page, HasSubstr("llm_d_epp_extproc_streams_total{code=\"OK\"} 2\n"));
  EXPECT_THAT(page, HasSubstr("llm_d_epp_extproc_streams_total{code=\"Canceled\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("llm_d_epp_extproc_streams_total{code=\"InvalidArgument\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("llm_d_epp_extproc_stream_duration_seconds_count 4\n"));
  EXPECT_THAT(page, HasSubstr("penstock_ext_proc_bad_streams_total 1\n"));
}

TEST(StreamMetrics, StreamsAreNotShownUnlessAskedFor) {
  telemetry::Registry registry;
  StreamMetrics metrics(registry, StreamMetrics::Streams::kNotCounted);
  metrics.OnBegin();
  metrics.OnEnd(grpc::Status::kOk, seconds(1));
  EXPECT_THAT(registry.Expose(), Not(HasSubstr("extproc_streams")));
}

TEST_F(StreamMetricsTest, LabelsAreModelTargetAndFairness) {
  Ask(R"({"model": "base", "prompt": "x"})",
      {{"x-llm-d-model-name-rewrite", "tuned"}, {"x-llm-d-inference-fairness-id", "t"}});
  Answer("200");
  EXPECT_THAT(rig.registry.Expose(),
              HasSubstr("llm_d_epp_request_total{model_name=\"base\",target_model_name=\"tuned\","
                        "fairness_id=\"t\",priority=\"0\"} 1\n"));
}

}  // namespace
}  // namespace penstock::extproc
