// A fleet of simulated engines in one process, each with its own port.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/time.h"
#include "engine/profile.h"
#include "net/loop.h"
#include "sim/kv_publisher.h"

namespace penstock::sim {

struct SimOptions {
  std::string host = "127.0.0.1";
  uint16_t base_port = 8101;  // engine i listens on base_port + i; 0: any free ports
  uint32_t engines = 1;
  engine::Profile profile;
  double speed = 1;   // steps take 1/speed of the profile's time
  std::string model;  // "": the profile's
  std::vector<std::string> loras;
  engine::Policy policy = engine::Policy::kFcfs;
  uint64_t seed = 1;  // engines' noise differs, their answers do not
  uint32_t median_output_tokens = 192;
  KvOptions kv;  // events about cached blocks
  // A model's folder, tokenizer.json or .model: prompts and answers are its tokens, and chats are
  // written by its template; "": the engines' own words.
  std::string tokenizer;
  // Whether there are the endpoints that tell a prompt's tokens; 404 where not.
  bool has_render = true;
  bool has_tokenize = true;
};

// THREADS: Start and the destructor while the loops do not run; Drain like http::Server::Drain.
// Borrows the pool, which must outlive it.
class SimFleet {
 public:
  // Listens at once; answers when the pool runs. Errors name the option or the address.
  static Result<std::unique_ptr<SimFleet>> Start(net::LoopPool& loops, SimOptions options);
  virtual ~SimFleet() = default;
  virtual std::vector<uint16_t> ports() const = 0;
  // Where each engine publishes; empty when they do not.
  virtual std::vector<KvPublisher::Endpoint> kv_endpoints() const = 0;
  // Stops accepting and lets running answers end; `done` is called on loop 0 when none is left, or
  // after `limit`, when the rest is cut.
  virtual void Drain(Duration limit, std::function<void()> done) = 0;
};

}  // namespace penstock::sim
