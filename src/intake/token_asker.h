// Asks an engine, or a render server, for the tokens of prompts that nobody here knows, before the
// request is decided about. One per loop; no thread waits.
//
// A question is asked where exact tokens are worth something: some engine that has the model tells
// what it holds. How many are out, how long each may take and how large its answer may be is
// bounded; whatever goes wrong, the request goes on with the estimate, and why is counted. A server
// without render endpoints is asked by /tokenize in the same breath.
//
// THREADS: loop-bound. OWNS: a client with its connections; borrows the director.
// SOURCE: spec kv-index 4.4.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/request.h"
#include "core/random.h"
#include "core/time.h"
#include "director/director.h"
#include "http/client.h"
#include "intake/preparer.h"
#include "net/loop.h"
#include "sched/plugin.h"
#include "tokens/asked_tokens.h"

namespace penstock::intake {

class TokenAsker {
 public:
  // Whom to ask for one request's tokens. Whoever has one asks, or lets it go.
  struct Question {
    tokens::AskedTokens::Place place;
    std::string host;
    uint16_t port = 0;
    std::string address;
    model::Scheme scheme = model::Scheme::kHttp;
    std::string model;  // as the server knows it
    tokens::TokenRoute route = tokens::TokenRoute::kRender;
    bool is_engine = false;
  };
  using Then = std::move_only_function<void(LongRequest*)>;
  // One question that is out. Destroyed before it is answered: nobody waits any more.
  class Asking;
  struct AskingDeleter {
    void operator()(Asking* asking) const;
  };
  using Pending = std::unique_ptr<Asking, AskingDeleter>;

  // Null where nothing is left open for others to be asked, or nobody listens to what engines hold.
  // `tls`: of engines that speak TLS; null: these are not asked.
  static std::unique_ptr<TokenAsker> Create(net::Loop& loop, director::Director& director,
                                            std::shared_ptr<net::TlsClientContext> tls,
                                            uint64_t seed);
  ~TokenAsker();

  // Of a context that was prepared: whom to ask for its tokens. Nothing: it can go on as it is,
  // because they are known or will not be.
  std::optional<Question> Consider(sched::RequestContext& context, const api::Route& route);
  // Asks, has the request prepared anew with the answer, and calls `then` on the loop, never inside
  // this; not when what is returned was destroyed before. `then` may destroy it. REQUIRES: Begin
  // was called with the context that was considered.
  Pending Ask(Question question, std::shared_ptr<LongRequest> request, Time received, Then then);

 private:
  TokenAsker(net::Loop& loop, director::Director& director,
             std::shared_ptr<net::TlsClientContext> tls, uint64_t seed);
  std::optional<std::string> NameAtServer(const std::string& model,
                                          const model::PoolSnapshot& pool) const;
  using Chosen = std::expected<Question, tokens::AskResult>;
  Chosen Choose(const model::Request& request);
  Chosen ChooseServer(const model::Request& request, const model::PoolSnapshot& pool);
  Chosen ChooseEngine(const model::Request& request, const model::PoolSnapshot& pool,
                      const Mask& serving);
  // Whether one of these engines tells what it holds.
  bool IsOfUse(const model::PoolSnapshot& pool, const Mask& serving) const;

  net::Loop& loop_;
  director::Director& director_;
  const sched::AsksForTokens& asks_;
  tokens::AskedTokens& asked_;
  const kvcache::ExactCaches& caches_;
  const std::shared_ptr<net::TlsClientContext> tls_;
  const std::unique_ptr<http::Client> client_;
  Random random_;
  SnapshotCell<model::PoolSnapshot>::Reader pool_;
};

}  // namespace penstock::intake
