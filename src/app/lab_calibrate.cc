#include "app/lab_calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "core/random.h"
#include "http/client.h"
#include "net/loop.h"
#include "signals/metric_scanner.h"
#include "traffic/answer.h"
#include "traffic/model_lookup.h"
#include "traffic/sse.h"
#include "traffic/target.h"

namespace penstock::app {
namespace {

const http::CallOptions kCallOptions = {.first_byte_timeout = seconds(300),
                                        .idle_timeout = seconds(60)};
constexpr size_t kMaxErrorBytes = 64 * 1024;
constexpr size_t kMostTokens = 100'000;   // of an answer
constexpr auto kPatience = seconds(600);  // for a round of requests
// Token ids that every tokenizer has, that of a toy model too, and that are no special ones.
constexpr uint64_t kFirstId = 100, kIds = 256;

// What an event says of how many tokens there are so far, or `otherwise`.
size_t TokensSoFar(std::string_view event, size_t otherwise) {
  constexpr std::string_view kKey = "\"completion_tokens\":";
  const size_t at = event.find(kKey);
  if (at == std::string_view::npos) return otherwise;
  std::string_view digits = event.substr(at + kKey.size());
  digits = TrimSpace(digits.substr(0, digits.find_first_of(",}")));
  return std::min(ParseUint(digits).value_or(otherwise), uint64_t{kMostTokens});
}

// One request and when its tokens came.
class Shot final : public http::CallListener {
 public:
  Shot(net::Loop& loop, std::function<void()> on_over)
      : loop_(loop), on_over_(std::move(on_over)), events_([this](std::string_view data) {
          // vLLM refuses a request in its stream, after a head that says 200.
          if (data.starts_with("{\"error\"")) {
            error = "refused it: " + traffic::ErrorText(data);
          } else if (data.starts_with("{")) {
            // A busy server puts several tokens into one event.
            times.resize(std::max<size_t>(times.size(), TokensSoFar(data, times.size() + 1)),
                         loop_.Now());
          }
        }) {}

  void Send(http::Client& client, const traffic::Target& target, std::string body) {
    body_ = std::move(body);
    const std::string head = fmt::format(
        "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nUser-Agent: penstock-lab\r\n"
        "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        traffic::AddressOf(target), body_.size());
    sent = loop_.Now();
    call_ = client.Send(target.host, target.port, head, {body_}, kCallOptions, *this);
  }

  Time sent;
  std::vector<Time> times;  // of the tokens
  std::string error;

 private:
  void OnHead(const http::ResponseHead& head) override { status_ = head.status; }
  void OnBody(std::string_view piece) override {
    if (status_ == 200) return events_.Feed(piece);
    answer_.append(piece.substr(0, kMaxErrorBytes - answer_.size()));
  }
  void OnEnd() override {
    if (status_ != 200)
      error = fmt::format("answered {}: {}", status_, traffic::ErrorText(answer_));
    if (error.empty() && times.empty()) error = "answered without a token";
    on_over_();
  }
  void OnFailure(http::CallFailure, std::string_view message) override {
    error = message;
    on_over_();
  }

  net::Loop& loop_;
  const std::function<void()> on_over_;
  traffic::SseReader events_;
  std::string body_, answer_;
  int status_ = 0;
  std::unique_ptr<http::Call> call_;
};

// GET /metrics, for the size of the cache.
class MetricsLook final : public http::CallListener {
 public:
  MetricsLook(http::Client& client, const traffic::Target& target, std::function<void()> on_over)
      : on_over_(std::move(on_over)) {
    scanner_.Begin(signals::EngineType::kUnknown);
    call_ = client.Send(
        target.host, target.port,
        fmt::format("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", traffic::AddressOf(target)), {},
        kCallOptions, *this);
  }
  std::optional<director::EngineSignals> signals;  // nothing when they could not be read

 private:
  void OnHead(const http::ResponseHead& head) override { status_ = head.status; }
  void OnBody(std::string_view piece) override { scanner_.Feed(piece); }
  void OnEnd() override {
    if (auto page = scanner_.Finish(); page && status_ == 200) signals = std::move(page->signals);
    on_over_();
  }
  void OnFailure(http::CallFailure, std::string_view) override { on_over_(); }

