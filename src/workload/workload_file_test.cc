#include "workload/workload_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/file.h"

namespace penstock::workload {
namespace {

using testing::HasSubstr;

std::string ErrorOf(std::string_view yaml) {
  const auto workload = ParseWorkload(yaml, "w.yaml");
  return workload ? "" : workload.error().message;
}

TEST(WorkloadFile, ReadsEveryPart) {
  const auto workload = ParseWorkload(R"(
name: all
seed: 9
api: {streaming: false}
load:
  type: poisson
  interval: 5s
  drain: true
  bursts: {period: 60, on: 10, factor: 3}
  stages: [{rate: 2, rateTo: 8.5, duration: 1m}, {rate: 1, duration: 30}]
  loraTrafficSplit: [{name: sql, split: 0.25}]
data:
  type: conversations
  conversations:
    numConversations: 7
    sharedSystemPromptLen: 100
    dynamicSystemPromptLen: 50
    turns: {type: uniform, min: 1, max: 4}
    maxModelLen: 4096
slo: {ttft: 500ms, tpot: 0.05}
priorities:
  - {name: critical, priority: 100, share: 0.2, fairnessId: gold, slo: {ttft: 200ms}}
)",
                                      "w.yaml");
  ASSERT_TRUE(workload.has_value()) << workload.error().message;
  EXPECT_EQ(workload->seed, 9u);
  EXPECT_FALSE(workload->is_streamed);
  EXPECT_EQ(workload->load.interval, seconds(5));
  EXPECT_TRUE(workload->load.drain);
  EXPECT_EQ(workload->load.stages[0].rate_to, 8.5);
  EXPECT_EQ(workload->load.stages[1].duration, seconds(30));
  EXPECT_EQ(workload->data.kind, Data::Kind::kConversations);
  EXPECT_EQ(workload->data.conversations.num_conversations, 7u);
  EXPECT_EQ(workload->data.conversations.turns_per_conversation.max(), 4);
  EXPECT_EQ(workload->slo.tpot, milliseconds(50));
  EXPECT_EQ(workload->priorities[0].slo->ttft, milliseconds(200));
}

// A configuration in the words of inference-perf, its other sections included.
TEST(WorkloadFile, ReadsInferencePerf) {
  const auto workload = ParseWorkload(R"(
load:
  type: concurrent
  num_workers: 6
  request_timeout: 300.0
  stages: [{num_requests: 100, concurrency_level: 10}]
api: {type: completion, streaming: true}
server: {type: vllm, model_name: m, base_url: "http://x", ignore_eos: true}
tokenizer: {pretrained_model_name_or_path: m}
data:
  type: conversation_replay
  conversation_replay:
    seed: 42
    shared_system_prompt_len: 3000
    turns_per_conversation: {type: normal, min: 2, max: 20, mean: 6, std_dev: 3.5}
report: {request_lifecycle: {summary: true}}
storage: {local_storage: {path: /workspace}}
)",
                                      "w.yaml");
  ASSERT_TRUE(workload.has_value()) << workload.error().message;
  EXPECT_EQ(workload->load.stages[0].concurrency_level, 10u);
  EXPECT_EQ(workload->data.conversations.shared_system_prompt_len, 3000u);
  EXPECT_EQ(workload->data.conversations.turns_per_conversation.max(), 20);

  const auto prefix = ParseWorkload(R"(
load: {type: poisson, stages: [{rate: 1, duration: 10}]}
data:
  type: shared_prefix
  shared_prefix: {num_unique_system_prompts: 3, num_users_per_system_prompt: 4, output_len: 9}
)",
                                    "w.yaml");
  ASSERT_TRUE(prefix.has_value()) << prefix.error().message;
  EXPECT_EQ(prefix->data.shared_prefix.num_groups, 3u);
  EXPECT_EQ(prefix->data.shared_prefix.num_prompts_per_group, 4u);
  EXPECT_EQ(prefix->data.shared_prefix.output_len, Distribution::Fixed(9));
}

