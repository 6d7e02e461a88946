// How many tokens a prompt has, by the estimate that four bytes are one token.
#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

class TokenProducer : public sched::Producer {
 public:
  struct Params {
    std::string model_name;
    wire::YamlNode vllm;
    wire::YamlNode estimate;
    wire::YamlNode uds_tokenizer_config;
    template <class V>
    void Describe(V& v) {
      v.Field("modelName", model_name,
              {.text = "Model whose tokenizer is meant; the estimate is the same for all."});
      v.Field("vllm", vllm, {.text = "An engine's render endpoints as the tokenizer."});
      v.Field("estimate", estimate,
              {.text = "The estimate of four bytes a token, with its own settings: `{}`."});
      v.Field("udsTokenizerConfig", uds_tokenizer_config,
              {.text = "A tokenizer service on a Unix socket.", .deprecated = "use vllm."});
    }
    std::string Problem() const {
      if (estimate.kind != wire::YamlNode::Kind::kNull && !estimate.entries.empty()) {
        return "estimate: settings of the estimate of images and video are not available; write "
               "estimate: {}";
      }
      if (vllm.kind != wire::YamlNode::Kind::kNull) {
        return "vllm: the render back end is not available yet; leave it out to count tokens by "
               "the estimate of four bytes each";
      }
      if (uds_tokenizer_config.kind != wire::YamlNode::Kind::kNull) {
        return "udsTokenizerConfig: a tokenizer on a Unix socket is not available; leave it out "
               "to count tokens by the estimate of four bytes each";
      }
      return "";
    }
  };
  explicit TokenProducer(const Params&) {}

  std::vector<sched::DataKey> Produces() const override { return {sched::DataKey::kTokens}; }

  // Each prompt of the request is rounded up on its own.
  void Prepare(sched::RequestContext& context, Time) const override {
    using model::kBytesPerToken;
    uint64_t tokens = 0;
    uint64_t bytes = 0;
    for (const model::PromptPart& part : context.request.prompt) {
      if (part.starts_sequence) {
        tokens += (bytes + kBytesPerToken - 1) / kBytesPerToken;
        bytes = 0;
      }
      bytes += part.bytes.size();
    }
    tokens += (bytes + kBytesPerToken - 1) / kBytesPerToken;
    context.input_tokens = tokens + context.request.extra_tokens;
  }
};

}  // namespace

sched::PluginType TokenProducerType() {
  auto type = sched::MakeType<TokenProducer>(
      "token-producer", sched::Kind::kProducer,
      "Counts the tokens of a prompt, by the estimate of four bytes each.");
  type.aliases = {"tokenizer"};
  type.formula = "ceil(bytes / 4) for each prompt, plus the estimate for images, audio and video";
  type.default_producer_of = {sched::DataKey::kTokens};
  return type;
}

}  // namespace penstock::plugins
