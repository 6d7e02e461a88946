#include "workload/workload_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <utility>

#include "config/parse.h"
#include "wire/yaml.h"

namespace penstock::workload {
namespace {

using wire::YamlNode;

constexpr uint64_t kMostUsers = 1'000'000;
constexpr int64_t kMostBursts = 100'000;
constexpr double kShareSlack = 1e-9;  // for sums such as 0.1 + 0.2 + 0.7

// What inference-perf needs to send and report, and generated traffic does not.
template <class V>
void ReadOver(V& v, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    YamlNode ignored;
    v.Field(name, ignored, {.text = "Of inference-perf; has no meaning here."});
  }
}

// inference-perf's `api`: only whether answers are streamed matters.
struct Api {
  bool streaming = true;

  template <class V>
  void Describe(V& v) {
    v.Field("streaming", streaming, {.text = "Whether answers are streamed."});
    ReadOver(v, {"type", "headers", "sloUnit", "sloTtftHeader", "sloTpotHeader",
                 "sessionIdHeaderKey", "sessionTokenHeaderKey", "responseFormat"});
  }
};

// system_prompt_len as systemPromptLen, everywhere. Keys that are given in both ways are an error
// of the tree, as other duplicates are.
void ToCamelCase(YamlNode* node, config::Diagnostics* diagnostics) {
  for (YamlNode& item : node->items) ToCamelCase(&item, diagnostics);
  for (auto& [key, value] : node->entries) {
    ToCamelCase(&value, diagnostics);
    std::string camel;
    bool after_line = false;
    for (const char c : key.scalar) {
      if (c == '_') {
        after_line = true;
        continue;
      }
      camel += after_line ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
      after_line = false;
    }
    if (camel == key.scalar) continue;
    if (node->Find(camel) != nullptr) {
      diagnostics->errors.push_back(wire::At(
          diagnostics->file, key, fmt::format("'{}' and '{}' are the same", key.scalar, camel)));
    }
    key.scalar = std::move(camel);
  }
}

const YamlNode& NodeAt(const YamlNode& tree, std::initializer_list<std::string_view> path) {
  const YamlNode* node = &tree;
  for (const std::string_view key : path) {
    const YamlNode* next = node->Find(key);
    if (next == nullptr) break;
    node = next;
  }
  return *node;
}

// What no single field can be blamed for.
class WholeCheck {
 public:
  WholeCheck(const YamlNode& tree, config::Diagnostics* diagnostics)
      : tree_(tree), diagnostics_(diagnostics) {}

  void Check(const Workload& workload) {
    CheckStages(workload.load);
    CheckBursts(workload.load);
    CheckShares(workload);
    CheckData(workload.data);
  }

 private:
  void Fail(const YamlNode& node, std::string_view sentence) {
    diagnostics_->errors.push_back(wire::At(diagnostics_->file, node, sentence));
  }

  void CheckStages(const Load& load) {
    const YamlNode& list = NodeAt(tree_, {"load", "stages"});
    if (load.stages.empty()) return Fail(list, "load.stages: there is no stage");
    for (size_t i = 0; i < load.stages.size(); ++i) {
      const Stage& stage = load.stages[i];
      const YamlNode& node = i < list.items.size() ? list.items[i] : list;
      const bool has_rate = stage.rate || stage.rate_to || stage.duration;
      const bool has_level = stage.concurrency_level || stage.num_requests;
      const auto complain = [&](std::string_view what) {
        Fail(node, fmt::format("load.stages[{}]: {}", i, what));
      };
      if (load.is_closed()) {
        if (has_rate || !stage.concurrency_level || !stage.num_requests) {
          complain("a concurrent stage has concurrencyLevel and numRequests, nothing else");
        }
      } else if (has_level || !stage.rate || !stage.duration) {
        complain(
            fmt::format("a {} stage has rate, duration and maybe rateTo, nothing else", load.type));
      } else if (std::max(*stage.rate, stage.rate_to.value_or(0)) * ToSeconds(*stage.duration) >
                 1e9) {
        complain("more than 1,000,000,000 requests");
      } else if (load.bursts && *stage.duration / load.bursts->period > kMostBursts) {
        complain("more than 100,000 bursts");
      }
    }
  }

