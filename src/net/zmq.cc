#include "net/zmq.h"

#include <zmq.h>

#include <atomic>
#include <cerrno>
#include <cstring>

namespace penstock::net {
namespace {

int KindOf(ZmqSocket::Type type) {
  switch (type) {
    case ZmqSocket::Type::kPublish:
      return ZMQ_PUB;
    case ZmqSocket::Type::kSubscribe:
      return ZMQ_SUB;
    case ZmqSocket::Type::kRouter:
      return ZMQ_ROUTER;
    case ZmqSocket::Type::kDealer:
      return ZMQ_DEALER;
  }
  return ZMQ_PAIR;
}

std::unexpected<Error> Failed(std::string_view what) {
  return Fail(Code::kUnavailable, std::string(what) + ": " + zmq_strerror(zmq_errno()));
}

int DescriptorOf(void* socket) {
  int fd = -1;
  size_t size = sizeof fd;
  return zmq_getsockopt(socket, ZMQ_FD, &fd, &size) == 0 ? fd : -1;
}

bool HasMore(void* socket) {
  int more = 0;
  size_t size = sizeof more;
  return zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size) == 0 && more != 0;
}

// False: there is none.
bool ReceiveFrame(void* socket, std::string* out) {
  zmq_msg_t message;
  zmq_msg_init(&message);
  int got = 0;
  do {
    got = zmq_msg_recv(&message, socket, ZMQ_DONTWAIT);
  } while (got < 0 && zmq_errno() == EINTR);
  if (got >= 0) {
    out->assign(static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message));
  }
  zmq_msg_close(&message);
  return got >= 0;
}

}  // namespace

ZmqContext::ZmqContext() : context_(zmq_ctx_new()) {
  // A server for a thousand engines has two sockets for each, and one for its monitor.
  zmq_ctx_set(context_, ZMQ_MAX_SOCKETS, 16'384);
}

ZmqContext::~ZmqContext() { zmq_ctx_term(context_); }

Result<std::unique_ptr<ZmqSocket>> ZmqSocket::Open(ZmqContext& context, Type type,
                                                   const Options& options) {
  void* const handle = zmq_socket(context.context_, KindOf(type));
  if (handle == nullptr) return Failed("cannot open a ZeroMQ socket");
  std::unique_ptr<ZmqSocket> socket(new ZmqSocket(handle));
  const auto set = [&](int option, const auto& value) {
    return zmq_setsockopt(handle, option, &value, sizeof value) == 0;
  };
  bool ok = set(ZMQ_LINGER, 0) && set(ZMQ_SNDHWM, options.high_water_mark) &&
            set(ZMQ_RCVHWM, options.high_water_mark) &&
            set(ZMQ_MAXMSGSIZE, options.max_message_bytes) && set(ZMQ_RECONNECT_IVL, 100) &&
            set(ZMQ_RECONNECT_IVL_MAX, options.longest_pause_ms) && set(ZMQ_HANDSHAKE_IVL, 5'000) &&
            // A peer that is gone without a word.
            set(ZMQ_HEARTBEAT_IVL, 10'000) && set(ZMQ_HEARTBEAT_TIMEOUT, 30'000) &&
            set(ZMQ_IPV6, 1);
  if (!ok) return Failed("cannot set up a ZeroMQ socket");
  if (options.watches_peers) {
    static std::atomic<uint64_t> next{0};
    const std::string name = "inproc://monitor-" + std::to_string(next.fetch_add(1));
    socket->monitor_ = zmq_socket(context.context_, ZMQ_PAIR);
    const int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED;
    ok = socket->monitor_ != nullptr && zmq_socket_monitor(handle, name.c_str(), events) == 0 &&
         zmq_connect(socket->monitor_, name.c_str()) == 0;
    if (!ok) return Failed("cannot watch a ZeroMQ socket");
  }
  return socket;
}

ZmqSocket::~ZmqSocket() {
  if (monitor_ != nullptr) {
    zmq_socket_monitor(socket_, nullptr, 0);
    const int none = 0;
    zmq_setsockopt(monitor_, ZMQ_LINGER, &none, sizeof none);
    zmq_close(monitor_);
  }
  zmq_close(socket_);
}

Result<> ZmqSocket::Bind(const std::string& endpoint) {
  if (zmq_bind(socket_, endpoint.c_str()) != 0) return Failed("cannot bind to " + endpoint);
  return {};
}

Result<> ZmqSocket::Connect(const std::string& endpoint) {
  if (zmq_connect(socket_, endpoint.c_str()) != 0) return Failed("cannot connect to " + endpoint);
  return {};
}

void ZmqSocket::Subscribe(std::string_view prefix) {
  zmq_setsockopt(socket_, ZMQ_SUBSCRIBE, prefix.data(), prefix.size());
}

std::string ZmqSocket::bound_endpoint() const {
  char text[1024];
  size_t size = sizeof text;
  if (zmq_getsockopt(socket_, ZMQ_LAST_ENDPOINT, text, &size) != 0 || size == 0) return "";
  return {text, size - 1};
}

bool ZmqSocket::Send(std::span<const std::string_view> frames) {
  for (size_t i = 0; i < frames.size(); ++i) {
    const int flags = ZMQ_DONTWAIT | (i + 1 < frames.size() ? ZMQ_SNDMORE : 0);
    int sent = 0;
    do {
      sent = zmq_send(socket_, frames[i].data(), frames[i].size(), flags);
    } while (sent < 0 && zmq_errno() == EINTR);
    // Only the first frame can find no room: a message is taken as a whole.
    if (sent < 0) return false;
  }
  return true;
}

bool ZmqSocket::Receive(std::vector<std::string>* frames) {
  frames->clear();
  std::string frame;
  if (!ReceiveFrame(socket_, &frame)) return false;
  bool is_too_long = false;
  while (true) {
    if (frames->size() < kMaxFrames) {
      frames->push_back(std::move(frame));
    } else {
      is_too_long = true;
    }
    if (!HasMore(socket_) || !ReceiveFrame(socket_, &frame)) break;
  }
  if (is_too_long) frames->clear();
  return true;
}

std::optional<bool> ZmqSocket::TakeConnected() {
  std::optional<bool> latest;
  std::string event, address;
  while (monitor_ != nullptr && ReceiveFrame(monitor_, &event)) {
    if (HasMore(monitor_)) ReceiveFrame(monitor_, &address);
    uint16_t what = 0;
    if (event.size() < sizeof what) continue;
    std::memcpy(&what, event.data(), sizeof what);
    latest = what == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
    // A loss is not passed over for the connection that follows it.
    if (!*latest) break;
  }
  return latest;
}

int ZmqSocket::descriptor() const { return DescriptorOf(socket_); }
int ZmqSocket::peers_descriptor() const {
  return monitor_ == nullptr ? -1 : DescriptorOf(monitor_);
}

}  // namespace penstock::net
