#include "app/older_names.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace penstock::app {
namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

// Labels that were called the same.
Labels Same(std::initializer_list<const char*> names) {
  Labels out;
  for (const char* name : names) out.emplace_back(name, name);
  return out;
}

}  // namespace

void AddOlderNames(telemetry::Registry& registry) {
  const auto add = [&registry](std::string_view prefix, const char* old_name, const char* name,
                               Labels labels) {
    registry.AddTwin(
        {std::string(prefix) + old_name, std::string("llm_d_epp_") + name, std::move(labels)});
  };
  const Labels models = Same({"model_name", "target_model_name"});
  constexpr std::string_view kObjective = "inference_objective_";
  add(kObjective, "request_total", "request_total",
      Same({"model_name", "target_model_name", "priority"}));
  add(kObjective, "request_error_total", "request_error_total",
      Same({"model_name", "target_model_name", "error_code"}));
  add(kObjective, "running_requests", "request_running", Same({"model_name"}));
  const std::pair<const char*, const char*> of_models[] = {
      {"request_duration_seconds", "request_duration_seconds"},
      {"request_sizes", "request_size_bytes"},
      {"response_sizes", "response_size_bytes"},
      {"input_tokens", "request_input_tokens"},
      {"output_tokens", "request_output_tokens"},
      {"prompt_cached_tokens", "request_cached_tokens"},
      {"normalized_time_per_output_token_seconds", "request_ntpot_seconds"},
      {"request_ttft_seconds", "request_ttft_seconds"},
      {"request_tpot_seconds", "request_streaming_tpot_seconds"},
  };
  for (const auto& [old_name, name] : of_models) add(kObjective, old_name, name, models);

  constexpr std::string_view kPool = "inference_pool_";
  for (const char* name :
       {"average_kv_cache_utilization", "average_queue_size", "average_running_requests"}) {
    add(kPool, name, name, Same({"name"}));
  }
  add(kPool, "ready_pods", "ready_endpoints", Same({"name"}));
  add(kPool, "per_pod_queue_size", "per_endpoint_queue_size",
      {{"name", "name"}, {"model_server_pod", "model_server_endpoint"}});

  constexpr std::string_view kExtension = "inference_extension_";
  add(kExtension, "scheduler_e2e_duration_seconds", "scheduler_e2e_duration_seconds", {});
  add(kExtension, "scheduler_attempts_total", "scheduler_attempts_total",
      {{"status", "status"},
       {"target_model_name", "target_model_name"},
       {"pod_name", "endpoint_name"},
       {"namespace", "namespace"},
       {"port", "port"}});
  add(kExtension, "plugin_duration_seconds", "plugin_duration_seconds",
      Same({"extension_point", "plugin_type", "plugin_name"}));
  add(kExtension, "info", "info", Same({"commit", "build_ref"}));
  for (const char* name :
       {"prefix_indexer_size", "prefix_indexer_hit_ratio", "prefix_indexer_hit_bytes"}) {
    add(kExtension, name, name, {});
  }

  constexpr std::string_view kScheduler = "llm_d_inference_scheduler_";
  add(kScheduler, "datalayer_poll_errors_total", "datalayer_poll_errors_total",
      Same({"source_type"}));
  add(kScheduler, "datalayer_extract_errors_total", "datalayer_extract_errors_total",
      Same({"source_type", "extractor_type"}));
}

}  // namespace penstock::app
