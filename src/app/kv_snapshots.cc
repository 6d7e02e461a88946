#include "app/kv_snapshots.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <future>
#include <set>
#include <utility>

#include "config/serve_config.h"
#include "core/file.h"
#include "http/client.h"
#include "telemetry/log.h"

namespace penstock::app {
namespace {

constexpr int kPause = 19;  // times what a snapshot took
constexpr Duration kSiblingConnects = seconds(1);
constexpr Duration kSiblingAnswers = seconds(5);
constexpr Duration kLastOne = seconds(5);
constexpr std::string_view kPath = "/debug/kv/snapshot";

// One answer, whole.
class Answer final : public http::CallListener {
 public:
  Answer(net::Loop& loop, size_t max_bytes) : loop_(loop), max_bytes_(max_bytes) {}

  void OnHead(const http::ResponseHead& head) override {
    if (head.status != 200) End(fmt::format("answered with status {}", head.status));
  }
  void OnBody(std::string_view piece) override {
    if (body.size() + piece.size() > max_bytes_) {
      return End(fmt::format("answered with more than {} bytes", max_bytes_));
    }
    body += piece;
  }
  void OnEnd() override { loop_.Stop(); }
  void OnFailure(http::CallFailure, std::string_view message) override {
    End(std::string(message));
  }
  void End(std::string why) {
    if (failure.empty()) failure = std::move(why);
    loop_.Stop();
  }

  std::string body, failure;

 private:
  net::Loop& loop_;
  const size_t max_bytes_;
};

Result<std::string> Fetch(const std::string& sibling, size_t max_bytes) {
  const auto url = config::ParseEngineUrl(sibling);
  if (!url) return std::unexpected(url.error());
  net::Loop loop;
  Answer answer(loop, max_bytes);
  {
    const auto client = http::Client::Create(loop);
    http::CallOptions options;
    options.connect_timeout = kSiblingConnects;
    net::Timer late(loop, [&] { answer.End("did not answer in time"); });
    late.Start(kSiblingAnswers);
    const std::string_view authority = std::string_view(sibling).substr(sibling.find("://") + 3);
    const auto call =
        client->Send(url->host, url->port,
                     fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: penstock\r\n\r\n",
                                 kPath, authority.substr(0, authority.find('/'))),
                     {}, options, answer);
    loop.Run();
  }
  if (!answer.failure.empty()) return Fail(Code::kUnavailable, answer.failure);
  return std::move(answer.body);
}

// For the owner's eyes; `mode` says whether it may be there already.
Result<> WritePrivate(const std::string& path, std::string_view bytes, int mode) {
  const auto fail = [&](std::string_view what) {
    return Fail(Code::kUnavailable,
                fmt::format("{}: cannot be {}: {}", path, what, std::strerror(errno)));
  };
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | mode, 0600);
  if (fd < 0) return fail("written");
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      const auto failure = fail("written");
      ::close(fd);
      return failure;
    }
    bytes.remove_prefix(static_cast<size_t>(count));
  }
  const bool is_kept = ::fsync(fd) == 0;
  if (::close(fd) != 0 || !is_kept) return fail("written");
  return {};
}

}  // namespace

KvSnapshots::KvSnapshots(const kvcache::ExactCaches& caches, events::Ingest& ingest,
                         const sched::KvSnapshotSettings& settings)
    : caches_(caches),
      ingest_(ingest),
      settings_(settings),
      max_bytes_(caches.index().max_bytes()),
      loops_(std::make_shared<net::LoopPool>(1)) {}

Result<std::unique_ptr<KvSnapshots>> KvSnapshots::Start(const kvcache::ExactCaches& caches,
                                                        events::Ingest& ingest,
                                                        const sched::KvSnapshotSettings& settings) {
  std::unique_ptr<KvSnapshots> out(new KvSnapshots(caches, ingest, settings));
  if (Result<> kept = out->KeepSecret(); !kept) return std::unexpected(std::move(kept.error()));
  out->Load();
  net::Loop& loop = out->loops_->at(0);
  out->pause_ = std::make_unique<net::Timer>(loop, [&self = *out] { self.OnPauseOver(); });
  out->interval_ = std::make_unique<net::Timer>(loop, [&self = *out] { self.OnInterval(); });
  if (!settings.file.empty()) out->interval_->Start(settings.interval);
  out->loops_->Start();
  return out;
}