TEST(WorkloadFile, TheExampleOfTheDocumentIsOne) {
  const auto text = ReadFile("docs/workloads.md", 1 << 20);
  ASSERT_TRUE(text.has_value());
  constexpr std::string_view kFence = "```yaml\n";
  const size_t begin = text->find(kFence) + kFence.size();
  const auto workload =
      ParseWorkload(text->substr(begin, text->find("```", begin) - begin), "workloads.md");
  ASSERT_TRUE(workload.has_value()) << workload.error().message;
  EXPECT_EQ(workload->data.shared_prefix.turns, 6u);
}

TEST(WorkloadFile, SaysWhereAMistakeIs) {
  const std::string data = "data: {type: random}\n";
  const std::string stages = "stages: [{rate: 1, duration: 1}]";
  struct Case {
    std::string yaml;
    const char* error;
  };
  const Case cases[] = {
      {data, "w.yaml:1:1: load is missing"},
      {"load: {" + stages + ", tpye: poisson}\n" + data,
       "w.yaml:1:42: unknown field 'tpye' in load, did you mean 'type'?"},
      {"load: {type: poison, " + stages + "}\n" + data, "did you mean 'poisson'?"},
      {"load: {stages: []}\n" + data, "w.yaml:1:16: load.stages: there is no stage"},
      {"load:\n  stages:\n    - {rate: 1}\n" + data,
       "w.yaml:3:7: load.stages[0]: a constant stage"},
      {"load: {type: concurrent, " + stages + "}\n" + data, "load.stages[0]: a concurrent stage"},
      {"load: {stages: [{rate: 1000000, duration: 100000}]}\n" + data, "more than 1,000,000,000"},
      {"load: {stages: [{rate: -1, duration: 1}]}\n" + data, "load.stages[0].rate"},
      {"load: {" + stages + ", bursts: {period: 10, on: 5, factor: 3}}\n" + data,
       "a factor above 2"},
      {"load: {" + stages + ", bursts: {period: 10, on: 10, factor: 1}}\n" + data,
       "on must be shorter than period"},
      {"load: {stages: [{rate: 1, duration: 1000000}], bursts: {period: 2, on: 1, factor: 1}}\n" +
           data,
       "load.stages[0]: more than 100,000 bursts"},
      {"load: {" + stages +
           ", loraTrafficSplit: [{name: a, split: 0.6}, {name: b, split: 0.6}]}\n" + data,
       "the splits add up to 1.2"},
      {"load: {" + stages + "}\n" + data +
           "priorities: [{priority: 1, share: 1}, {priority: 2, share: 1}]",
       "w.yaml:3:13: priorities: the shares add up to 2"},
      {"load: {" + stages + "}\ndata: {type: shareGPT}", "'shareGPT' is not one of"},
      {"load: {" + stages +
           "}\ndata: {type: sharedPrefix, sharedPrefix: {numGroups: 10000, "
           "numPromptsPerGroup: 10000}}",
       "are more than 1000000 prompts"},
      {"load: {" + stages +
           "}\ndata: {type: conversations, conversations: "
           "{sharedSystemPromptLen: 100, maxModelLen: 100}}",
       "leaves no room"},
      {"load: {" + stages + "}\ndata: {type: random, input_distribution: 3, inputDistribution: 4}",
       "'input_distribution' and 'inputDistribution' are the same"},
      {"load: {" + stages + "}\ndata: {type: random, inputDistribution: {type: normal}}",
       "w.yaml:2:41: data.inputDistribution: normal needs a mean"},
      {"- 1", "must be a map"},
      {"load: [", "w.yaml:"},
  };
  for (const Case& c : cases) EXPECT_THAT(ErrorOf(c.yaml), HasSubstr(c.error)) << c.yaml;
}

}  // namespace
}  // namespace penstock::workload
