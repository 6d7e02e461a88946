// Asks a gateway which models it serves.
//
// THREADS: loop-bound. OWNS: its call; borrows the client.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/result.h"
#include "http/client.h"
#include "traffic/target.h"

namespace penstock::traffic {

class ModelLookup final : private http::CallListener {
 public:
  // GET /v1/models. `done` gets the first model's id, or an error that says what to do; it is
  // called once, never inside the constructor, and must not destroy the lookup.
  ModelLookup(http::Client& client, const Target& target,
              std::function<void(Result<std::string>)> done);

 private:
  void OnHead(const http::ResponseHead& head) override;
  void OnBody(std::string_view piece) override;
  void OnEnd() override;
  void OnFailure(http::CallFailure failure, std::string_view message) override;

  const std::string address_;
  std::function<void(Result<std::string>)> done_;
  int status_ = 0;
  std::string body_;
  std::unique_ptr<http::Call> call_;
};

// The id of the first model in the body of an answer to GET /v1/models; nothing when there is none.
std::optional<std::string> FirstModel(std::string_view body);

}  // namespace penstock::traffic
