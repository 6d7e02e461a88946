#include "traffic/chat_session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "wire/json.h"

namespace penstock::traffic {
namespace {

constexpr size_t kMaxErrorBodyBytes = 4096;
constexpr size_t kBytesPerToken = 4;  // of a gateway that tells no usage
constexpr std::string_view kClosing = "]}";

// People give up long before; what is slower than this is a failure.
const http::CallOptions kCallOptions = {.first_byte_timeout = seconds(120),
                                        .idle_timeout = seconds(60)};

void AppendMessage(std::string_view role, std::string_view text, std::string* out) {
  *out += R"(,{"role":")";
  *out += role;
  *out += R"(","content":)";
  wire::AppendJsonString(text, out);
  *out += '}';
}

std::string Opening(const std::string& model, const Turn& turn) {
  std::string out;
  wire::JsonWriter json(&out);
  json.BeginObject().Field("model", model).Field("max_tokens", turn.max_tokens);
  json.Field("stream", turn.is_streamed);
  if (turn.is_streamed) json.Key("stream_options").Raw(R"({"include_usage":true})");
  json.Key("messages");
  out += '[';
  return out;
}

}  // namespace

ChatSession::ChatSession(const ChatContext& context, uint64_t index, ChatOwner& owner)
    : context_(context),
      index_(index),
      owner_(owner),
      plan_(context.shape, context.agents, index),
      think_timer_(context.loop, [this] { SendTurn(); }) {}

void ChatSession::Start() { NextTurn(); }

void ChatSession::EndSoon() {
  ends_soon_ = true;
  if (is_over_ || is_waiting_for_answer()) return;
  think_timer_.Cancel();
  is_over_ = true;
  owner_.OnChatOver(index_);
}

void ChatSession::NextTurn() {
  turn_ = ends_soon_ ? std::nullopt : plan_.Next(context_tokens_);
  if (!turn_) {
    is_over_ = true;
    owner_.OnChatOver(index_);
    return;
  }
  if (turn_->think > Duration(0)) {
    think_timer_.Start(turn_->think);
  } else {
    SendTurn();
  }
}

void ChatSession::SendTurn() {
  if (!owner_.MaySend()) {
    is_over_ = true;
    owner_.OnChatOver(index_);
    return;
  }
  AppendMessage("user", turn_->text, &history_);
  opening_ = Opening(context_.model, *turn_);
  const std::vector<std::string_view> body = {opening_, plan_.system_message(), history_, kClosing};
  size_t bytes = 0;
  for (const std::string_view piece : body) bytes += piece.size();
  std::string head = fmt::format(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nUser-Agent: penstock-traffic\r\n"
      "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
      AddressOf(context_.target), bytes);
  status_ = 0;
  answer_.reset();
  error_body_.clear();
  first_output_ = last_piece_ = Time{};
  sent_ = context_.loop.Now();
  call_ = context_.client.Send(context_.target.host, context_.target.port, std::move(head), body,
                               kCallOptions, *this);
}

void ChatSession::OnHead(const http::ResponseHead& head) {
  status_ = head.status;
  if (status_ != 200) return;
  const bool is_stream = head.headers.Find("content-type").starts_with("text/event-stream");
  answer_.emplace(is_stream ? AnswerReader::Format::kStream : AnswerReader::Format::kWhole);
}

void ChatSession::OnBody(std::string_view piece) {
  if (!answer_) {
    error_body_ += piece.substr(0, kMaxErrorBodyBytes - error_body_.size());
    return;
  }
  answer_->Feed(piece);
  last_piece_ = context_.loop.Now();
  if (answer_->has_output() && first_output_ == Time{}) first_output_ = last_piece_;
  if (!answer_->problem().empty()) Fail("bad answer", answer_->problem());
}

void ChatSession::OnEnd() {
  if (!answer_) return Fail(fmt::format("HTTP {}", status_), ErrorText(error_body_));
  answer_->Finish();
  if (!answer_->problem().empty()) return Fail("bad answer", answer_->problem());
  const TurnRecord record = Measure();
  Remember();
  EndTurn(record);
}

void ChatSession::OnFailure(http::CallFailure failure, std::string_view message) {
  Fail(std::string(http::CallFailureName(failure)), message);
}

TurnRecord ChatSession::Measure() const {
  TurnRecord record;
  record.usage = answer_->usage();
  record.whole = context_.loop.Now() - sent_;
  if (!turn_->is_streamed || first_output_ == Time{}) return record;
  record.has_first_token = true;
  record.first_token = first_output_ - sent_;
  if (record.usage.output_tokens > 1) {
    record.per_token =
        (last_piece_ - first_output_) / static_cast<int64_t>(record.usage.output_tokens - 1);
  }
  return record;
}

void ChatSession::Remember() {
  AppendMessage("assistant", answer_->text(), &history_);
  const AnswerUsage& usage = answer_->usage();
  context_tokens_ = usage.is_known
                        ? usage.prompt_tokens + usage.output_tokens
                        : (plan_.system_message().size() + history_.size()) / kBytesPerToken;
}

void ChatSession::Fail(std::string error, std::string_view detail) {
  ends_soon_ = true;
  EndTurn({.error = std::move(error), .detail = std::string(detail)});
}

void ChatSession::EndTurn(TurnRecord record) {
  call_.reset();
  owner_.OnTurn(record);
  NextTurn();
}

}  // namespace penstock::traffic
