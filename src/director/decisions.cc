#include "director/decisions.h"

namespace penstock::director {
namespace {

size_t BytesOf(const sched::DecisionTrace& trace) {
  size_t bytes = 0;
  for (const sched::ProfileTrace& profile : trace.profiles) {
    bytes += sizeof(profile) + profile.totals.capacity() * sizeof(float) +
             profile.picks.capacity() * sizeof(uint32_t);
    for (const auto& step : profile.filters) bytes += sizeof(step) + step.after.size() / 8 + 8;
    for (const auto& step : profile.scores) {
      bytes += sizeof(step) + step.scores.capacity() * sizeof(float);
    }
  }
  return bytes;
}

size_t BytesOf(const DecisionRecord& record) {
  size_t bytes = sizeof(record) + record.request_id.capacity() + record.model.capacity() +
                 record.reason.capacity() + 64;
  for (const Attempt& attempt : record.attempts) {
    const size_t floats = attempt.waiting.capacity() + attempt.running.capacity() +
                          attempt.kv_usage.capacity() + attempt.in_flight_requests.capacity() +
                          attempt.in_flight_tokens.capacity() + attempt.uncached_tokens.capacity() +
                          attempt.matched_blocks.capacity() + attempt.told_blocks.capacity();
    bytes += sizeof(attempt) + attempt.match_sources.capacity() + floats * sizeof(float) +
             BytesOf(attempt.trace) + 64;
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
