// For tests and fuzzing: what Envoy says and hears, and an RPC without a connection.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "director/director.h"
#include "extproc/stream.h"
#include "plugins/builtin.h"
#include "sched/config_loader.h"
#include "telemetry/metrics.h"
#include "wire/protobuf.h"

namespace penstock::extproc::testing {

using Pairs = std::vector<std::pair<std::string, std::string>>;

// --- what Envoy says

struct Says {
  explicit Says(uint32_t number) : number_(number) {}
  Says& Headers(const Pairs& headers) {
    std::string map;
    for (const auto& [name, value] : headers) {
      // Lengths in as few bytes as Envoy's.
      std::string one;
      wire::ProtoWriter(&one).Bytes(1, name);
      wire::ProtoWriter(&one).Bytes(3, value);
      wire::ProtoWriter(&map).Bytes(1, one);
    }
    wire::ProtoWriter(&inner_).Bytes(1, map);
    return *this;
  }
  Says& Body(std::string_view body) {
    wire::ProtoWriter(&inner_).Bytes(1, body);
    return *this;
  }
  Says& Last(bool is_last = true) {
    wire::ProtoWriter(&inner_).Flag(number_ == 2 || number_ == 3 ? 3 : 2, is_last);
    return *this;
  }
  Says& Modes(uint64_t request, uint64_t response) {
    wire::ProtoWriter writer(&outer_);
    const size_t modes = writer.Begin(11);
    writer.Varint(1, request);
    writer.Varint(2, response);
    writer.End(modes);
    return *this;
  }
  Says& Observed() {
    wire::ProtoWriter(&outer_).Flag(10, true);
    return *this;
  }
  Says& Subset(const std::vector<std::string>& addresses) {
    std::string list;
    for (const std::string& address : addresses) {
      wire::ProtoWriter values(&list);
      const size_t one = values.Begin(1);
      values.Bytes(3, address);
      values.End(one);
    }
    return Metadata("envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset", 6, list);
  }
  Says& Served(const std::string& address) {
    return Metadata("envoy.lb", "x-gateway-destination-endpoint-served", 3, address);
  }
  Says& Metadata(std::string_view space, std::string_view key, uint32_t kind,
                 std::string_view value) {
    wire::ProtoWriter writer(&outer_);
    const size_t metadata = writer.Begin(8);
    const size_t entry = writer.Begin(1);
    writer.Bytes(1, space);
    const size_t fields = writer.Begin(2);
    const size_t field = writer.Begin(1);
    writer.Bytes(1, key);
    const size_t holder = writer.Begin(2);
    writer.Bytes(kind, value);
    for (const size_t mark : {holder, field, fields, entry, metadata}) writer.End(mark);
    return *this;
  }
  std::string Message() const {
    std::string out;
    wire::ProtoWriter(&out).Bytes(number_, inner_);
    return out + outer_;
  }

