#include "sim/kv_publisher.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <deque>
#include <thread>

#include "core/mutex.h"
#include "core/random.h"
#include "net/zmq.h"

namespace penstock::sim {
namespace {

using net::ZmqSocket;

constexpr uint64_t kEndOfReplay = ~uint64_t{0};
constexpr int kTickMs = 100;

std::string BigEndian(uint64_t value) {
  std::string out(8, '\0');
  for (size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(value >> (56 - 8 * i));
  return out;
}

uint64_t FromBigEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (const char c : bytes) value = value << 8 | static_cast<uint8_t>(c);
  return value;
}

Time Now() { return std::chrono::steady_clock::now(); }

struct Queued {
  size_t engine;
  std::string batch;
};

// One engine's sockets and history. On the publisher's thread.
struct Line {
  struct Late {
    Time due;
    uint64_t sequence;
  };
  std::string topic;
  std::unique_ptr<ZmqSocket> live, replay;
  uint64_t next = 0;
  std::deque<std::string> history;  // the last ones, up to next - 1
  std::deque<Late> late;            // not sent yet
};

class Publisher final : public KvPublisher {
 public:
  explicit Publisher(const KvOptions& options) : options_(options), random_(options.seed) {}

  ~Publisher() override {
    stopping_.store(true);
    Wake();
    if (thread_.joinable()) thread_.join();
    if (wake_ >= 0) ::close(wake_);
  }

  Result<> Bind(const std::string& host, std::vector<std::string> topics) {
    wake_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_ < 0) return Fail(Code::kResourceExhausted, "no descriptor is left for KV events");
    const auto open = [&](ZmqSocket::Type type, uint32_t port,
                          std::string* bound) -> Result<std::unique_ptr<ZmqSocket>> {
      auto socket = ZmqSocket::Open(context_, type, {});
      if (!socket) return socket;
      const std::string name = port == 0 ? std::string("*") : std::to_string(port);
      if (Result<> ok = (*socket)->Bind("tcp://" + host + ":" + name); !ok) {
        return std::unexpected(std::move(ok.error()));
      }
      *bound = (*socket)->bound_endpoint();
      return socket;
    };
    for (size_t i = 0; i < topics.size(); ++i) {
      const auto port_of = [i](uint16_t first) {
        return first == 0 ? 0u : static_cast<uint32_t>(first + i);
      };
      auto line = std::make_unique<Line>();
      Endpoint endpoint{topics[i], "", ""};
      auto live = open(ZmqSocket::Type::kPublish, port_of(options_.port), &endpoint.events);
      if (!live) return std::unexpected(std::move(live.error()));
      line->live = std::move(*live);
      if (options_.has_replay) {
        auto replay =
            open(ZmqSocket::Type::kRouter, port_of(options_.replay_port), &endpoint.replay);
        if (!replay) return std::unexpected(std::move(replay.error()));
        line->replay = std::move(*replay);
      }
      line->topic = std::move(topics[i]);
      lines_.push_back(std::move(line));
      endpoints_.push_back(std::move(endpoint));
    }
    thread_ = std::thread([this] { Run(); });
    return {};
  }

  void Publish(size_t engine, std::string batch) override {
    {
      MutexLock lock(mutex_);
      if (queue_.size() >= kQueueBatches) {
        dropped_.fetch_add(1, std::memory_order_relaxed);
        return;
      }
      queue_.push_back({engine, std::move(batch)});
    }
    Wake();
  }
  const std::vector<Endpoint>& endpoints() const override { return endpoints_; }
  uint64_t dropped() const override { return dropped_.load(std::memory_order_relaxed); }

