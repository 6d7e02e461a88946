// The configuration of `penstock serve` (penstock.yaml): one struct, from which parsing, bounds,
// the reference and the JSON schema come.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/describe.h"
#include "core/result.h"
#include "core/time.h"
#include "model/endpoint.h"
#include "wire/yaml.h"

namespace penstock::config {

struct EngineConfig {
  std::string url;
  std::string name;
  std::map<std::string, std::string> labels;
  std::string role;
  std::string engine_type;
  uint32_t metrics_port = 0;
  uint32_t ranks = 1;
  std::optional<uint32_t> kv_events_port;
  std::optional<uint32_t> kv_replay_port;

  template <class V>
  void Describe(V& v) {
    v.Field("url", url,
            {.text = "Address of the engine, http://HOST:PORT or https://HOST:PORT.",
             .required = true});
    v.Field("name", name, {.text = "Unique name in logs and metrics; HOST:PORT when empty."});
    v.Field("labels", labels, {.text = "Labels that filters can select by."});
    v.Field("role", role,
            {.text = "Short for the label llm-d.ai/role.",
             .one_of = {"", "decode", "prefill", "encode", "prefill-decode", "encode-prefill",
                        "both", "encode-prefill-decode"}});
    v.Field(
        "engineType", engine_type,
        {.text = "Short for the label llm-d.ai/engine-type; found out from the metrics when empty.",
         .one_of = {"", "vllm", "sglang", "trtllm-serve", "triton", "triton-tensorrt-llm"}});
    v.Field("metricsPort", metrics_port,
            {.text = "Port of /metrics when it is not the engine's own; 0 means the same port.",
             .max = 65535});
    v.Field("ranks", ranks,
            {.text = "Data-parallel ranks on consecutive ports, each an endpoint of its own.",
             .min = 1,
             .max = 64});
    v.Field("kvEventsPort", kv_events_port,
            {.text = "Port where the engine's first rank publishes KV events; 0: nobody listens. "
                     "Where it is left out, the scheduling policy says where to try: least-cost at "
                     "5557, vLLM's usual one, of hosts with one endpoint.",
             .max = 65535});
    v.Field(
        "kvReplayPort", kv_replay_port,
        {.text = "Port where it can be asked for earlier KV events; 0: it keeps none. Where it "
                 "is left out, the scheduling policy says: least-cost tries 5558 where it tries "
                 "5557.",
         .max = 65535});
  }
};

struct SchedulingConfig {
  std::string policy = "least-cost";
  std::string file;
  wire::YamlNode plugins;
  wire::YamlNode scheduling_profiles;

  template <class V>
  void Describe(V& v) {
    v.Field("policy", policy,
            {.text = "A built-in policy: least-cost, sticky, weighted, weighted-lru, "
                     "least-requests, power-of-two, round-robin or random."});
    v.Field("file", file,
            {.text = "An EndpointPickerConfig file, as llm-d uses it, instead of a policy."});
    v.Field("plugins", plugins,
            {.text = "Plugins as in EndpointPickerConfig, instead of a policy or a file."});
    v.Field("schedulingProfiles", scheduling_profiles,
            {.text = "Profiles over `plugins`, as in EndpointPickerConfig."});
  }
};

struct LimitsConfig {
  uint64_t max_body_bytes = 64ull << 20;
  uint64_t max_buffered_bytes = 4ull << 30;
  uint64_t max_header_bytes = 64 << 10;
  uint32_t max_connections = 20000;
  uint32_t max_endpoints = 1024;
  uint64_t decision_log_bytes = 32ull << 20;

