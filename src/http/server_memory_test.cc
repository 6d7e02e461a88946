// The memory of request bodies: bounded over all connections and loops, and accounted exactly.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "core/byte_budget.h"
#include "http/server.h"
#include "http/testing.h"

namespace penstock::http {
namespace {

using namespace testing;  // NOLINT: the tests' own helpers

constexpr size_t kKiB = 1024;

ServerOptions Limited(uint64_t max_buffered_bytes) {
  ServerOptions options;
  options.max_body_bytes = 4096 * kKiB;
  options.max_buffered_bytes = max_buffered_bytes;
  return options;
}

void Answer(Exchange& exchange) {
  exchange.Respond(200, {}, std::to_string(exchange.body().size()));
}

// Keeps the exchange until its client goes.
void Hold(Exchange& exchange) {
  exchange.SetListener(std::make_unique<ExchangeListener>());
  exchange.Start(200, {}, 3);
  exchange.Write("ok");
}

// Nothing tells when the server notices that a client has gone.
[[nodiscard]] bool BecomesEmpty(TestServer& server) {
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (server->Stats().buffered_bytes != 0) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

TEST(ByteBudget, NeverGivesMoreThanThereIs) {
  ByteBudget budget(1000);
  EXPECT_TRUE(budget.TryTake(600));
  EXPECT_FALSE(budget.TryTake(401));
  EXPECT_FALSE(budget.TryTake(~uint64_t{0}));
  EXPECT_TRUE(budget.TryTake(400));
  EXPECT_EQ(budget.used(), 1000u);
  budget.Give(1000);
  std::atomic<uint64_t> taken{0};
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 1000; ++i) taken += budget.TryTake(1) ? 1 : 0;
      });
    }
  }
  EXPECT_EQ(taken, 1000u);
}

TEST(ServerMemory, BodiesThatAreServedCountUntilTheirEnd) {
  TestServer server(Hold, Limited(1024 * kKiB));
  Client first(server->port()), second(server->port());
  first.Send(Post("/", Pattern(300 * kKiB)));
  EXPECT_EQ(first.ReadHead().status, 200);
  const uint64_t of_one = server->Stats().buffered_bytes;
  EXPECT_GE(of_one, 300 * kKiB);
  EXPECT_LE(of_one, 301 * kKiB) << "a body whose length is known takes no more than that";
  second.Send(Post("/", Pattern(300 * kKiB)));
  EXPECT_EQ(second.ReadHead().status, 200);
  EXPECT_EQ(server->Stats().buffered_bytes, 2 * of_one);
  first.Close();
  second.Reset();
  EXPECT_TRUE(BecomesEmpty(server));
}

