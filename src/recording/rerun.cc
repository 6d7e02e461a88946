#include "recording/rerun.h"

#include <fmt/format.h>

#include <boost/unordered/unordered_flat_map.hpp>
#include <random>
#include <utility>

#include "recording/recorder.h"
#include "workload/line_reader.h"
#include "workload/seeds.h"

namespace penstock::recording {
namespace {

using workload::LineReader;
using workload::Mixed;

constexpr size_t kMaxDifferences = 10;
constexpr uint32_t kMaxLanes = 4096;
constexpr size_t kMaxInFlight = 1'000'000;
constexpr size_t kMaxKeysInFlight = size_t{1} << 27;  // 1 GiB

std::string Where(int status, std::string_view endpoint) {
  return endpoint.empty() ? fmt::format("was rejected ({})", status)
                          : fmt::format("went to {}", endpoint);
}

// One recording on its way through one brain.
class Telling {
 public:
  Telling(Head head, std::unique_ptr<sched::Scheduler> scheduler, const RerunObserver& observer)
      : observer_(observer),
        fleet_(head.max_endpoints, nullptr, head.attributes),
        scheduler_(scheduler.get()),
        director_(fleet_, std::move(scheduler),
                  {.max_tries = head.max_tries,
                   .retry_budget_ratio = head.retry_budget_ratio,
                   .decision_log_bytes = 0}) {
    start_ = last_ = head.start;
    unix_micros_ = head.unix_micros;
    report_.head = std::move(head);
    sched::RequestContext blank;
    scheduler_->Prepare(blank, start_);
    prefix_columns_ = blank.prefix_keys.size();
  }

  Result<> Tell(Event event, std::string_view place);
  RerunReport End();

 private:
  struct Running {
    Event told;  // holds what the flight's headers point into
    std::unique_ptr<director::Flight> flight;
    size_t keys = 0;
  };

  Result<> Arrive(Event event, std::string_view place);
  // What the decision of the event went by, for a context of the brain; none in it is an error.
  Result<> CheckTold(const Event& event, std::string_view place) const;
  Result<> Follow(Event& event, std::string_view place);
  void Compare(uint64_t request, std::string_view place, const std::string& was,
               const std::string& is);
  void Observe(uint64_t request, const director::Flight& flight) {
    if (observer_) observer_(request, flight.record());
  }

