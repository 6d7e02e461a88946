// One client's HTTP/2 connection and the RPCs on it.
//
// What handlers say is gathered and leaves when the loop's turn ends.
//
// THREADS: loop-bound. OWNS: the socket, the session, the calls with their listeners; borrows the
// ServerLoop, which closes it before it goes.
#pragma once

#include <nghttp2/nghttp2.h>

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grpc/framing.h"
#include "grpc/server.h"
#include "net/server.h"

namespace penstock::grpc {

class Connection;
class ServerLoop;

class ServerCall final : public Call {
 public:
  ServerCall(Connection& connection, int32_t stream);
  ~ServerCall() override;

  std::string_view path() const override { return Metadata(":path"); }
  std::string_view Metadata(std::string_view name) const override;
  net::Loop& loop() override;
  void Send(std::string_view message) override;
  bool above_high_watermark() const override;
  void Finish(Status status, std::string_view message) override;

 private:
  friend class Connection;
  // Ends it from this side, and tells the listener.
  void Cancel(Status status, std::string_view message);
  // Ends it because there is no memory for it.
  void Drop();
  // REQUIRES: it is refused.
  void FreeMetadata();
  // Brings what the server's budget is charged up to date.
  void Charge();

  Connection& connection_;
  const int32_t stream_;
  std::string metadata_;  // names and values as they came, pseudo-headers too
  struct MetadataEnds {
    uint32_t name, value;  // in metadata_
  };
  std::vector<MetadataEnds> metadata_ends_;
  MessageReader reader_;
  uint64_t charged_ = 0;  // for what it holds, of the server's budget
  std::unique_ptr<CallListener> listener_;
  std::unique_ptr<net::Timer> deadline_;
  std::string out_;  // framed messages
  size_t out_sent_ = 0;
  size_t unconsumed_ = 0;     // of the stream's window; much if the client takes no answers
  bool has_headers_ = false;  // the answer's are submitted
  bool is_deferred_ = false;  // the session waits for more of out_
  bool is_finished_ = false;  // status_ holds
  bool is_half_closed_ = false;
  bool was_above_high_ = false;
  Status status_ = Status::kOk;
  std::string status_text_;
};

class Connection final : public net::ServedStream {
 public:
  explicit Connection(ServerLoop& server);
  ~Connection() override;

  // Tells the client to begin no more RPCs, serves what is on its way, and closes when its RPCs
  // have ended.
  void Drain() override;
  void Cut() override;

 private:
  friend class ServerCall;
  struct Callbacks;

  // net::ServedStream
  void OnOpen() override;
  void OnConnect(int) override {}
  void OnRead(net::IoResult) override {}
  void OnReadable() override;
  void OnWritable() override;
  void OnTurnEnd() override;
  void OnDeadline() override;

  // nghttp2
  void OnBeginHeaders(int32_t stream);
  int OnHeader(ServerCall& call, std::string_view name, std::string_view value);
  void OnFrame(const nghttp2_frame& frame);
  void TellToGo();
  void OnPong(const nghttp2_ping& ping);
  void TakeNoMore();
  void OnFrameSent(const nghttp2_frame& frame);
  void OnChunk(int32_t stream, std::string_view bytes);
  void OnData(ServerCall& call, std::string_view bytes);
  // Gives the stream's window back.
  void Consume(ServerCall& call);
  void OnStreamClose(int32_t stream);
  ssize_t ReadAnswer(ServerCall& call, uint8_t* out, size_t length, uint32_t* flags);

  // Null when the stream is none of ours, or ends just now.
  ServerCall* Find(int32_t stream);
  void BeginCall(ServerCall& call);
  // Says that a stream is no RPC.
  void RefuseHttp(ServerCall& call, std::string_view status);
  // Ends a call that cannot begin; false then.
  bool CheckHead(ServerCall& call);
  void SubmitHeaders(ServerCall& call);
  void SubmitTrailersOnly(ServerCall& call);
  void EndInput(ServerCall& call);
  // The call is over, whatever it was doing.
  void EndCall(std::unique_ptr<ServerCall> call);
  // More frames wait than a client that reads leaves.
  bool IsChoked() const;
  bool Collect();
  void TellDrained();
  void Flush();
  void UpdateDeadline();
  void Die();

  ServerLoop& server_;
  nghttp2_session* session_ = nullptr;
  boost::unordered_flat_map<int32_t, std::unique_ptr<ServerCall>> calls_;  // by stream
  ServerCall* found_ = nullptr;                                            // last, in calls_
  std::vector<std::unique_ptr<ServerCall>> ended_;  // while the session runs callbacks
  std::vector<int32_t> drained_;                    // streams whose listeners must be told
  std::string unsent_;
  size_t unsent_from_ = 0;
  size_t unconsumed_ = 0;  // of the connection's window
  bool is_open_ = false;
  bool has_heard_ = false;    // anything
  bool has_told_ = false;     // that no RPC is to be begun
  bool is_draining_ = false;  // the client has heard that: no RPC is taken
  bool has_pinged_ = false;
  Time heard_;  // when something came last
  Time write_due_ = Time::max();
  Time old_at_ = Time::max();
  Time hears_by_ = Time::max();  // that it is to go
  Time cut_at_ = Time::max();
};

}  // namespace penstock::grpc
