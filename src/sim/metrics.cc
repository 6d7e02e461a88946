#include "sim/metrics.h"

#include <chrono>

namespace penstock::sim {
namespace {

constexpr double kTtftSeconds[] = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                   0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10,
                                   20,    40,    80,   160,  640,  2560};
constexpr double kTokenSeconds[] = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                                    0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80};
constexpr double kRequestSeconds[] = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                      30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680};
constexpr double kTokens[] = {1,    2,    5,    10,    20,    50,    100,    200,   500,
                              1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};
constexpr double kIterationTokens[] = {1,   8,    16,   32,   64,   128,  256,
                                       512, 1024, 2048, 4096, 8192, 16384};
constexpr std::string_view kEngine = "0";

double UnixSeconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void AddTo(std::string& list, const std::string& name) {
  if (!list.empty()) list += ',';
  list += name;
}

}  // namespace

telemetry::Counter& EngineMetrics::Count(std::string_view name, std::string_view help) {
  return registry_.AddCounterFamily(name, help, {"engine", "model_name"}).With({kEngine, model_});
}

telemetry::Gauge& EngineMetrics::Level(std::string_view name, std::string_view help) {
  return registry_.AddGaugeFamily(name, help, {"engine", "model_name"}).With({kEngine, model_});
}

telemetry::Histogram& EngineMetrics::Spread(std::string_view name, std::string_view help,
                                            std::span<const double> bounds) {
  return registry_.AddHistogramFamily(name, help, {"engine", "model_name"}, bounds)
      .With({kEngine, model_});
}

EngineMetrics::EngineMetrics(const Names& names, const engine::EngineOptions& options)
    : model_(names.model),
      loras_(names.loras),
      max_loras_(std::to_string(options.max_loras)),
      running_(Level("vllm:num_requests_running", "Requests in model execution batches.")),
      waiting_(Level("vllm:num_requests_waiting", "Requests waiting to be processed.")),
      kv_usage_(Level("vllm:kv_cache_usage_perc", "KV cache usage. 1 means 100 percent usage.")),
      prompt_tokens_(Count("vllm:prompt_tokens_total", "Prefill tokens processed.")),
      generation_tokens_(Count("vllm:generation_tokens_total", "Generation tokens processed.")),
      prefix_queries_(Count("vllm:prefix_cache_queries_total",
                            "Prefix cache queries, in terms of number of queried tokens.")),
      prefix_hits_(Count("vllm:prefix_cache_hits_total",
                         "Prefix cache hits, in terms of number of cached tokens.")),
      preemptions_(Count("vllm:num_preemptions_total", "Preemptions from the engine.")),
      ttft_(Spread("vllm:time_to_first_token_seconds", "Time to first token in seconds.",
                   kTtftSeconds)),
      inter_token_(Spread("vllm:inter_token_latency_seconds", "Inter-token latency in seconds.",
                          kTokenSeconds)),
      time_per_output_token_(Spread("vllm:request_time_per_output_token_seconds",
                                    "Mean time per output token of a request in seconds.",
                                    kTokenSeconds)),
      e2e_(Spread("vllm:e2e_request_latency_seconds", "End to end request latency in seconds.",
                  kRequestSeconds)),
      queue_(Spread("vllm:request_queue_time_seconds", "Time spent in WAITING phase.",
                    kRequestSeconds)),
      inference_(Spread("vllm:request_inference_time_seconds", "Time spent in RUNNING phase.",
                        kRequestSeconds)),
      prefill_(Spread("vllm:request_prefill_time_seconds", "Time spent in PREFILL phase.",
                      kRequestSeconds)),
      decode_(Spread("vllm:request_decode_time_seconds", "Time spent in DECODE phase.",
                     kRequestSeconds)),
      prompt_size_(Spread("vllm:request_prompt_tokens", "Prefill tokens of a request.", kTokens)),
      generation_size_(
          Spread("vllm:request_generation_tokens", "Generation tokens of a request.", kTokens)),
      max_tokens_(
          Spread("vllm:request_params_max_tokens", "The max_tokens of a request.", kTokens)),
      iteration_tokens_(
          Spread("vllm:iteration_tokens_total", "Tokens per engine step.", kIterationTokens)) {
  auto& success =
      registry_.AddCounterFamily("vllm:request_success_total", "Successfully processed requests.",
                                 {"engine", "finished_reason", "model_name"});
  success_ = {&success.With({kEngine, "stop", model_}), &success.With({kEngine, "length", model_}),
              &success.With({kEngine, "abort", model_})};
  registry_
      .AddGaugeFamily(
          "vllm:cache_config_info", "Information of the engine's cache configuration.",
          {"block_size", "cache_dtype", "enable_prefix_caching", "engine", "num_gpu_blocks"})
      .With({std::to_string(options.block_size), "auto", options.prefix_caching ? "True" : "False",
             kEngine, std::to_string(options.num_blocks)})
      .Set(1);
  if (options.cpu_blocks > 0) {
    external_queries_ = &Count("vllm:external_prefix_cache_queries_total",
                               "External prefix cache queries from KV connector cross-instance "
                               "cache sharing, in terms of number of queried tokens.");
    external_hits_ = &Count("vllm:external_prefix_cache_hits_total",
                            "External prefix cache hits from KV connector cross-instance cache "
                            "sharing, in terms of number of cached tokens.");
  }
  registry_.AddGauge("process_start_time_seconds", "Start time of the process since unix epoch.")
      .Set(UnixSeconds());
  if (!loras_.empty()) {
    lora_info_ =
        &registry_.AddGaugeFamily("vllm:lora_requests_info", "Running stats on LoRA requests.",
                                  {"max_lora", "running_lora_adapters", "waiting_lora_adapters"});
  }
}