KvSnapshots::~KvSnapshots() {
  loops_->StopAndJoin();
  if (settings_.file.empty()) return;
  auto all = std::make_shared<std::promise<Saved>>();
  std::future<Saved> saved = all->get_future();
  ingest_.Save([all](Saved taken) { all->set_value(std::move(taken)); });
  if (saved.wait_for(kLastOne) != std::future_status::ready) {
    telemetry::log::Warn("no last snapshot of the engines' caches: the listener is too busy",
                         {{"file", settings_.file}});
    return;
  }
  if (const Bytes bytes = Encode(saved.get()); bytes != nullptr) Write(*bytes);
}

Result<> KvSnapshots::KeepSecret() const {
  const std::string& path = settings_.secret_file;
  if (::access(path.c_str(), F_OK) == 0) return {};
  if (Result<> ok = WritePrivate(path, caches_.secret() + "\n", O_EXCL); !ok) {
    return Fail(ok.error().code, "kvSnapshot.secretFile: " + ok.error().message);
  }
  return {};
}

void KvSnapshots::Load() {
  Saved saved;
  for (const std::string& sibling : settings_.siblings) {
    const auto bytes = Fetch(sibling, max_bytes_);
    if (!bytes) {
      Count([](auto& stats) { ++stats.unreachable; });
      telemetry::log::Warn("another router does not tell what it knows of the engines' caches",
                           {{"sibling", sibling}, {"error", bytes.error().message}});
      continue;
    }
    if (Use(sibling, *bytes, &saved)) break;
  }
  if (!settings_.file.empty()) {
    const auto bytes = ReadFile(settings_.file, max_bytes_);
    if (bytes) {
      Use(settings_.file, *bytes, &saved);
    } else if (bytes.error().code != Code::kNotFound) {
      Count([](auto& stats) { ++stats.unreadable; });
      telemetry::log::Warn("the snapshot of the engines' caches cannot be read",
                           {{"error", bytes.error().message}});
    }
  }
  ingest_.Restore(std::move(saved));
}

bool KvSnapshots::Use(const std::string& from, std::string_view bytes, Saved* saved) {
  auto snapshot = kvcache::DecodeSnapshot(caches_.keys(), bytes, max_bytes_);
  if (!snapshot) {
    const bool is_others = snapshot.error().code == Code::kFailedPrecondition;
    Count([&](auto& stats) { ++(is_others ? stats.refused : stats.broken); });
    telemetry::log::Warn("a snapshot of the engines' caches is not used",
                         {{"from", from}, {"error", from + " " + snapshot.error().message}});
    return false;
  }
  std::set<std::string> known;
  for (const kvcache::SavedPublisher& publisher : *saved) known.insert(publisher.name);
  uint64_t blocks = 0;
  size_t publishers = 0;
  for (kvcache::SavedPublisher& publisher : snapshot->publishers) {
    if (known.contains(publisher.name)) continue;
    blocks += publisher.block_count;
    ++publishers;
    saved->push_back(std::move(publisher));
  }
  loaded_ += fmt::format("; {} blocks of {} engines from {}", blocks, publishers, from);
  return true;
}

