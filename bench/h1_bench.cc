// What reading one HTTP/1.1 head costs: our codec beside Boost.Beast's parser, which was the other
// choice (docs/design/0001-http1-codec.md).
//
//   scripts/bench h1
#include <benchmark/benchmark.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/h1.h"

namespace {

namespace beast = boost::beast;
namespace wire = penstock::wire;

constexpr std::string_view kRequest =
    "POST /v1/chat/completions HTTP/1.1\r\n"
    "Host: 127.0.0.1:8080\r\n"
    "Accept-Encoding: gzip, deflate\r\n"
    "Connection: keep-alive\r\n"
    "Accept: application/json\r\n"
    "Content-Type: application/json\r\n"
    "User-Agent: OpenAI/Python 2.8.1\r\n"
    "X-Stainless-Lang: python\r\n"
    "X-Stainless-Package-Version: 2.8.1\r\n"
    "X-Stainless-OS: Linux\r\n"
    "X-Stainless-Arch: x64\r\n"
    "X-Stainless-Runtime: CPython\r\n"
    "X-Stainless-Runtime-Version: 3.11.7\r\n"
    "Authorization: Bearer sk-0123456789abcdef0123456789abcdef\r\n"
    "X-Stainless-Async: false\r\n"
    "x-stainless-retry-count: 0\r\n"
    "x-stainless-read-timeout: 600\r\n"
    "Content-Length: 412\r\n\r\n";

constexpr std::string_view kResponse =
    "HTTP/1.1 200 OK\r\n"
    "date: Tue, 24 Nov 2026 12:00:00 GMT\r\n"
    "server: uvicorn\r\n"
    "content-type: text/event-stream; charset=utf-8\r\n"
    "x-request-id: 5b1e9f0f6c1c4a2f8c5f0c7d2c8d1a3e\r\n"
    "transfer-encoding: chunked\r\n\r\n";

template <class Parsed>
bool ReadOurs(std::string_view text, wire::H1Kind kind, Parsed* parsed) {
  wire::H1HeadScanner scanner(kind, {});
  if (scanner.Scan(text) != wire::H1HeadScanner::State::kDone) return false;
  const std::string_view head = text.substr(0, scanner.head_bytes());
  if constexpr (std::is_same_v<Parsed, wire::H1Request>) {
    return !wire::ParseRequestHead(head, parsed);
  } else {
    return !wire::ParseResponseHead(head, parsed);
  }
}

template <class Parsed>
void Ours(benchmark::State& state, std::string_view text, wire::H1Kind kind) {
  Parsed parsed;
  for (auto _ : state) {
    if (!ReadOurs(text, kind, &parsed)) std::abort();
    benchmark::DoNotOptimize(parsed.headers.size());
  }
}

// Keeps the fields as views, as ours does; beast's own message allocates each.
template <bool kIsRequest>
class BeastParser : public beast::http::basic_parser<kIsRequest> {
 public:
  std::vector<wire::H1Header> headers;

 private:
  using Error = beast::error_code;
  using View = beast::string_view;
  void on_request_impl(beast::http::verb, View, View, int, Error&) override {}
  void on_response_impl(int, View, int, Error&) override {}
  void on_field_impl(beast::http::field, View name, View value, Error&) override {
    headers.push_back({{name.data(), name.size()}, {value.data(), value.size()}});
  }
  void on_header_impl(Error&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, Error&) override {}
  std::size_t on_body_impl(View body, Error&) override { return body.size(); }
  void on_chunk_header_impl(std::uint64_t, View, Error&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, View body, Error&) override { return body.size(); }
  void on_finish_impl(Error&) override {}
};

template <bool kIsRequest>
void Beast(benchmark::State& state, std::string_view text) {
  std::vector<wire::H1Header> kept;
  for (auto _ : state) {
    BeastParser<kIsRequest> parser;
    parser.headers.swap(kept);
    parser.headers.clear();
    beast::error_code error;
    parser.put(boost::asio::buffer(text.data(), text.size()), error);
    if (error || !parser.is_header_done()) std::abort();
    benchmark::DoNotOptimize(parser.headers.size());
    parser.headers.swap(kept);
  }
}

void OursRequest(benchmark::State& state) {
  Ours<wire::H1Request>(state, kRequest, wire::H1Kind::kRequest);
}
void OursResponse(benchmark::State& state) {
  Ours<wire::H1Response>(state, kResponse, wire::H1Kind::kResponse);
}
void BeastRequest(benchmark::State& state) { Beast<true>(state, kRequest); }
void BeastResponse(benchmark::State& state) { Beast<false>(state, kResponse); }

BENCHMARK(OursRequest);
BENCHMARK(BeastRequest);
BENCHMARK(OursResponse);
BENCHMARK(BeastResponse);

}  // namespace
