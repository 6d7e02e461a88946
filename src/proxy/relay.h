// One request on its way through the gateway: the engine's answer goes to the client piece by piece
// while the director hears what happens.
//
// Back-pressure: a client that does not read pauses the engine's connection at the exchange's high
// watermark; OnDrained resumes it. A client that goes away destroys the relay, which cancels the
// engine's request.
//
// THREADS: loop-bound. OWNS: the follower and the call; owned by the exchange.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/request.h"
#include "director/director.h"
#include "http/client.h"
#include "http/server.h"
#include "intake/follower.h"
#include "proxy/gateway_handler.h"

namespace penstock::proxy {

class Relay : public http::ExchangeListener, public http::CallListener {
 public:
  Relay(GatewayHandler& handler, http::Exchange& exchange,
        std::unique_ptr<intake::Follower> follower, std::vector<api::Splice> splices);

  // Sends the request to the flight's target.
  void Dispatch();

  // http::ExchangeListener
  void OnClientGone() override;
  void OnDrained() override;
  // http::CallListener
  void OnHead(const http::ResponseHead& head) override;
  void OnBody(std::string_view piece) override;
  void OnEnd() override;
  void OnFailure(http::CallFailure failure, std::string_view message) override;

 private:
  // Tries another endpoint; false when the request has to end here.
  bool Retry(director::TryFailure failure);
  void RespondFailure(http::CallFailure failure, std::string_view message);
  void End(director::EndKind kind, int status, std::string_view reason);
  std::string EngineHead() const;

  GatewayHandler& handler_;
  http::Exchange& exchange_;
  std::unique_ptr<intake::Follower> follower_;
  director::Flight& flight_;  // the follower's
  std::vector<api::Splice> splices_;
  std::unique_ptr<http::Call> call_;
  bool started_ = false;   // the client has the head of the answer
  char tail_[2] = {0, 0};  // last bytes sent, to know whether an event is complete
};

}  // namespace penstock::proxy
