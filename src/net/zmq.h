// ZeroMQ sockets, as far as they are used here: non-blocking, messages of a few frames, bounded.
//
// THREADS: a context is for all threads; a socket belongs to one at a time. OWNS: the context an
// I/O thread of libzmq's. SOURCE: libzmq 4.3, zmq_socket(3), zmq_socket_monitor(3).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace penstock::net {

class ZmqContext {
 public:
  ZmqContext();
  // Waits for no message. REQUIRES: its sockets are gone.
  ~ZmqContext();
  ZmqContext(const ZmqContext&) = delete;
  ZmqContext& operator=(const ZmqContext&) = delete;

 private:
  friend class ZmqSocket;
  void* context_;
};

class ZmqSocket {
 public:
  enum class Type : uint8_t { kPublish, kSubscribe, kRouter, kDealer };
  struct Options {
    int high_water_mark = 100'000;  // messages in each direction, then they are lost
    int64_t max_message_bytes = int64_t{64} << 20;  // of a frame; a peer that sends more is cut off
    // Whether TakeConnected() tells who is connected.
    bool watches_peers = false;
    // The longest pause between two tries to connect; they begin at 100 ms and double.
    int longest_pause_ms = 5'000;
  };
  static constexpr size_t kMaxFrames = 8;

  static Result<std::unique_ptr<ZmqSocket>> Open(ZmqContext& context, Type type,
                                                 const Options& options);
  ~ZmqSocket();
  ZmqSocket(const ZmqSocket&) = delete;
  ZmqSocket& operator=(const ZmqSocket&) = delete;

  // "tcp://127.0.0.1:5557"; a port of * is any free one.
  Result<> Bind(const std::string& endpoint);
  // Goes on trying in the background.
  Result<> Connect(const std::string& endpoint);
  // Messages whose first frame begins so. REQUIRES: kSubscribe.
  void Subscribe(std::string_view prefix);
  // Where Bind went, with the port.
  std::string bound_endpoint() const;

  // False: nobody has room for it, and it is not sent.
  bool Send(std::span<const std::string_view> frames);
  // The next message's frames; false: none is there. One of more than kMaxFrames is dropped and
  // gives none.
  bool Receive(std::vector<std::string>* frames);

  // What happened to the connection since the last call; nullopt: nothing. REQUIRES: watches_peers.
  std::optional<bool> TakeConnected();

  // For epoll, edge by edge: after it was readable, or anything was sent, read until nothing is
  // there.
  int descriptor() const;
  int peers_descriptor() const;  // of TakeConnected; -1: none

 private:
  explicit ZmqSocket(void* socket) : socket_(socket) {}

  void* socket_;
  void* monitor_ = nullptr;
};

}  // namespace penstock::net