  const std::function<void()> on_over_;
  signals::MetricScanner scanner_;
  int status_ = 0;
  std::unique_ptr<http::Call> call_;
};

// Counts ends down on the loop for a thread that waits.
class Latch {
 public:
  explicit Latch(uint32_t count) : left_(count) {}
  void Down() {
    const std::lock_guard lock(mutex_);
    --left_;
    changed_.notify_all();
  }
  bool Wait() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [this] { return left_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  uint32_t left_;
};

class Ladder {
 public:
  Ladder(const CalibrateOptions& options, traffic::Target target)
      : options_(options), target_(std::move(target)), loops_(1) {
    loops_.Start();
    loops_.at(0).RunAndWait([this] { client_ = http::Client::Create(loops_.at(0)); });
  }
  ~Ladder() {
    loops_.at(0).RunAndWait([this] { client_.reset(); });
  }

  Result<Measured> Run(const std::function<void(const std::string&)>& progress);

 private:
  // `count` requests at once; fails with the first one's error.
  Result<std::vector<std::unique_ptr<Shot>>> Round(uint32_t count, uint32_t prompt_tokens,
                                                   uint32_t output_tokens);
  Result<std::string> FindModel();
  void LookAtMetrics(Measured* measured);
  Result<double> MeasurePrefill(uint32_t tokens);
  Result<lab::DecodePoint> MeasureDecode(uint32_t sequences, uint32_t prompt_tokens);
  std::string Body(uint32_t prompt_tokens, uint32_t output_tokens);

