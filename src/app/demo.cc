#include "app/demo.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "app/demo_text.h"
#include "app/gateway.h"
#include "config/duration.h"
#include "core/text.h"
#include "engine/profile.h"
#include "net/loop.h"
#include "sched/config_loader.h"
#include "sim/sim.h"
#include "telemetry/log.h"
#include "traffic/report.h"
#include "traffic/traffic.h"

namespace penstock::app {
namespace {

constexpr Duration kStatusEvery = seconds(5);
constexpr Duration kDrainLimit = seconds(5);
constexpr uint32_t kGatewayLoops = 2;
constexpr const char* kHost = "127.0.0.1";

// An engine of h100-qwen3-32b-tp2 holds 298 thousand tokens. Its share of the agents' prompts and
// of the open chats is about 130 thousand, everybody's is 530. So where chats stay with
// their engine 96 % of the prompt tokens are cached, after seven minutes as after one, and engines
// prefill 1 thousand tokens a second of the 20 that they can; at random it is two thirds, and
// prompts wait for each other.
constexpr uint32_t kAgentsPerEngine = 24;
constexpr uint32_t kChatsPerEngine = 75;
constexpr double kChatsPerSecondPerEngine = 5;

constexpr const char* kExamples = R"(
Examples:
  penstock demo
      Four engines, traffic, and a gateway that keeps chats where their cache is.
  penstock demo --policy random
      The same traffic spread blindly: cache hits fall and TTFT grows within a minute.
  penstock demo --scheduling-config epp.yaml
      Routed by an EndpointPickerConfig of yours, as llm-d uses it.
  penstock demo --port 0 --admin-port 0 --no-traffic
      On free ports, for traffic of your own.
)";

struct Flags {
  std::string policy = "least-cost";
  std::string scheduling_config;
  uint32_t engines = 4;
  std::string profile = "h100-qwen3-32b-tp2";
  double speed = 1;
  uint16_t port = 8080;
  uint16_t admin_port = 9090;
  std::string duration = "0";
  bool no_traffic = false;
  std::optional<double> chats_per_s;
  std::optional<uint32_t> max_chats;
  uint64_t seed = 1;
};

void Declare(CLI::App& app, Flags& flags) {
  app.footer(kExamples);
  auto* policy = app.add_option(
      "--policy", flags.policy,
      fmt::format("How engines are picked: {}", fmt::join(sched::BuiltinPolicyNames(), ", ")));
  policy->capture_default_str();
  app.add_option("--scheduling-config", flags.scheduling_config,
                 "EndpointPickerConfig file instead of a policy")
      ->excludes(policy);
  app.add_option("--engines", flags.engines, "Simulated engines")
      ->check(CLI::Range(1u, 64u))
      ->capture_default_str();
  app.add_option("--profile", flags.profile, "What an engine is like: a name or a YAML file")
      ->capture_default_str();
  app.add_option("--speed", flags.speed, "Engines and users, times as fast")
      ->check(CLI::Range(0.1, 1000.0))
      ->capture_default_str();
  app.add_option("--port", flags.port, "Port of the gateway; 0: any free one")
      ->capture_default_str();
  app.add_option("--admin-port", flags.admin_port, "Port of the live page; 0: any free one")
      ->capture_default_str();
  app.add_option(
      "--rate", flags.chats_per_s,
      fmt::format("Chats that begin per second [{} an engine]", kChatsPerSecondPerEngine));
  app.add_option("--chats", flags.max_chats,
                 fmt::format("Chats open at a time, at most [{} an engine]", kChatsPerEngine));
  app.add_option("--duration", flags.duration, "\"90s\", \"5m\"; 0: until Ctrl-C")
      ->capture_default_str();
  app.add_flag("--no-traffic", flags.no_traffic, "Engines and gateway only");
  app.add_option("--seed", flags.seed, "Decides what the chats say")->capture_default_str();
}

// What the flags amount to.
struct Plan {
  sim::SimOptions sim;
  config::ServeConfig serve;
  traffic::TrafficOptions traffic;
  bool has_traffic = true;
};

// Load for so many engines, of users that are as much faster as the engines are.
Result<traffic::TrafficOptions> PlanTraffic(const Flags& flags, const std::string& model) {
  traffic::TrafficOptions options;
  options.model = model;
  options.shape.seed = flags.seed;
  options.shape.agents = kAgentsPerEngine * flags.engines;
  options.max_chats = flags.max_chats.value_or(kChatsPerEngine * flags.engines);
  options.chats_per_s =
      flags.chats_per_s.value_or(kChatsPerSecondPerEngine * flags.engines) * flags.speed;
  options.shape.think_s.ScaleBy(1 / flags.speed);
  options.end_limit = kDrainLimit;
  const auto duration = config::ParseDuration(flags.duration);
  if (!duration) {
    return Fail(Code::kInvalidArgument,
                "--duration: '" + flags.duration + "' is none; write 90s or 5m");
  }
  options.duration = *duration;
  if (Result<> ok = Check(options); !ok) return std::unexpected(ok.error());
  return options;
}

Result<Plan> MakePlan(const Flags& flags) {
  auto profile = engine::LoadProfile(flags.profile);
  if (!profile) return Fail(profile.error().code, "--profile: " + profile.error().message);
  const auto policies = sched::BuiltinPolicyNames();
  if (std::ranges::find(policies, flags.policy) == policies.end()) {
    return Fail(Code::kNotFound,
                fmt::format("--policy: '{}' is none of {}{}", flags.policy,
                            fmt::join(policies, ", "), DidYouMean(flags.policy, policies)));
  }
  if (flags.port == flags.admin_port && flags.port != 0) {
    return Fail(Code::kInvalidArgument,
                fmt::format("--port and --admin-port are both {}", flags.port));
  }
  auto traffic = PlanTraffic(flags, profile->model);
  if (!traffic) return std::unexpected(traffic.error());
  Plan plan;
  plan.traffic = std::move(*traffic);
  plan.has_traffic = !flags.no_traffic;
  plan.sim.profile = std::move(*profile);
  plan.sim.engines = flags.engines;
  plan.sim.base_port = 0;
  plan.sim.speed = flags.speed;
  plan.sim.seed = flags.seed;
  plan.sim.kv = {.is_on = true, .has_replay = true, .seed = flags.seed};
  plan.serve.listen = fmt::format("{}:{}", kHost, flags.port);
  plan.serve.admin_listen = fmt::format("{}:{}", kHost, flags.admin_port);
  plan.serve.threads = kGatewayLoops;
  plan.serve.timeouts.drain = kDrainLimit;
  plan.serve.scheduling.policy = flags.policy;
  plan.serve.scheduling.file = flags.scheduling_config;
  plan.serve.log.level = "warn";
  return plan;
}

// Before anything is started, and with the flag that chooses another port.
Result<> CheckPort(uint16_t port, std::string_view flag) {
  if (port == 0) return {};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  const bool is_free =
      fd >= 0 && ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
      ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (is_free) return {};
  return Fail(Code::kUnavailable,
              fmt::format("port {} cannot be used: {}; choose another one with {} (0: any free "
                          "one)",
                          port, std::strerror(error), flag));
}

// Of an address that ends with one, as engines say where they publish.
uint32_t PortOf(std::string_view address) {
  uint32_t port = 0;
  const size_t at = address.rfind(':') + 1;
  std::from_chars(address.data() + at, address.data() + address.size(), port);
  return port;
}

int Complain(const Error& error, int status) {
  std::fprintf(stderr, "penstock demo: %s\n", error.message.c_str());
  return status;
}

// Everything that runs. Signals, traffic and the terminal are on the main loop; engines and gateway
// have loops of their own.
class Demo {
 public:
  explicit Demo(Plan plan) : plan_(std::move(plan)), status_(loop_, [this] { ShowStatus(); }) {}
  ~Demo() {
    // The gateway goes while its engines are still there, those when their loop has ended.
    gateway_.reset();
    engine_loops_.StopAndJoin();
  }

