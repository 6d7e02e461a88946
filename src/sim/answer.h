// One request on its way: the choices that the engine works on, and how much of them the client
// has.
//
// OWNS: its engine requests; destroyed before their end (the client went away), it aborts them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "http/server.h"
#include "sim/answer_format.h"
#include "sim/handler.h"

namespace penstock::sim {

class Answer final : public http::ExchangeListener {
 public:
  Answer(Handler& handler, http::Exchange& exchange, Job job, AnswerHead head);
  ~Answer() override;

  // Plans all choices and hands them to the engine, with ids from `first_id` on.
  void Submit(uint64_t first_id);
  // May destroy this.
  void OnDelta(const Delta& delta);
  void OnDrained() override;

  size_t choices() const { return choices_.size(); }

 private:
  struct Choice {
    Plan plan;
    uint32_t generated = 0;
    uint32_t written = 0;
    uint32_t cached = 0;
    bool finished = false;
  };
  void Reject(Code code);
  // Writes what was generated and not yet written, as far as the client reads. May destroy this.
  void Pump();
  void WriteToken(uint32_t index, std::string* out);
  void FinishWhole();
  TokenUsage Usage() const;
  Ending EndingOf(const Choice& choice) const;

  Handler& handler_;
  http::Exchange& exchange_;
  const Job job_;
  const AnswerHead head_;
  const bool is_stream_;
  std::vector<Choice> choices_;
  std::unique_ptr<StreamFormat> format_;
  uint64_t first_id_ = 0;
  uint32_t unfinished_ = 0;  // choices that the engine works on
  bool has_begun_ = false;   // the stream's first events are written
};

}  // namespace penstock::sim