  void CheckBursts(const Load& load) {
    if (!load.bursts) return;
    const YamlNode& node = NodeAt(tree_, {"load", "bursts"});
    const double share = ToSeconds(load.bursts->on) / ToSeconds(load.bursts->period);
    if (load.is_closed()) Fail(node, "load.bursts: a concurrent load has no rate to change");
    if (share >= 1) Fail(node, "load.bursts: on must be shorter than period");
    if (share * load.bursts->factor > 1 + kShareSlack) {
      Fail(node, fmt::format("load.bursts: a factor above {:.3g} in {:.3g} of the time would leave "
                             "less than nothing for the rest",
                             1 / share, share));
    }
  }

  void CheckShares(const Workload& workload) {
    double sum = 0;
    for (const LoraShare& share : workload.load.lora_traffic_split) sum += share.split;
    if (sum > 1 + kShareSlack) {
      Fail(NodeAt(tree_, {"load", "loraTrafficSplit"}),
           fmt::format("load.loraTrafficSplit: the splits add up to {:.6g}", sum));
    }
    sum = 0;
    for (const PriorityShare& share : workload.priorities) sum += share.share;
    if (sum > 1 + kShareSlack) {
      Fail(NodeAt(tree_, {"priorities"}),
           fmt::format("priorities: the shares add up to {:.6g}", sum));
    }
  }

  void CheckData(const Data& data) {
    const SharedPrefix& prefix = data.shared_prefix;
    const uint64_t users = uint64_t{prefix.num_groups} * prefix.num_prompts_per_group;
    if (users > kMostUsers) {
      Fail(NodeAt(tree_, {"data", "sharedPrefix"}),
           fmt::format("data.sharedPrefix: {} groups of {} prompts are more than {} prompts",
                       prefix.num_groups, prefix.num_prompts_per_group, kMostUsers));
    }
    const Conversations& talks = data.conversations;
    if (talks.shared_system_prompt_len + 2 > talks.max_model_len) {
      Fail(NodeAt(tree_, {"data", "conversations"}),
           "data.conversations: sharedSystemPromptLen leaves no room within maxModelLen");
    }
  }

  const YamlNode& tree_;
  config::Diagnostics* diagnostics_;
};

Data::Kind KindOf(std::string_view type) {
  if (type == "sharedPrefix" || type == "shared_prefix") return Data::Kind::kSharedPrefix;
  if (type == "conversations" || type == "conversation_replay") return Data::Kind::kConversations;
  return Data::Kind::kRandom;
}

constexpr config::FieldDoc kModelLen{.text = "Prompt and answer of one request at most.",
                                     .unit = "tokens",
                                     .min = 16,
                                     .max = 100'000'000};

}  // namespace

template <class V>
void Load::Describe(V& v) {
  v.Field("type", type,
          {.text = "How requests are timed.", .one_of = {"constant", "poisson", "concurrent"}});
  v.Field("stages", stages, {.text = "One after another.", .required = true});
  v.Field("interval", interval, {.text = "Silence between stages.", .max = 1e6});
  v.Field("drain", drain,
          {.text = "Whether a stage waits until all requests of the one before have ended, as "
                   "inference-perf does; concurrent stages always do."});
  v.Field("bursts", bursts, {.text = "Bursts within the stages."});
  v.Field("loraTrafficSplit", lora_traffic_split,
          {.text = "Shares of LoRA adapters; the rest goes to the base model."});
  ReadOver(v, {"numWorkers", "workerMaxConcurrency", "workerMaxTcpConnections", "requestTimeout",
               "requestRetries", "requestRetryBackoffSec", "stageTeardownGraceSeconds",
               "circuitBreakers", "baseSeed"});
}