TEST(ServerMemory, BeyondTheBudgetIs503AndTheRestIsServed) {
  for (const bool is_chunked : {false, true}) {
    TestServer server(
        [](Exchange& exchange) {
          exchange.head().path == "/hold" ? Hold(exchange) : Answer(exchange);
        },
        Limited(1300 * kKiB), 2);
    Client holder(server->port());
    holder.Send(Post("/hold", Pattern(600 * kKiB)));
    EXPECT_EQ(holder.ReadHead().status, 200);
    Client client(server->port());
    const std::string body = Pattern(900 * kKiB);
    const Response refused =
        client.Ask(is_chunked ? "POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n" +
                                    Chunked(body, 50'000)
                              : Post("/", body));
    EXPECT_EQ(refused.status, 503);
    EXPECT_EQ(refused.headers.at("retry-after"), "1");
    EXPECT_NE(refused.body.find("\"overloaded\""), std::string::npos) << refused.body;
    EXPECT_TRUE(client.AtEnd());
    EXPECT_EQ(server->Stats().overloaded, 1u);
    EXPECT_EQ(server->Stats().bad_requests, 0u);
    Client small(server->port());
    EXPECT_EQ(small.Ask(Post("/", Pattern(10 * kKiB))).body, std::to_string(10 * kKiB));
    holder.Close();
    EXPECT_TRUE(BecomesEmpty(server));
    Client again(server->port());
    EXPECT_EQ(again.Ask(Post("/", Pattern(600 * kKiB))).body, std::to_string(600 * kKiB));
    EXPECT_EQ(server->Stats().buffered_bytes, 0u);
  }
}

TEST(ServerMemory, HandlerMayReleaseTheBodyEarly) {
  TestServer server(
      [](Exchange& exchange) {
        exchange.ReleaseBody();
        EXPECT_TRUE(exchange.body().empty());
        Hold(exchange);
      },
      Limited(1024 * kKiB));
  std::vector<Client> clients;
  for (int i = 0; i < 5; ++i) {
    Client& client = clients.emplace_back(server->port());
    client.Send(Post("/", Pattern(500 * kKiB)));
    EXPECT_EQ(client.ReadHead().status, 200);
    EXPECT_EQ(server->Stats().buffered_bytes, 0u);
  }
}

const std::string kHead = "POST / HTTP/1.1\r\nhost: t\r\n";
const std::string kChunkedHead = kHead + "transfer-encoding: chunked\r\n\r\n";

// Both kinds of framing, without an end.
std::vector<std::string> BegunBodies() {
  const std::string part = Pattern(700 * kKiB);
  return {kHead + "content-length: 2000000\r\n\r\n" + part,
          kChunkedHead + Chunked(part, 30'000).substr(0, 600'000)};
}

TEST(ServerMemory, IsGivenBackWhenTheBodyDoesNotCome) {
  ServerOptions options = Limited(64'000 * kKiB);
  options.body_timeout = milliseconds(20);
  TestServer server(Answer, options);
  for (const std::string& begun : BegunBodies()) {
    Client slow(server->port());
    slow.Send(begun);
    EXPECT_EQ(slow.ReadResponse().status, 408);
    slow.Send("and now it comes");  // to where the body was being read
    EXPECT_TRUE(BecomesEmpty(server));
  }
}

TEST(ServerMemory, IsGivenBackHoweverABodyEnds) {
  TestServer server(Answer, Limited(64'000 * kKiB));
  for (const std::string& begun : BegunBodies()) {
    Client leaves(server->port());
    leaves.Send(begun);
    leaves.Reset();
    Client ends(server->port());
    ends.Send(begun);
    ends.FinishSending();
    EXPECT_TRUE(ends.AtEnd());
  }
  const std::string part = Pattern(700 * kKiB);
  const std::string chunks = Chunked(part, 30'000);  // ends in "0" and two line ends
  Client malformed(server->port());
  malformed.Send(kChunkedHead + chunks.substr(0, chunks.size() - 5) + "no chunk\r\n");
  EXPECT_EQ(malformed.ReadResponse().status, 400);
  Client too_long(server->port());
  too_long.Send(kChunkedHead + Chunked(Pattern(4100 * kKiB), 60'000));
  EXPECT_EQ(too_long.ReadResponse().status, 413);
  Client whole(server->port());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(whole.Ask(Post("/", part)).status, 200);
  EXPECT_TRUE(BecomesEmpty(server));
}

TEST(ServerMemory, BodyMayBeMovedAwayAndIsStillGivenBack) {
  std::string taken;
  TestServer server(
      [&](Exchange& exchange) {
        taken = std::move(exchange.body());
        exchange.Respond(200, {}, "");
      },
      Limited(1024 * kKiB));
  Client client(server->port());
  for (int i = 0; i < 5; ++i) EXPECT_EQ(client.Ask(Post("/", Pattern(400 * kKiB))).status, 200);
  server.OnLoop([&] { EXPECT_EQ(taken, Pattern(400 * kKiB)); });
  EXPECT_EQ(server->Stats().buffered_bytes, 0u);
}

}  // namespace
}  // namespace penstock::http
