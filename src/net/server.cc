#include "net/server.h"

#include <unistd.h>

#include <cstring>
#include <utility>

#include "net/address.h"
#include "telemetry/log.h"

namespace penstock::net {
namespace {

void Count(std::atomic<uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

}  // namespace

ServerLoop::ServerLoop(Loop& loop, ServerLoopOptions options)
    : loop_(loop), options_(std::move(options)), drain_limit_(loop, [this] {
        Close();
        ReportDrained();
      }) {}

ServerLoop::~ServerLoop() = default;

void ServerLoop::Listen(int fd) {
  listener_ = std::make_unique<Listener>(
      loop_, fd, [this](int accepted, const Address& peer) { OnAccept(accepted, peer); });
}

void ServerLoop::OnAccept(int fd, const Address& peer) {
  if (streams_.size() >= options_.max_connections) {
    Count(refused_);
    if (options_.tls == nullptr) ExplainRefusal(fd);
    ::close(fd);
    return;
  }
  const Ref<ServedStream> stream = MakeStream(peer);
  if (const int error = stream->Adopt(fd, peer.is_ipv6(), options_.tls)) {
    telemetry::log::Warn("a connection cannot be watched", {{"reason", std::strerror(error)}});
    ::close(fd);
    return;
  }
  stream->index_ = streams_.size();
  streams_.push_back(stream);
  Count(accepted_);
  Count(open_);
  stream->OnOpen();
}

void ServerLoop::Remove(ServedStream& stream) {
  const size_t index = stream.index_;
  if (index + 1 < streams_.size()) {
    streams_[index].swap(streams_.back());
    streams_[index]->index_ = index;
  }
  const Ref<ServedStream> keep = std::move(streams_.back());
  streams_.pop_back();
  open_.fetch_sub(1, std::memory_order_relaxed);
  if (is_draining_ && streams_.empty()) ReportDrained();
}

void ServerLoop::Drain(Duration limit, std::function<void()> done) {
  on_drained_ = std::move(done);
  if (listener_ != nullptr) listener_->Close();
  is_draining_ = true;
  // Each Drain may remove its stream, which moves the last one into its place.
  for (size_t i = streams_.size(); i > 0; --i) {
    if (i <= streams_.size()) Ref<ServedStream>(streams_[i - 1])->Drain();
  }
  if (streams_.empty()) return ReportDrained();
  drain_limit_.Start(limit);
}

void ServerLoop::ReportDrained() {
  drain_limit_.Cancel();
  if (on_drained_) std::exchange(on_drained_, nullptr)();
}

void ServerLoop::Close() {
  listener_.reset();
  while (!streams_.empty()) Ref<ServedStream>(streams_.back())->Cut();
}

ServerLoops::~ServerLoops() {
  for (size_t i = 0; i < parts_.size(); ++i) {
    loops_.at(i).RunAndWait([this, i] { parts_[i].reset(); });
  }
}

Result<> ServerLoops::Open(std::string_view host, uint16_t port,
                           const std::function<std::unique_ptr<ServerLoop>(Loop&)>& make) {
  const auto address = ResolveNow(host, port);
  if (!address) return std::unexpected(address.error());
  const auto descriptors = BindListeners(*address, loops_.size());
  if (!descriptors) return std::unexpected(descriptors.error());
  port_ = PortOf(descriptors->front());
  for (size_t i = 0; i < loops_.size(); ++i) parts_.push_back(make(loops_.at(i)));
  for (size_t i = 0; i < loops_.size(); ++i) {
    loops_.at(i).RunAndWait([this, i, &descriptors] { parts_[i]->Listen((*descriptors)[i]); });
  }
  return {};
}

void ServerLoops::Drain(Duration limit, std::function<void()> done) {
  struct Latch {
    std::atomic<size_t> left;
    std::function<void()> done;
  };
  auto latch = std::make_shared<Latch>();
  latch->left = parts_.size();
  latch->done = std::move(done);
  for (size_t i = 0; i < parts_.size(); ++i) {
    loops_.at(i).Post([this, i, limit, latch] {
      if (parts_[i] == nullptr) return;
      parts_[i]->Drain(limit, [this, latch] {
        if (latch->left.fetch_sub(1) > 1) return;
        loops_.at(0).Post([latch] { latch->done(); });
      });
    });
  }
}

}  // namespace penstock::net
