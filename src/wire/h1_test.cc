#include "wire/h1.h"

#include <gtest/gtest.h>

#include <string>

namespace penstock::wire {
namespace {

// What became of a message: "" for a good head, else status and code.
struct Outcome {
  std::string verdict;
  size_t head_bytes = 0;
  H1Request request;
  H1Response response;
};

std::string Verdict(const H1Error& error) {
  EXPECT_FALSE(error.message.empty());
  return std::to_string(error.status) + " " + std::string(error.code);
}

// Scans and parses `text`, which arrives up to `cut` first. "more" when it is not complete.
Outcome Read(H1Kind kind, std::string_view text, size_t cut, H1Limits limits = {}) {
  H1HeadScanner scanner(kind, limits);
  Outcome outcome;
  auto state = scanner.Scan(text.substr(0, cut));
  if (state == H1HeadScanner::State::kMore) state = scanner.Scan(text);
  if (state == H1HeadScanner::State::kMore) {
    outcome.verdict = "more";
  } else if (state == H1HeadScanner::State::kError) {
    outcome.verdict = Verdict(scanner.error());
  } else {
    outcome.head_bytes = scanner.head_bytes();
    const std::string_view head = text.substr(0, outcome.head_bytes);
    const auto error = kind == H1Kind::kRequest ? ParseRequestHead(head, &outcome.request)
                                                : ParseResponseHead(head, &outcome.response);
    if (error) outcome.verdict = Verdict(*error);
  }
  return outcome;
}

// With every cut; the same each time.
std::string ReadCut(H1Kind kind, std::string_view text, H1Limits limits = {}) {
  const Outcome whole = Read(kind, text, text.size(), limits);
  for (size_t cut = 0; cut < text.size(); ++cut) {
    const Outcome parts = Read(kind, text, cut, limits);
    EXPECT_EQ(parts.verdict, whole.verdict) << "cut at " << cut << " of\n" << text;
    EXPECT_EQ(parts.head_bytes, whole.head_bytes);
  }
  H1HeadScanner scanner(kind, limits);
  H1HeadScanner::State state = H1HeadScanner::State::kMore;
  for (size_t size = 0; size <= text.size() && state == H1HeadScanner::State::kMore; ++size)
    state = scanner.Scan(text.substr(0, size));
  if (state == H1HeadScanner::State::kDone) {
    EXPECT_EQ(scanner.head_bytes(), whole.head_bytes);
  } else if (state == H1HeadScanner::State::kError) {
    EXPECT_EQ(Verdict(scanner.error()), whole.verdict);
  } else {
    EXPECT_EQ(whole.verdict, "more");
  }
  return whole.verdict;
}

struct Case {
  std::string_view text;
  std::string_view verdict;
};

TEST(RequestHead, HostileInputIsRefused) {
  using std::string_view_literals::operator""sv;
  const Case cases[] = {
      // What is good.
      {"GET / HTTP/1.1\r\nhost: a\r\n\r\n", ""},
      {"\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", ""},
      {"GET / HTTP/1.0\r\n\r\n", ""},
      {"GET / HTTP/1.1\r\nhost:\r\n\r\n", ""},
      {"GET http://a/b?c HTTP/1.1\r\nHOST: [::1]:80\r\n\r\n", ""},
      {"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", ""},
      {"M-SEARCH /\x7e HTTP/1.1\r\nhost: a\r\nx:\t y \t\r\nz:\xc3\xa9\r\n\r\n", ""},
      // The first line.
      {"\x16\x03\x01\x02", "400 bad_start_line"},
      {" GET / HTTP/1.1\r\nhost: a\r\n\r\n", "400 bad_start_line"},
      {"GET\r\nhost: a\r\n\r\n", "400 bad_start_line"},
      {"GET /\r\nhost: a\r\n\r\n", "400 bad_start_line"},
      {"GET  / HTTP/1.1\r\nhost: a\r\n\r\n", "400 bad_target"},
      {"GET / a HTTP/1.1\r\nhost: a\r\n\r\n", "400 bad_target"},
      {"GET /\t HTTP/1.1\r\nhost: a\r\n\r\n", "400 bad_target"},
      {"GET /\xc3\xa9 HTTP/1.1\r\nhost: a\r\n\r\n", "400 bad_target"},
      {"GET /#x HTTP/1.1\r\nhost: a\r\n\r\n", "400 bad_target"},
      {"GET * HTTP/1.1\r\nhost: a\r\n\r\n", "400 bad_target"},
      {"GET a/b HTTP/1.1\r\nhost: a\r\n\r\n", "400 bad_target"},
      {"GET ftp://a/b HTTP/1.1\r\nhost: a\r\n\r\n", "400 bad_target"},
      {"GET http:///b HTTP/1.1\r\nhost: a\r\n\r\n", "400 bad_target"},
      {"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", "501 unknown_method"},
      {"CONNECT / HTTP/1.1\r\nhost: a\r\n\r\n", "501 unknown_method"},
      {"G(T / HTTP/1.1\r\nhost: a\r\n\r\n", "400 bad_method"},
      {"GET / HTTP/1.1 \r\nhost: a\r\n\r\n", "400 bad_target"},
      {"GET / http/1.1\r\nhost: a\r\n\r\n", "400 bad_start_line"},
      {"GET / HTTP/1.10\r\nhost: a\r\n\r\n", "400 bad_start_line"},
      {"GET / HTTP/1.2\r\nhost: a\r\n\r\n", "505 unknown_version"},
      {"GET / HTTP/0.9\r\nhost: a\r\n\r\n", "505 unknown_version"},
      {"PRI * HTTP/2.0\r\n\r\n", "505 unknown_version"},
      // Lines.
      {"GET / HTTP/1.1\nhost: a\n\n", "400 bare_line_feed"},
      {"GET / HTTP/1.1\r\nhost: a\n\r\n", "400 bare_line_feed"},
      {"GET / HTTP/1.1\r\nhost: a\r\n\n", "400 bare_line_feed"},
      {"\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", "400 bare_line_feed"},
      {"GET / HTTP/1.1\r\nhost: a\rx: b\r\n\r\n", "400 bad_header_value"},
      {"GET / HTTP/1.1\r\nhost: a\r\nx: b\r\r\n\r\n", "400 bad_header_value"},
      {"GET / HTTP/1.1\r\n host: a\r\n\r\n", "400 folded_header"},
      {"GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n\tc\r\n\r\n", "400 folded_header"},
      // Names and values.
      {"GET / HTTP/1.1\r\nhost : a\r\n\r\n", "400 bad_header_name"},
      {"GET / HTTP/1.1\r\nhost\r\n\r\n", "400 bad_header_name"},
      {"GET / HTTP/1.1\r\n: a\r\n\r\n", "400 bad_header_name"},
      {"GET / HTTP/1.1\r\nhost: a\r\nx\x01: b\r\n\r\n", "400 bad_header_name"},
      {"GET / HTTP/1.1\r\nhost: a\r\n\xc3\xa9: b\r\n\r\n", "400 bad_header_name"},
      {"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n"sv, "400 bad_header_value"},
      {"GET / HTTP/1.1\r\nhost: a\r\nx: \x7f\r\n\r\n", "400 bad_header_value"},
      // Hosts.
      {"GET / HTTP/1.1\r\n\r\n", "400 no_host"},
      {"GET / HTTP/1.1\r\nhost: a\r\nHost: a\r\n\r\n", "400 repeated_host"},
      {"GET / HTTP/1.1\r\nhost: a b\r\n\r\n", "400 bad_host"},
      {"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", "400 bad_host"},
      {"GET / HTTP/1.1\r\nhost: a@b\r\n\r\n", "400 bad_host"},
      // Lengths.
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n", ""},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n\r\n", "400 bad_length"},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", "400 bad_length"},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\n", "400 bad_length"},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x1\r\n\r\n", "400 bad_length"},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1 1\r\n\r\n", "400 bad_length"},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1,1\r\n\r\n", "400 bad_length"},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1.0\r\n\r\n", "400 bad_length"},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551617\r\n\r\n",
       "400 bad_length"},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\nContent-Length: 1\r\n\r\n",
       "400 repeated_length"},
      // Codings.
      {"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n", ""},
      {"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n", "501 unknown_coding"},
      {"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
       "501 unknown_coding"},
      {"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked;q=1\r\n\r\n",
       "501 unknown_coding"},
      {"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0b"
       "chunked\r\n\r\n",
       "400 bad_header_value"},
      {"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n", "501 unknown_coding"},
      {"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"
       "transfer-encoding: chunked\r\n\r\n",
       "400 repeated_coding"},
      {"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n",
       "400 length_and_coding"},
      {"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
       "400 length_and_coding"},
      {"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", "400 coding_in_http_1_0"},
      // Not complete.
      {"", "more"},
      {"\r\n", "more"},
      {"GET / HTTP/1.1\r\nhost: a\r\n\r", "more"},
  };
  for (const Case& c : cases) EXPECT_EQ(ReadCut(H1Kind::kRequest, c.text), c.verdict) << c.text;
}

