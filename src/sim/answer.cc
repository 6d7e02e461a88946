#include "sim/answer.h"

#include <array>
#include <utility>

namespace penstock::sim {
namespace {

using model::Api;

bool Generates(Api api) {
  return api == Api::kChatCompletions || api == Api::kCompletions || api == Api::kResponses ||
         api == Api::kMessages;
}

constexpr std::array<http::Header, 1> kJson = {{{"content-type", "application/json"}}};
constexpr std::array<http::Header, 2> kEventStream = {
    {{"content-type", "text/event-stream; charset=utf-8"}, {"cache-control", "no-cache"}}};

}  // namespace

Answer::Answer(Handler& handler, http::Exchange& exchange, Job job, AnswerHead head)
    : handler_(handler),
      exchange_(exchange),
      job_(std::move(job)),
      head_(std::move(head)),
      is_stream_(job_.stream && Generates(job_.api)),
      choices_(job_.prompts.size() * job_.n) {
  if (is_stream_) format_ = MakeStreamFormat(job_, head_);
}

Answer::~Answer() {
  std::vector<uint64_t> abandoned;
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (handler_.answers_by_id_.erase(first_id_ + i) > 0) abandoned.push_back(first_id_ + i);
  }
  if (abandoned.empty()) return;
  handler_.front_.host->Abort(handler_.index_, std::move(abandoned));
}

void Answer::Submit(uint64_t first_id) {
  first_id_ = first_id;
  const Front& front = handler_.front_;
  std::vector<Submission> batch;
  batch.reserve(choices_.size());
  for (size_t i = 0; i < choices_.size(); ++i) {
    Plan& plan = choices_[i].plan;
    plan = MakePlan(job_, i / job_.n, static_cast<uint32_t>(i % job_.n), front.voice,
                    front.engine_options);
    plan.request.id = first_id + i;
    engine::Request request = std::move(plan.request);
    plan.request = {.prompt_tokens = request.prompt_tokens, .end = request.end};
    batch.push_back({std::move(request), exchange_.received(), job_.max_tokens.value_or(0),
                     std::move(plan.content)});
    handler_.answers_by_id_.emplace(first_id + i, this);
  }
  unfinished_ = static_cast<uint32_t>(choices_.size());
  front.host->Submit(handler_.index_, std::move(batch));
}

void Answer::OnDelta(const Delta& delta) {
  Choice& choice = choices_[delta.id - first_id_];
  switch (delta.kind) {
    case Delta::Kind::kAccepted:
      if (is_stream_) exchange_.Start(200, kEventStream, std::nullopt);
      return;
    case Delta::Kind::kRejected:
      Reject(delta.code);
      return;
    case Delta::Kind::kScheduled:
      choice.cached = delta.count;
      return;
    case Delta::Kind::kToken:
      choice.generated = delta.count;
      // The last token leaves together with the end, which follows in the same pass.
      if (is_stream_ && delta.count < choice.plan.ends.size()) Pump();
      return;
    case Delta::Kind::kFinished:
      choice.finished = true;
      --unfinished_;
      handler_.answers_by_id_.erase(delta.id);
      if (is_stream_) {
        Pump();
      } else if (unfinished_ == 0) {
        FinishWhole();
      }
      return;
  }
}

void Answer::OnDrained() {
  if (is_stream_) Pump();
}

void Answer::Reject(Code code) {
  for (size_t i = 0; i < choices_.size(); ++i) handler_.answers_by_id_.erase(first_id_ + i);
  HttpError error;
  if (code == Code::kResourceExhausted) {
    error = {429, "TooManyRequestsError", "The engine's queue is full; try again later."};
  } else {
    error = {500, "InternalServerError", "The engine did not take the request."};
  }
  exchange_.Respond(error.status, kJson, RenderError(error, job_.api));
}

void Answer::Pump() {
  std::string& out = handler_.scratch_;
  bool all_written = unfinished_ == 0;
  for (uint32_t i = 0; i < choices_.size(); ++i) {
    Choice& choice = choices_[i];
    // The last token waits for its reason.
    const auto last = static_cast<uint32_t>(choice.plan.ends.size());
    const uint32_t ready =
        choice.generated == last && !choice.finished ? last - 1 : choice.generated;
    while (choice.written < ready && !exchange_.above_high_watermark()) {
      out.clear();
      WriteToken(i, &out);
      exchange_.Write(out);
    }
    all_written = all_written && choice.written == last;
  }
  if (!all_written) return;
  out.clear();
  format_->End(Usage(), &out);
  exchange_.Write(out);
  exchange_.Finish();  // may destroy this
}

void Answer::WriteToken(uint32_t index, std::string* out) {
  Choice& choice = choices_[index];
  if (!has_begun_) {
    has_begun_ = true;
    format_->Begin(Usage(), out);
  }
  const std::vector<uint32_t>& ends = choice.plan.ends;
  const uint32_t begin = choice.written == 0 ? 0 : ends[choice.written - 1];
  const std::string_view text =
      std::string_view(choice.plan.text).substr(begin, ends[choice.written] - begin);
  ++choice.written;
  const Ending ending = EndingOf(choice);
  const bool is_last = choice.written == ends.size();
  format_->Token(index, text, is_last ? &ending : nullptr, Usage(), out);
}

void Answer::FinishWhole() {
  std::string body;
  if (Generates(job_.api)) {
    std::vector<WholeChoice> whole;
    for (const Choice& choice : choices_) whole.push_back({choice.plan.text, EndingOf(choice)});
    body = RenderWhole(job_, head_, whole, Usage());
  } else {
    body = RenderPooled(job_, head_, Usage());
  }
  exchange_.Respond(200, kJson, body);  // may destroy this
}

TokenUsage Answer::Usage() const {
  TokenUsage usage;
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    usage.output_tokens += is_stream_ ? choice.written : choice.generated;
    if (i % job_.n != 0) continue;  // the prompt counts once for all its choices
    usage.prompt_tokens += choice.plan.request.prompt_tokens;
    usage.cached_tokens += choice.cached;
  }
  return usage;
}

Ending Answer::EndingOf(const Choice& choice) const {
  return {choice.plan.request.end, choice.plan.stop_text};
}

}  // namespace penstock::sim
