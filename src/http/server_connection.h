// One client's connection: reads a request, hands it to the handler, writes the response, and so
// on. The next request is not looked at before the current exchange has ended.
//
// THREADS: loop-bound. OWNS: the socket, the buffers, the exchange's listener; borrows the
// ServerLoop, which closes it before it goes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "http/server.h"
#include "net/stream.h"
#include "wire/h1.h"
#include "wire/h1_chunked.h"

namespace penstock::http {

class ServerLoop;

class ServerConnection final : public net::Stream, public Exchange {
 public:
  ServerConnection(ServerLoop& server, const net::Address& peer);
  ~ServerConnection() override;

  // Takes over an accepted socket and reads the first request.
  void Open(int fd);
  // Closes it unless a request is being served; if one is, after its response.
  void Drain();
  // Ends whatever goes on. The listener hears OnClientGone.
  void Cut();

  // Exchange
  const RequestHead& head() const override { return head_; }
  std::string& body() override { return body_; }
  net::Loop& loop() override { return net::Stream::loop(); }
  std::string_view client_address() const override { return client_address_; }
  Time received() const override { return received_; }
  void SetListener(std::unique_ptr<ExchangeListener> listener) override;
  void Respond(int status, std::span<const Header> headers, std::string_view body) override;
  void Start(int status, std::span<const Header> headers,
             std::optional<uint64_t> content_length) override;
  void Write(std::string_view piece) override;
  size_t unsent_bytes() const override { return out_.size() - out_sent_; }
  bool above_high_watermark() const override;
  void Finish() override;
  void Abort() override;

  size_t index = 0;  // the ServerLoop's place for it

 private:
  enum class State : uint8_t {
    kHead,      // between requests, or inside a request's head
    kBody,      // inside a request's body
    kExchange,  // the handler has it
    kClosing,   // sends what is left, then closes or lingers
    kLinger,    // has sent everything; reads over what the client still sends
    kClosed,
  };
  enum class Framing : uint8_t { kNone, kLength, kChunked, kUntilClose };
  enum class Ending : uint8_t { kClose, kLinger, kReset };

  // net::Stream
  void OnConnect(int) override {}
  void OnRead(net::IoResult result) override;
  void OnWritable() override;
  void OnTurnEnd() override;
  void OnDeadline() override;

  // Reading.
  void Process();
  bool ProcessHead();
  void OnHeadComplete();
  bool ProcessBody();
  bool TakeChunked(std::string_view input);
  void TakeKnownLength();
  void ReadBodyDirectly();
  void BeginExchange();
  void GrowBody(size_t wanted);
  void ReadOn();
  void OnEndOfStream();
  void OnInput();
  void CompactInput();
  void ReserveInput(size_t bytes);
  std::string_view input() const { return {in_.get() + in_begin_, in_end_ - in_begin_}; }
  void CopyHead();

  // Writing.
  void AppendHead(int status, std::span<const Header> headers, std::optional<uint64_t> length);
  void Append(std::string_view before, std::string_view piece, std::string_view after);
  void Flush();
  void SendRest();
  void OnFlushed();
  void EndExchange();
  void RefuseRequest(int status, std::string_view code, std::string_view message);
  void CloseAfterFlush(Ending ending);
  void Die();

  ServerLoop& server_;
  State state_ = State::kHead;
  Framing out_framing_ = Framing::kNone;
  Ending ending_ = Ending::kClose;
  bool is_direct_read_ = false;    // the outstanding read goes into body_
  bool keep_alive_ = true;         // after the running exchange
  bool is_head_request_ = false;
  bool is_first_minor_ = true;     // HTTP/1.1, not 1.0
  bool has_started_ = false;       // the response's head is written
  bool was_above_high_ = false;
  bool client_finished_ = false;   // the client has sent its end
  bool is_draining_ = false;
  bool in_process_ = false;

  std::unique_ptr<char[]> in_;
  size_t in_capacity_ = 0, in_begin_ = 0, in_end_ = 0;
  wire::H1HeadScanner scanner_;
  wire::H1Request parsed_;
  wire::ChunkDecoder chunks_;
  const char* parsed_at_ = nullptr;  // where the head stood when it was parsed
  size_t head_bytes_ = 0;            // of the current request, at in_begin_
  RequestHead head_;
  std::string body_;
  size_t body_fill_ = 0;  // bytes of body_ that have come, while it is being read
  Time received_{};
  std::string client_address_;

  std::unique_ptr<ExchangeListener> listener_;
  std::string out_;
  size_t out_sent_ = 0;
  uint64_t out_remaining_ = 0;  // of the announced length
  uint64_t linger_bytes_ = 0;
};

}  // namespace penstock::http
