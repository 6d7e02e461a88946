#include "director/decisions.h"

namespace penstock::director {
namespace {

constexpr size_t kCacheLine = 64;

size_t BytesOf(const DecisionRecord& record) {
  size_t bytes = sizeof(record) + record.request_id.capacity() + record.model.capacity() +
                 record.reason.capacity() + 64;
  for (const Attempt& attempt : record.attempts) {
    bytes += sizeof(attempt) + attempt.trace.memory.bytes() +
             attempt.trace.profiles.capacity() * sizeof(sched::ProfileTrace);
  }
  return bytes;
}

}  // namespace

std::string_view EndKindName(EndKind kind) {
  switch (kind) {
    case EndKind::kRunning:
      return "running";
    case EndKind::kComplete:
      return "complete";
    case EndKind::kClientGone:
      return "client_gone";
    case EndKind::kEngineGone:
      return "engine_gone";
    case EndKind::kTimeout:
      return "timeout";
    case EndKind::kRejected:
      return "rejected";
  }
  return "rejected";
}

std::string_view MatchSourceName(model::MatchSource source) {
  switch (source) {
    case model::MatchSource::kApproximate:
      return "approximate";
    case model::MatchSource::kExact:
      return "exact";
    case model::MatchSource::kDegraded:
      return "degraded";
  }
  return "approximate";
}

DecisionLog::DecisionLog(size_t max_bytes, size_t max_records)
    : max_bytes_(max_bytes), max_records_(max_records) {}

void DecisionLog::Add(std::shared_ptr<const DecisionRecord> record) {
  const size_t size = BytesOf(*record);
  // Destroyed after the lock: freeing a record is not the business of whoever waits for it.
  std::vector<std::shared_ptr<const DecisionRecord>> dropped;
  MutexLock lock(mutex_);
  ++total_;
  Hold(*record);
  ring_.emplace_back(std::move(record), size);
  bytes_ += size;
  while (bytes_ > max_bytes_ || ring_.size() > max_records_) {  // the new one too, if need be
    bytes_ -= ring_.front().second;
    LetGo(*ring_.front().first);
    dropped.push_back(std::move(ring_.front().first));
    ring_.pop_front();
  }
  FetchNext();
}

// Those that go next were written thousands of requests ago: they are fetched into the cache
// meanwhile, the record before its attempts.
void DecisionLog::FetchNext() const {
  if (ring_.size() < 2) return;
  const char* const next = reinterpret_cast<const char*>(ring_[1].first.get());
  for (size_t at = 0; at < sizeof(DecisionRecord); at += kCacheLine) __builtin_prefetch(next + at);
  const std::vector<Attempt>& attempts = ring_.front().first->attempts;
  if (attempts.empty()) return;
  const char* const attempt = reinterpret_cast<const char*>(attempts.data());
  for (size_t at = 0; at < sizeof(Attempt); at += kCacheLine) __builtin_prefetch(attempt + at);
}

void DecisionLog::Hold(const DecisionRecord& record) {
  for (const Attempt& attempt : record.attempts) {
    if (attempt.pool == nullptr) continue;
    HeldPool& pool = pools_[attempt.pool.get()];
    if (pool.records++ > 0) continue;
    pool.bytes = attempt.pool->bytes;
    bytes_ += pool.bytes;
  }
}

void DecisionLog::LetGo(const DecisionRecord& record) {
  for (const Attempt& attempt : record.attempts) {
    const auto pool = pools_.find(attempt.pool.get());
    if (pool == pools_.end() || --pool->second.records > 0) continue;
    bytes_ -= pool->second.bytes;
    pools_.erase(pool);
  }
}

std::vector<std::shared_ptr<const DecisionRecord>> DecisionLog::Latest(size_t limit) const {
  std::vector<std::shared_ptr<const DecisionRecord>> records;
  MutexLock lock(mutex_);
  for (auto it = ring_.rbegin(); it != ring_.rend() && records.size() < limit; ++it) {
    records.push_back(it->first);
  }
  return records;
}

std::shared_ptr<const DecisionRecord> DecisionLog::Find(std::string_view request_id) const {
  MutexLock lock(mutex_);
  for (auto it = ring_.rbegin(); it != ring_.rend(); ++it) {
    if (it->first->request_id == request_id) return it->first;
  }
  return nullptr;
}

uint64_t DecisionLog::total() const {
  MutexLock lock(mutex_);
  return total_;
}

size_t DecisionLog::bytes() const {
  MutexLock lock(mutex_);
  return bytes_;
}

}  // namespace penstock::director
