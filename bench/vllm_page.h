// A /metrics page like that of a vLLM server that has served a while: the families and labels of
// V1, about 50 KB.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::bench {

class VllmPage {
 public:
  // `step` moves the values, as time does.
  static std::string Make(int step) {
    VllmPage page;
    page.Process(step);
    page.Engine(step);
    page.Http(step);
    return std::move(page.text_);
  }

 private:
  static constexpr std::string_view kModel = "meta-llama/Llama-3.1-8B-Instruct";

  void Head(std::string_view name, std::string_view type) {
    text_ += "# HELP " + std::string(name) + " What " + std::string(name) +
             " counts, in a sentence of usual length.\n# TYPE " + std::string(name) + " " +
             std::string(type) + "\n";
  }

  void Sample(std::string_view name, std::string_view labels, double value) {
    char number[32];
    std::snprintf(number, sizeof number, "%.17g", value);
    text_ += std::string(name) + "{" + std::string(labels) + "} " + number + "\n";
  }

  static std::string Labels(std::string_view more = {}) {
    return "engine=\"0\"," + (more.empty() ? "" : std::string(more) + ",") + "model_name=\"" +
           std::string(kModel) + "\"";
  }

  void One(std::string_view name, std::string_view type, double value) {
    Head(name, type);
    Sample(name, Labels(), value);
  }

  void Histogram(const std::string& name, const std::string& labels,
                 const std::vector<double>& bounds, int step) {
    double count = 0;
    for (size_t i = 0; i < bounds.size(); ++i) {
      count += static_cast<double>(i * 37 % 101) + step;
      char bound[32];
      std::snprintf(bound, sizeof bound, "le=\"%g\"", bounds[i]);
      Sample(name + "_bucket", labels + "," + bound, count);
    }
    Sample(name + "_bucket", labels + ",le=\"+Inf\"", count);
    Sample(name + "_count", labels, count);
    Sample(name + "_sum", labels, count * 0.37);
    Sample(name + "_created", labels, 1.7300000001234e9);
  }

  void Process(int step) {
    for (std::string_view name :
         {"python_gc_objects_collected_total", "python_gc_collections_total"}) {
      Head(name, "counter");
      for (std::string_view generation : {"0", "1", "2"}) {
        Sample(name, "generation=\"" + std::string(generation) + "\"", 1234 + step);
      }
    }
    One("process_virtual_memory_bytes", "gauge", 1.2345678e10);
    One("process_resident_memory_bytes", "gauge", 1.2345e9 + step);
    One("process_cpu_seconds_total", "counter", 1234.56 + step * 0.05);
    One("process_open_fds", "gauge", 64);
  }

  void Engine(int step) {
    One("vllm:num_requests_running", "gauge", 20 + step % 7);
    One("vllm:num_requests_waiting", "gauge", step % 5);
    One("vllm:engine_sleep_state", "gauge", 0);
    One("vllm:kv_cache_usage_perc", "gauge", 0.25 + step % 10 * 0.03125);
    for (const char* name :
         {"vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total",
          "vllm:external_prefix_cache_queries_total", "vllm:external_prefix_cache_hits_total",
          "vllm:mm_cache_queries_total", "vllm:mm_cache_hits_total", "vllm:num_preemptions_total",
          "vllm:prompt_tokens_total", "vllm:generation_tokens_total"}) {
      One(name, "counter", 1.7179869184e10 + step * 1000.0);
    }
    Head("vllm:request_success_total", "counter");
    for (std::string_view reason : {"stop", "length", "abort", "error"}) {
      Sample("vllm:request_success_total",
             Labels("finished_reason=\"" + std::string(reason) + "\""), 5000 + step);
    }
    Head("vllm:cache_config_info", "gauge");
    Sample("vllm:cache_config_info",
           "block_size=\"16\",cache_dtype=\"auto\",calculate_kv_scales=\"False\",cpu_kvcache_space_"
           "bytes=\"None\",cpu_offload_gb=\"0\",enable_prefix_caching=\"True\",engine=\"0\","
           "gpu_memory_utilization=\"0.9\",is_attention_free=\"False\",num_cpu_blocks=\"None\","
           "num_gpu_blocks=\"27649\",num_gpu_blocks_override=\"None\",prefix_caching_hash_algo="
           "\"sha256\",sliding_window=\"None\",swap_space=\"4\",swap_space_bytes=\"4294967296\"",
           1);
    const std::vector<double> tokens = {1,   2,    5,    10,   20,    50,    100,   200,
                                        500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};
    const std::vector<double> shorts = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,
                                        0.25,  0.5,   0.75, 1,    2.5,  5,    7.5,  10,
                                        20,    40,    80,   160,  640,  2560};
    const std::vector<double> longs = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                                       30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680};
    for (const char* name :
         {"vllm:iteration_tokens_total", "vllm:request_prompt_tokens",
          "vllm:request_generation_tokens", "vllm:request_max_num_generation_tokens",
          "vllm:request_params_n", "vllm:request_params_max_tokens"}) {
      Head(name, "histogram");
      Histogram(name, Labels(), tokens, step);
    }
    for (const char* name : {"vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds",
                             "vllm:request_time_per_output_token_seconds"}) {
      Head(name, "histogram");
      Histogram(name, Labels(), shorts, step);
    }
    for (const char* name :
         {"vllm:e2e_request_latency_seconds", "vllm:request_queue_time_seconds",
          "vllm:request_inference_time_seconds", "vllm:request_prefill_time_seconds",
          "vllm:request_decode_time_seconds"}) {
      Head(name, "histogram");
      Histogram(name, Labels(), longs, step);
    }
  }

  void Http(int step) {
    const std::vector<double> bounds = {0.1, 0.5, 1};
    const std::vector<double> fine = {0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1,  1.5,
                                      2,    2.5,   3,    3.5,   4,   4.5,  5,   7.5,  10, 30};
    Head("http_request_duration_highr_seconds", "histogram");
    Histogram("http_request_duration_highr_seconds", "app=\"vllm\"", fine, step);
    Head("http_request_duration_seconds", "histogram");
    for (std::string_view handler :
         {"/v1/chat/completions", "/v1/completions", "/v1/models", "/health", "/metrics",
          "/v1/embeddings", "/tokenize", "/detokenize", "/version", "/ping"}) {
      for (std::string_view method : {"GET", "POST"}) {
        Histogram("http_request_duration_seconds",
                  "handler=\"" + std::string(handler) + "\",method=\"" + std::string(method) + "\"",
                  bounds, step);
      }
    }
  }

  std::string text_;
};

}  // namespace penstock::bench
