#include "http/server.h"

#include <array>
#include <atomic>
#include <random>
#include <thread>

#include "http/testing.h"

namespace penstock::http {
namespace {

using namespace testing;  // NOLINT: the tests' own helpers

constexpr std::array<Header, 1> kText = {{{"content-type", "text/plain"}}};

// Says what it was asked.
void Echo(Exchange& exchange) {
  std::string text(exchange.head().method);
  text.append(" ").append(exchange.head().target).append(" ").append(exchange.body());
  exchange.Respond(200, kText, text);
}

// --- requests

TEST(Server, AnswersAndKeepsTheConnection) {
  TestServer server(Echo);
  Client client(server->port());
  for (int i = 0; i < 3; ++i) {
    const Response response = client.Ask(Get("/a?b=c"));
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, "GET /a?b=c ");
    EXPECT_EQ(response.headers.at("content-type"), "text/plain");
    EXPECT_TRUE(response.headers.contains("date"));
    EXPECT_FALSE(response.headers.contains("connection"));
  }
  const ServerStats stats = server->Stats();
  EXPECT_EQ(stats.connections_accepted, 1u);
  EXPECT_EQ(stats.connections_open, 1u);
  EXPECT_EQ(stats.requests, 3u);
  EXPECT_EQ(stats.bad_requests, 0u);
}

TEST(Server, TellsWhoAsksAndWhat) {
  std::string address, path, header;
  bool is_received_now = false;
  TestServer server([&](Exchange& exchange) {
    address = exchange.client_address();
    path = exchange.head().path;
    header = exchange.head().headers.Find("X-Some");
    is_received_now = exchange.received() <= exchange.loop().Now();
    exchange.Respond(200, {}, "");
  });
  Client client(server->port());
  EXPECT_EQ(client.Ask(Get("/p/q?r", "x-some:  thing \r\n")).status, 200);
  EXPECT_EQ(address, "127.0.0.1");
  EXPECT_EQ(path, "/p/q");
  EXPECT_EQ(header, "thing");
  EXPECT_TRUE(is_received_now);
}

TEST(Server, ClosesWhenTheClientAsksForIt) {
  TestServer server(Echo);
  Client client(server->port());
  const Response response = client.Ask(Get("/", "connection: close\r\n"));
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_TRUE(response.complete);
  EXPECT_TRUE(client.AtEnd());
}

TEST(Server, OutcomeDoesNotDependOnCuts) {
  TestServer server(Echo);
  const std::string requests =
      "\r\n" + Post("/one", "hello") + Get("/two") +
      "PUT /three HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n" +
      Chunked("hello world", 4) + Post("/four", "");
  const auto expect_answers = [](Client& client) {
    EXPECT_EQ(client.ReadResponse().body, "POST /one hello");
    EXPECT_EQ(client.ReadResponse().body, "GET /two ");
    EXPECT_EQ(client.ReadResponse().body, "PUT /three hello world");
    EXPECT_EQ(client.ReadResponse().body, "POST /four ");
  };
  for (size_t cut = 0; cut <= requests.size(); ++cut) {
    Client client(server->port());
    client.Send(requests.substr(0, cut));
    // So that the two parts are read apart.
    server.OnLoop([] {});
    client.Send(requests.substr(cut));
    expect_answers(client);
  }
  Client client(server->port());
  for (const char c : requests) client.Send({&c, 1});
  expect_answers(client);
}

TEST(Server, PipelinedRequestsAreAnsweredInOrder) {
  TestServer server(Echo);
  constexpr int kRequests = 5000;
  Client client(server->port());
  std::string requests;
  for (int i = 0; i < kRequests; ++i) requests += Get("/" + std::to_string(i));
  ASSERT_TRUE(client.Send(requests));
  for (int i = 0; i < kRequests; ++i)
    ASSERT_EQ(client.ReadResponse().body, "GET /" + std::to_string(i) + " ");
}

TEST(Server, PipeliningClientThatDoesNotReadIsNotServedOn) {
  ServerOptions options;
  options.high_watermark = 64 * 1024;
  options.low_watermark = 1024;
  std::atomic<uint64_t> handled = 0;
  const std::string large(512 * 1024, 'x');
  TestServer server(
      [&](Exchange& exchange) {
        handled.fetch_add(1);
        exchange.Respond(200, {}, large);
      },
      options);
  Client client(server->port(), 4096);
  constexpr uint64_t kRequests = 100;  // 50 MiB of answers; the system's buffers take a few
  std::string requests;
  for (uint64_t i = 0; i < kRequests; ++i) requests += Get("/");
  ASSERT_TRUE(client.Send(requests));
  EXPECT_EQ(client.Read(1), "H");
  server.OnLoop([] {});
  EXPECT_LT(handled.load(), kRequests / 2);
  EXPECT_EQ(client.ReadHead().status, 0);  // the rest of the first head, which has lost its H
  EXPECT_EQ(client.Read(large.size()), large);
  for (uint64_t i = 1; i < kRequests; ++i)
    ASSERT_EQ(client.ReadResponse().body.size(), large.size());
  EXPECT_EQ(handled.load(), kRequests);
}

TEST(Server, NextRequestWaitsForTheRunningOne) {
  Events events;
  Exchange* running = nullptr;
  TestServer server([&](Exchange& exchange) {
    events.Add(std::string(exchange.head().path));
    if (exchange.head().path == "/last") return exchange.Respond(200, {}, "last");
    running = &exchange;
    exchange.SetListener(std::make_unique<Probe>(events));
  });
  Client client(server->port());
  client.Send(Get("/first") + Post("/second", Pattern(40'000)) + Get("/last"));
  ASSERT_TRUE(events.Await("/first"));
  server.OnLoop([&] {
    EXPECT_EQ(running->head().path, "/first");
    running->Respond(200, {}, "first");
    EXPECT_EQ(events.Count("/second"), 0) << "a handler was run inside Respond";
  });
  EXPECT_EQ(client.ReadResponse().body, "first");
  ASSERT_TRUE(events.Await("/second"));
  EXPECT_EQ(events.Count("/last"), 0);
  server.OnLoop([&] {
    EXPECT_EQ(running->body(), Pattern(40'000));
    running->Respond(200, {}, "second");
  });
  EXPECT_EQ(client.ReadResponse().body, "second");
  EXPECT_EQ(client.ReadResponse().body, "last");
}

TEST(Server, HeadIsAnsweredWithoutABody) {
  TestServer server([](Exchange& exchange) {
    if (exchange.head().path == "/whole") return exchange.Respond(200, kText, "12345");
    if (exchange.head().path == "/length") exchange.Start(200, kText, 5);
    if (exchange.head().path == "/chunked") exchange.Start(200, kText, std::nullopt);
    exchange.Write("12345");
    exchange.Finish();
  });
  Client client(server->port());
  for (const char* path : {"/whole", "/length", "/chunked"}) {
    client.Send("HEAD " + std::string(path) + " HTTP/1.1\r\nhost: t\r\n\r\n");
    const Response response = client.ReadResponse(true);
    EXPECT_EQ(response.status, 200);
    if (path != std::string("/chunked")) {
      EXPECT_EQ(response.headers.at("content-length"), "5");
    }
  }
  EXPECT_EQ(client.Ask(Get("/whole")).body, "12345");
}

TEST(Server, OldVersionIsServed) {
  TestServer server([](Exchange& exchange) {
    if (exchange.head().path == "/whole") return exchange.Respond(200, kText, "12345");
    exchange.Start(200, kText, std::nullopt);
    exchange.Write("123");
    exchange.Write("45");
    exchange.Finish();
  });
  {
    Client client(server->port());
    const Response response = client.Ask("GET /whole HTTP/1.0\r\n\r\n");
    EXPECT_EQ(response.body, "12345");
    EXPECT_EQ(response.headers.at("connection"), "close");
    EXPECT_TRUE(client.AtEnd());
  }
  {
    Client client(server->port());
    for (int i = 0; i < 2; ++i) {
      const Response response = client.Ask("GET /whole HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
      EXPECT_EQ(response.body, "12345");
      EXPECT_EQ(response.headers.at("connection"), "keep-alive");
    }
    const Response response = client.Ask("GET /stream HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    EXPECT_EQ(response.body, "12345");
    EXPECT_TRUE(response.complete);
    EXPECT_FALSE(response.headers.contains("transfer-encoding"));
    EXPECT_EQ(response.headers.at("connection"), "close");
  }
}

// --- bodies

struct Seen {
  std::string body;
  size_t slack = 0;
};

HandleFunction Keep(Seen& seen) {
  return [&seen](Exchange& exchange) {
    seen.body = exchange.body();
    seen.slack = exchange.body().capacity() - exchange.body().size();
    exchange.Respond(200, {}, "ok");
  };
}

TEST(Server, BodiesOfAnySizeArriveWholeWithSlackBehindThem) {
  Seen seen;
  TestServer server(Keep(seen));
  Client client(server->port());
  for (const size_t size :
       {0u, 1u, 15u, 16u, 100u, 16'000u, 16'384u, 70'000u, 1u << 20, 5'000'000u}) {
    const std::string body = Pattern(size);
    EXPECT_EQ(client.Ask(Post("/", body)).status, 200);
    EXPECT_TRUE(seen.body == body) << size;
    EXPECT_GE(seen.slack, 64u) << size;
    client.Send("POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n");
    EXPECT_EQ(client.Ask(Chunked(body, 10'000)).status, 200);
    EXPECT_TRUE(seen.body == body) << size;
    EXPECT_GE(seen.slack, 64u) << size;
  }
}

TEST(Server, ChunkExtensionsAndTrailersAreReadOver) {
  Seen seen;
  TestServer server(Keep(seen));
  Client client(server->port());
  client.Send("POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: Chunked\r\n\r\n");
  EXPECT_EQ(client.Ask("3;a=b\r\nabc\r\n0002\r\nde\r\n0;x\r\nx-sum: 1\r\n\r\n").status, 200);
  EXPECT_EQ(seen.body, "abcde");
  EXPECT_EQ(client.Ask(Post("/", "next")).status, 200);
  EXPECT_EQ(seen.body, "next");
}

TEST(Server, MemoryOfLargeBodiesIsGivenBack) {
  size_t capacity = 0;
  TestServer server([&](Exchange& exchange) {
    capacity = exchange.body().capacity();
    exchange.Respond(200, {}, "ok");
  });
  Client client(server->port());
  for (const size_t size : {3'000'000u, 500'000u}) {
    EXPECT_EQ(client.Ask(Post("/", Pattern(size))).status, 200);
    EXPECT_GE(capacity, size);
    EXPECT_EQ(client.Ask(Post("/", "small")).status, 200);
    EXPECT_LE(capacity, 16u * 1024);
  }
}

TEST(Server, BodyMayBeTakenByTheHandler) {
  std::string taken;
  TestServer server([&](Exchange& exchange) {
    taken = std::move(exchange.body());
    exchange.Respond(200, {}, "ok");
  });
  Client client(server->port());
  for (const size_t size : {5u, 100'000u, 7u}) {
    EXPECT_EQ(client.Ask(Post("/", Pattern(size))).status, 200);
    EXPECT_TRUE(taken == Pattern(size));
  }
}

TEST(Server, ContinuesWhoExpectsIt) {
  Seen seen;
  TestServer server(Keep(seen));
  Client client(server->port());
  const std::string request = Post("/", "hello", "Expect: 100-continue\r\n");
  for (int i = 0; i < 2; ++i) {
    client.Send(request.substr(0, request.size() - 5));
    EXPECT_EQ(client.ReadUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    EXPECT_EQ(client.Ask("hello").status, 200);
    EXPECT_EQ(seen.body, "hello");
  }
  EXPECT_EQ(client.Ask(request).status, 200) << "the body is there: nothing to continue";
  const Response old = client.Ask(
      "POST / HTTP/1.0\r\ncontent-length: 1\r\nexpect: 100-continue\r\nconnection: "
      "keep-alive\r\n\r\nx");
  EXPECT_EQ(old.status, 200);
}

TEST(Server, LongHeadsAreRead) {
  ServerOptions options;
  options.max_header_bytes = 60'000;
  Seen seen;
  std::string last;
  TestServer server(
      [&](Exchange& exchange) {
        last = exchange.head().headers.Find("last");
        Keep(seen)(exchange);
      },
      options);
  Client client(server->port());
  for (const size_t size : {14'000u, 16'200u, 20'000u, 50'000u, 10u}) {
    const std::string headers =
        "long: " + std::string(size, 'y') + "\r\nlast: " + Pattern(9) + "\r\n";
    const std::string request = Post("/", Pattern(30'000), headers);
    client.Send(request.substr(0, headers.size() / 2));
    server.OnLoop([] {});
    EXPECT_EQ(client.Ask(request.substr(headers.size() / 2)).status, 200);
    EXPECT_EQ(last, Pattern(9));
    EXPECT_TRUE(seen.body == Pattern(30'000));
  }
}

// --- refusals

struct Refusal {
  const char* name;
  std::string request;
  int status;
};

std::vector<Refusal> Refusals() {
  const std::string post = "POST / HTTP/1.1\r\nhost: t\r\n";
  const std::string chunked = post + "transfer-encoding: chunked\r\n\r\n";
  return {
      {"no http", "this is no http\r\n\r\n", 400},
      {"bare line feed", "GET / HTTP/1.1\nhost: t\n\n", 400},
      {"no host", "GET / HTTP/1.1\r\n\r\n", 400},
      {"two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400},
      {"folded", Get("/", "x: 1\r\n 2\r\n"), 400},
      {"blank before colon", Get("/", "x : 1\r\n"), 400},
      {"two lengths", post + "content-length: 1\r\ncontent-length: 1\r\n\r\nx", 400},
      {"odd length", post + "content-length: +1\r\n\r\nx", 400},
      {"length and coding", post + "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400},
      {"bad chunk", chunked + "zz\r\n", 400},
      {"long chunk", chunked + "3\r\nabcdef\r\n0\r\n\r\n", 400},
      {"unknown coding", post + "transfer-encoding: gzip\r\n\r\n", 501},
      {"version", "GET / HTTP/2.0\r\nhost: t\r\n\r\n", 505},
      {"target", Get("/" + std::string(5000, 'a')), 414},
      {"header", Get("/", "x: " + std::string(5000, 'a') + "\r\n"), 431},
      {"headers", Get("/", "a:1\r\nb:2\r\nc:3\r\nd:4\r\ne:5\r\nf:6\r\n"), 431},
      {"length above the limit", post + "content-length: 1001\r\n\r\n", 413},
      {"expected above the limit",
       post + "expect: 100-continue\r\ncontent-length: 99999999999\r\n\r\n", 413},
      {"chunks above the limit", chunked + Chunked(std::string(1001, 'x'), 100), 413},
  };
}

ServerOptions Strict() {
  ServerOptions options;
  options.max_header_bytes = 4096;
  options.max_headers = 6;
  options.max_body_bytes = 1000;
  return options;
}

TEST(Server, BadInputIsAnsweredAndTheConnectionEnds) {
  TestServer server(Echo, Strict());
  uint64_t bad = 0, large = 0;
  for (const Refusal& refusal : Refusals()) {
    SCOPED_TRACE(refusal.name);
    Client client(server->port());
    EXPECT_TRUE(client.Send(Get("/before") + refusal.request));
    EXPECT_EQ(client.ReadResponse().body, "GET /before ");
    const Response response = client.ReadResponse();
    EXPECT_EQ(response.status, refusal.status);
    EXPECT_EQ(response.headers.at("content-type"), "application/json");
    EXPECT_EQ(response.headers.at("connection"), "close");
    EXPECT_TRUE(response.body.starts_with(R"({"error":{"code":")"));
    EXPECT_TRUE(response.complete);
    EXPECT_TRUE(client.AtEnd());
    (refusal.status == 413 ? large : bad) += 1;
    EXPECT_EQ(server->Stats().too_large, large);
    EXPECT_EQ(server->Stats().bad_requests, bad);
  }
}

TEST(Server, ErrorsAreRenderedAsTheOwnerSays) {
  ServerOptions options = Strict();
  options.render_error = [](int status, std::string_view code, std::string_view message) {
    return std::to_string(status) + "|" + std::string(code) + "|" + std::string(message);
  };
  TestServer server(Echo, options);
  Client client(server->port());
  EXPECT_EQ(client.Ask("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 5000\r\n\r\n").body,
            "413|body_too_large|The body is larger than the limit of 1000 bytes.");
}

TEST(Server, ClientThatStillSendsCanReadTheError) {
  TestServer server(Echo, Strict());
  for (const bool is_chunked : {false, true}) {
    Client client(server->port());
    const std::string body(3'000'000, 'x');
    EXPECT_TRUE(client.Send(
        is_chunked ? "POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n" +
                         Chunked(body, 50'000)
                   : Post("/", body)));
    EXPECT_EQ(client.ReadResponse().status, 413);
    EXPECT_TRUE(client.AtEnd());
  }
}

TEST(Server, EndlessSenderIsCutOff) {
  TestServer server(Echo, Strict());
  Client client(server->port());
  client.Send("GET / HTTP/1.1\r\n");
  const std::string line = "x: " + std::string(100'000, 'y') + "\r\n";
  size_t sent = 0;
  while (sent < (size_t{1} << 30) && client.Send(line)) sent += line.size();
  EXPECT_LT(sent, size_t{1} << 30);
  EXPECT_EQ(server->Stats().bad_requests, 1u);
}

// --- time

TEST(Server, SlowHeadIs408) {
  ServerOptions options;
  options.header_timeout = milliseconds(20);
  TestServer server(Echo, options);
  Client client(server->port());
  EXPECT_EQ(client.Ask(Get("/")).status, 200);
  EXPECT_EQ(client.Ask("GET / HT").status, 408);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_EQ(server->Stats().timeouts, 1u);
}

TEST(Server, TricklingHeadIs408) {
  ServerOptions options;
  options.header_timeout = milliseconds(20);
  options.max_header_bytes = 64 << 20;
  TestServer server(Echo, options);
  Client client(server->port());
  client.Send("GET / HTTP/1.1\r\nhost: t\r\nx: ");
  while (server->Stats().timeouts == 0) {
    client.Send("y");
    server.OnLoop([] {});
  }
  EXPECT_EQ(client.ReadResponse().status, 408);
}

TEST(Server, SlowBodyIs408) {
  ServerOptions options;
  options.body_timeout = milliseconds(20);
  TestServer server(Echo, options);
  for (const char* head :
       {"content-length: 100\r\n\r\nabc", "transfer-encoding: chunked\r\n\r\n5\r\na"}) {
    Client client(server->port());
    EXPECT_EQ(client.Ask("POST / HTTP/1.1\r\nhost: t\r\n" + std::string(head)).status, 408);
    EXPECT_TRUE(client.AtEnd());
  }
  EXPECT_EQ(server->Stats().timeouts, 2u);
}

TEST(Server, BodyThatDripsInIs408) {
  ServerOptions options;
  options.body_timeout = milliseconds(50);
  TestServer server(Echo, options);
  for (const char* head :
       {"content-length: 1000000\r\n\r\n", "transfer-encoding: chunked\r\n\r\n"}) {
    const bool is_chunked = std::string_view(head).starts_with("transfer");
    const uint64_t timeouts = server->Stats().timeouts;
    Client client(server->port());
    client.Send("POST / HTTP/1.1\r\nhost: t\r\n" + std::string(head));
    while (server->Stats().timeouts == timeouts) {
      client.Send(is_chunked ? "1\r\ny\r\n" : "y");
      std::this_thread::sleep_for(milliseconds(1));  // one byte in it, where 16 are due
    }
    EXPECT_EQ(client.ReadResponse().status, 408);
  }
}

TEST(Server, IdleConnectionsAreClosedWithoutAWord) {
  ServerOptions options;
  options.idle_timeout = milliseconds(20);
  TestServer server(Echo, options);
  Client silent(server->port());
  EXPECT_TRUE(silent.AtEnd());
  Client client(server->port());
  EXPECT_EQ(client.Ask(Get("/")).status, 200);
  EXPECT_TRUE(client.AtEnd());
  EXPECT_EQ(server->Stats().timeouts, 0u);
}

TEST(Server, IdleTimeDoesNotRunWhileAResponseIsUnsent) {
  ServerOptions options;
  options.idle_timeout = milliseconds(5);
  Events events;
  std::unique_ptr<net::Timer> timer;
  const std::string large = Pattern(16 << 20);
  TestServer server(
      [&](Exchange& exchange) {
        timer = std::make_unique<net::Timer>(exchange.loop(), [&] { events.Add("later"); });
        timer->Start(milliseconds(30));
        exchange.Respond(200, {}, large);
      },
      options);
  Client client(server->port(), 4096);
  client.Send(Get("/"));
  ASSERT_TRUE(events.Await("later"));
  EXPECT_TRUE(client.ReadResponse().body == large);
  EXPECT_TRUE(client.AtEnd());
  server.OnLoop([&] { timer.reset(); });
}

// --- many

// Requests of all kinds and sizes, sent in pieces of any size, answered at once or later.
TEST(Server, AnyMixOfRequestsIsAnsweredInOrder) {
  std::mt19937 random(20);
  const auto upto = [&random](size_t limit) { return size_t{random()} % (limit + 1); };
  TestServer server([](Exchange& exchange) {
    if (exchange.head().headers.Has("at-once")) return Echo(exchange);
    exchange.SetListener(std::make_unique<ExchangeListener>());
    exchange.loop().Post([&exchange] { Echo(exchange); });
  });
  Client client(server->port());
  std::string requests;
  std::vector<std::string> answers;
  for (int i = 0; i < 400; ++i) {
    const std::string target = "/" + std::to_string(i);
    const std::string body = Pattern(upto(3) == 0 ? upto(60'000) : upto(600));
    std::string headers = upto(1) == 0 ? "at-once: yes\r\n" : "";
    if (upto(4) == 0) headers += "long: " + std::string(upto(20'000), 'h') + "\r\n";
    if (upto(1) == 0) {
      requests += Post(target, body, headers);
    } else {
      requests += "POST " + target + " HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n" +
                  headers + "\r\n" + Chunked(body, 1 + upto(9'000));
    }
    answers.push_back("POST " + target + " " + body);
  }
  std::thread sender([&] {
    for (size_t at = 0; at < requests.size();) {
      const size_t piece = upto(9) == 0 ? 1 + upto(100'000) : 1 + upto(3'000);
      client.Send(std::string_view(requests).substr(at, piece));
      at += piece;
    }
  });
  for (const std::string& answer : answers) {
    const Response response = client.ReadResponse();
    EXPECT_TRUE(response.body == answer);
    if (response.status != 200) break;
  }
  sender.join();
}

TEST(Server, ConnectionsBeyondTheLimitAreRefused) {
  ServerOptions options;
  options.max_connections = 1;
  TestServer server(Echo, options);
  Client first(server->port());
  EXPECT_EQ(first.Ask(Get("/")).status, 200);
  Client second(server->port());
  const Response response = second.ReadResponse();
  EXPECT_EQ(response.status, 503);
  EXPECT_EQ(response.headers.at("retry-after"), "1");
  EXPECT_TRUE(second.AtEnd());
  EXPECT_EQ(first.Ask(Get("/")).status, 200);
  EXPECT_EQ(server->Stats().refused_connections, 1u);
}

TEST(Server, EveryLoopServesConnections) {
  TestServer server(Echo, {}, 3);
  std::vector<Client> clients;
  for (int i = 0; i < 60; ++i) clients.emplace_back(server->port());
  for (int round = 0; round < 3; ++round) {
    for (Client& client : clients) client.Send(Get("/x"));
    for (Client& client : clients) EXPECT_EQ(client.ReadResponse().body, "GET /x ");
  }
  EXPECT_EQ(server->Stats().connections_open, 60u);
}

TEST(Server, AddressInUseIsNamed) {
  TestServer server(Echo);
  net::LoopPool loops(1);
  const auto second = Server::Create(loops, "127.0.0.256", 0, {}, [](net::Loop&) {
    return std::make_unique<FunctionHandler>(Echo);
  });
  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().message.find("127.0.0.256"), std::string::npos);
}

}  // namespace
}  // namespace penstock::http