TEST(ResponseHead, HostileInputIsRefused) {
  const Case cases[] = {
      {"HTTP/1.1 200 OK\r\n\r\n", ""},
      {"HTTP/1.1 200\r\n\r\n", ""},
      {"HTTP/1.1 200 \r\n\r\n", ""},
      {"HTTP/1.0 599 What is this\r\ncontent-length: 5\r\n\r\n", ""},
      {"HTTP/1.1 200 OK\r\nhost: a\r\nhost: b\r\n\r\n", ""},
      {"garbage\r\n\r\n", "400 bad_start_line"},
      {"HTTP/1.1\r\n\r\n", "400 bad_start_line"},
      {"HTTP/1.1 20\r\n\r\n", "400 bad_start_line"},
      {"HTTP/1.1 099 No\r\n\r\n", "400 bad_start_line"},
      {"HTTP/1.1 2000 OK\r\n\r\n", "400 bad_start_line"},
      {"HTTP/1.1  200 OK\r\n\r\n", "400 bad_start_line"},
      {"HTTP/1.1 200 O\x01K\r\n\r\n", "400 bad_start_line"},
      {"HTTP/2.0 200 OK\r\n\r\n", "505 unknown_version"},
      {"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "400 repeated_length"},
      {"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
       "400 length_and_coding"},
      {"HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n", "400 folded_header"},
      {"HTTP/1.1 200 OK\n\n", "400 bare_line_feed"},
  };
  for (const Case& c : cases) EXPECT_EQ(ReadCut(H1Kind::kResponse, c.text), c.verdict) << c.text;
}

TEST(RequestHead, PartsAreFound) {
  const std::string_view text =
      "POST http://a.b:1/p/q?r=/s HTTP/1.1\r\nHost: a.b:1\r\nX-One:  1 2\t\r\nempty:\r\n"
      "Expect: 100-Continue\r\ncontent-length: 007\r\n\r\nbody";
  const Outcome outcome = Read(H1Kind::kRequest, text, text.size());
  ASSERT_EQ(outcome.verdict, "");
  const H1Request& request = outcome.request;
  EXPECT_EQ(outcome.head_bytes, text.size() - 4);
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.target, "http://a.b:1/p/q?r=/s");
  EXPECT_EQ(request.path, "/p/q");
  ASSERT_EQ(request.headers.size(), 5u);
  EXPECT_EQ(request.headers[1].name, "X-One");
  EXPECT_EQ(request.headers[1].value, "1 2");
  EXPECT_EQ(request.headers[2].value, "");
  EXPECT_TRUE(request.expect_continue);
  EXPECT_TRUE(request.framing.has_length);
  EXPECT_EQ(request.framing.content_length, 7u);
  EXPECT_TRUE(request.framing.persistent());
}

