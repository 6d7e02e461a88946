#include "app/sim.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/profile.h"
#include "net/loop.h"
#include "sim/sim.h"

namespace penstock::app {
namespace {

constexpr auto kDrainLimit = seconds(30);

constexpr const char* kExamples = R"(
Examples:
  penstock sim --engines 4 --profile h100-qwen3-32b-tp2
      Four engines on ports 8101 to 8104 that behave like Qwen3-32B on two H100s each.
  penstock sim --engines 2 --port 0 --speed 10 --model my-model --lora sql,chat
      Two engines on free ports, ten times as fast, with two LoRA adapters.
  penstock sim --profile ./my-gpu.yaml --num-gpu-blocks-override 500
      A profile of your own, with a small KV cache, to see preemption.
  penstock sim --profile h100-qwen3-32b --cpu-blocks 24000
      2149 KV blocks on the GPU and 24000 in host memory, from where they come back at 20 GB/s.
  penstock sim --engines 2 --kv-events-port 5557 --kv-replay-port 5657
      What each engine's cache holds, as vLLM publishes it: on ports 5557 and 5558.
  penstock sim --engines 2 --tokenizer /models/qwen3
      Prompts are the tokens that a real engine makes of them with the files of that folder.
  curl http://127.0.0.1:8101/v1/chat/completions -H 'content-type: application/json' \
      -d '{"messages": [{"role": "user", "content": "Hello"}], "stream": true}'
)";

// What the flags say beyond SimOptions.
struct Flags {
  sim::SimOptions sim;
  std::string profile = "h100-qwen3-32b-tp2";
  uint32_t loops = 0;
  bool list_profiles = false;
  // Over the profile's values; 0: the profile's.
  uint32_t max_num_seqs = 0;
  uint32_t max_num_batched_tokens = 0;
  uint32_t max_model_len = 0;
  uint32_t num_gpu_blocks = 0;
  uint32_t max_waiting = 0;
  uint32_t cpu_blocks = 0;
  double kv_lag_ms = 0;
};

void DeclareKv(CLI::App& app, Flags& flags) {
  sim::KvOptions& kv = flags.sim.kv;
  app.add_option("--kv-events-port", kv.port,
                 "Publish KV events over ZeroMQ: port of the first engine; 0: any free ports")
      ->each([&kv](const std::string&) { kv.is_on = true; });
  app.add_option("--kv-replay-port", kv.replay_port,
                 "Where the last batches can be had again: port of the first engine; 0: any")
      ->each([&kv](const std::string&) { kv.has_replay = true; });
  app.add_option_function<std::string>(
         "--kv-events-encoding",
         [&kv](const std::string& name) {
           kv.encoding = name == "map" ? engine::KvEncoding::kMap : engine::KvEncoding::kArray;
         },
         "map, as vLLM since 0.26; or array, as before and as SGLang")
      ->check(CLI::IsMember({"map", "array"}))
      ->default_str("map");
  app.add_option("--kv-events-history", kv.history_batches, "Batches that can be had again")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--kv-events-loss", kv.loss, "Share of batches that get lost on the way")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--kv-events-lag-ms", flags.kv_lag_ms, "How late batches come")
      ->check(CLI::Range(0.0, 60'000.0));
}

void Declare(CLI::App& app, Flags& flags) {
  sim::SimOptions& sim = flags.sim;
  app.footer(kExamples);
  app.add_option("--engines", sim.engines, "Number of engines")->capture_default_str();
  app.add_option("--host", sim.host, "Address to listen on")->capture_default_str();
  app.add_option("--port", sim.base_port, "Port of the first engine; 0: any free ports")
      ->capture_default_str();
  app.add_option("--profile", flags.profile, "Profile by name, or a YAML file")
      ->capture_default_str();
  app.add_flag("--list-profiles", flags.list_profiles, "Print the built-in profiles and exit");
  app.add_option("--speed", sim.speed, "How many times faster than the profile")
      ->capture_default_str();
  app.add_option("--model", sim.model, "Model name to serve; default: the profile's");
  app.add_option("--tokenizer", sim.tokenizer,
                 "The model's folder, tokenizer.json or tokenizer.model: prompts and answers are "
                 "its tokens, and chats are written by its template; default: the engines' own "
                 "words")
      ->type_name("PATH");
  app.add_flag("--no-render{false}", sim.has_render,
               "Without the render endpoints, as vLLM has them unless they are asked for");
  app.add_flag("--no-tokenize{false}", sim.has_tokenize, "Without /tokenize");
  app.add_option("--lora", sim.loras, "Names of LoRA adapters, with commas")->delimiter(',');
  app.add_option_function<std::string>(
         "--scheduling-policy",
         [&sim](const std::string& name) {
           sim.policy = name == "fcfs" ? engine::Policy::kFcfs : engine::Policy::kPriority;
         },
         "fcfs, or priority (the request's field)")
      ->check(CLI::IsMember({"fcfs", "priority"}))
      ->default_str("fcfs");
  app.add_option("--output-tokens", sim.median_output_tokens,
                 "Median length of answers that no limit cuts")
      ->capture_default_str();
  app.add_option("--seed", sim.seed, "Seed of the answers and of the noise")->capture_default_str();
  app.add_option("--loops", flags.loops, "Threads; default: one per core, at most 8");
  const CLI::Range positive(1, 100'000'000);
  app.add_option("--max-num-seqs", flags.max_num_seqs, "Instead of the profile's")->check(positive);
  app.add_option("--max-num-batched-tokens", flags.max_num_batched_tokens,
                 "Instead of the profile's")
      ->check(positive);
  app.add_option("--max-model-len", flags.max_model_len, "Instead of the profile's")
      ->check(positive);
  app.add_option("--num-gpu-blocks-override", flags.num_gpu_blocks,
                 "KV blocks instead of the profile's")
      ->check(positive);
  app.add_option(
         "--cpu-blocks", flags.cpu_blocks,
         "KV blocks that host memory holds beside each engine's own; default: the profile's")
      ->check(positive);
  app.add_option("--max-num-waiting", flags.max_waiting,
                 "Requests that may wait; more are refused with 429")
      ->check(positive);
  DeclareKv(app, flags);
}

void Override(uint32_t value, uint32_t* field) {
  if (value > 0) *field = value;
}

int ListProfiles() {
  for (const std::string& name : engine::BuiltinProfileNames()) {
    const auto profile = engine::LoadProfile(name);
    if (!profile) {
      std::fprintf(stderr, "penstock sim: %s\n", profile.error().message.c_str());
      return 1;
    }
    std::printf("%-28s %s (%s)\n", name.c_str(), profile->description.c_str(),
                profile->quality.c_str());
  }
  return 0;
}

// Until a signal; then lets running answers end, and at a second signal cuts them.
int Serve(const Flags& flags) {
  const uint32_t cores = std::clamp(std::thread::hardware_concurrency(), 1u, 8u);
  net::Loop main_loop;
  net::LoopPool pool(flags.loops > 0 ? std::min(flags.loops, 64u) : cores);
  std::unique_ptr<sim::SimFleet> fleet;
  bool is_draining = false;
  net::SignalWatch signals(main_loop, [&](int) {
    if (fleet == nullptr || std::exchange(is_draining, true)) return main_loop.Stop();
    std::fprintf(stderr, "penstock sim: ending; a second signal ends at once\n");
    fleet->Drain(kDrainLimit, [&main_loop] { main_loop.Stop(); });
  });
  auto started = sim::SimFleet::Start(pool, flags.sim);
  if (!started) {
    std::fprintf(stderr, "penstock sim: %s\n", started.error().message.c_str());
    return 1;
  }
  fleet = std::move(*started);
  pool.Start();
  const std::vector<uint16_t> ports = fleet->ports();
  const std::vector<sim::KvPublisher::Endpoint> kv = fleet->kv_endpoints();
  for (size_t i = 0; i < ports.size(); ++i) {
    std::printf("engine %zu: http://%s:%u", i, flags.sim.host.c_str(), ports[i]);
    if (i < kv.size()) std::printf(" events %s", kv[i].events.c_str());
    if (i < kv.size() && !kv[i].replay.empty()) std::printf(" replay %s", kv[i].replay.c_str());
    std::printf("\n");
  }
  std::printf("ready: %zu x %s, speed %g\n", ports.size(), flags.sim.profile.name.c_str(),
              flags.sim.speed);
  std::fflush(stdout);
  main_loop.Run();
  pool.StopAndJoin();
  fleet.reset();
  return 0;
}

}  // namespace

int RunSim(int argc, char** argv) {
  Flags flags;
  CLI::App app{"Simulated engines that speak vLLM's HTTP API", "penstock sim"};
  Declare(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (flags.list_profiles) return ListProfiles();
  auto profile = engine::LoadProfile(flags.profile);
  if (!profile) {
    std::fprintf(stderr, "penstock sim: %s\n", profile.error().message.c_str());
    return 1;
  }
  Override(flags.max_num_seqs, &profile->scheduler.max_num_seqs);
  Override(flags.max_num_batched_tokens, &profile->scheduler.max_num_batched_tokens);
  Override(flags.max_model_len, &profile->scheduler.max_model_len);
  Override(flags.max_waiting, &profile->scheduler.max_waiting);
  Override(flags.num_gpu_blocks, &profile->kv_cache.blocks);
  Override(flags.cpu_blocks, &profile->kv_offload.cpu_blocks);
  // A smaller cache holds shorter requests only, as with vLLM's own check at start.
  if (flags.num_gpu_blocks > 0 && flags.max_model_len == 0) {
    const uint64_t room = uint64_t{profile->kv_cache.blocks} * profile->kv_cache.block_size;
    profile->scheduler.max_model_len =
        static_cast<uint32_t>(std::min<uint64_t>(profile->scheduler.max_model_len, room));
  }
  flags.sim.profile = std::move(*profile);
  flags.sim.kv.seed = flags.sim.seed;
  flags.sim.kv.lag = FromSeconds(flags.kv_lag_ms / 1000);
  return Serve(flags);
}

}  // namespace penstock::app
