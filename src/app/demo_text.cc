#include "app/demo_text.h"

#include <fmt/format.h>

#include <iterator>

namespace penstock::app {
namespace {

void AppendWhatRuns(const DemoFacts& facts, std::string* out) {
  const engine::Profile& profile = facts.profile;
  const uint64_t kv_tokens = uint64_t{profile.kv_cache.blocks} * profile.kv_cache.block_size;
  fmt::format_to(
      std::back_inserter(*out),
      "\n{} simulated engines: {} on {} x{}{}\n"
      "  They batch, queue and cache as vLLM does, with the profile's step times ({}) and its KV\n"
      "  cache of {} thousand tokens each. They compute nothing: answers are made-up words.\n",
      facts.engines, profile.model, profile.accelerator, profile.tensor_parallel,
      facts.speed == 1 ? "" : fmt::format(", {:g} times as fast", facts.speed), profile.quality,
      kv_tokens / 1000);
  if (facts.knows_caches) {
    *out += "  They tell what they cache (KV events), so the gateway knows and need not guess.\n";
  }
  if (facts.traffic == nullptr) {
    *out += "No traffic but yours (--no-traffic).\n";
    return;
  }
  const traffic::TrafficOptions& traffic = *facts.traffic;
  fmt::format_to(std::back_inserter(*out),
                 "Traffic: up to {} chats at a time of {} agents, each agent with a system prompt "
                 "of its own of\n  2 to 4 thousand tokens; {:g} turns on average{}\n",
                 traffic.max_chats, traffic.shape.agents, traffic.shape.mean_turns,
                 facts.speed == 1 ? "." : ", and users as fast as the engines.");
}

void AppendWhereToLook(const DemoFacts& facts, std::string* out) {
  fmt::format_to(std::back_inserter(*out),
                 "\nLook\n"
                 "  live page   http://{0}/\n"
                 "  metrics     http://{0}/metrics\n"
                 "  decisions   http://{0}/debug/decisions   and /debug/decisions/REQUEST-ID\n",
                 facts.admin_address);
  if (facts.knows_caches) {
    fmt::format_to(std::back_inserter(*out), "  caches      http://{0}/debug/kv\n",
                   facts.admin_address);
  }
}

void AppendWhatToTry(const DemoFacts& facts, std::string* out) {
  fmt::format_to(std::back_inserter(*out), R"(
Try
  curl -i http://{0}/v1/chat/completions -H 'content-type: application/json' \
    -d '{{"model":"{1}","messages":[{{"role":"user","content":"Hello"}}],"stream":true}}'

  from openai import OpenAI
  client = OpenAI(base_url="http://{0}/v1", api_key="unused")
  for chunk in client.chat.completions.create(
          model="{1}", stream=True, messages=[{{"role": "user", "content": "Hello"}}]):
      print(chunk.choices[0].delta.content or "", end="")

)",
                 facts.address, facts.profile.model);
  *out +=
      facts.policy == "random"
          ? "  scripts/demo                    the same traffic, routed by what engines hold\n"
          : "  scripts/demo --policy random    the same traffic without routing: watch TTFT and "
            "cache hits\n";
}

}  // namespace

std::string DemoText(const DemoFacts& facts) {
  std::string out = fmt::format("gateway ready: http://{}  admin: http://{}  policy: {}\n",
                                facts.address, facts.admin_address, facts.policy);
  AppendWhatRuns(facts, &out);
  AppendWhereToLook(facts, &out);
  AppendWhatToTry(facts, &out);
  out += "\nCtrl-C ends.\n\n";
  return out;
}

}  // namespace penstock::app
