// A gRPC server for tests with other people's clients.
//
//   grpc_echo [--tls-dir DIR] [--min-version NAME] [--suite NAME]... [--handshake-timeout-ms N]
//
// With --tls-dir it speaks TLS, and shows another certificate when the files change. Methods:
// /test.Echo/Echo sends back each message it gets, /test.Echo/Stats one text "name value" a line;
// health is served too. Says "listening on PORT"; ends on SIGTERM, after running RPCs have.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "core/text.h"
#include "discovery/certificate_watch.h"
#include "grpc/health.h"
#include "grpc/server.h"

namespace {

using namespace penstock;

struct Shared {
  std::shared_ptr<net::TlsContext> tls;
  std::unique_ptr<discovery::CertificateWatch> watch;
  std::unique_ptr<grpc::Server> server;
};

std::string Describe(const Shared& shared) {
  std::string out;
  const auto add = [&](const char* name, uint64_t value) {
    out += std::string(name) + " " + std::to_string(value) + "\n";
  };
  const grpc::ServerStats server = shared.server->Stats();
  add("connections_open", server.connections_open);
  add("bad_connections", server.bad_connections);
  if (shared.tls != nullptr) {
    const net::TlsStats tls = shared.tls->Stats();
    add("handshakes", tls.handshakes);
    add("failed_handshakes", tls.failed_handshakes);
    add("late_handshakes", tls.late_handshakes);
    add("reloads", tls.reloads);
    add("failed_reloads", shared.watch->failed_reloads());
  }
  return out;
}

class Echo final : public grpc::CallListener {
 public:
  explicit Echo(grpc::Call& call) : call_(call) {}
  void OnMessage(std::string_view message) override { call_.Send(message); }
  void OnHalfClose() override { call_.Finish(grpc::Status::kOk); }
  void OnCancel() override {}

 private:
  grpc::Call& call_;
};

class Stats final : public grpc::CallListener {
 public:
  Stats(grpc::Call& call, const Shared& shared) : call_(call), shared_(shared) {}
  void OnMessage(std::string_view) override {}
  void OnHalfClose() override {
    call_.Send(Describe(shared_));
    call_.Finish(grpc::Status::kOk);
  }
  void OnCancel() override {}

 private:
  grpc::Call& call_;
  const Shared& shared_;
};

class EchoHandler final : public grpc::Handler {
 public:
  explicit EchoHandler(const Shared& shared)
      : shared_(shared), health_({.is_serving = [](std::string_view) { return true; }}) {}
  std::unique_ptr<grpc::CallListener> OnCall(grpc::Call& call) override {
    if (call.path() == "/test.Echo/Echo") return std::make_unique<Echo>(call);
    if (call.path() == "/test.Echo/Stats") return std::make_unique<Stats>(call, shared_);
    return health_.OnCall(call);
  }

 private:
  const Shared& shared_;
  grpc::HealthService health_;
};

[[noreturn]] void End(const std::string& message) {
  std::fprintf(stderr, "grpc_echo: %s\n", message.c_str());
  std::exit(1);
}

template <class T>
T OrEnd(Result<T> result) {
  if (!result) End(result.error().message);
  return std::move(*result);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  net::TlsOptions options;
  std::string directory;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view flag = argv[i];
    const std::string value = argv[i + 1];
    if (flag == "--tls-dir") {
      directory = value;
    } else if (flag == "--min-version") {
      options.min_version = OrEnd(net::ParseTlsVersion(value));
    } else if (flag == "--suite") {
      options.cipher_suites.push_back(value);
    } else if (flag == "--handshake-timeout-ms") {
      options.handshake_timeout = milliseconds(ParseUint(value).value_or(0));
    } else {
      End("what is " + std::string(flag) + "?");
    }
  }
  net::Loop main_loop;
  Shared shared;
  net::SignalWatch signals(
      main_loop, [&](int) { shared.server->Drain(seconds(10), [&] { main_loop.Stop(); }); });
  if (!directory.empty()) {
    net::Certificate shown = OrEnd(net::ReadCertificate(directory));
    shared.tls = OrEnd(net::TlsContext::Create(options, shown));
    shared.watch = OrEnd(discovery::CertificateWatch::Start(shared.tls, directory, shown));
  }
  net::LoopPool loops(2);
  shared.server =
      OrEnd(grpc::Server::Create(loops, "127.0.0.1", 0, {.tls = shared.tls}, [&](net::Loop&) {
        return std::make_unique<EchoHandler>(shared);
      }));
  loops.Start();
  std::printf("listening on %d\n", shared.server->port());
  std::fflush(stdout);
  main_loop.Run();
  shared.server.reset();
  loops.StopAndJoin();
  return 0;
}
