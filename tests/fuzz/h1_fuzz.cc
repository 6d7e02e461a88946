// Any bytes as the head of a request or a response: the outcome does not depend on how they are
// cut, every view lies within the head, and what is accepted says the same when it is written out
// again.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "wire/h1.h"

namespace {

using penstock::wire::H1Error;
using penstock::wire::H1Framing;
using penstock::wire::H1Header;
using penstock::wire::H1HeadScanner;
using penstock::wire::H1Kind;
using penstock::wire::H1Limits;
using penstock::wire::H1Request;
using penstock::wire::H1Response;
using penstock::wire::IsHeaderValue;
using penstock::wire::IsTokenChar;

void Check(bool holds) {
  if (!holds) std::abort();
}

bool IsInside(std::string_view part, std::string_view whole) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

void CheckError(const H1Error& error) {
  Check(error.status == 400 || error.status == 414 || error.status == 431 || error.status == 501 ||
        error.status == 505);
  Check(!error.code.empty() && !error.message.empty());
}

void CheckSame(const H1HeadScanner& a, const H1HeadScanner& b, H1HeadScanner::State state) {
  if (state == H1HeadScanner::State::kDone) Check(a.head_bytes() == b.head_bytes());
  if (state == H1HeadScanner::State::kError) Check(a.error().code == b.error().code);
  if (state == H1HeadScanner::State::kMore) Check(a.begun() == b.begun());
}

void CheckHeaders(const std::vector<H1Header>& headers, const H1Framing& framing,
                  std::string_view head) {
  for (const H1Header& h : headers) {
    Check(!h.name.empty() && IsInside(h.name, head) && IsInside(h.value, head));
    for (const char c : h.name) Check(IsTokenChar(c));
    Check(IsHeaderValue(h.value));
    Check(!h.value.starts_with(' ') && !h.value.ends_with('\t'));
  }
  Check(framing.minor_version <= 1);
  Check(!(framing.has_length && framing.chunked));
  Check(framing.has_length || framing.content_length == 0);
}

std::string Render(std::string first_line, const std::vector<H1Header>& headers) {
  for (const H1Header& h : headers)
    first_line.append("\r\n").append(h.name).append(":").append(h.value);
  return first_line + "\r\n\r\n";
}

void CheckSameHeaders(const std::vector<H1Header>& a, const std::vector<H1Header>& b) {
  Check(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) Check(a[i].name == b[i].name && a[i].value == b[i].value);
}

void CheckSameFraming(const H1Framing& a, const H1Framing& b) {
  Check(a.has_length == b.has_length && a.content_length == b.content_length);
  Check(a.chunked == b.chunked && a.persistent() == b.persistent());
}

void CheckRequest(std::string_view head) {
  H1Request request;
  if (const auto error = ParseRequestHead(head, &request)) return CheckError(*error);
  CheckHeaders(request.headers, request.framing, head);
  Check(!request.method.empty() && IsInside(request.method, head));
  Check(!request.target.empty() && IsInside(request.target, head));
  Check(request.path == "/" || IsInside(request.path, request.target));
  Check(request.path == "*" || request.path.starts_with('/'));
  Check(request.path.find('?') == std::string_view::npos);
  const std::string text = Render(std::string(request.method) + " " + std::string(request.target) +
                                      " HTTP/1." + std::to_string(request.framing.minor_version),
                                  request.headers);
  H1HeadScanner scanner(H1Kind::kRequest, {});
  if (scanner.Scan(text) != H1HeadScanner::State::kDone) return;  // now above a limit
  Check(scanner.head_bytes() == text.size());
  H1Request again;
  Check(!ParseRequestHead(text, &again));
  Check(again.method == request.method && again.target == request.target);
  Check(again.path == request.path && again.expect_continue == request.expect_continue);
  CheckSameHeaders(again.headers, request.headers);
  CheckSameFraming(again.framing, request.framing);
}

void CheckResponse(std::string_view head) {
  H1Response response;
  if (const auto error = ParseResponseHead(head, &response)) return CheckError(*error);
  CheckHeaders(response.headers, response.framing, head);
  Check(response.status >= 100 && response.status <= 999);
  Check(IsInside(response.reason, head) && IsHeaderValue(response.reason));
  const std::string text =
      Render("HTTP/1." + std::to_string(response.framing.minor_version) + " " +
                 std::to_string(response.status) + " " + std::string(response.reason),
             response.headers);
  H1Response again;
  Check(!ParseResponseHead(text, &again));
  Check(again.status == response.status && again.reason == response.reason);
  CheckSameHeaders(again.headers, response.headers);
  CheckSameFraming(again.framing, response.framing);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const H1Kind kind = data[0] & 1 ? H1Kind::kResponse : H1Kind::kRequest;
  const H1Limits limits =
      data[0] & 2 ? H1Limits{.max_head_bytes = 200, .max_headers = 5} : H1Limits{};
  const size_t piece = 1 + data[1] % 64;
  const std::string_view text(reinterpret_cast<const char*>(data + 2), size - 2);

  H1HeadScanner whole(kind, limits), cut(kind, limits);
  const H1HeadScanner::State state = whole.Scan(text);
  H1HeadScanner::State cut_state = H1HeadScanner::State::kMore;
  for (size_t at = 0; cut_state == H1HeadScanner::State::kMore && at < text.size();) {
    at = std::min(at + piece, text.size());
    cut_state = cut.Scan(text.substr(0, at));
  }
  Check(cut_state == state);
  CheckSame(whole, cut, state);
  if (state == H1HeadScanner::State::kError) CheckError(whole.error());
  if (state != H1HeadScanner::State::kDone) return 0;
  Check(whole.head_bytes() <= text.size() && whole.head_bytes() <= limits.max_head_bytes);
  // A copy of its own, so that a read behind the head is noticed.
  const std::string head(text.substr(0, whole.head_bytes()));
  if (kind == H1Kind::kRequest) {
    CheckRequest(head);
  } else {
    CheckResponse(head);
  }
  return 0;
}
