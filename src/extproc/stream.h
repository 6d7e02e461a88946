// One request, told by Envoy in ext_proc messages: its head, its body, then the answer's. The body
// is held back until all of it is here, because only then it can be decided where it goes; the
// answer passes piece by piece.
//
//   Envoy                                   here
//   request headers              ->         nothing yet
//   request body, in pieces      ->         nothing yet; with the last one the brain is asked
//                                <-         headers (destination), body in pieces [, trailers]
//   response headers             ->  <-     headers
//   response body, in pieces     ->  <-     the same pieces
//   response trailers            ->  <-     trailers
//
// Bodies are spoken of in FULL_DUPLEX_STREAMED only. What comes in another order ends the stream
// with INVALID_ARGUMENT. Nothing is told twice, and the flight ends exactly once however the stream
// does.
//
// THREADS: loop-bound. OWNS: the request's bytes until they are sent on.
// SOURCE: spec endpoint-picker 2; docs/differences.md says where it deviates.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/byte_budget.h"
#include "extproc/messages.h"
#include "extproc/stream_metrics.h"
#include "grpc/server.h"
#include "intake/follower.h"
#include "intake/preparer.h"
#include "intake/request_metrics.h"
#include "intake/request_reader.h"
#include "intake/token_asker.h"

namespace penstock::extproc {

struct Options {
  api::ParserSet parsers = api::ParserSet::Default();
  uint64_t max_body_bytes = 64ull << 20;  // above it the answer is 413
  bool heeds_subset = true;               // --disable-endpoint-subset-filter
  bool emits_scores = false;              // --emit-endpoint-scores
};

// What all loops of one picker share.
struct Shared {
  director::Director& director;
  intake::RequestMetrics& metrics;
  ByteBudget& bodies;  // of all requests that are held back
  Options options;
  StreamMetrics& streams;
  intake::Preparer* preparer = nullptr;  // null: all requests are prepared on their loops
  std::shared_ptr<net::TlsClientContext> engine_tls;  // null: engines with TLS are not asked
  std::atomic<int64_t> warned_at_nanos{0};            // of a stream that was ended
};

// What the streams of one loop share.
struct LoopPart {
  LoopPart(net::Loop& l, Shared& s, uint64_t seed)
      : loop(l),
        shared(s),
        reader(seed),
        lane(s.director, seed ^ 0x5eed),
        series(s.metrics),
        asker(intake::TokenAsker::Create(l, s.director, s.engine_tls, seed)) {}

  net::Loop& loop;
  Shared& shared;
  intake::RequestReader reader;
  director::Lane lane;
  intake::RequestMetrics::Cache series;
  std::unique_ptr<intake::TokenAsker> asker;  // null: nobody is asked for tokens
  Incoming incoming;                          // scratch
  std::string out;                            // scratch
  HeaderChanges changes;                      // scratch
};

class Stream final : public grpc::CallListener {
 public:
  Stream(LoopPart& part, grpc::Call& call);
  ~Stream() override;

  void OnMessage(std::string_view message) override;
  void OnHalfClose() override;
  void OnCancel() override;
  void OnDrained() override;
  bool is_done() const override { return phase_ == Phase::kOver || IsBlind(); }

 private:
  enum class Phase : uint8_t {
    kBegin,
    kRequestBody,  // more of it is to come
    kPreparing,    // beside the loop, or its tokens are asked for
    kForwarded,    // decided; the answer's head is awaited
    kAnswer,       // its body
    kOver,         // nothing more is expected
  };

  void OnRequestHeaders(const Incoming& incoming);
  void OnRequestBody(const Incoming& incoming);
  void OnRequestTrailers();
  void OnResponseHeaders(const Incoming& incoming);
  void OnResponseBody(const Incoming& incoming);
  void OnResponseTrailers();
  void EndAnswer();

  // The answer is there, and Envoy does not tell of its body.
  bool IsBlind() const { return phase_ == Phase::kAnswer && !hears_answer_; }
  void OnRequestMessage(const Incoming& incoming);
  void OnResponseMessage(const Incoming& incoming);
  // Says so in the log, at most once a second among all streams.
  void WarnOfEnd(grpc::Status status, std::string_view message);
  void Finish(grpc::Status status, std::string_view message = {});

  // Refuses modes that are not spoken here.
  bool CheckModes(const Incoming& incoming);
  void NoteSubset(const Incoming& incoming);
  void Decide();
  // Has the request prepared beside the loop first.
  void DecideLater(const api::Route& route);
  // Prepares the request, and has somebody asked for its tokens where that is of use.
  void DecideAsking(const api::Route& route, intake::IncomingRequest incoming);
  // Of a request that has the body: lets it go on when its tokens are told, or at once.
  void AskOrForward(const api::Route& route, intake::LongRequest& request);
  void Ask(intake::TokenAsker::Question question, std::shared_ptr<intake::LongRequest> request);
  void ForwardLong(intake::LongRequest& request);
  // Sends an admitted request on, or refuses one that is not.
  void Forward(intake::Admission admission);
  void SendRequestHeaders();
  // As much of the body as Envoy takes.
  void ForwardBody();
  void SendPieces(Side side, std::string_view piece, bool is_last);
  void Refuse(int status, std::string_view message, std::string_view dropped_reason);
  // The same for a request that was not given to the brain, which counts its own refusals.
  void RefuseUnread(int status, std::string_view message, std::string_view dropped_reason);
  // Ends the stream because of what Envoy sent.
  void Fail(grpc::Status status, std::string_view message);
  void FreeBody();
  std::string_view Header(std::string_view name) const;

  LoopPart& part_;
  grpc::Call& call_;
  Phase phase_ = Phase::kBegin;
  const Time opened_;
  grpc::Status status_ = grpc::Status::kCancelled;  // unless it is finished
  Time now_;                                        // when the message that is handled came
  Time received_;
  Time answer_began_;
  Duration answer_work_{};
  std::string head_;                        // the headers as they came
  std::vector<model::HeaderView> headers_;  // views of it, the last one first; the request's then
  std::string request_id_;
  bool is_new_id_ = false;
  model::Subset subset_;
  bool has_body_ = false;  // or a piece of it that is not sent yet
  bool has_trailers_ = false;
  bool is_forwarding_ = false;  // the body is on its way
  bool hears_answer_ = true;    // its body
  std::string body_;
  uint64_t charged_ = 0;  // of the budget, for body_
  std::vector<api::Splice> splices_;
  std::vector<std::string_view> pieces_;  // the body as it goes on
  size_t piece_ = 0, piece_from_ = 0;     // what is not sent yet
  uint64_t unsent_ = 0;
  std::unique_ptr<intake::Follower> follower_;
  intake::Waiting waiting_;
  intake::TokenAsker::Pending asking_;
};

// The service envoy.service.ext_proc.v3.ExternalProcessor.
class Service {
 public:
  static constexpr std::string_view kName = "envoy.service.ext_proc.v3.ExternalProcessor";
  static constexpr std::string_view kProcess =
      "/envoy.service.ext_proc.v3.ExternalProcessor/Process";

  Service(net::Loop& loop, Shared& shared, uint64_t seed) : part_(loop, shared, seed) {}
  // Null for another method.
  std::unique_ptr<grpc::CallListener> OnCall(grpc::Call& call);

 private:
  LoopPart part_;
};

}  // namespace penstock::extproc
