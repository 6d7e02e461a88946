// Follows one admitted request to its end: tells the director what happens and counts it. The same
// for whoever carries the bytes.
//
// THREADS: loop-bound. OWNS: the flight.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "api/model_restorer.h"
#include "api/parsers.h"
#include "api/usage.h"
#include "director/director.h"
#include "intake/preparer.h"
#include "intake/request_metrics.h"
#include "intake/request_reader.h"
#include "net/loop.h"

namespace penstock::intake {

class Follower {
 public:
  Follower(std::unique_ptr<director::Flight> flight, const api::Route& route,
           RequestMetrics& metrics, RequestSeries& series);
  ~Follower();

  director::Flight& flight() { return *flight_; }
  RequestSeries& series() { return series_; }

  // What the client gets in the place of the answer's next piece: the same, but with the model's
  // name that it used. Valid until the next call. OnPiece comes before, with what the engine sent.
  std::string_view Restored(std::string_view piece, bool is_last);
  // Whether pieces may change, so that nobody knows how long the answer will be. After OnHead.
  bool restores() const { return restorer_ != nullptr; }

  // The head of the answer that the client gets.
  void OnHead(int status, std::string_view content_type, bool is_encoded);
  // A piece of its body; empty ones count for nothing.
  void OnPiece(std::string_view piece, Time now);
  // The answer has come to its end.
  void OnComplete(Time now);
  // It ended otherwise. The first end counts.
  void OnEnd(director::EndKind kind, int status, std::string_view reason, Time now);

  int status() const { return status_; }  // 0 before the head
  bool is_event_stream() const { return is_event_stream_; }
  uint64_t response_bytes() const { return response_bytes_; }

 private:
  std::unique_ptr<director::Flight> flight_;
  const api::Route route_;
  RequestMetrics& metrics_;
  RequestSeries& series_;
  std::unique_ptr<api::UsageScanner> usage_;
  std::unique_ptr<api::ModelRestorer> restorer_;  // null: nothing was rewritten
  std::string restored_;
  Time last_piece_;
  uint64_t response_bytes_ = 0;
  int status_ = 0;
  bool is_event_stream_ = false;
};

// Null, and the rejection, when the request cannot run. Counts either way. `received` is when its
// head came.
struct Admission {
  std::unique_ptr<Follower> follower;
  director::Rejection rejection;
};
Admission Admit(IncomingRequest&& incoming, director::Lane& lane, RequestMetrics& metrics,
                RequestMetrics::Cache& series, Time received, const net::Loop& loop);
// The same for a request that was prepared beside the loop (Preparer).
Admission AdmitPrepared(LongRequest& request, director::Lane& lane, RequestMetrics& metrics,
                        RequestMetrics::Cache& series, Time received, const net::Loop& loop);
// The same for one that was prepared on it, from `before` on: `context` is that of
// incoming.request.
Admission AdmitPrepared(const IncomingRequest& incoming, sched::RequestContext&& context,
                        Time before, director::Lane& lane, RequestMetrics& metrics,
                        RequestMetrics::Cache& series, Time received, const net::Loop& loop);

}  // namespace penstock::intake