  const RerunObserver& observer_;
  director::Fleet fleet_;
  sched::Scheduler* const scheduler_;
  director::Director director_;
  std::vector<std::unique_ptr<director::Lane>> lanes_;
  boost::unordered_flat_map<uint64_t, Running> running_;  // by number
  size_t keys_in_flight_ = 0;
  // Only whether keys are equal matters: mixed with this, no recording can choose them so that an
  // index degenerates.
  const uint64_t secret_ = std::random_device()() * 0x9e3779b97f4a7c15ULL;
  size_t prefix_columns_ = 0;
  Time start_, last_;
  int64_t unix_micros_ = 0;
  RerunReport report_;
};

void Telling::Compare(uint64_t request, std::string_view place, const std::string& was,
                      const std::string& is) {
  if (was == is) return;
  ++report_.differing;
  if (report_.differences.size() >= kMaxDifferences) return;
  report_.differences.push_back(
      fmt::format("{}: request {} {}; told the same, it {}", place, request, was, is));
}

Result<> Telling::Arrive(Event event, std::string_view place) {
  if (event.lane >= lanes_.size()) {
    return Fail(Code::kInvalidArgument, fmt::format("{}: there is no lane {}", place, event.lane));
  }
  if (event.context.prefix_keys.size() != prefix_columns_) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: keys of {} prefix producers, but the configuration has {}", place,
                            event.context.prefix_keys.size(), prefix_columns_));
  }
  if (running_.contains(event.request)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: request {} is there twice", place, event.request));
  }
  event.prompt = {};
  size_t keys = 0;
  for (sched::PrefixKeys& prefix : event.context.prefix_keys) {
    keys += prefix.blocks.size();
    for (uint64_t& key : prefix.blocks) key = Mixed(key ^ secret_);
  }
  if (running_.size() >= kMaxInFlight || keys_in_flight_ + keys > kMaxKeysInFlight) {
    return Fail(Code::kResourceExhausted,
                fmt::format("{}: more than {} requests or {} block keys in flight", place,
                            kMaxInFlight, kMaxKeysInFlight));
  }
  if (auto checked = CheckTold(event, place); !checked) return checked;
  for (size_t i = 0; i < event.told.size(); ++i) {
    event.context.prefix_keys[i].recorded = std::move(event.told[i]);
  }
  event.told = {};
  event.context.request.id = fmt::format("{}", event.request);
  const auto micros = std::chrono::duration_cast<microseconds>(event.at - start_).count();
  director::Arrival arrival =
      lanes_[event.lane]->ArrivePrepared(std::move(event.context), event.at, unix_micros_ + micros);
  ++report_.arrivals;
  if (arrival.flight == nullptr) ++report_.rejections;
  Compare(event.request, place, Where(event.status, event.to),
          arrival.flight == nullptr ? Where(arrival.rejection.status, "")
                                    : Where(0, arrival.flight->target().name));
  if (arrival.flight == nullptr) return {};
  arrival.flight->SetRecordedMatches({});  // of this decision alone
  const uint64_t number = event.request;
  keys_in_flight_ += keys;
  running_.emplace(number, Running{std::move(event), std::move(arrival.flight), keys});
  return {};
}

Result<> Telling::CheckTold(const Event& event, std::string_view place) const {
  if (event.told.size() > prefix_columns_) {
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: told: of prefix producer {}, but the configuration has {}", place,
                            event.told.size() - 1, prefix_columns_));
  }
  const size_t endpoints = fleet_.snapshot().Get()->endpoints.size();
  for (const auto& told : event.told) {
    if (!told || told->sources.size() == endpoints) continue;
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: told: by {} endpoints, but the pool has {}", place,
                            told->sources.size(), endpoints));
  }
  return {};
}

Result<> Telling::Follow(Event& event, std::string_view place) {
  const auto found = running_.find(event.request);
  if (found == running_.end()) {
    // One that this brain rejected, or one of before the recording's first line.
    if (report_.differing > 0) return {};
    return Fail(Code::kInvalidArgument,
                fmt::format("{}: request {} is not running", place, event.request));
  }
  director::Flight& flight = *found->second.flight;
  if (!event.told.empty()) {
    if (auto checked = CheckTold(event, place); !checked) return checked;
    flight.SetRecordedMatches(std::move(event.told));
  }
  switch (event.kind) {
    case Event::Kind::kFirst:
      flight.OnFirstChunk(event.at);
      return {};
    case Event::Kind::kFail: {
      const bool goes_on = flight.OnTryFailed(event.failure, event.at);
      flight.SetRecordedMatches({});
      if (goes_on) ++report_.retries;
      const std::string is = goes_on ? Where(0, flight.target().name) : "was not tried again";
      const std::string was = event.to.empty() ? "was not tried again" : Where(0, event.to);
      Compare(event.request, place, was, is);
      return {};
    }
    case Event::Kind::kServed: {
      const auto pool = fleet_.snapshot().Get();
      const auto served = std::ranges::find_if(
          pool->endpoints, [&](const auto& e) { return e.spec.name == event.to; });
      const bool has_moved =
          served != pool->endpoints.end() && flight.OnServedBy(served->address, event.at);
      flight.SetRecordedMatches({});
      Compare(event.request, place, Where(0, event.to),
              has_moved ? Where(0, flight.target().name) : "did not move");
      return {};
    }
    default:
      flight.OnEnd(event.end, event.status, "", event.usage, event.at);
      Observe(event.request, flight);
      keys_in_flight_ -= found->second.keys;
      running_.erase(found);
      return {};
  }
}