template <class V>
void SharedPrefix::Describe(V& v) {
  const config::FieldDoc count{.text = "A number of them.", .min = 1, .max = kMostUsers};
  v.Field("numGroups", num_groups, count);
  v.Field("numUniqueSystemPrompts", num_groups, count);
  v.Field("numPromptsPerGroup", num_prompts_per_group, count);
  v.Field("numUsersPerSystemPrompt", num_prompts_per_group, count);
  v.Field("systemPromptLen", system_prompt_len, {.text = "Of a group.", .unit = "tokens"});
  v.Field("questionLen", question_len, {.text = "Of a prompt, or of a turn.", .unit = "tokens"});
  v.Field("questionDistribution", question_len, {.text = "questionLen's older name."});
  v.Field("outputLen", output_len, {.text = "Of the answer.", .unit = "tokens"});
  v.Field("outputDistribution", output_len, {.text = "outputLen's older name."});
  v.Field("groupSkew", group_skew,
          {.text = "Popularity of group i is 1 / (i + 1)^groupSkew; 0 makes all alike and has "
                   "every prompt come once before one comes again.",
           .min = 0,
           .max = 10});
  v.Field("enableMultiTurnChat", enable_multi_turn_chat,
          {.text = "Whether a prompt's next request continues a chat."});
  v.Field("turns", turns,
          {.text = "Turns after which a chat begins anew; 0: when it reaches maxModelLen.",
           .max = 10'000});
  v.Field("maxModelLen", max_model_len, kModelLen);
  ReadOver(v, {"seed"});
}

template <class V>
void Conversations::Describe(V& v) {
  v.Field("numConversations", num_conversations,
          {.text = "Distinct conversations, which come again in turn; 0: none comes twice.",
           .max = 1e9});
  v.Field("sharedSystemPromptLen", shared_system_prompt_len,
          {.text = "What all conversations begin with.", .unit = "tokens", .max = 10'000'000});
  v.Field("dynamicSystemPromptLen", dynamic_system_prompt_len,
          {.text = "What follows it, of each conversation's own.", .unit = "tokens"});
  v.Field("turnsPerConversation", turns_per_conversation, {.text = "Requests."});
  v.Field("turns", turns_per_conversation, {.text = "turnsPerConversation for short."});
  v.Field("inputTokensPerTurn", input_tokens_per_turn,
          {.text = "What a turn adds to the prompt.", .unit = "tokens"});
  v.Field("outputTokensPerTurn", output_tokens_per_turn, {.text = "Its answer.", .unit = "tokens"});
  v.Field("toolCallLatencySec", tool_call_latency_sec,
          {.text = "Pause between an answer and the next turn.", .unit = "seconds"});
  v.Field("maxModelLen", max_model_len, kModelLen);
  ReadOver(v, {"seed"});
}

template <class V>
void Data::Describe(V& v) {
  v.Field("type", type,
          {.text = "What prompts are made of.",
           .required = true,
           .one_of = {"random", "synthetic", "sharedPrefix", "shared_prefix", "conversations",
                      "conversation_replay"}});
  v.Field("inputDistribution", input_distribution,
          {.text = "Prompts of type random.", .unit = "tokens"});
  v.Field("outputDistribution", output_distribution,
          {.text = "Answers of type random.", .unit = "tokens"});
  v.Field("sharedPrefix", shared_prefix, {.text = "For type sharedPrefix."});
  v.Field("conversations", conversations, {.text = "For type conversations."});
  v.Field("conversationReplay", conversations, {.text = "inference-perf's name of conversations."});
}

template <class V>
void Workload::Describe(V& v) {
  v.Field("name", name, {.text = "What people call it."});
  v.Field("description", description, {.text = "One line about it."});
  v.Field("origin", origin, {.text = "Where its numbers come from."});
  v.Field("seed", seed, {.text = "Seed unless the caller has one."});
  Api api{.streaming = is_streamed};
  v.Field("api", api, {.text = "How answers come."});
  is_streamed = api.streaming;
  v.Field("load", load, {.text = "When requests come.", .required = true});
  v.Field("data", data, {.text = "What they say.", .required = true});
  v.Field("slo", slo, {.text = "Targets that every request carries."});
  v.Field("priorities", priorities,
          {.text = "Classes of requests; the rest has priority 0 and no fairness id."});
  ReadOver(v, {"server", "tokenizer", "metrics", "report", "storage", "circuitBreakers"});
}

Result<Workload> ParseWorkload(std::string_view yaml, std::string_view file_name) {
  auto tree = wire::ParseYaml(yaml, file_name);
  if (!tree) return std::unexpected(std::move(tree.error()));
  Workload workload;
  config::Diagnostics diagnostics;
  diagnostics.file = std::string(file_name);
  ToCamelCase(&*tree, &diagnostics);
  if (config::ParseInto(*tree, "", &workload, &diagnostics) && diagnostics.errors.empty()) {
    workload.data.kind = KindOf(workload.data.type);
    WholeCheck(*tree, &diagnostics).Check(workload);
  }
  if (!diagnostics.errors.empty()) {
    return Fail(Code::kInvalidArgument, fmt::format("{}", fmt::join(diagnostics.errors, "\n")));
  }
  return workload;
}

}  // namespace penstock::workload