TEST(RequestHead, PathIsTheTargetsPath) {
  const std::pair<std::string, std::string> cases[] = {
      {"/", "/"},          {"/?", "/"},         {"/a?b?c", "/a"},        {"//a", "//a"},
      {"http://h", "/"},   {"HTTP://h?q", "/"}, {"https://h/x?y", "/x"}, {"/a%20b", "/a%20b"},
      {"/..//x", "/..//x"}};
  for (const auto& [target, path] : cases) {
    const std::string text = "GET " + target + " HTTP/1.1\r\nhost: h\r\n\r\n";
    EXPECT_EQ(Read(H1Kind::kRequest, text, 3).request.path, path) << target;
  }
}

TEST(Framing, PersistenceFollowsVersionAndConnection) {
  const std::tuple<std::string, std::string, bool> cases[] = {
      {"1.1", "", true},
      {"1.1", "connection: close\r\n", false},
      {"1.1", "connection: x ,\tClose\r\n", false},
      {"1.1", "connection: keep-alive\r\nconnection: close\r\n", false},
      {"1.0", "", false},
      {"1.0", "connection: Keep-Alive\r\n", true},
      {"1.0", "connection: keep-alive, close\r\n", false}};
  for (const auto& [version, header, persistent] : cases) {
    const std::string text = "GET / HTTP/" + version + "\r\nhost: h\r\n" + header + "\r\n";
    const Outcome outcome = Read(H1Kind::kRequest, text, 0);
    EXPECT_EQ(outcome.verdict, "");
    EXPECT_EQ(outcome.request.framing.persistent(), persistent) << text;
  }
}

