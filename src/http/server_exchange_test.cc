// What handlers do with an exchange, and how exchanges end.
#include <array>
#include <future>
#include <thread>

#include "http/server.h"
#include "http/testing.h"

namespace penstock::http {
namespace {

using namespace testing;  // NOLINT: the tests' own helpers

constexpr std::array<Header, 1> kStream = {{{"content-type", "text/event-stream"}}};

// Keeps the exchange of "/held" for the test's thread, which uses it inside OnLoop; everything else
// is answered at once.
class Held {
 public:
  explicit Held(ServerOptions options = {})
      : server_([this](Exchange& exchange) { Handle(exchange); }, std::move(options)) {}

  void Handle(Exchange& exchange) {
    if (exchange.head().path != "/held") return exchange.Respond(200, {}, "other");
    exchange.SetListener(std::make_unique<Probe>(events_));
    exchange_ = &exchange;
    events_.Add("held");
  }

  // The exchange of the `times`th request.
  Exchange* Await(long times = 1) {
    EXPECT_TRUE(events_.Await("held", times));
    return exchange_;
  }
  TestServer& server() { return server_; }
  Events& events() { return events_; }

 private:
  Events events_;
  Exchange* exchange_ = nullptr;
  TestServer server_;
};

// --- responses in pieces

TEST(Exchange, PiecesAreChunks) {
  Held held;
  Client client(held.server()->port());
  client.Send(Get("/held"));
  Exchange* exchange = held.Await();
  held.server().OnLoop([&] {
    exchange->Start(200, kStream, std::nullopt);
    exchange->Write("first ");
    exchange->Write("");
    exchange->Write("second");
    EXPECT_GT(exchange->unsent_bytes(), 11u) << "not gathered";
  });
  const Response head = client.ReadHead();
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.headers.at("transfer-encoding"), "chunked");
  EXPECT_EQ(client.ReadChunk(), "first ");
  EXPECT_EQ(client.ReadChunk(), "second");
  held.server().OnLoop([&] {
    EXPECT_EQ(exchange->unsent_bytes(), 0u);
    exchange->Write("third");
    exchange->Finish();
  });
  EXPECT_EQ(client.ReadChunk(), "third");
  EXPECT_EQ(client.ReadChunk(), "");
  EXPECT_EQ(client.Ask(Get("/")).body, "other");
  EXPECT_EQ(held.events().all(), (std::vector<std::string>{"held", "destroyed"}));
}

TEST(Exchange, AnnouncedLengthIsKept) {
  Held held;
  long count = 0;
  for (const std::string_view text : {"12345", "1234567"}) {
    Client client(held.server()->port());
    client.Send(Get("/held"));
    Exchange* exchange = held.Await(++count);
    held.server().OnLoop([&] {
      exchange->Start(201, kStream, 5);
      exchange->Write(text.substr(0, 2));
      exchange->Write(text.substr(2));
      exchange->Finish();
    });
    EXPECT_EQ(client.ReadResponse().body, "12345");
    EXPECT_EQ(client.Ask(Get("/")).body, "other");
  }
  Client client(held.server()->port());
  client.Send(Get("/held"));
  Exchange* exchange = held.Await(3);
  held.server().OnLoop([&] {
    exchange->Start(200, kStream, 5);
    exchange->Write("1234");
    exchange->Finish();
  });
  const Response response = client.ReadResponse();
  EXPECT_EQ(response.body, "1234");
  EXPECT_FALSE(response.complete);
}

TEST(Exchange, StatusesWithoutABodyHaveNone) {
  TestServer server([](Exchange& exchange) {
    const int status = exchange.head().path == "/204" ? 204 : 304;
    if (exchange.head().headers.Has("whole")) return exchange.Respond(status, {}, "text");
    exchange.Start(status, {}, std::nullopt);
    exchange.Write("text");
    exchange.Finish();
  });
  Client client(server->port());
  for (const char* path : {"/204", "/304"}) {
    for (const char* header : {"", "whole: yes\r\n"}) {
      const Response response = client.Ask(Get(path, header));
      EXPECT_EQ(std::to_string(response.status), path + 1);
      EXPECT_FALSE(response.headers.contains("content-length"));
      EXPECT_FALSE(response.headers.contains("transfer-encoding"));
    }
  }
}

TEST(Exchange, HeadersThatCannotBeSentAreLeftOut) {
  TestServer server([](Exchange& exchange) {
    const std::array<Header, 8> headers = {{{"good", "value\twith tab"},
                                            {"split", "a\r\nset-cookie: evil"},
                                            {"feed", "a\nb"},
                                            {"nul", std::string_view("a\0b", 3)},
                                            {"na me", "x"},
                                            {"", "x"},
                                            {"content-length", "77"},
                                            {"Connection", "upgrade"}}};
    exchange.Respond(200, headers, "ok");
  });
  Client client(server->port());
  const Response response = client.Ask(Get("/"));
  EXPECT_EQ(response.headers.size(), 3u);
  EXPECT_EQ(response.headers.at("good"), "value\twith tab");
  EXPECT_EQ(response.headers.at("content-length"), "2");
  EXPECT_TRUE(response.headers.contains("date"));
  EXPECT_EQ(server->Stats().dropped_headers, 5u);
}

TEST(Exchange, LargeResponsesArriveWhole) {
  const std::string large = Pattern(3'000'000);
  TestServer server([&](Exchange& exchange) {
    if (exchange.head().path == "/whole") return exchange.Respond(200, {}, large);
    exchange.SetListener(std::make_unique<ExchangeListener>());
    exchange.Start(200, {}, std::nullopt);
    const std::array<size_t, 5> sizes = {1, 20'000, 300, 100'000, 16'384};
    for (size_t at = 0, i = 0; at < large.size(); at += sizes[i++ % sizes.size()])
      exchange.Write(std::string_view(large).substr(at, sizes[i % sizes.size()]));
    exchange.Finish();
  });
  for (const int receive_buffer : {0, 4096}) {
    Client client(server->port(), receive_buffer);
    for (const char* path : {"/whole", "/pieces", "/whole"})
      EXPECT_TRUE(client.Ask(Get(path)).body == large) << path;
  }
}

TEST(Exchange, HandlerThatForgetsTheAnswerIs500) {
  TestServer server([](Exchange&) {});
  Client client(server->port());
  const Response response = client.Ask(Get("/"));
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_TRUE(client.AtEnd());
}

TEST(Exchange, FinishWithoutStartIs500) {
  TestServer server([](Exchange& exchange) { exchange.Finish(); });
  Client client(server->port());
  EXPECT_EQ(client.Ask(Get("/")).status, 500);
}

TEST(Exchange, WhatComesAfterItsEndIsIgnored) {
  Events events;
  TestServer server([&](Exchange& exchange) {
    exchange.Start(200, {}, std::nullopt);
    exchange.Finish();
    exchange.SetListener(std::make_unique<Probe>(events));
    exchange.Write("late");
    exchange.Respond(500, {}, "late");
    exchange.Start(500, {}, 4);
    exchange.Finish();
    exchange.Abort();
  });
  Client client(server->port());
  for (int i = 0; i < 2; ++i) {
    const Response response = client.Ask(Get("/"));
    EXPECT_EQ(response.status, 200);
    EXPECT_TRUE(response.complete);
    EXPECT_EQ(response.body, "");
  }
  EXPECT_EQ(events.all(), (std::vector<std::string>{"destroyed", "destroyed"}));
}

TEST(Exchange, ListenerIsDestroyedInsideTheCallThatEndsIt) {
  Events events;
  TestServer server([&](Exchange& exchange) {
    exchange.SetListener(std::make_unique<Probe>(events));
    exchange.Respond(200, {}, "ok");
    EXPECT_EQ(events.Count("destroyed"), 1);
  });
  Client client(server->port());
  EXPECT_EQ(client.Ask(Get("/")).body, "ok");
  EXPECT_EQ(events.Count("gone"), 0);
}

TEST(Exchange, ManyFromOneConnectionReuseIt) {
  Held held;
  Client client(held.server()->port());
  const std::string body = Pattern(3'000);
  for (long i = 1; i <= 50; ++i) {
    client.Send(Post("/held", body));
    Exchange* exchange = held.Await(i);
    held.server().OnLoop([&] {
      EXPECT_TRUE(exchange->body() == body);
      EXPECT_EQ(exchange->head().headers.Find("content-length"), "3000");
      exchange->Respond(200, {}, "ok");
    });
    EXPECT_EQ(client.ReadResponse().body, "ok");
  }
}

// --- back-pressure

ServerOptions LowWatermarks() {
  ServerOptions options;
  options.high_watermark = 64 * 1024;
  options.low_watermark = 16 * 1024;
  return options;
}

// Writes `total` bytes as fast as the client takes them.
class Pump : public ExchangeListener {
 public:
  Pump(Exchange& exchange, Events& events, size_t total, size_t piece)
      : exchange_(exchange), events_(events), text_(Pattern(total)), piece_(piece) {}
  ~Pump() override { events_.Add("destroyed"); }
  void OnClientGone() override { events_.Add("gone"); }
  void OnDrained() override {
    EXPECT_LE(exchange_.unsent_bytes(), LowWatermarks().low_watermark);
    events_.Add("drained");
    Run();
  }
  void Run() {
    while (at_ < text_.size() && !exchange_.above_high_watermark()) {
      exchange_.Write(std::string_view(text_).substr(at_, piece_));
      at_ += piece_;
      EXPECT_LE(exchange_.unsent_bytes(), LowWatermarks().high_watermark + piece_ + 16);
    }
    if (at_ < text_.size()) events_.Add("full");
    if (at_ >= text_.size()) exchange_.Finish();
  }

 private:
  Exchange& exchange_;
  Events& events_;
  const std::string text_;
  const size_t piece_;
  size_t at_ = 0;
};

HandleFunction PumpTo(Events& events, size_t total, size_t piece) {
  return [&events, total, piece](Exchange& exchange) {
    auto pump = std::make_unique<Pump>(exchange, events, total, piece);
    Pump& running = *pump;
    exchange.SetListener(std::move(pump));
    exchange.Start(200, {}, std::nullopt);
    running.Run();
  };
}

TEST(Exchange, WriterWaitsForTheReader) {
  constexpr size_t kTotal = 16 << 20;
  for (const size_t piece : {1'000u, 50'000u}) {
    Events events;
    TestServer server(PumpTo(events, kTotal, piece), LowWatermarks());
    Client client(server->port(), 4096);
    client.Send(Get("/"));
    ASSERT_TRUE(events.Await("full"));
    EXPECT_EQ(events.Count("destroyed"), 0);
    EXPECT_TRUE(client.ReadResponse().body == Pattern(kTotal));
    ASSERT_TRUE(events.Await("destroyed"));
    EXPECT_GT(events.Count("drained"), 0);
    EXPECT_EQ(events.Count("gone"), 0);
  }
}

TEST(Exchange, ReaderThatStandsStillIsCut) {
  ServerOptions options = LowWatermarks();
  options.write_timeout = milliseconds(20);
  Events events;
  TestServer server(PumpTo(events, 64 << 20, 50'000), options);
  Client client(server->port(), 4096);
  client.Send(Get("/"));
  ASSERT_TRUE(events.Await("destroyed"));
  server.OnLoop([] {});
  EXPECT_EQ(events.Count("gone"), 1);
  EXPECT_EQ(server->Stats().timeouts, 1u);
  EXPECT_EQ(server->Stats().clients_gone, 1u);
  EXPECT_EQ(server->Stats().connections_open, 0u);
  EXPECT_FALSE(client.ReadResponse().complete);
}

TEST(Exchange, FinishedResponseToAReaderThatStandsStillIsCutToo) {
  ServerOptions options;
  options.write_timeout = milliseconds(20);
  const std::string large(64 << 20, 'x');
  TestServer server([&](Exchange& exchange) { exchange.Respond(200, {}, large); }, options);
  Client client(server->port(), 4096);
  client.Send(Get("/"));
  while (server->Stats().timeouts == 0) std::this_thread::yield();
  server.OnLoop([] {});
  EXPECT_FALSE(client.ReadResponse().complete);
  EXPECT_EQ(server->Stats().connections_open, 0u);
}

// --- clients that leave

TEST(Exchange, ClientThatClosesIsNoticedAtOnce) {
  Held held;
  for (long i = 1; i <= 4; ++i) {
    Client client(held.server()->port());
    // With and without a body that is read in more than one go, and with a started response.
    client.Send(i % 2 == 0 ? Get("/held") : Post("/held", Pattern(50'000)));
    Exchange* exchange = held.Await(i);
    if (i > 2) held.server().OnLoop([&] { exchange->Start(200, kStream, std::nullopt); });
    client.Close();
    ASSERT_TRUE(held.events().Await("gone", i));
    ASSERT_TRUE(held.events().Await("destroyed", i));
  }
  EXPECT_EQ(held.server()->Stats().clients_gone, 4u);
}

TEST(Exchange, ClientThatResetsIsNoticedAtOnce) {
  Held held;
  Client client(held.server()->port());
  client.Send(Get("/held"));
  held.Await();
  client.Reset();
  ASSERT_TRUE(held.events().Await("gone"));
  ASSERT_TRUE(held.events().Await("destroyed"));
}

TEST(Exchange, ExchangeIsReadableWhileTheClientGoes) {
  std::string seen;
  Events events;
  struct Reader : ExchangeListener {
    Reader(Exchange& e, std::string& s, Events& v) : exchange(e), seen(s), events(v) {}
    ~Reader() override { events.Add("destroyed"); }
    void OnClientGone() override {
      seen = std::string(exchange.head().path) + exchange.body();
      exchange.Write("nobody reads this");
      exchange.Finish();
    }
    Exchange& exchange;
    std::string& seen;
    Events& events;
  };
  TestServer server([&](Exchange& exchange) {
    exchange.SetListener(std::make_unique<Reader>(exchange, seen, events));
    exchange.Start(200, kStream, std::nullopt);
  });
  Client client(server->port());
  client.Send(Post("/path", "body"));
  client.ReadHead();
  client.Close();
  ASSERT_TRUE(events.Await("destroyed"));
  EXPECT_EQ(seen, "/pathbody");
}

TEST(Exchange, ClientThatPipelinesMoreIsStillNoticed) {
  Held held;
  Client client(held.server()->port());
  client.Send(Get("/held"));
  held.Await();
  client.Send(Get("/next"));
  held.server().OnLoop([] {});
  client.Close();
  ASSERT_TRUE(held.events().Await("gone"));
}

TEST(Exchange, ClientThatEndsItsSideReadsWhatIsAnsweredAtOnce) {
  TestServer server([](Exchange& exchange) { exchange.Respond(200, {}, Pattern(1'000'000)); });
  Client client(server->port(), 4096);
  client.Send(Get("/a") + Get("/b"));
  client.FinishSending();
  EXPECT_TRUE(client.ReadResponse().body == Pattern(1'000'000));
  EXPECT_TRUE(client.ReadResponse().body == Pattern(1'000'000));
  EXPECT_TRUE(client.AtEnd());
}

TEST(Exchange, ClientThatEndsItsSideWhileItWaitsIsGone) {
  Held held;
  Client client(held.server()->port());
  client.Send(Get("/other") + Get("/held") + Get("/other"));
  client.FinishSending();
  ASSERT_TRUE(held.events().Await("gone"));
  EXPECT_EQ(client.ReadResponse().body, "other");
  EXPECT_TRUE(client.AtEnd());
}

TEST(Exchange, ClientThatEndsInsideARequestIsForgotten) {
  Held held;
  for (const std::string& request : {std::string("GET / HT"), Post("/", "hello").substr(0, 52)}) {
    Client client(held.server()->port());
    client.Send(request);
    client.FinishSending();
    EXPECT_TRUE(client.AtEnd());
  }
  EXPECT_EQ(held.server()->Stats().clients_gone, 2u);
  EXPECT_EQ(held.server()->Stats().requests, 0u);
}

// --- broken off

TEST(Exchange, AbortIsNoticed) {
  Held held;
  long count = 0;
  const auto begin = [&](Client& client, std::string_view request) {
    client.Send(request);
    return held.Await(++count);
  };
  {
    Client client(held.server()->port());
    Exchange* exchange = begin(client, Get("/held"));
    held.server().OnLoop([&] {
      exchange->Start(200, kStream, std::nullopt);
      exchange->Write("last words");
      exchange->Abort();
      EXPECT_EQ(held.events().Count("destroyed"), 1);
    });
    client.ReadHead();
    EXPECT_EQ(client.ReadChunk(), "last words");
    EXPECT_FALSE(client.ReadChunk().has_value());
    EXPECT_TRUE(client.AtEnd());
  }
  {
    Client client(held.server()->port());
    Exchange* exchange = begin(client, "GET /held HTTP/1.0\r\n\r\n");
    held.server().OnLoop([&] {
      exchange->Start(200, kStream, std::nullopt);
      exchange->Write("last words");
    });
    client.ReadHead();
    EXPECT_EQ(client.Read(10), "last words");
    held.server().OnLoop([&] { exchange->Abort(); });
    EXPECT_FALSE(client.ReadMore());
    EXPECT_EQ(client.last_error(), ECONNRESET) << "an end here would look like a whole response";
  }
  {
    Client client(held.server()->port());
    Exchange* exchange = begin(client, Get("/held"));
    held.server().OnLoop([&] { exchange->Abort(); });
    EXPECT_TRUE(client.AtEnd());
  }
  EXPECT_EQ(held.events().Count("gone"), 0);
}

TEST(Exchange, AbortInsideHandle) {
  TestServer server([](Exchange& exchange) { exchange.Abort(); });
  Client client(server->port());
  client.Send(Get("/"));
  EXPECT_TRUE(client.AtEnd());
}

// --- draining

TEST(Drain, ClosesIdleConnectionsAndTakesNoNewOnes) {
  Held held;
  Client idle(held.server()->port()), used(held.server()->port());
  EXPECT_EQ(used.Ask(Get("/")).body, "other");
  Events events;
  held.server()->Drain(seconds(60), [&] { events.Add("done"); });
  EXPECT_TRUE(idle.AtEnd());
  EXPECT_TRUE(used.AtEnd());
  ASSERT_TRUE(events.Await("done"));
  EXPECT_FALSE(Client(held.server()->port()).is_connected());
  EXPECT_EQ(held.server()->Stats().connections_open, 0u);
}

TEST(Drain, AnswersWhatHasArrived) {
  Held held;
  Client fresh(held.server()->port()), used(held.server()->port());
  EXPECT_EQ(used.Ask(Get("/")).body, "other");
  Events events;
  std::promise<void> release;
  held.server().loop().Post([&] {
    events.Add("blocked");
    release.get_future().wait();
  });
  ASSERT_TRUE(events.Await("blocked"));
  fresh.Send(Get("/"));
  used.Send(Get("/"));
  fresh.AwaitDelivery();
  used.AwaitDelivery();
  held.server()->Drain(seconds(60), [&] { events.Add("done"); });
  release.set_value();
  for (Client* client : {&fresh, &used}) {
    const Response response = client->ReadResponse();
    EXPECT_EQ(response.body, "other");
    EXPECT_EQ(response.headers.at("connection"), "close");
    EXPECT_TRUE(client->AtEnd());
    client->Close();
  }
  ASSERT_TRUE(events.Await("done"));
}

TEST(Drain, RequestThatHasBegunIsServed) {
  Held held;
  Client client(held.server()->port());
  client.Send("GET / HTTP/1.1\r\nho");
  client.AwaitDelivery();
  held.server().OnLoop([] {});
  Events events;
  held.server()->Drain(seconds(60), [&] { events.Add("done"); });
  held.server().OnLoop([] {});
  client.Send("st: t\r\n\r\n");
  const Response response = client.ReadResponse();
  EXPECT_EQ(response.body, "other");
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_TRUE(client.AtEnd());
  client.Close();
  ASSERT_TRUE(events.Await("done"));
}

TEST(Drain, RunningExchangesEndWell) {
  Held held;
  Client streaming(held.server()->port()), waiting(held.server()->port());
  streaming.Send(Get("/held"));
  Exchange* stream = held.Await();
  held.server().OnLoop([&] {
    stream->Start(200, kStream, std::nullopt);
    stream->Write("first");
  });
  streaming.ReadHead();
  waiting.Send(Get("/held"));
  Exchange* whole = held.Await(2);
  Events events;
  held.server()->Drain(seconds(60), [&] { events.Add("done"); });
  held.server().OnLoop([&] {
    stream->Write("last");
    stream->Finish();
    whole->Respond(200, {}, "whole");
  });
  EXPECT_EQ(streaming.ReadChunk(), "first");
  EXPECT_EQ(streaming.ReadChunk(), "last");
  EXPECT_EQ(streaming.ReadChunk(), "");
  EXPECT_TRUE(streaming.AtEnd());
  const Response response = waiting.ReadResponse();
  EXPECT_EQ(response.body, "whole");
  EXPECT_EQ(response.headers.at("connection"), "close");
  EXPECT_TRUE(waiting.AtEnd());
  ASSERT_TRUE(events.Await("done"));
  EXPECT_EQ(held.events().Count("gone"), 0);
}

TEST(Drain, CutsTheRestAtItsLimit) {
  Held held;
  Client client(held.server()->port());
  client.Send(Get("/held"));
  Exchange* exchange = held.Await();
  held.server().OnLoop([&] { exchange->Start(200, kStream, std::nullopt); });
  client.ReadHead();
  Events events;
  held.server()->Drain(milliseconds(20), [&] { events.Add("done"); });
  ASSERT_TRUE(events.Await("done"));
  EXPECT_EQ(held.events().Count("gone"), 1);
  EXPECT_EQ(held.events().Count("destroyed"), 1);
  EXPECT_EQ(held.server()->Stats().clients_gone, 0u) << "the client did not leave by itself";
  EXPECT_FALSE(client.ReadChunk().has_value());
}

TEST(Drain, ServerThatIsDestroyedCutsEverything) {
  Held held;
  Client running(held.server()->port()), idle(held.server()->port());
  EXPECT_EQ(idle.Ask(Get("/")).body, "other");
  running.Send(Get("/held"));
  held.Await();
  held.server().Close();
  EXPECT_EQ(held.events().Count("destroyed"), 1);
  EXPECT_TRUE(running.AtEnd());
  EXPECT_TRUE(idle.AtEnd());
}

}  // namespace
}  // namespace penstock::http
