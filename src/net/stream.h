// A TCP connection on a loop, told in events. Derived classes hold the protocol.
//
// There are two ways to read, of which at most one is outstanding: StartRead into memory that the
// caller keeps until OnRead, or WaitReadable and then ReadNow, which binds no memory while nothing
// comes. Everything else is a non-blocking system call that happens at once. Whoever writes calls
// Defer and writes in OnTurnEnd, so all that the callbacks of a turn say leaves in one system call.
//
// With TLS everything means the same, for what is inside. On an accepted socket the handshake goes
// on while the stream is read, nothing can be written before it is over, and one that fails is an
// error of a read. On a connected one it is over when OnConnect comes, and one that fails is its
// error.
//
// THREADS: loop-bound; the counter of owners is not atomic. OWNS: the socket and one deadline.
// COST: an event is one virtual call; no allocation after the first read.
#pragma once

#include <sys/uio.h>

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/time.h"
#include "net/address.h"
#include "net/loop.h"

namespace penstock::net {

class TlsClientContext;
class TlsContext;

// `error` is an errno value, 0 for success. A read of 0 bytes without an error is the end of the
// stream; EAGAIN means nothing now.
struct IoResult {
  size_t bytes = 0;
  int error = 0;
};

class Stream {
 public:
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Loop& loop() const { return loop_; }
  bool is_open() const;

 protected:
  explicit Stream(Loop& loop);
  virtual ~Stream();

  // Takes over an accepted socket, and speaks TLS on it unless `tls` is null. Returns an errno
  // value; the descriptor stays the caller's then.
  int Adopt(int fd, bool is_ipv6, const std::shared_ptr<TlsContext>& tls = nullptr);
  // OnConnect follows unless the stream is closed before. Unless `tls` is null, TLS is spoken, with
  // a server that is called `host`. REQUIRES: not open.
  void Connect(const Address& address, std::shared_ptr<TlsClientContext> tls = nullptr,
               std::string host = "");
  // Connected, but the handshake is not over. When OnConnect tells an error of it, TlsFailure has
  // words; until Close.
  bool is_shaking_hands() const;
  std::string TlsFailure() const;
  // REQUIRES: open, no read outstanding.
  void StartRead(char* at, size_t bytes);
  bool is_reading() const { return is_reading_; }
  // OnReadable follows once: there are bytes, the end or an error. May be called again while it is
  // outstanding. REQUIRES: open, no read outstanding.
  void WaitReadable();
  bool waits_readable() const { return waits_readable_; }
  IoResult ReadNow(char* at, size_t bytes);
  // What was not taken must come first in the next call (a part of it may be encrypted already).
  IoResult WriteNow(std::span<const iovec> pieces);
  // OnWritable follows once. May be called again while it is outstanding.
  void WaitWritable();
  bool waits_writable() const { return waits_writable_; }
  void ShutdownWrite();
  // Idempotent. No event follows, apart from an OnTurnEnd that was asked for. The stream may
  // Connect again.
  void Close();
  // Close, so that the peer sees a reset.
  void CloseWithReset();

  // OnTurnEnd follows when the callbacks that are due now have run. Idempotent until then.
  void Defer();
  // OnDeadline follows at the time; replaces the pending one. Moving it later costs nothing.
  void SetDeadline(Time when);
  void ClearDeadline();

  virtual void OnConnect(int error) = 0;
  virtual void OnRead(IoResult result) = 0;
  virtual void OnReadable() {}  // for those who call WaitReadable
  virtual void OnWritable() = 0;
  virtual void OnTurnEnd() = 0;
  virtual void OnDeadline() = 0;

 private:
  struct Io;
  friend class TurnQueue;
  friend void intrusive_ptr_add_ref(Stream* s) { ++s->owners_; }
  friend void intrusive_ptr_release(Stream* s) {
    if (--s->owners_ == 0) delete s;
  }

  void BeginTls(const std::shared_ptr<TlsClientContext>& tls, std::string_view host);
  void ShakeHands();
  void ReadWhenReadable(char* at, size_t bytes);
  void Abandon();

  Loop& loop_;
  std::unique_ptr<Io> io_;
  int owners_ = 0;
  uint32_t generation_ = 0;  // of the socket: an event of one that is closed is not delivered
  bool is_reading_ = false;
  bool waits_readable_ = false;
  bool waits_writable_ = false;
  bool is_deferred_ = false;
};

template <class T>
using Ref = boost::intrusive_ptr<T>;

}  // namespace penstock::net