TEST(ResponseHead, PartsAreFound) {
  const std::string_view text = "HTTP/1.0 404 Not  Found\r\nTransfer-encoding2: x\r\n\r\n";
  const Outcome outcome = Read(H1Kind::kResponse, text, 20);
  ASSERT_EQ(outcome.verdict, "");
  EXPECT_EQ(outcome.response.status, 404);
  EXPECT_EQ(outcome.response.reason, "Not  Found");
  EXPECT_FALSE(outcome.response.framing.chunked);
  EXPECT_FALSE(outcome.response.framing.persistent());
}

TEST(HeadScanner, LimitsAreExact) {
  const H1Limits limits{.max_head_bytes = 64, .max_headers = 3};
  const auto head = [](size_t bytes) {
    std::string text = "GET / HTTP/1.1\r\nhost: a\r\nx: ";
    return text + std::string(bytes - text.size() - 4, 'y') + "\r\n\r\n";
  };
  EXPECT_EQ(ReadCut(H1Kind::kRequest, head(64), limits), "");
  EXPECT_EQ(ReadCut(H1Kind::kRequest, head(65), limits), "431 headers_too_large");
  EXPECT_EQ(ReadCut(H1Kind::kRequest, head(64) + std::string(100, 'b'), limits), "");
  EXPECT_EQ(ReadCut(H1Kind::kRequest, "GET / HTTP/1.1\r\nhost: a\r\nx:1\r\ny:2\r\n\r\n", limits),
            "");
  EXPECT_EQ(
      ReadCut(H1Kind::kRequest, "GET / HTTP/1.1\r\nhost: a\r\nx:1\r\ny:2\r\nz:3\r\n\r\n", limits),
      "431 too_many_headers");
  EXPECT_EQ(ReadCut(H1Kind::kRequest, "GET /" + std::string(60, 'a') + " HTTP/1.1\r\n", limits),
            "414 target_too_long");
  EXPECT_EQ(ReadCut(H1Kind::kResponse, "HTTP/1.1 200 " + std::string(60, 'a') + "\r\n", limits),
            "431 headers_too_large");
  std::string empty_lines;
  for (int i = 0; i < 40; ++i) empty_lines += "\r\n";
  EXPECT_EQ(ReadCut(H1Kind::kRequest, empty_lines, limits), "414 target_too_long");
}

TEST(HeadScanner, KnowsWhetherAMessageHasBegun) {
  H1HeadScanner scanner(H1Kind::kRequest, {});
  EXPECT_FALSE(scanner.begun());
  scanner.Scan("\r\n");
  EXPECT_FALSE(scanner.begun());
  scanner.Scan("\r\nG");
  EXPECT_TRUE(scanner.begun());
  scanner.Reset();
  EXPECT_FALSE(scanner.begun());
  EXPECT_EQ(scanner.Scan("GET / HTTP/1.1\r\n\r\n"), H1HeadScanner::State::kDone);
  EXPECT_EQ(scanner.head_bytes(), 18u);
}

TEST(RequestHead, OutputIsReused) {
  H1Request request;
  ASSERT_FALSE(
      ParseRequestHead("POST / HTTP/1.0\r\nconnection: keep-alive\r\nexpect: "
                       "100-continue\r\ncontent-length: 3\r\n\r\n",
                       &request));
  ASSERT_FALSE(ParseRequestHead("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", &request));
  EXPECT_EQ(request.headers.size(), 1u);
  EXPECT_FALSE(request.expect_continue);
  EXPECT_FALSE(request.framing.has_length);
  EXPECT_FALSE(request.framing.keep_alive);
  EXPECT_EQ(request.framing.content_length, 0u);
}

TEST(HeaderValue, HasNoControlCharacters) {
  EXPECT_TRUE(IsHeaderValue(""));
  EXPECT_TRUE(IsHeaderValue("a\tb \xc3\xa9"));
  for (const char c : {'\r', '\n', '\0', '\x1f', '\x7f'})
    EXPECT_FALSE(IsHeaderValue(std::string("a") + c + "b")) << static_cast<int>(c);
}

}  // namespace
}  // namespace penstock::wire