KvSnapshots::Bytes KvSnapshots::Encode(Saved saved) {
  kvcache::Snapshot snapshot;
  snapshot.unix_seconds = std::chrono::duration_cast<std::chrono::seconds>(
                              std::chrono::system_clock::now().time_since_epoch())
                              .count();
  snapshot.publishers = std::move(saved);
  size_t left_out = 0;
  auto bytes = kvcache::EncodeSnapshot(caches_.keys(), snapshot, max_bytes_, &left_out);
  if (!bytes) {
    Count([](auto& stats) { ++stats.unwritable; });
    telemetry::log::Warn("no snapshot of the engines' caches can be made",
                         {{"error", bytes.error().message}});
    return nullptr;
  }
  uint64_t blocks = 0;
  for (const kvcache::SavedPublisher& publisher : snapshot.publishers) {
    blocks += publisher.block_count;
  }
  MutexLock lock(mutex_);
  stats_.left_out += left_out;
  stats_.bytes = bytes->size();
  stats_.publishers = snapshot.publishers.size() - left_out;
  stats_.blocks = blocks;
  taken_ = std::chrono::steady_clock::now();
  return std::make_shared<const std::string>(std::move(*bytes));
}

void KvSnapshots::Write(const std::string& bytes) {
  const std::string part = settings_.file + ".part";
  Result<> written = WritePrivate(part, bytes, O_TRUNC);
  if (written && ::rename(part.c_str(), settings_.file.c_str()) != 0) {
    written = Fail(Code::kUnavailable,
                   fmt::format("{}: cannot be replaced: {}", settings_.file, std::strerror(errno)));
  }
  Count([&](auto& stats) { ++(written ? stats.written : stats.unwritable); });
  if (written) return;
  telemetry::log::Warn("the snapshot of the engines' caches is not kept",
                       {{"error", written.error().message}});
}

bool KvSnapshots::Make(std::move_only_function<void(Bytes)> done) {
  if (waiting_.fetch_add(1) >= kMaxWaiting) {
    waiting_.fetch_sub(1);
    return false;
  }
  loops_->at(0).Post([this, done = std::move(done)]() mutable {
    // One that was taken just now serves as well: what came since is had from the engine.
    if (last_ != nullptr) {
      waiting_.fetch_sub(1);
      Count([](auto& stats) { ++stats.served; });
      return done(last_);
    }
    requests_.push_back(std::move(done));
    if (!pause_->pending()) Begin();
  });
  return true;
}

void KvSnapshots::Begin() {
  if (std::exchange(is_making_, true)) return;
  began_ = loops_->at(0).Now();
  ingest_.Save([this, loops = loops_](Saved saved) {
    loops->at(0).Post([this, saved = std::move(saved)]() mutable { OnSaved(std::move(saved)); });
  });
}

void KvSnapshots::OnSaved(Saved saved) {
  is_making_ = false;
  const Bytes bytes = Encode(std::move(saved));
  for (auto& done : std::exchange(requests_, {})) {
    waiting_.fetch_sub(1);
    if (bytes != nullptr) Count([](auto& stats) { ++stats.served; });
    done(bytes);
    last_ = bytes;
  }
  if (std::exchange(is_write_due_, false) && bytes != nullptr) Write(*bytes);
  const Duration took = loops_->at(0).Now() - began_;
  Count([&](auto& stats) { stats.seconds = ToSeconds(took); });
  pause_->Start(took * kPause);
  if (!settings_.file.empty() && !interval_->pending()) interval_->Start(settings_.interval);
}

void KvSnapshots::OnPauseOver() {
  last_ = nullptr;
  if (is_write_due_ || !requests_.empty()) Begin();
}

void KvSnapshots::OnInterval() {
  is_write_due_ = true;
  if (!pause_->pending()) Begin();
}

admin::SnapshotStats KvSnapshots::stats() const {
  MutexLock lock(mutex_);
  admin::SnapshotStats stats = stats_;
  if (taken_ != Time{}) stats.age_s = ToSeconds(std::chrono::steady_clock::now() - taken_);
  return stats;
}

std::string KvSnapshots::Describe() const {
  std::string out = "snapshot of KV caches:";
  out += settings_.file.empty()
             ? " for other routers only"
             : fmt::format(" {}, every {:g} s", settings_.file, ToSeconds(settings_.interval));
  return out + loaded_;
}

}  // namespace penstock::app