 private:
  uint32_t number_;
  std::string inner_, outer_;
};
inline Says RequestHeaders() { return Says(2); }
inline Says ResponseHeaders() { return Says(3); }
inline Says RequestBody() { return Says(4); }
inline Says ResponseBody() { return Says(5); }
inline Says RequestTrailers() { return Says(6); }
inline Says ResponseTrailers() { return Says(7); }

// --- what Envoy hears

// One ProcessingResponse, as the field that it sets.
struct Heard {
  uint32_t number = 0;  // 1 request_headers ... 7 immediate_response
  std::map<std::string, std::string> set;
  std::vector<std::string> removed;
  bool clears_route = false;
  std::string body;
  bool is_last = false;
  int status = 0;
  std::string destination;               // of the metadata
  std::map<std::string, double> scores;  // of the metadata
};

namespace internal {

// The fields of that number, in order.
inline std::vector<std::string_view> All(std::string_view bytes, uint32_t number) {
  std::vector<std::string_view> out;
  wire::ProtoReader fields(bytes);
  for (wire::ProtoField field; fields.Next(&field);) {
    if (field.number == number) out.push_back(field.bytes);
  }
  return out;
}
inline std::string_view One(std::string_view bytes, uint32_t number) {
  const auto all = All(bytes, number);
  return all.empty() ? std::string_view() : all.back();
}
inline uint64_t Number(std::string_view bytes, uint32_t number) {
  uint64_t value = 0;
  wire::ProtoReader fields(bytes);
  for (wire::ProtoField field; fields.Next(&field);) {
    if (field.number == number) value = field.value;
  }
  return value;
}
// A Struct's value of that key.
inline std::string_view Key(std::string_view fields, std::string_view key) {
  for (const std::string_view entry : All(fields, 1)) {
    if (One(entry, 1) == key) return One(entry, 2);
  }
  return {};
}
inline void ReadMutation(std::string_view mutation, Heard* out) {
  for (const std::string_view option : All(mutation, 1)) {
    const std::string_view header = One(option, 1);
    if (Number(option, 3) == 2) out->set[std::string(One(header, 1))] = One(header, 3);
  }
  for (const std::string_view name : All(mutation, 2)) out->removed.emplace_back(name);
}

}  // namespace internal

inline Heard Hear(std::string_view message) {
  namespace in = internal;
  Heard heard;
  wire::ProtoReader fields(message);
  for (wire::ProtoField field; fields.Next(&field);) {
    if (field.number == 8) {
      const std::string_view lb = in::One(in::Key(field.bytes, "envoy.lb"), 5);
      heard.destination = in::One(in::Key(lb, kDestinationHeader), 3);
      const std::string_view scores =
          in::One(in::Key(lb, "x-gateway-destination-endpoint-scores"), 5);
      for (const std::string_view entry : in::All(scores, 1)) {
        wire::ProtoReader value(in::One(entry, 2));
        wire::ProtoField number;
        if (value.Next(&number)) heard.scores[std::string(in::One(entry, 1))] = number.real();
      }
      continue;
    }
    heard.number = field.number;
    if (heard.number == 7) {
      heard.status = static_cast<int>(in::Number(in::One(field.bytes, 1), 1));
      in::ReadMutation(in::One(field.bytes, 2), &heard);
      heard.body = in::One(field.bytes, 3);
    } else if (heard.number <= 4) {
      const std::string_view common = in::One(field.bytes, 1);
      in::ReadMutation(in::One(common, 2), &heard);
      heard.clears_route = in::Number(common, 5) != 0;
      const std::string_view streamed = in::One(in::One(common, 3), 3);
      heard.body = in::One(streamed, 1);
      heard.is_last = in::Number(streamed, 2) != 0;
    }
  }
  return heard;
}

// --- the RPC

class FakeCall final : public grpc::Call {
 public:
  explicit FakeCall(net::Loop& loop) : loop_(loop) {}
  std::string_view path() const override { return Service::kProcess; }
  std::string_view Metadata(std::string_view) const override { return {}; }
  net::Loop& loop() override { return loop_; }
  void Send(std::string_view message) override {
    if (status) return;
    messages.emplace_back(message);
  }
  bool above_high_watermark() const override { return is_full || messages.size() >= full_at; }
  void Finish(grpc::Status s, std::string_view m) override {
    if (!status) status = s, text = m;
  }

  std::vector<Heard> AllHeard() const {
    std::vector<Heard> out;
    for (const std::string& message : messages) out.push_back(Hear(message));
    return out;
  }

  std::vector<std::string> messages;
  std::optional<grpc::Status> status;
  std::string text;
  bool is_full = false;
  size_t full_at = SIZE_MAX;

 private:
  net::Loop& loop_;
};

// A picker without a server: engines at 10.0.0.0:8000, 10.0.0.1:8000, ...
struct Rig {
  explicit Rig(int endpoints = 2, Options options = {}, uint64_t budget = uint64_t{1} << 30,
               std::string_view policy = "least-cost")
      : fleet(16), bodies(budget) {
    std::vector<model::EndpointSpec> specs;
    for (int i = 0; i < endpoints; ++i) {
      specs.push_back({"e" + std::to_string(i), "10.0.0." + std::to_string(i), 8000, 0, {}});
    }
    is_ready = fleet.Replace(std::move(specs)).has_value();
    const auto pool = fleet.snapshot().Get();
    for (const auto& e : pool->endpoints) fleet.Scraped(e.slot, {}, Time());
    config::Diagnostics diagnostics;
    director = std::make_unique<director::Director>(
        fleet,
        sched::Scheduler::Create(*sched::BuiltinPolicy(policy), plugins::Builtins(), &diagnostics),
        director::DirectorOptions{});
    using intake::RequestMetrics;
    RequestMetrics::Options of_metrics;
    of_metrics.error_codes = RequestMetrics::ErrorCodes::kLlmd;
    metrics = std::make_unique<RequestMetrics>(registry, of_metrics);
    streams = std::make_unique<StreamMetrics>(registry, StreamMetrics::Streams::kCounted);
    shared.reset(new Shared{*director, *metrics, bodies, options, *streams});
    part = std::make_unique<LoopPart>(loop, *shared, 1);
  }
  int64_t InFlight() const {
    int64_t sum = 0;
    const auto pool = fleet.snapshot().Get();
    for (const auto& e : pool->endpoints) {
      sum += fleet.live().in_flight_requests[e.slot].load();
    }
    return sum;
  }

  bool is_ready = false;
  net::Loop loop;
  telemetry::Registry registry;
  director::Fleet fleet;
  ByteBudget bodies;
  std::unique_ptr<director::Director> director;
  std::unique_ptr<intake::RequestMetrics> metrics;
  std::unique_ptr<StreamMetrics> streams;
  std::unique_ptr<Shared> shared;
  std::unique_ptr<LoopPart> part;
};

}  // namespace penstock::extproc::testing
