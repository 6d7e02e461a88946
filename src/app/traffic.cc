#include "app/traffic.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "config/duration.h"
#include "net/loop.h"
#include "traffic/model_lookup.h"
#include "traffic/report.h"
#include "traffic/target.h"
#include "traffic/traffic.h"

namespace penstock::app {
namespace {

constexpr Duration kProgressEvery = seconds(5);

constexpr const char* kExamples = R"(
Examples:
  penstock traffic
      A minute of chats against the gateway on port 8080; the model is asked for.
  penstock traffic --url http://127.0.0.1:8123 --duration 5m --rate 12 --chats 300
      Twice the load against another port.
  penstock traffic --requests 500 --seed 7 --model my-model
      500 requests; the same seed says the same things.

Chats share their agent's long system prompt; each turn sends all that was said before. Progress
goes to stderr, the report to stdout. Ctrl-C ends early, with the report. Only addresses of this
machine are taken.)";

struct Flags {
  std::string url = "http://127.0.0.1:8080";
  std::string duration;
  double think_time_s = traffic::ChatShape().think_s.median;
  traffic::TrafficOptions options;
};

void Declare(CLI::App& app, Flags& flags) {
  traffic::TrafficOptions& options = flags.options;
  traffic::ChatShape& shape = options.shape;
  app.footer(kExamples);
  app.add_option("--url", flags.url, "The gateway, on this machine")->capture_default_str();
  app.add_option("--model", options.model, "Model to ask for; default: the gateway's first one");
  app.add_option("--rate", options.chats_per_s, "Chats that begin per second")
      ->capture_default_str();
  app.add_option("--chats", options.max_chats, "Chats open at a time, at most")
      ->capture_default_str();
  app.add_option("--duration", flags.duration,
                 "\"90s\", \"5m\"; 0: until Ctrl-C [60s, or no end when --requests is given]");
  app.add_option("--requests", options.max_requests, "Requests in all; 0: no limit")
      ->capture_default_str();
  app.add_option("--seed", shape.seed, "Decides what is said")->capture_default_str();
  app.add_option("--agents", shape.agents, "Distinct system prompts")->capture_default_str();
  app.add_option("--turns", shape.mean_turns, "Turns of a chat, on average")
      ->check(CLI::Range(1.0, 1000.0))
      ->capture_default_str();
  app.add_option("--think-time", flags.think_time_s, "Median seconds between turns")
      ->check(CLI::Range(0.001, 3600.0))
      ->capture_default_str();
  app.add_option("--max-context", shape.max_context_tokens, "Tokens at which a chat ends")
      ->check(CLI::Range(1u, 10'000'000u))
      ->capture_default_str();
}

Result<traffic::TrafficOptions> ReadFlags(const Flags& flags) {
  traffic::TrafficOptions options = flags.options;
  auto target = traffic::ParseTarget(flags.url);
  if (!target) return Fail(target.error().code, "--url: " + target.error().message);
  options.target = std::move(*target);
  const char* fallback = options.max_requests > 0 ? "0" : "60s";
  const std::string text = flags.duration.empty() ? fallback : flags.duration;
  const auto duration = config::ParseDuration(text);
  if (!duration) {
    return Fail(Code::kInvalidArgument, "--duration: '" + text + "' is none; write 90s or 5m");
  }
  options.duration = *duration;
  options.shape.think_s.ScaleBy(flags.think_time_s / options.shape.think_s.median);
  traffic::TrafficOptions to_check = options;
  if (to_check.model.empty()) to_check.model = "asked for later";
  if (Result<> ok = Check(to_check); !ok) return std::unexpected(ok.error());
  return options;
}

// One run, all of it on one loop.
class Run {
 public:
  explicit Run(traffic::TrafficOptions options)
      : options_(std::move(options)),
        client_(http::Client::Create(loop_)),
        progress_(loop_, [this] { ShowProgress(); }) {}

  int ToTheEnd() {
    net::SignalWatch signals(loop_, [this](int) { OnSignal(); });
    if (options_.model.empty()) {
      lookup_.emplace(*client_, options_.target, [this](Result<std::string> model) {
        if (!model) {
          error_ = model.error().message;
          return loop_.Stop();
        }
        options_.model = std::move(*model);
        Begin();
      });
    } else {
      Begin();
    }
    loop_.Run();
    return Conclude();
  }

 private:
  void Begin() {
    std::fprintf(stderr, "penstock traffic: model %s at http://%s; Ctrl-C ends\n",
                 options_.model.c_str(), AddressOf(options_.target).c_str());
    traffic_ = std::make_unique<traffic::Traffic>(loop_, options_, [this] { loop_.Stop(); });
    traffic_->Start();
    progress_.Start(kProgressEvery);
  }

  void OnSignal() {
    if (traffic_ == nullptr) return loop_.Stop();
    traffic_->Stop();
  }

  void ShowProgress() {
    progress_.Start(kProgressEvery);
    const auto window = traffic_->TakeWindow();
    std::fprintf(stderr, "%5.0f s  %s\n", ToSeconds(traffic_->elapsed()),
                 StatusLine(window.totals, traffic_->counts(), window.length).c_str());
  }

  int Conclude() const {
    if (traffic_ == nullptr) {
      const std::string& reason = error_.empty() ? std::string("ended before it began") : error_;
      std::fprintf(stderr, "penstock traffic: %s\n", reason.c_str());
      return 1;
    }
    const traffic::Totals& totals = traffic_->totals();
    std::fputs(Report(totals, traffic_->counts(), traffic_->elapsed()).c_str(), stdout);
    return totals.answered > 0 ? 0 : 1;
  }

  traffic::TrafficOptions options_;
  net::Loop loop_;
  std::unique_ptr<http::Client> client_;
  std::optional<traffic::ModelLookup> lookup_;
  std::unique_ptr<traffic::Traffic> traffic_;
  net::Timer progress_;
  std::string error_;
};

}  // namespace

int RunTraffic(int argc, char** argv) {
  Flags flags;
  CLI::App app{"Realistic chat traffic against a gateway on this machine", "penstock traffic"};
  Declare(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  Result<traffic::TrafficOptions> options = ReadFlags(flags);
  if (!options) {
    std::fprintf(stderr, "penstock traffic: %s\n", options.error().message.c_str());
    return 2;
  }
  return Run(std::move(*options)).ToTheEnd();
}

}  // namespace penstock::app
