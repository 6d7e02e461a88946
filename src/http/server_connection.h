// One client's connection: reads a request, hands it to the handler, writes the response, and so
// on. The next request is not looked at before the current exchange has ended.
//
// What a handler says is gathered and leaves when the loop's turn ends, large pieces at once.
// No method of Exchange runs the handler or a listener's callback, so they may be called from
// anywhere; the object lives at least until that end.
//
// THREADS: loop-bound. OWNS: the socket, the buffers, the exchange's listener; borrows the
// ServerLoop, which closes it before it goes. COST: a small request is one read that finds
// something, one that finds nothing, and one write; 16 KiB of input buffer per connection, the rest
// of the memory is given back when a request that needed more has ended.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "http/server.h"
#include "net/server.h"
#include "wire/h1.h"
#include "wire/h1_chunked.h"

namespace penstock::http {

class ServerLoop;

class ServerConnection final : public net::ServedStream, public Exchange {
 public:
  ServerConnection(ServerLoop& server, const net::Address& peer);
  ~ServerConnection() override;

  // Closes it unless a request is being served; if one is, after its response.
  void Drain() override;
  // Ends whatever goes on. The listener hears OnClientGone.
  void Cut() override;

  // Exchange
  const RequestHead& head() const override { return head_; }
  std::string& body() override { return body_; }
  void ReleaseBody() override;
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

 private:
  enum class State : uint8_t {
    kHead,      // between requests, or inside a request's head
    kBody,      // inside a request's body
    kExchange,  // the handler has it
    kClosing,   // sends what is left, then ends as ending_ says
    kLinger,    // has sent its end; reads over what the client still sends
    kClosed,
  };
  enum class Framing : uint8_t { kNone, kLength, kChunked, kUntilClose };
  enum class Ending : uint8_t { kClose, kLinger, kReset };

  // net::ServedStream
  void OnOpen() override;
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
  bool TakeKnownLength();
  bool TakeChunked();
  bool AppendBody(std::string_view piece);
  bool ReserveBody(size_t bytes);
  bool GrowBody(size_t wanted);
  void BeginExchange();
  void ShowHead();
  void ReleaseRequest();
  void OnEndOfStream();
  void OnReadError();
  void OnReadTimeout();
  void ReadOn();
  void ReadBodyOn();
  void ReadOver(size_t bytes);
  bool MakeRoom();
  void MoveInput(size_t from, size_t to);
  size_t room() const { return in_capacity_ - in_end_; }
  std::string_view input() const { return {in_.get() + in_next_, in_end_ - in_next_}; }
  bool is_stalled() const;
  bool is_inside_request() const;

  // Writing.
  void AppendHead(int status, std::span<const Header> headers, std::optional<uint64_t> length);
  void AppendHeaders(std::span<const Header> headers);
  void Append(std::string_view before, std::string_view piece, std::string_view after);
  void SendDirectly(std::span<const std::string_view> pieces);
  void AppendOwnError(int status, std::string_view code, std::string_view message);
  void RespondOwnError(int status, std::string_view code, std::string_view message);
  void RefuseRequest(int status, std::string_view code, std::string_view message);
  void RefuseBody();
  void RefuseForMemory();
  void EndExchange();
  void EndExchangeAs(std::optional<Ending> ending);
  void BeginClosing(Ending ending);
  void FinishClosing();
  void SendRest();
  void OnSomeSent(size_t bytes);

  void UpdateReadDue();
  void UpdateDeadline();
  void Leave();
  void Die(Ending ending = Ending::kClose);

  ServerLoop& server_;
  State state_ = State::kHead;
  Framing out_framing_ = Framing::kNone;
  Ending ending_ = Ending::kClose;
  bool is_direct_read_ = false;  // the outstanding read goes into body_
  bool keep_alive_ = true;       // after the running exchange
  bool is_head_request_ = false;
  bool has_started_ = false;      // the response's head is written
  bool was_above_high_ = false;   // OnDrained is owed
  bool client_finished_ = false;  // the client has sent its end
  bool is_write_broken_ = false;
  bool is_head_timed_ = false;  // read_due_ is for the head that has begun
  bool is_draining_ = false;
  bool in_process_ = false;

  // in_[in_begin_, in_next_) is the running request's head and what is used of its body,
  // in_[in_next_, in_end_) has not been looked at.
  std::unique_ptr<char[]> in_;
  size_t in_capacity_ = 0, in_begin_ = 0, in_next_ = 0, in_end_ = 0;
  size_t head_bytes_ = 0;  // of the current request, at in_begin_; 0 while it is not complete
  wire::H1HeadScanner scanner_;
  wire::H1Request parsed_;
  const char* parsed_at_ = nullptr;  // where the head stood when it was parsed
  wire::ChunkDecoder chunks_;
  RequestHead head_;
  std::string body_;
  size_t body_fill_ = 0;        // bytes of body_ that have come, while it is being read
  uint64_t charged_bytes_ = 0;  // for body_, of the server's budget
  Time received_{};
  std::string client_address_;

  std::unique_ptr<ExchangeListener> listener_;
  std::string out_;
  size_t out_sent_ = 0;
  uint64_t out_remaining_ = 0;  // of the announced length
  uint64_t linger_bytes_ = 0;   // that are still read over
  Time linger_until_{};
  Time read_due_ = Time::max();   // what is awaited from the client must have come
  Time write_due_ = Time::max();  // the client must have taken something
};

}  // namespace penstock::http