  int ToTheEnd() {
    net::SignalWatch signals(loop_, [this](int) { OnSignal(); });
    if (Result<> started = StartServers(); !started) return Complain(started.error(), 1);
    Say(DemoText({.profile = plan_.sim.profile,
                  .engines = plan_.sim.engines,
                  .speed = plan_.sim.speed,
                  .policy = plan_.serve.scheduling.file.empty() ? plan_.serve.scheduling.policy
                                                                : plan_.serve.scheduling.file,
                  .address = gateway_->address(),
                  .admin_address = gateway_->admin_address(),
                  .knows_caches = gateway_->asks_for_caches(),
                  .traffic = plan_.has_traffic ? &plan_.traffic : nullptr}));
    if (plan_.has_traffic) StartTraffic();
    loop_.Run();
    if (traffic_ != nullptr) {
      Say("\n" + Report(traffic_->totals(), traffic_->counts(), traffic_->elapsed()));
    }
    return 0;
  }

 private:
  static void Say(const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
  }

  Result<> StartServers() {
    auto engines = sim::SimFleet::Start(engine_loops_, plan_.sim);
    if (!engines) return std::unexpected(engines.error());
    engines_ = std::move(*engines);
    const std::vector<uint16_t> ports = engines_->ports();
    const std::vector<sim::KvPublisher::Endpoint> kv = engines_->kv_endpoints();
    for (size_t i = 0; i < ports.size(); ++i) {
      config::EngineConfig engine;
      engine.url = fmt::format("http://{}:{}", kHost, ports[i]);
      engine.name = fmt::format("engine-{}", i + 1);
      engine.kv_events_port = PortOf(kv[i].events);
      engine.kv_replay_port = PortOf(kv[i].replay);
      plan_.serve.engines.push_back(std::move(engine));
    }
    engine_loops_.Start();
    auto gateway = Gateway::Start(plan_.serve);
    if (!gateway) return std::unexpected(gateway.error());
    gateway_ = std::move(*gateway);
    return {};
  }

