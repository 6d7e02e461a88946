// One connection to an engine: connects, sends a request, reads its answer, waits for the next.
//
// THREADS: loop-bound. OWNS: the socket, and bytes that were read and not told yet; borrows the
// ClientLoop, which closes it before it goes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "http/client.h"
#include "http/dns_cache.h"
#include "net/stream.h"
#include "wire/h1.h"
#include "wire/h1_chunked.h"

namespace penstock::http {

class ClientLoop;
class ClientConnection;
struct ClientPool;

// One request. It is given to another connection when its first one turns out to be dead.
class ClientCall final : public Call {
 public:
  ClientCall(std::string head, std::vector<std::string_view> body, const CallOptions& options,
             CallListener& listener);
  ~ClientCall() override;
  void Pause() override;
  void Resume() override;

 private:
  friend class ClientConnection;

  // Fills `pieces` from what follows the first `skip` bytes of the request; how many it has set.
  size_t Unsent(uint64_t skip, std::span<iovec> pieces) const;

  const std::string head_;
  const std::vector<std::string_view> body_;
  const CallOptions options_;
  CallListener& listener_;
  ClientConnection* connection_ = nullptr;  // nothing after the end
  uint64_t request_bytes_;
  bool is_head_request_;
  bool is_paused_ = false;
  bool was_replaced_ = false;  // the one fresh connection in place of a dead one is used up
};

class ClientConnection final : public net::Stream {
 public:
  ClientConnection(ClientLoop& client, ClientPool& pool);
  ~ClientConnection() override;

  // Connects, then sends. Everything that goes wrong is told later.
  void Open(ClientCall& call);
  // Sends on a connection that is idle.
  void Reuse(ClientCall& call);
  // Closes the connection; the call, if there is one, hears nothing.
  void Abandon();
  // Closes an idle connection and takes it out of its pool.
  void CloseIdle();
  void OnPause();
  void OnResume();

  ClientPool& pool() { return pool_; }
  uint32_t epoch() const { return epoch_; }

  size_t index = 0;  // the ClientLoop's place for it

 private:
  enum class State : uint8_t {
    kConnecting,  // looks up the name, then tries the addresses
    kHead,        // sends the request and waits for the answer's head
    kBody,        // reads the answer's body
    kIdle,        // in the pool
    kClosed,
  };
  enum class Framing : uint8_t { kNone, kLength, kChunked, kUntilClose };
  enum class Ending : uint8_t { kClose, kReset };
  using Addresses = std::shared_ptr<const std::vector<net::Address>>;

  // net::Stream
  void OnConnect(int error) override;
  void OnRead(net::IoResult) override {}
  void OnReadable() override;
  void OnWritable() override;
  void OnTurnEnd() override;
  void OnDeadline() override;

  // Connecting.
  void FindAddresses();
  void OnAddresses(const DnsCache::Answer& answer);
  void TryAddress();
  // `why` is told when the last address has failed.
  void OnAttemptFailed(CallFailure failure, std::string why);

  // Sending.
  void BeginExchange(ClientCall& call);
  void SendRequest();

  // Reading. Take* moves `input` past what it has taken and returns whether to go on.
  // Whether something had come.
  bool ReadAvailable();
  void Process(std::string_view input);
  bool TakeHead(std::string_view* input);
  bool TakeInterim(int status);
  bool BeginBody(const wire::H1Response& parsed);
  bool TakeBody(std::string_view* input);
  bool TakeChunked(std::string_view* input);
  bool TellBody(std::string_view piece);
  void ReadOn();
  void OnEndOfStream(int error);
  void OnIdleReadable();

  // Ends.
  void Finish();
  void Fail(CallFailure failure, std::string message);
  void FailAnswer(std::string_view what, const wire::H1Error& error);
  void ReplaceStale();
  ClientCall* Detach();
  void Close(Ending ending);

  ClientLoop& client_;
  ClientPool& pool_;
  const uint32_t epoch_;
  State state_ = State::kConnecting;
  Framing framing_ = Framing::kNone;
  bool was_used_ = false;       // has carried an answer before
  bool is_persistent_ = false;  // the answer leaves it open
  bool is_body_done_ = false;   // the end of the answer is not told yet
  bool has_excess_ = false;     // more came than the answer
  bool in_process_ = false;
  bool is_resuming_ = false;  // OnTurnEnd goes on with what was read before the pause
  uint8_t interim_heads_ = 0;
  ClientCall* call_ = nullptr;

  // While connecting.
  Addresses addresses_;
  size_t next_address_ = 0;

  Time begin_by_{};              // the end of connecting, then of waiting for the first byte
  uint64_t sent_bytes_ = 0;      // of the request
  uint64_t received_bytes_ = 0;  // of the answer
  uint64_t body_remaining_ = 0;  // with kLength
  std::string pending_;          // part of a head, or what came before a pause
  wire::H1HeadScanner scanner_;
  wire::ChunkDecoder chunks_;
};

}  // namespace penstock::http