  template <class V>
  void Describe(V& v) {
    v.Field("maxBodyBytes", max_body_bytes,
            {.text = "Largest request body; above it the answer is 413.",
             .unit = "bytes",
             .min = 1024,
             .max = 4294967296.0});
    v.Field("maxBufferedBytes", max_buffered_bytes,
            {.text = "Memory of all request bodies at a time, over all loops; beyond it the answer "
                     "is 503. At least twice `maxBodyBytes`.",
             .unit = "bytes",
             .min = 2048,
             .max = 1099511627776.0});
    v.Field("maxHeaderBytes", max_header_bytes,
            {.text = "Largest request head; above it the answer is 431.",
             .unit = "bytes",
             .min = 1024,
             .max = 1048576});
    v.Field("maxConnections", max_connections,
            {.text = "Client connections per loop; fewer when the limit of open files is low.",
             .min = 1,
             .max = 1000000});
    v.Field("maxEndpoints", max_endpoints,
            {.text = "Endpoints in the pool.", .min = 1, .max = 16384});
    v.Field("decisionLogBytes", decision_log_bytes,
            {.text = "Memory of the decision log, with the pool states it refers to; the oldest "
                     "records go first.",
             .unit = "bytes",
             .min = 65536,
             .max = 17179869184.0});
  }
};

struct TimeoutsConfig {
  Duration connect = seconds(2);
  Duration first_byte = seconds(600);
  Duration idle = seconds(120);
  Duration header = seconds(10);
  Duration body = seconds(60);
  Duration keep_alive = seconds(300);
  Duration write = seconds(60);
  Duration drain = seconds(30);

  template <class V>
  void Describe(V& v) {
    v.Field("connect", connect, {.text = "To connect to an engine.", .min = 0.01, .max = 60});
    v.Field("firstByte", first_byte,
            {.text = "From sending a request to the first byte of its answer; then 504.",
             .min = 0.1,
             .max = 86400});
    v.Field("idle", idle,
            {.text = "Silence inside an engine's answer; then the answer is broken off.",
             .min = 0.1,
             .max = 86400});
    v.Field("header", header,
            {.text = "For a client to send a request's head; then 408.", .min = 0.1, .max = 3600});
    v.Field("body", body,
            {.text = "Silence inside a client's request body, and the time for all of it, with a "
                     "second more for every 16 KiB that have come; then 408.",
             .min = 0.1,
             .max = 3600});
    v.Field("keepAlive", keep_alive,
            {.text = "A client's connection without a request is closed after this.",
             .min = 1,
             .max = 86400});
    v.Field("write", write,
            {.text = "A client that reads nothing for this long is cut off.",
             .min = 0.1,
             .max = 86400});
    v.Field("drain", drain,
            {.text = "After SIGTERM, for running requests to end.", .min = 0, .max = 86400});
  }
};

struct RetryConfig {
  uint32_t max_tries = 2;
  double budget_ratio = 0.2;

  template <class V>
  void Describe(V& v) {
    v.Field("maxTries", max_tries,
            {.text = "Engines asked for one request, the first included.", .min = 1, .max = 10});
    v.Field("budgetRatio", budget_ratio,
            {.text = "Retries as a share of requests; 0 turns them off.", .min = 0, .max = 1});
  }
};

struct ScrapeConfig {
  Duration interval = milliseconds(50);
  Duration models_interval = seconds(10);
  std::string scheme;

  template <class V>
  void Describe(V& v) {
    v.Field("interval", interval,
            {.text = "Between two reads of an engine's /metrics.", .min = 0.01, .max = 3600});
    v.Field("modelsInterval", models_interval,
            {.text = "Between two reads of an engine's /v1/models.", .min = 0.1, .max = 3600});
    v.Field("scheme", scheme,
            {.text = "How engines are read when it is not as requests are sent to them: an engine "
                     "behind TLS may show its metrics without.",
             .one_of = {"", "http", "https"}});
  }
};

struct EngineTlsConfig {
  std::string ca_file;
  std::string server_name;
  std::string certificate_file;
  std::string key_file;
  bool insecure_skip_verify = false;

  template <class V>
  void Describe(V& v) {
    v.Field("caFile", ca_file,
            {.text = "Certificates, in PEM, of the authorities that engines' certificates must "
                     "come from; those of the system when empty."});
    v.Field("serverName", server_name,
            {.text = "Name that engines' certificates must be for; the engine's own host when "
                     "empty."});
    v.Field("certificateFile", certificate_file,
            {.text = "Certificate to show to engines that ask for one, in PEM, with `keyFile`."});
    v.Field("keyFile", key_file, {.text = "Its private key, in PEM, without a password."});
    v.Field("insecureSkipVerify", insecure_skip_verify,
            {.text = "Take any certificate: whoever is in between can read and change all."});
  }
};

struct RecordingConfig {
  std::string file;
  uint64_t max_bytes = 1ull << 30;

