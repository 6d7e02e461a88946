#include "intake/token_asker.h"

#include <algorithm>
#include <utility>

#include "kvcache/exact_caches.h"
#include "telemetry/log.h"
#include "tokens/token_question.h"

namespace penstock::intake {
namespace {

using tokens::AskResult;
using tokens::TokenRoute;
using tokens::TokenServers;

constexpr auto kRelaxed = std::memory_order_relaxed;
constexpr size_t kMaxTried = 8;              // engines that are looked at for one question
constexpr size_t kMaxErrorBytes = 64 << 10;  // of an answer that holds no tokens
constexpr size_t kMaxIdleConnections = 16;   // to one server

http::ClientOptions ClientOptionsOf() {
  http::ClientOptions options;
  options.max_idle_per_endpoint = kMaxIdleConnections;
  return options;
}

// vLLM 0.32 answers 403 where its render endpoints are turned off. Engines answer 404 for a model
// that they do not have, too.
bool IsNoRoute(int status, std::string_view body) {
  if (status == 403 || status == 405 || status == 501) return true;
  return status == 404 && body.find("model") == std::string_view::npos &&
         body.find("Model") == std::string_view::npos;
}

// A proxy in front may pass on anything.
bool CanStandInHead(std::string_view value) {
  return std::ranges::none_of(
      value, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

std::string AddressOf(const std::string& host, uint16_t port) {
  const bool is_ipv6 = host.find(':') != std::string::npos;
  return (is_ipv6 ? "[" + host + "]:" : host + ":") + std::to_string(port);
}

AskResult ResultOf(TokenServers::WhyNot why) {
  return why == TokenServers::WhyNot::kResting ? AskResult::kResting : AskResult::kNoRoute;
}

tokens::TokenEndpoint RenderOf(const model::Request& request) {
  return tokens::EndpointOf(TokenRoute::kRender, request.api);
}

}  // namespace

class TokenAsker::Asking final : public http::CallListener {
 public:
  Asking(TokenAsker& asker, Question question, std::shared_ptr<LongRequest> request, Time received,
         Then then)
      : loop_(asker.loop_),
        director_(asker.director_),
        asks_(asker.asks_),
        asked_(asker.asked_),
        client_(*asker.client_),
        question_(std::move(question)),
        request_(std::move(request)),
        received_(received),
        began_(loop_.Now()),
        then_(std::move(then)),
        timer_(loop_, [this] { End(AskResult::kTimeout); }) {
    const Duration timeout = this->request().source.has_media ? asked_.options().media_timeout
                                                              : asked_.options().timeout;
    options_.connect_timeout = options_.first_byte_timeout = options_.idle_timeout = timeout;
    if (question_.scheme == model::Scheme::kHttps) options_.tls = asker.tls_;
    timer_.Start(timeout);
    Send();
  }
  ~Asking() override {
    GiveAnswer();
    if (request_ != nullptr) asked_.counts().abandoned.fetch_add(1, kRelaxed);
  }

  void OnHead(const http::ResponseHead& head) override;
  void OnBody(std::string_view piece) override;
  void OnEnd() override;
  void OnFailure(http::CallFailure failure, std::string_view message) override;

 private:
  void Send();
  std::vector<std::string_view> Body();
  std::string Head(size_t body_bytes) const;
  void OnRefusal();
  void Read();
  // Exactly once. `this` may be gone behind it.
  void End(AskResult result, std::string_view reason = {});
  void TellServers(AskResult result, std::string_view reason);
  void GiveAnswer() { asked_.answers().Give(std::exchange(charged_, 0)); }
  const model::Request& request() const { return request_->context().request; }
  // Where the question is now.
  tokens::TokenEndpoint endpoint() const {
    return tokens::EndpointOf(question_.route, request().api);
  }

  net::Loop& loop_;
  director::Director& director_;
  const sched::AsksForTokens& asks_;
  tokens::AskedTokens& asked_;
  http::Client& client_;
  Question question_;
  std::shared_ptr<LongRequest> request_;
  const Time received_;
  const Time began_;
  Then then_;
  http::CallOptions options_;
  std::vector<api::Splice> splices_;  // of the body that is sent
  std::string tokenize_body_;
  int status_ = 0;
  std::string answer_;
  uint64_t charged_ = 0;  // of the budget, for answer_
  size_t max_answer_ = 0;
  std::shared_ptr<const tokens::TokenAnswer> told_;
  net::Timer timer_;
  std::unique_ptr<http::Call> call_;
};

std::vector<std::string_view> TokenAsker::Asking::Body() {
  if (question_.route == TokenRoute::kTokenize) {
    tokenize_body_ = tokens::TokenizeBody(request(), question_.model);
    return {tokenize_body_};
  }
  // As the engine will have it, under the name by which the server knows the model.
  api::BodyEdits edits = request_->incoming().edits;
  if (question_.model != request().model) edits.RewriteModel(question_.model);
  // Where they are and what they are called will do; what was made of them may be many megabytes.
  if (request().source.has_media) edits.AddField("mm_payload", "\"none\"");
  splices_ = edits.Splices();
  return api::ApplySplices(request_->body(), splices_);
}

std::string TokenAsker::Asking::Head(size_t body_bytes) const {
  std::string out;
  out.append("POST ").append(tokens::PathOf(question_.route, request().api));
  out.append(" HTTP/1.1\r\nhost: ").append(question_.address);
  out.append(
      "\r\ncontent-type: application/json\r\naccept: application/json\r\nuser-agent: penstock");
  out.append("\r\nx-request-id: ").append(request().id);
  // An engine gets it with the request anyway.
  const std::string_view authorization = request().Header("authorization");
  if (question_.is_engine && !authorization.empty() && CanStandInHead(authorization)) {
    out.append("\r\nauthorization: ").append(authorization);
  }
  out.append("\r\ncontent-length: ").append(std::to_string(body_bytes)).append("\r\n\r\n");
  return out;
}

void TokenAsker::Asking::Send() {
  std::vector<std::string_view> body = Body();
  size_t bytes = 0;
  for (const std::string_view piece : body) bytes += piece.size();
  max_answer_ = tokens::MaxAnswerBytes(bytes, tokens::PromptsOf(request()));
  status_ = 0;
  answer_.clear();
  GiveAnswer();
  asked_.counts().sent[static_cast<size_t>(question_.route)].fetch_add(1, kRelaxed);
  call_ =
      client_.Send(question_.host, question_.port, Head(bytes), std::move(body), options_, *this);
}

void TokenAsker::Asking::OnHead(const http::ResponseHead& head) {
  status_ = head.status;
  if (status_ != 200) {
    max_answer_ = kMaxErrorBytes;
  } else if (head.has_length && head.content_length > max_answer_) {
    End(AskResult::kTooLarge, "the answer is too large");
  }
}

void TokenAsker::Asking::OnBody(std::string_view piece) {
  if (answer_.size() + piece.size() > max_answer_) {
    // What an error says is of no use; that it is one is known.
    return status_ == 200 ? End(AskResult::kTooLarge, "the answer is too large") : OnRefusal();
  }
  if (!asked_.answers().TryTake(piece.size())) return End(AskResult::kBusy);
  charged_ += piece.size();
  answer_.append(piece);
}

void TokenAsker::Asking::OnEnd() { status_ == 200 ? Read() : OnRefusal(); }

void TokenAsker::Asking::OnRefusal() {
  if (IsNoRoute(status_, answer_)) {
    const bool is_news = asked_.servers().OnNoRoute(question_.address, endpoint(), loop_.Now());
    if (is_news) {
      telemetry::log::Warn("a server that is asked for tokens has no such endpoint",
                           {{"endpoint", question_.address},
                            {"path", tokens::PathOf(question_.route, request().api)},
                            {"status", status_}});
    }
    if (question_.route == TokenRoute::kTokenize || !tokens::FitsTokenize(request())) {
      return End(AskResult::kNoRoute);
    }
    const auto next = asked_.servers().Choose(question_.address, endpoint(), true, loop_.Now());
    if (!next || *next == TokenRoute::kRender) {
      return End(next ? AskResult::kNoRoute : ResultOf(next.error()));
    }
    question_.route = TokenRoute::kTokenize;
    return Send();
  }
  const bool is_servers = status_ >= 500 || status_ == 429 || status_ < 400;
  End(is_servers ? AskResult::kFailed : AskResult::kRefused, "status " + std::to_string(status_));
}

void TokenAsker::Asking::Read() {
  auto told = tokens::ReadTokenAnswer(question_.route, answer_, tokens::PromptsOf(request()));
  if (!told) return End(AskResult::kBadAnswer, told.error().message);
  if (request().source.has_media && told->media.empty()) {
    return End(AskResult::kBadAnswer, "the answer does not say where the prompt's media are");
  }
  told_ = std::make_shared<const tokens::TokenAnswer>(*std::move(told));
  End(AskResult::kTold);
}

void TokenAsker::Asking::OnFailure(http::CallFailure failure, std::string_view message) {
  End(failure == http::CallFailure::kTimeout       ? AskResult::kTimeout
      : failure == http::CallFailure::kBadResponse ? AskResult::kBadAnswer
                                                   : AskResult::kUnreached,
      message);
}

void TokenAsker::Asking::TellServers(AskResult result, std::string_view reason) {
  switch (result) {
    case AskResult::kTold:
    case AskResult::kRefused:
      return asked_.servers().OnAnswer(question_.address, endpoint(), loop_.Now());
    case AskResult::kTimeout:
    case AskResult::kUnreached:
    case AskResult::kFailed:
    case AskResult::kBadAnswer:
    case AskResult::kTooLarge:
      break;
    default:
      return;  // says nothing about the server
  }
  if (!asked_.servers().OnFailure(question_.address, loop_.Now())) return;
  telemetry::log::Warn(
      "a server that is asked for tokens has failed several times, and rests",
      {{"endpoint", question_.address}, {"reason", reason.empty() ? "no answer in time" : reason}});
}

void TokenAsker::Asking::End(AskResult result, std::string_view reason) {
  TellServers(result, reason);
  call_.reset();
  timer_.Cancel();
  GiveAnswer();
  question_.place = {};
  asked_.counts().micros.fetch_add(static_cast<uint64_t>((loop_.Now() - began_) / microseconds(1)),
                                   kRelaxed);
  sched::RequestContext& context = request_->context();
  if (told_ != nullptr) {
    const auto key = tokens::KeyOf(context.request, asked_.options().secret);
    asked_.told().Store(key, told_, loop_.Now());
    context.tokens.told = std::move(told_);
    context.prefix_keys.clear();
    director_.scheduler().Prepare(context, received_);
  } else {
    asks_.GiveUp(context, result);
  }
  // This may live on as long as the request does.
  answer_ = {};
  tokenize_body_ = {};
  splices_ = {};
  const std::shared_ptr<LongRequest> request = std::move(request_);
  Then then = std::move(then_);
  then(request.get());
}

void TokenAsker::AskingDeleter::operator()(Asking* asking) const { delete asking; }

std::unique_ptr<TokenAsker> TokenAsker::Create(net::Loop& loop, director::Director& director,
                                               std::shared_ptr<net::TlsClientContext> tls,
                                               uint64_t seed) {
  const sched::Scheduler& scheduler = director.scheduler();
  sched::AsksForTokens* const asks = scheduler.asks_for_tokens();
  if (asks == nullptr || scheduler.knows_caches() == nullptr) return nullptr;
  asks->asked().SetAsked();
  return std::unique_ptr<TokenAsker>(new TokenAsker(loop, director, std::move(tls), seed));
}

TokenAsker::TokenAsker(net::Loop& loop, director::Director& director,
                       std::shared_ptr<net::TlsClientContext> tls, uint64_t seed)
    : loop_(loop),
      director_(director),
      asks_(*director.scheduler().asks_for_tokens()),
      asked_(director.scheduler().asks_for_tokens()->asked()),
      caches_(director.scheduler().knows_caches()->caches()),
      tls_(std::move(tls)),
      client_(http::Client::Create(loop, ClientOptionsOf())),
      random_(seed) {}

TokenAsker::~TokenAsker() = default;

bool TokenAsker::IsOfUse(const model::PoolSnapshot& pool, const Mask& serving) const {
  const std::shared_ptr<const kvcache::SlotTable> table = caches_.table();
  for (size_t i = 0; i < pool.slots.size(); ++i) {
    if (!serving.Test(i) || pool.slots[i] >= table->entries.size()) continue;
    const kvcache::SlotTable::Entry& entry = table->entries[pool.slots[i]];
    if (!entry.is_known) continue;
    const kvcache::PublisherState state = entry.publisher->state();
    if (state == kvcache::PublisherState::kExact || state == kvcache::PublisherState::kDegraded) {
      return true;
    }
  }
  return false;
}

// The engines' own name for whatever they do not list, as the server serves one model.
std::optional<std::string> TokenAsker::NameAtServer(const std::string& model,
                                                    const model::PoolSnapshot& pool) const {
  const std::string& name = asked_.options().model_name;
  if (name.empty() || name == model) return model;
  const auto is_base = [&](const std::string& wanted) {
    return std::ranges::any_of(pool.endpoints, [&](const model::EndpointInfo& endpoint) {
      return std::ranges::binary_search(endpoint.models, wanted) &&
             !std::ranges::binary_search(endpoint.adapters, wanted);
    });
  };
  if (is_base(model) && is_base(name)) return std::nullopt;  // another one of several
  return name;
}

TokenAsker::Chosen TokenAsker::ChooseServer(const model::Request& request,
                                            const model::PoolSnapshot& pool) {
  const tokens::AskedTokens::Options& options = asked_.options();
  auto name = NameAtServer(request.target_model, pool);
  if (!name) return std::unexpected(AskResult::kNobody);
  Question question;
  question.host = options.host;
  question.port = options.port;
  question.address = AddressOf(options.host, options.port);
  question.model = *std::move(name);
  const auto route = asked_.servers().Choose(question.address, RenderOf(request),
                                             tokens::FitsTokenize(request), loop_.Now());
  if (!route) return std::unexpected(ResultOf(route.error()));
  question.route = *route;
  return question;
}

TokenAsker::Chosen TokenAsker::ChooseEngine(const model::Request& request,
                                            const model::PoolSnapshot& pool, const Mask& serving) {
  std::vector<size_t> candidates;
  serving.ForEach([&](size_t i) {
    const model::EndpointSpec& spec = pool.endpoints[i].spec;
    if (spec.scheme == model::Scheme::kHttps && tls_ == nullptr) return;
    if (model::IsAllowed(request.subset, spec.host)) candidates.push_back(i);
  });
  // Those that can be asked, before those that rest, before those without endpoints.
  AskResult why = AskResult::kNobody;
  const bool fits = tokens::FitsTokenize(request);
  const size_t first = candidates.empty() ? 0 : random_.Below(candidates.size());
  for (size_t k = 0; k < std::min(candidates.size(), kMaxTried); ++k) {
    const model::EndpointInfo& engine = pool.endpoints[candidates[(first + k) % candidates.size()]];
    const auto route =
        asked_.servers().Choose(engine.address, RenderOf(request), fits, loop_.Now());
    if (!route) {
      if (why != AskResult::kResting) why = ResultOf(route.error());
      continue;
    }
    Question question;
    question.host = engine.spec.host;
    question.port = engine.spec.port;
    question.address = engine.address;
    question.scheme = engine.spec.scheme;
    question.model = request.target_model;
    question.route = *route;
    question.is_engine = true;
    return question;
  }
  return std::unexpected(why);
}

TokenAsker::Chosen TokenAsker::Choose(const model::Request& request) {
  const std::shared_ptr<const model::PoolSnapshot>& pool = pool_.Load(director_.fleet().snapshot());
  const Mask* serving =
      request.target_model.empty() ? &pool->healthy : pool->Serving(request.target_model);
  if (serving == nullptr) serving = &pool->models_unknown;
  if (!IsOfUse(*pool, *serving)) return std::unexpected(AskResult::kNotOfUse);
  auto place = asked_.Enter(request.body_bytes);
  if (!place) return std::unexpected(AskResult::kBusy);
  Chosen chosen = asked_.options().host.empty() ? ChooseEngine(request, *pool, *serving)
                                                : ChooseServer(request, *pool);
  if (chosen) chosen->place = std::move(place);
  return chosen;
}

std::optional<TokenAsker::Question> TokenAsker::Consider(sched::RequestContext& context,
                                                         const api::Route& route) {
  if (!context.tokens.can_be_asked) return std::nullopt;
  Chosen chosen = route.framing == api::Framing::kNone
                      ? Choose(context.request)
                      : Chosen(std::unexpected(AskResult::kNotOfUse));
  if (chosen) return *std::move(chosen);
  asks_.GiveUp(context, chosen.error());
  return std::nullopt;
}

TokenAsker::Pending TokenAsker::Ask(Question question, std::shared_ptr<LongRequest> request,
                                    Time received, Then then) {
  return Pending(
      new Asking(*this, std::move(question), std::move(request), received, std::move(then)));
}

}  // namespace penstock::intake