  const CalibrateOptions& options_;
  const traffic::Target target_;
  net::LoopPool loops_;
  std::unique_ptr<http::Client> client_;
  Random random_{0x5eed};
  std::string model_;
};

std::string Ladder::Body(uint32_t prompt_tokens, uint32_t output_tokens) {
  std::string body = R"({"model":")";
  for (const char c : model_) {
    if (c == '"' || c == '\\') body += '\\';
    body += c;
  }
  body += R"(","prompt":[)";
  for (uint32_t i = 0; i < prompt_tokens; ++i) {
    fmt::format_to(std::back_inserter(body), "{}{}", i > 0 ? "," : "",
                   kFirstId + random_.Below(kIds));
  }
  fmt::format_to(std::back_inserter(body),
                 R"(],"max_tokens":{},"ignore_eos":true,"stream":true,"temperature":0,)"
                 R"("stream_options":{{"include_usage":true,"continuous_usage_stats":true}}}})",
                 output_tokens);
  return body;
}

Result<std::vector<std::unique_ptr<Shot>>> Ladder::Round(uint32_t count, uint32_t prompt_tokens,
                                                         uint32_t output_tokens) {
  std::vector<std::string> bodies;
  for (uint32_t i = 0; i < count; ++i) bodies.push_back(Body(prompt_tokens, output_tokens));
  std::vector<std::unique_ptr<Shot>> shots;
  Latch latch(count);
  net::Loop& loop = loops_.at(0);
  loop.RunAndWait([&] {
    for (std::string& body : bodies) {
      shots.push_back(std::make_unique<Shot>(loop, [&latch] { latch.Down(); }));
      shots.back()->Send(*client_, target_, std::move(body));
    }
  });
  const bool is_over = latch.Wait();
  std::string error = is_over ? "" : fmt::format("no end within {} s", kPatience.count());
  for (const auto& shot : shots) {
    if (error.empty()) error = shot->error;
  }
  if (!error.empty()) {
    loop.RunAndWait([&] { shots.clear(); });
    return Fail(Code::kUnavailable, fmt::format("{} requests of {} tokens to http://{}: {}", count,
                                                prompt_tokens, traffic::AddressOf(target_), error));
  }
  return shots;
}

Result<std::string> Ladder::FindModel() {
  if (!options_.model.empty()) return options_.model;
  Latch latch(1);
  Result<std::string> found;
  std::unique_ptr<traffic::ModelLookup> lookup;
  loops_.at(0).RunAndWait([&] {
    lookup = std::make_unique<traffic::ModelLookup>(*client_, target_, [&](Result<std::string> m) {
      found = std::move(m);
      latch.Down();
    });
  });
  latch.Wait();  // ends in the lookup's own time limits
  loops_.at(0).RunAndWait([&] { lookup.reset(); });
  return found;
}

void Ladder::LookAtMetrics(Measured* measured) {
  Latch latch(1);
  std::unique_ptr<MetricsLook> look;
  loops_.at(0).RunAndWait(
      [&] { look = std::make_unique<MetricsLook>(*client_, target_, [&latch] { latch.Down(); }); });
  latch.Wait();
  loops_.at(0).RunAndWait([&] {
    if (look->signals) {
      measured->block_size = look->signals->block_size_tokens.value_or(0);
      measured->blocks = look->signals->gpu_blocks.value_or(0);
    }
    look.reset();
  });
}

Result<double> Ladder::MeasurePrefill(uint32_t tokens) {
  std::vector<double> times;
  for (uint32_t i = 0; i < std::max(1U, options_.repeats); ++i) {
    auto shots = Round(1, tokens, 1);
    if (!shots) return std::unexpected(shots.error());
    times.push_back(ToSeconds(shots->front()->times.front() - shots->front()->sent));
    loops_.at(0).RunAndWait([&] { shots->clear(); });
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// Tokens between the moment when the last request has its first token and the one when the first
// has its last: all decode and nobody prefills.
Result<lab::DecodePoint> Ladder::MeasureDecode(uint32_t sequences, uint32_t prompt_tokens) {
  auto shots = Round(sequences, prompt_tokens, options_.output_tokens);
  if (!shots) return std::unexpected(shots.error());
  Time from{}, to = Time::max();
  for (const auto& shot : *shots) {
    from = std::max(from, shot->times.front());
    to = std::min(to, shot->times.back());
  }
  double tokens = 0, before = 0;
  for (const auto& shot : *shots) {
    for (const Time time : shot->times) {
      tokens += time > from && time <= to ? 1 : 0;
      before += time <= from ? 1 : 0;
    }
  }
  loops_.at(0).RunAndWait([&] { shots->clear(); });
  if (tokens < 2.0 * sequences) {
    return Fail(
        Code::kUnavailable,
        fmt::format("{} requests of {} tokens hardly ran together: the engine takes fewer at "
                    "once, or answers are too short (--output-tokens)",
                    sequences, prompt_tokens));
  }
  lab::DecodePoint point;
  point.sequences = sequences;
  point.context_tokens = prompt_tokens + (before + tokens / 2) / sequences;
  point.seconds = ToSeconds(to - from) * sequences / tokens;
  return point;
}

Result<Measured> Ladder::Run(const std::function<void(const std::string&)>& progress) {
  Measured measured;
  auto model = FindModel();
  if (!model) return std::unexpected(model.error());
  measured.model = model_ = *model;
  LookAtMetrics(&measured);
  progress("a first request, which does not count");
  if (auto warm = MeasurePrefill(32); !warm) return std::unexpected(warm.error());
  std::vector<uint32_t> prompts = {16};
  for (uint32_t tokens = options_.max_tokens; tokens >= 256 && prompts.size() < 7; tokens /= 2) {
    prompts.push_back(tokens);
  }
  std::sort(prompts.begin(), prompts.end());
  for (const uint32_t tokens : prompts) {
    progress(fmt::format("a prompt of {} tokens", tokens));
    const auto time = MeasurePrefill(tokens);
    if (!time) return std::unexpected(time.error());
    measured.prefills.push_back({tokens, *time});
  }
  const uint32_t long_prompt = std::max(64U, options_.max_tokens / 2);
  std::vector<std::pair<uint32_t, uint32_t>> decodes = {{1, 32}, {1, long_prompt}};
  for (uint32_t n = 4; n <= options_.max_sequences; n *= 2) decodes.emplace_back(n, 32);
  decodes.emplace_back(std::min(4U, options_.max_sequences), long_prompt);
  for (const auto& [sequences, tokens] : decodes) {
    progress(fmt::format("{} answers at once behind {} tokens", sequences, tokens));
    const auto point = MeasureDecode(sequences, tokens);
    if (!point) return std::unexpected(point.error());
    measured.decodes.push_back(*point);
  }
  return measured;
}

}  // namespace

Result<Measured> MeasureEngine(const CalibrateOptions& options,
                               const std::function<void(const std::string&)>& progress) {
  auto target = traffic::ParseTarget(options.url);
  if (!target) return std::unexpected(target.error());
  return Ladder(options, std::move(*target)).Run(progress);
}

}  // namespace penstock::app