  template <class V>
  void Describe(V& v) {
    v.Field("file", file,
            {.text = "Where to write what the gateway hears and decides, without prompts, for "
                     "'penstock lab verify' and 'lab replay'; the file before is kept as FILE.1. "
                     "Empty: nothing is recorded."});
    v.Field("maxBytes", max_bytes,
            {.text = "Size at which a recording ends.",
             .unit = "bytes",
             .min = 1048576,
             .max = 1099511627776.0});
  }
};

struct LogConfig {
  std::string level = "info";
  std::string format = "text";

  template <class V>
  void Describe(V& v) {
    v.Field("level", level,
            {.text = "Least severe lines that are written.",
             .one_of = {"debug", "info", "warn", "error", "off"}});
    v.Field("format", format,
            {.text = "Text for people or JSON for machines.", .one_of = {"text", "json"}});
  }
};

struct ServeConfig {
  std::string listen = "127.0.0.1:8080";  // not every interface: there is no authentication
  std::string admin_listen = "127.0.0.1:9090";
  uint32_t threads = 0;
  std::vector<EngineConfig> engines;
  std::string endpoints_file;
  SchedulingConfig scheduling;
  LimitsConfig limits;
  TimeoutsConfig timeouts;
  RetryConfig retry;
  ScrapeConfig scrape;
  EngineTlsConfig engine_tls;
  RecordingConfig recording;
  LogConfig log;

  template <class V>
  void Describe(V& v) {
    v.Field("listen", listen,
            {.text = "Where clients connect, HOST:PORT; port 0 takes a free one."});
    v.Field("adminListen", admin_listen,
            {.text = "Live page, /metrics and /debug, HOST:PORT; keep it off public networks."});
    v.Field("threads", threads, {.text = "Event loops; 0 means one per core.", .max = 256});
    v.Field("engines", engines, {.text = "The engines, when they do not come from a file."});
    v.Field(
        "endpointsFile", endpoints_file,
        {.text = "A watched file of endpoints (YAML or JSON); edits take effect while running."});
    v.Field("scheduling", scheduling, {.text = "How an engine is picked."});
    v.Field("limits", limits, {.text = "Bounds of everything that can grow."});
    v.Field("timeouts", timeouts, {.text = "How long to wait for whom."});
    v.Field("retry", retry, {.text = "When a request is tried on another engine."});
    v.Field("scrape", scrape, {.text = "How engines are watched."});
    v.Field("engineTls", engine_tls, {.text = "TLS to the engines whose url is https."});
    v.Field("recording", recording, {.text = "A recording of every decision."});
    v.Field("log", log, {.text = "What is written to stderr."});
  }
};

// All that is wrong, a line each, in the error's message. Warnings are appended to `*warnings`.
Result<ServeConfig> LoadServeConfig(std::string_view text, std::string_view file_name,
                                    std::vector<std::string>* warnings);

struct HostPort {
  std::string host;
  uint16_t port = 0;
};
// "http://10.0.0.1:8000", "https://[fd00::1]:8000". Without a port it is the scheme's own.
struct EngineUrl {
  model::Scheme scheme = model::Scheme::kHttp;
  std::string host;
  uint16_t port = 0;
};
Result<EngineUrl> ParseEngineUrl(std::string_view url);
// "127.0.0.1:8080", "[::1]:0", "localhost:80".
Result<HostPort> ParseListen(std::string_view text);

// The endpoints of one entry: one per rank, with the short forms turned into labels.
Result<std::vector<model::EndpointSpec>> ToEndpoints(const EngineConfig& engine);

// The --engine flag: URL[,name=N][,role=R][,label.KEY=VALUE][,metricsPort=P][,ranks=N]
// [,kvEventsPort=P][,kvReplayPort=P].
Result<EngineConfig> ParseEngineFlag(std::string_view flag);

}  // namespace penstock::config
