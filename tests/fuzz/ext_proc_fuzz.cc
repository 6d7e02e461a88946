// Any order of ext_proc messages, well formed or not, with ends of every kind between them: what is
// said in return is an order that Envoy takes, nothing is told twice or changed, and every claim
// and byte is given back.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "extproc/testing.h"
#include "telemetry/log.h"

namespace penstock::extproc {
namespace {

using testing::FakeCall;
using testing::Heard;

void Check(bool holds) {
  if (!holds) std::abort();
}

constexpr std::string_view kBody =
    R"({"model": "m", "prompt": "hello there, this is a prompt", "max_tokens": 4})";

class Script {
 public:
  Script(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool done() const { return at_ == end_; }
  uint8_t Byte() { return done() ? 0 : *at_++; }
  std::string Bytes(size_t most) {
    const size_t size = std::min<size_t>(most, static_cast<size_t>(end_ - at_));
    std::string out(reinterpret_cast<const char*>(at_), size);
    at_ += size;
    return out;
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

struct Told {
  std::string request_body, response_body;
};

// The next message, and what it adds to the bodies.
std::string NextMessage(Script& script, Told* told) {
  const uint8_t kind = script.Byte();
  const bool is_last = (kind & 0x80) != 0;
  switch (kind & 0x0f) {
    case 0: {
      auto says = testing::RequestHeaders().Headers(
          {{":method", "POST"},
           {":path", (kind & 0x40) != 0 ? "/v1/completions" : "/elsewhere"},
           {script.Bytes(4), script.Bytes(4)}});
      if ((kind & 0x20) != 0) says.Subset({"10.0.0.1:1", script.Bytes(8)});
      if ((kind & 0x10) != 0) says.Modes(4, 4);
      return says.Last(is_last).Message();
    }
    case 1:
    case 2: {
      std::string piece(kBody);
      if ((kind & 0x0f) == 2) piece = script.Bytes(script.Byte());
      if ((kind & 0x40) != 0) piece += std::string(70'000, ' ');
      told->request_body += piece;
      return testing::RequestBody().Body(piece).Last(is_last).Message();
    }
    case 3:
      return testing::RequestTrailers().Message();
    case 4:
      return testing::ResponseHeaders()
          .Headers({{":status", (kind & 0x40) != 0 ? "200" : script.Bytes(3)},
                    {"content-type", (kind & 0x20) != 0 ? "text/event-stream" : "x"}})
          .Last(is_last)
          .Message();
    case 5: {
      std::string piece = script.Bytes(script.Byte());
      if ((kind & 0x40) != 0) piece += std::string(130'000, 'y');
      told->response_body += piece;
      return testing::ResponseBody().Body(piece).Last(is_last).Message();
    }
    case 6:
      return testing::ResponseTrailers().Message();
    default:
      return script.Bytes(script.Byte());
  }
}

// What was said is one of the orders that Envoy takes.
void CheckSaid(const FakeCall& call, const Told& told, bool is_whole) {
  std::string request_body, response_body;
  uint32_t before = 0;
  bool had_last = false;
  for (const Heard& heard : call.AllHeard()) {
    if (heard.number == 7) {
      Check(before == 0 && heard.status >= 400);
      before = 7;
      continue;
    }
    Check(before != 7);
    if (heard.number == 1) {
      Check(before == 0 && !heard.destination.empty() && heard.clears_route);
      Check(heard.set.at(std::string(kDestinationHeader)) == heard.destination);
      before = 1;
    } else if (heard.number == 3) {
      Check(before >= 1 && !had_last && heard.body.size() <= kMaxChunk);
      request_body += heard.body;
      had_last = heard.is_last;
    } else if (heard.number == 4) {
      Check(heard.body.size() <= kMaxChunk);
      response_body += heard.body;
      Check(before == 2);
    } else if (heard.number == 5) {
      Check(before >= 1 && !had_last);
      had_last = true;
    } else if (heard.number == 2) {
      Check(before <= 1);
      before = 2;
    } else {
      Check(heard.number == 6 && before == 2);
    }
  }
  Check(told.request_body.starts_with(request_body) || request_body.empty() || !is_whole);
  Check(told.response_body.starts_with(response_body));
}

void Play(const uint8_t* data, size_t size) {
  static testing::Rig rig(2, {.max_body_bytes = 1 << 20});
  Script script(data, size);
  FakeCall call(rig.loop);
  Told told;
  auto stream = std::make_unique<Stream>(*rig.part, call);
  bool is_over = false;
  while (!script.done() && !is_over) {
    const uint8_t what = script.Byte();
    if (what == 0xff) {
      stream->OnHalfClose();
      is_over = true;
    } else if (what == 0xfe) {
      stream->OnCancel();
      is_over = true;
    } else if (what == 0xfd) {
      call.is_full = !call.is_full;
      if (!call.is_full && !call.status) stream->OnDrained();
    } else if (!call.status) {  // a server says no more after the end
      stream->OnMessage(NextMessage(script, &told));
    }
    Check(rig.InFlight() <= 1);
  }
  CheckSaid(call, told, told.request_body.find("kv_transfer_params") == std::string::npos);
  stream.reset();
  Check(rig.InFlight() == 0 && rig.bodies.used() == 0);
}

}  // namespace
}  // namespace penstock::extproc

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool is_quiet = [] {
    penstock::telemetry::log::Configure(penstock::telemetry::log::Level::kOff,
                                        penstock::telemetry::log::Format::kText);
    return true;
  }();
  (void)is_quiet;
  penstock::extproc::Play(data, size);
  return 0;
}