void EngineMetrics::OnFirstToken(const RequestTimes& times) {
  ttft_.Observe(ToSeconds(times.first_token - times.arrival));
}

void EngineMetrics::OnToken(Duration since_last) { inter_token_.Observe(ToSeconds(since_last)); }

void EngineMetrics::OnFinish(const RequestTimes& times, engine::FinishReason reason) {
  success_[reason == engine::FinishReason::kStop ? 0 : 1]->Add();
  e2e_.Observe(ToSeconds(times.last_token - times.arrival));
  queue_.Observe(ToSeconds(times.scheduled - times.arrival));
  inference_.Observe(ToSeconds(times.last_token - times.scheduled));
  prefill_.Observe(ToSeconds(times.first_token - times.scheduled));
  decode_.Observe(ToSeconds(times.last_token - times.first_token));
  prompt_size_.Observe(times.prompt_tokens);
  generation_size_.Observe(times.output_tokens);
  if (times.max_tokens > 0) max_tokens_.Observe(times.max_tokens);
  if (times.output_tokens > 1) {
    time_per_output_token_.Observe(ToSeconds(times.last_token - times.first_token) /
                                   (times.output_tokens - 1));
  }
}

void EngineMetrics::OnAbort() { success_[2]->Add(); }

void EngineMetrics::Update(const engine::Engine& engine) {
  const engine::EngineStats now = engine.Stats();
  running_.Set(now.running);
  waiting_.Set(now.waiting);
  kv_usage_.Set(static_cast<double>(now.used_blocks) / now.num_blocks);
  prompt_tokens_.Add(now.prompt_tokens - last_.prompt_tokens);
  generation_tokens_.Add(now.generation_tokens - last_.generation_tokens);
  prefix_queries_.Add(now.prefix_query_tokens - last_.prefix_query_tokens);
  prefix_hits_.Add(now.prefix_hit_tokens - last_.prefix_hit_tokens);
  if (external_queries_ != nullptr) {
    external_queries_->Add(now.external_query_tokens - last_.external_query_tokens);
    external_hits_->Add(now.external_hit_tokens - last_.external_hit_tokens);
  }
  preemptions_.Add(now.preemptions - last_.preemptions);
  last_ = now;
  if (lora_info_ != nullptr) UpdateLoras(engine.LoraLoads());
}

void EngineMetrics::UpdateLoras(std::span<const engine::Engine::LoraLoad> loads) {
  std::string running, waiting;
  for (size_t i = 1; i < loads.size(); ++i) {
    if (loads[i].running > 0) AddTo(running, loras_[i - 1]);
    if (loads[i].waiting > 0) AddTo(waiting, loras_[i - 1]);
  }
  if (running == running_loras_ && waiting == waiting_loras_) return;
  if (running_loras_ != "?") lora_info_->Remove({max_loras_, running_loras_, waiting_loras_});
  running_loras_ = std::move(running);
  waiting_loras_ = std::move(waiting);
  lora_info_->With({max_loras_, running_loras_, waiting_loras_}).Set(UnixSeconds());
}

}  // namespace penstock::sim
