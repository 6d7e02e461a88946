// vLLM's HTTP API in front of one engine, for the connections of one loop.
//
// THREADS: loop-bound. COST: a token of a stream is one Write of about 200 bytes; the tokens of one
// step leave in one pass. A client that does not read holds no more than the watermark in memory:
// what was generated meanwhile is written when it reads again.
// SOURCE: vLLM entrypoints/openai/api_server.py.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "http/server.h"
#include "sim/engine_host.h"
#include "sim/metrics.h"
#include "sim/plan.h"
#include "sim/request.h"

namespace penstock::sim {

// What the handlers of one engine share; not changed while the loops run.
struct Front {
  Names names;
  Voice voice;
  engine::EngineOptions engine_options;
  EngineMetrics* metrics = nullptr;
  EngineHost* host = nullptr;
  int64_t created = 0;  // Unix seconds of the start
  bool has_render = true;
  bool has_tokenize = true;
};

class Answer;

class Handler final : public http::Handler {
 public:
  // `index` is the loop's place in its pool.
  Handler(const Front& front, size_t index);
  ~Handler() override;

  void Handle(http::Exchange& exchange) override;
  void OnDeltas(std::span<const Delta> deltas);

 private:
  friend class Answer;
  void HandleGet(http::Exchange& exchange, std::string_view path);
  void HandlePost(http::Exchange& exchange, const PostPath& post);
  std::string MakeId(const http::Exchange& exchange, model::Api api);
  // kOther for an endpoint that this engine does not have.
  PostPath PathOf(std::string_view path) const;

  const Front& front_;
  const size_t index_;
  uint64_t next_id_ = 0;
  uint64_t answers_ = 0;
  boost::unordered_flat_map<uint64_t, Answer*> answers_by_id_;
  std::string scratch_;
};

}  // namespace penstock::sim
