#include "sim/handler.h"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <utility>

#include "sim/answer.h"
#include "sim/answer_format.h"

namespace penstock::sim {
namespace {

constexpr std::array<http::Header, 1> kJson = {{{"content-type", "application/json"}}};
constexpr std::array<http::Header, 1> kText = {
    {{"content-type", "text/plain; version=0.0.4; charset=utf-8"}}};
constexpr std::string_view kVersion = R"({"version":"0.19.0+penstock.sim"})";
constexpr size_t kMaxIdBytes = 128;

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

constexpr std::string_view kResetPath = "/reset_prefix_cache";

bool IsGetPath(std::string_view path) {
  return path == "/health" || path == "/ping" || path == "/v1/models" || path == "/metrics" ||
         path == "/version";
}

}  // namespace

Handler::Handler(const Front& front, size_t index)
    : front_(front), index_(index), next_id_(uint64_t{index} << 48) {}

Handler::~Handler() = default;

PostPath Handler::PathOf(std::string_view path) const {
  const PostPath post = ClassifyPath(path);
  const bool is_hidden = (post.renders && !front_.has_render) ||
                         (post.api == model::Api::kTokenize && !front_.has_tokenize);
  return is_hidden ? PostPath() : post;
}

void Handler::Handle(http::Exchange& exchange) {
  const http::RequestHead& head = exchange.head();
  const bool is_get = head.method == "GET" || head.method == "HEAD";
  const PostPath post = PathOf(head.path);
  if (head.path == kResetPath && head.method == "POST") {
    front_.host->ResetPrefixCache(index_);
    return exchange.Respond(200, {}, "");
  }
  if (is_get && IsGetPath(head.path)) return HandleGet(exchange, head.path);
  if (head.method == "POST" && post.api != model::Api::kOther) return HandlePost(exchange, post);
  if (post.api == model::Api::kOther && !IsGetPath(head.path) && head.path != kResetPath) {
    exchange.Respond(404, kJson, R"({"detail":"Not Found"})");
  } else {
    exchange.Respond(405, kJson, R"({"detail":"Method Not Allowed"})");
  }
}

void Handler::HandleGet(http::Exchange& exchange, std::string_view path) {
  if (path == "/metrics") return exchange.Respond(200, kText, front_.metrics->Expose());
  if (path == "/v1/models") {
    return exchange.Respond(200, kJson, RenderModels(front_.names, front_.created));
  }
  if (path == "/version") return exchange.Respond(200, kJson, kVersion);
  exchange.Respond(200, {}, "");
}

void Handler::HandlePost(http::Exchange& exchange, const PostPath& post) {
  auto job = ParseJob(post.api, exchange.body(), front_.names);
  // Messages that are rendered are a chat to whoever sees the answer.
  const bool is_chat = post.renders && post.api == model::Api::kMessages;
  const model::Api api = is_chat ? model::Api::kChatCompletions : post.api;
  if (!job) {
    return exchange.Respond(job.error().status, kJson, RenderError(job.error(), api));
  }
  if (api == model::Api::kTokenize) {
    return exchange.Respond(200, kJson, RenderTokens(*job, front_.names.max_model_len));
  }
  if (post.renders) {
    return exchange.Respond(200, kJson, RenderPrompts(*job, MakeId(exchange, api)));
  }
  AnswerHead head{MakeId(exchange, api), job->model, UnixSeconds()};
  auto answer = std::make_unique<Answer>(*this, exchange, std::move(*job), std::move(head));
  Answer& submitted = *answer;
  const uint64_t first_id = next_id_;
  next_id_ += submitted.choices();
  exchange.SetListener(std::move(answer));
  submitted.Submit(first_id);
}

std::string Handler::MakeId(const http::Exchange& exchange, model::Api api) {
  std::string id(IdPrefix(api));
  const std::string_view given = exchange.head().headers.Find("x-request-id");
  if (!given.empty() && given.size() <= kMaxIdBytes) {
    id += given;
  } else {
    id += fmt::format("{:08x}{:04x}{:012x}", front_.created & 0xffffffff, index_, answers_++);
  }
  return id;
}

void Handler::OnDeltas(std::span<const Delta> deltas) {
  for (const Delta& delta : deltas) {
    const auto it = answers_by_id_.find(delta.id);
    if (it != answers_by_id_.end()) it->second->OnDelta(delta);
  }
}

}  // namespace penstock::sim
