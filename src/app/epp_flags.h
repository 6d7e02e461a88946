// The flags of `penstock epp`: llm-d's, as pflag reads them (--name=value, --name value, --switch,
// -v=4), and a few of our own.
//
// SOURCE: spec endpoint-picker 1.1.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/time.h"

namespace penstock::app {

struct EppFlags {
  // llm-d's
  uint16_t grpc_port = 9002;
  uint16_t grpc_health_port = 9003;
  uint16_t metrics_port = 9090;
  std::string pool_name;
  std::string pool_namespace;
  std::string pool_group = "inference.networking.k8s.io";
  std::string endpoint_selector;
  std::vector<uint16_t> endpoint_target_ports;
  bool disable_endpoint_subset_filter = false;
  bool emit_endpoint_scores = false;
  Duration refresh_metrics_interval = milliseconds(50);
  Duration refresh_prometheus_metrics_interval = seconds(5);
  Duration metrics_staleness_threshold = seconds(2);
  bool ha_enable_leader_election = false;
  Duration drain_timeout = seconds(30);
  uint64_t grpc_max_recv_msg_size = 4 << 20;
  uint64_t grpc_max_send_msg_size = 0;
  bool secure_serving = true;
  std::string cert_path;
  bool enable_cert_reload = false;
  std::string tls_min_version;
  std::vector<std::string> tls_cipher_suites;
  bool health_checking = false;
  bool enable_grpc_stream_metrics = false;
  bool metrics_endpoint_auth = true;
  std::string metrics_cert_dir;
  std::string metrics_client_ca_file;
  bool enable_pprof = true;
  bool tracing = true;
  std::string config_file;
  std::string config_text;
  bool allow_experimental_plugins = false;
  int verbosity = 2;
  // of the picker's older generation, where llm-d reads metrics-data-source
  std::string model_server_metrics_scheme;
  std::string model_server_metrics_path;
  uint16_t model_server_metrics_port = 0;
  bool model_server_metrics_skip_verify = true;
  // our own
  std::string engine_ca_file;
  std::string host = "0.0.0.0";
  std::string metrics_host;  // empty: host
  std::vector<std::string> engines;
  std::string endpoints_file;
  std::string policy;
  uint32_t threads = 0;
  uint64_t max_body_bytes = 64ull << 20;
  uint64_t max_buffered_bytes = 4ull << 30;
  uint32_t max_endpoints = 1024;
  Duration max_connection_age{0};  // 0: none
  std::string record;
  std::string log_format = "text";

  bool wants_help = false;
  std::vector<std::string> given;  // names, without dashes
  bool Has(std::string_view name) const;
};

// The error names the flag, the value and what would be right; an unknown flag comes with the
// nearest known one.
Result<EppFlags> ParseEppFlags(int argc, const char* const* argv);
std::string EppHelp();

// "10MiB", "25MB", "4Mi", "100k", "5000": a Kubernetes quantity of bytes, with or without a B.
Result<uint64_t> ParseQuantity(std::string_view text);

}  // namespace penstock::app