 private:
  void Wake() const {
    const uint64_t one = 1;
    // Fails only when it is awake already.
    [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
  }

  void Run() {
    std::vector<pollfd> waits = {{wake_, POLLIN, 0}};
    for (const auto& line : lines_) {
      if (line->replay != nullptr) waits.push_back({line->replay->descriptor(), POLLIN, 0});
    }
    while (!stopping_.load()) {
      ::poll(waits.data(), waits.size(), WaitMs());
      uint64_t count = 0;
      [[maybe_unused]] const ssize_t got = ::read(wake_, &count, sizeof count);
      std::deque<Queued> queue;
      {
        MutexLock lock(mutex_);
        queue.swap(queue_);
      }
      for (Queued& queued : queue) Take(*lines_[queued.engine], std::move(queued.batch));
      const Time now = Now();
      for (const auto& line : lines_) {
        SendLate(*line, now);
        AnswerReplays(*line);
      }
    }
  }

  // ZeroMQ's descriptors tell edges: what came while others were answered is looked for at the next
  // tick at the latest.
  int WaitMs() const {
    for (const auto& line : lines_) {
      if (!line->late.empty()) return 1;
    }
    return kTickMs;
  }

  void Take(Line& line, std::string batch) {
    const uint64_t sequence = line.next++;
    line.history.push_back(std::move(batch));
    if (line.history.size() > options_.history_batches) line.history.pop_front();
    if (options_.loss > 0 && random_.Uniform() < options_.loss) return;
    if (options_.lag > Duration(0)) {
      line.late.push_back({Now() + options_.lag, sequence});
    } else {
      Send(line, sequence);
    }
  }

  void SendLate(Line& line, Time now) {
    while (!line.late.empty() && line.late.front().due <= now) {
      Send(line, line.late.front().sequence);
      line.late.pop_front();
    }
  }

  void Send(Line& line, uint64_t sequence) {
    const std::string* batch = InHistory(line, sequence);
    if (batch == nullptr) return;  // so late that it is lost
    const std::string number = BigEndian(sequence);
    line.live->Send(std::vector<std::string_view>{line.topic, number, *batch});
  }

  static const std::string* InHistory(const Line& line, uint64_t sequence) {
    const uint64_t first = line.next - line.history.size();
    if (sequence < first || sequence >= line.next) return nullptr;
    return &line.history[sequence - first];
  }

  void AnswerReplays(Line& line) {
    if (line.replay == nullptr) return;
    for (std::vector<std::string> frames; line.replay->Receive(&frames);) {
      // Who asks, an empty frame, and the number of the first batch that is wanted.
      if (frames.size() != 3 || !frames[1].empty() || frames[2].size() != 8) continue;
      const uint64_t first = line.next - line.history.size();
      for (uint64_t i = std::max(first, FromBigEndian(frames[2])); i < line.next; ++i) {
        const std::string number = BigEndian(i);
        if (!Answer(line, frames[0], line.topic, number, line.history[i - first])) return;
      }
      const std::string end = BigEndian(kEndOfReplay);
      Answer(line, frames[0], "", end, "");
    }
  }

  // Before 0.26 vLLM left out the topic.
  bool Answer(Line& line, std::string_view who, std::string_view topic, std::string_view number,
              std::string_view batch) {
    std::vector<std::string_view> frames = {who, ""};
    if (options_.encoding == engine::KvEncoding::kMap) frames.push_back(topic);
    frames.push_back(number);
    frames.push_back(batch);
    return line.replay->Send(frames);
  }

  const KvOptions options_;
  Random random_;
  net::ZmqContext context_;
  std::vector<std::unique_ptr<Line>> lines_;
  std::vector<Endpoint> endpoints_;
  // Held to put in a batch, or to take all.
  Mutex mutex_;
  std::deque<Queued> queue_ GUARDED_BY(mutex_);
  std::atomic<uint64_t> dropped_{0};
  std::atomic<bool> stopping_{false};
  int wake_ = -1;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<KvPublisher>> KvPublisher::Start(const KvOptions& options,
                                                        const std::string& host,
                                                        std::vector<std::string> topics) {
  auto publisher = std::make_unique<Publisher>(options);
  if (Result<> ok = publisher->Bind(host, std::move(topics)); !ok) {
    return std::unexpected(std::move(ok.error()));
  }
  return publisher;
}

}  // namespace penstock::sim