  void StartTraffic() {
    plan_.traffic.target = {kHost, gateway_->port()};
    traffic_ = std::make_unique<traffic::Traffic>(loop_, plan_.traffic, [this] { Drain(); });
    traffic_->Start();
    status_.Start(kStatusEvery);
  }

  void ShowStatus() {
    status_.Start(kStatusEvery);
    const auto window = traffic_->TakeWindow();
    Say(fmt::format("{:5.0f} s  {}\n", ToSeconds(traffic_->elapsed()),
                    StatusLine(window.totals, traffic_->counts(), window.length)));
  }

  // The first one ends well, the second one at once.
  void OnSignal() {
    if (gateway_ == nullptr || std::exchange(is_ending_, true)) return loop_.Stop();
    std::fprintf(stderr, "penstock demo: ending; a second signal ends at once\n");
    if (traffic_ == nullptr) return Drain();
    traffic_->Stop();
  }

  void Drain() {
    is_ending_ = true;
    status_.Cancel();
    gateway_->Drain([this] { loop_.Stop(); });
  }

  Plan plan_;
  net::Loop loop_;
  net::LoopPool engine_loops_{1};
  std::unique_ptr<sim::SimFleet> engines_;
  std::unique_ptr<Gateway> gateway_;
  std::unique_ptr<traffic::Traffic> traffic_;
  net::Timer status_;
  bool is_ending_ = false;
};

}  // namespace

int RunDemo(int argc, char** argv) {
  Flags flags;
  CLI::App app{"A gateway, simulated engines, traffic and the live page in one process",
               "penstock demo"};
  Declare(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  Result<Plan> plan = MakePlan(flags);
  if (!plan) return Complain(plan.error(), 2);
  for (const auto& [port, flag] :
       {std::pair{flags.port, "--port"}, std::pair{flags.admin_port, "--admin-port"}}) {
    if (Result<> ok = CheckPort(port, flag); !ok) return Complain(ok.error(), 1);
  }
  telemetry::log::Configure(telemetry::log::Level::kWarn, telemetry::log::Format::kText);
  return Demo(std::move(*plan)).ToTheEnd();
}

}  // namespace penstock::app
