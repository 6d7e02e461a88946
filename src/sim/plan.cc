#include "sim/plan.h"

#include <xxhash.h>

#include <algorithm>

#include "engine/block_hash.h"
#include "sim/words.h"

namespace penstock::sim {
namespace {

// Cuts the answer where a stop sequence first ends (not before min_tokens).
void ApplyStop(const Job& job, Writing* writing, Plan* plan) {
  size_t best = std::string::npos;
  const std::string* found = nullptr;
  const size_t least = job.min_tokens > 0 && job.min_tokens <= writing->ends.size()
                           ? writing->ends[job.min_tokens - 1]
                           : 0;
  for (const std::string& stop : job.stop) {
    const size_t from = least > stop.size() ? least - stop.size() : 0;
    const size_t at = writing->text.find(stop, from);
    if (at != std::string::npos && at + stop.size() < best) {
      best = at + stop.size();
      found = &stop;
    }
  }
  if (found == nullptr) return;
  const size_t shown = best - found->size();
  const auto last = std::lower_bound(writing->ends.begin(), writing->ends.end(), best);
  const size_t count = static_cast<size_t>(last - writing->ends.begin()) + 1;
  writing->tokens.resize(count);
  writing->ends.resize(count);
  for (uint32_t& end : writing->ends) end = std::min(end, static_cast<uint32_t>(shown));
  writing->text.resize(shown);
  plan->request.end = engine::FinishReason::kStop;
  plan->stop_text = *found;
}

}  // namespace

Plan MakePlan(const Job& job, size_t prompt_index, uint32_t choice, const Voice& voice,
              const engine::EngineOptions& options) {
  const std::vector<uint32_t>& prompt = job.prompts[prompt_index];
  Plan plan;
  engine::Request& request = plan.request;
  request.prompt_tokens = static_cast<uint32_t>(prompt.size());
  request.lora = job.lora;
  request.priority = job.priority;
  std::vector<uint32_t> tokens = prompt;

  const bool is_chat = job.api == model::Api::kChatCompletions ||
                       job.api == model::Api::kMessages || job.api == model::Api::kResponses;
  if (is_chat || job.api == model::Api::kCompletions) {
    const uint64_t words[] = {voice.seed, job.seed, choice, job.lora};
    const uint64_t seed = XXH3_64bits_withSeed(prompt.data(), prompt.size() * sizeof(uint32_t),
                                               XXH3_64bits(words, sizeof words));
    const uint32_t room = options.max_model_len - request.prompt_tokens;
    const uint32_t limit = std::min(job.max_tokens.value_or(room), room);
    const uint32_t natural =
        std::max(NaturalLength(seed ^ 1, voice.median_output_tokens), job.min_tokens);
    const bool is_cut = job.ignore_eos || natural > limit;
    request.end = is_cut ? engine::FinishReason::kLength : engine::FinishReason::kStop;
    const uint32_t count = is_cut ? limit : natural;
    const FirstWord first = is_chat ? FirstWord::kBare : FirstWord::kSpaced;
    Writing writing = voice.tokenizer == nullptr ? Write(seed, count, first)
                                                 : WriteWith(*voice.tokenizer, seed, count, first);
    if (!job.stop.empty()) ApplyStop(job, &writing, &plan);
    request.output_tokens = static_cast<uint32_t>(writing.tokens.size());
    tokens.insert(tokens.end(), writing.tokens.begin(), writing.tokens.end());
    plan.text = std::move(writing.text);
    plan.ends = std::move(writing.ends);
  }
  const std::string_view adapter = job.lora == 0 ? std::string_view() : std::string_view(job.model);
  request.block_hashes =
      engine::HashBlocks(tokens, options.block_size, engine::RootHash(adapter, job.cache_salt));
  if (options.block_listener != nullptr) {
    plan.content = std::make_shared<engine::KvContent>(engine::KvContent{
        request.block_hashes, std::move(tokens), std::string(adapter), job.cache_salt});
  }
  return plan;
}

}  // namespace penstock::sim
