#include <string>
#include <thread>

#include "http/server.h"
#include "http/testing.h"
#include "net/tls_testing.h"

namespace penstock::http {
namespace {

using namespace testing;  // NOLINT: the tests' own helpers

void Echo(Exchange& exchange) {
  const std::string body = exchange.body();
  exchange.Respond(200, {}, body);
}

class ServerTls : public ::testing::Test {
 protected:
  ServerTls() : server(Echo, Options()) {}
  static ServerOptions Options() {
    ServerOptions options;
    options.tls = *net::TlsContext::Create({.protocol = ""}, *net::MakeSelfSigned());
    options.max_connections = 2;
    return options;
  }
  // The bytes of an answer that echoes a body of so many bytes.
  static std::string Answer(net::TlsClient& client, size_t body_bytes) {
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
      const std::string byte = client.ReadAll(1);
      if (byte.empty()) return "no whole head: " + head;
      head += byte;
    }
    EXPECT_TRUE(head.starts_with("HTTP/1.1 200 OK\r\n")) << head;
    return client.ReadAll(body_bytes);
  }

  TestServer server;
};

TEST_F(ServerTls, AnswersManyRequestsOfAllSizesOnAConnection) {
  net::TlsClient client(net::ConnectLoopback(server->port()), {.protocol = "http/1.1"});
  ASSERT_TRUE(client.is_connected()) << client.error();
  for (const size_t size : {0, 1, 1000, 16'384, 100'000, 3'000'000}) {
    const std::string body(size, 'x');
    ASSERT_TRUE(client.Write(Post("/", body)));
    EXPECT_TRUE(Answer(client, size) == body) << size;
  }
  ASSERT_TRUE(client.Write(Post("/", "one") + Post("/", "two")));
  EXPECT_EQ(Answer(client, 3), "one");
  EXPECT_EQ(Answer(client, 3), "two");
  EXPECT_EQ(server->Stats().requests, 8U);
  EXPECT_EQ(server->Stats().bad_requests, 0U);
}

TEST_F(ServerTls, EndsWithAFarewellWhenAskedToClose) {
  net::TlsClient client(net::ConnectLoopback(server->port()), {.protocol = ""});
  ASSERT_TRUE(client.Write(Get("/", "connection: close\r\n")));
  EXPECT_EQ(Answer(client, 0), "");
  char byte;
  EXPECT_EQ(client.Read(&byte, 1), 0);
}

TEST_F(ServerTls, AClientWithoutTlsHearsNoHttpAndIsCounted) {
  Client client(server->port());
  client.Send(Get("/"));
  while (server->Stats().failed_handshakes == 0) std::this_thread::yield();
  EXPECT_EQ(server->Stats().requests, 0U);
}

}  // namespace
}  // namespace penstock::http