Result<> Telling::Tell(Event event, std::string_view place) {
  ++report_.events;
  last_ = std::max(last_, event.at);
  switch (event.kind) {
    case Event::Kind::kLane:
      if (event.lane != lanes_.size() || lanes_.size() >= kMaxLanes) {
        return Fail(Code::kInvalidArgument, fmt::format("{}: lanes do not count up", place));
      }
      lanes_.push_back(std::make_unique<director::Lane>(director_, event.seed));
      return {};
    case Event::Kind::kArrive:
      return Arrive(std::move(event), place);
    case Event::Kind::kFail:
    case Event::Kind::kServed:
    case Event::Kind::kFirst:
    case Event::Kind::kEnd:
      return Follow(event, place);
    case Event::Kind::kEndpoints:
      (void)fleet_.Replace(std::move(event.endpoints));  // what it refused then, it refuses now
      return {};
    case Event::Kind::kScrape:
      fleet_.Scraped(event.slot, event.signals, event.at);
      return {};
    case Event::Kind::kScrapeFailed:
      fleet_.ScrapeFailed(event.slot, event.text, event.at);
      return {};
    case Event::Kind::kModels:
      fleet_.ModelsRead(event.slot, std::move(event.models), "");
      return {};
    case Event::Kind::kTick:
      director_.Tick(event.at);
      return {};
    case Event::Kind::kClose:
      report_.ended = event.text;
      return {};
  }
  return {};
}

RerunReport Telling::End() {
  for (auto& [number, running] : running_) Observe(number, *running.flight);
  running_.clear();
  report_.seconds = ToSeconds(last_ - start_);
  return std::move(report_);
}

// The next line; false at the end. Breaking off is an end.
Result<bool> ReadLine(LineReader& lines, std::string_view* line) {
  switch (lines.Read(line)) {
    case LineReader::Next::kLine:
      return true;
    case LineReader::Next::kEnd:
    case LineReader::Next::kCutOff:
      return false;
    case LineReader::Next::kTooLong:
      return Fail(Code::kInvalidArgument, "the line is too long");
    case LineReader::Next::kUnreadable:
      return Fail(Code::kUnavailable, lines.error());
  }
  return false;
}

}  // namespace

Result<RerunReport> Rerun(LineReader lines, const MakeScheduler& make_scheduler,
                          const RerunObserver& observer) {
  const auto place = [&] { return fmt::format("{}:{}", lines.name(), lines.number()); };
  const auto complain = [&](const Error& error) {
    return Fail(error.code, fmt::format("{}: {}", place(), error.message));
  };
  std::string_view line;
  auto more = ReadLine(lines, &line);
  if (!more) return complain(more.error());
  if (!*more) return Fail(Code::kInvalidArgument, lines.name() + ": is empty");
  auto head = ReadHead(line);
  if (!head) return complain(head.error());
  auto scheduler = make_scheduler(*head);
  if (!scheduler) return complain(scheduler.error());
  const Time start = head->start;
  Telling telling(std::move(*head), std::move(*scheduler), observer);
  for (;;) {
    more = ReadLine(lines, &line);
    if (!more) return complain(more.error());
    if (!*more) return telling.End();
    auto event = ReadEvent(line, start);
    if (!event) return complain(event.error());
    if (auto told = telling.Tell(std::move(*event), place()); !told) {
      return std::unexpected(told.error());
    }
  }
}

Result<RerunReport> RerunFile(const std::string& path, const MakeScheduler& make_scheduler,
                              const RerunObserver& observer) {
  auto lines = LineReader::Open(path, kMaxLineBytes);
  if (!lines) return std::unexpected(lines.error());
  return Rerun(std::move(*lines), make_scheduler, observer);
}

}  // namespace penstock::recording
