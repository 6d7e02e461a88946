#include "recording/recorder.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <mutex>
#include <utility>

#include "core/text.h"
#include "director/director.h"
#include "kvcache/block_keys.h"
#include "recording/output.h"
#include "telemetry/log.h"
#include "wire/json.h"

namespace penstock::recording {
namespace {

constexpr size_t kMaxTextBytes = 512;  // of a name or reason
using model::kBytesPerToken;           // as token-producer estimates

static_assert(crypto_shorthash_KEYBYTES == 16 && crypto_shorthash_BYTES == 8);

std::string Hex(uint64_t value) { return fmt::format("{:016x}", value); }

void AppendHex(uint64_t value, std::string* out) {
  constexpr char kDigits[] = "0123456789abcdef";
  char text[16];
  for (size_t i = 16; i-- > 0; value >>= 4) text[i] = kDigits[value & 15];
  out->append(text, sizeof(text));
}

std::string_view Short(std::string_view text) { return Utf8Prefix(text, kMaxTextBytes); }

void WriteList(std::string_view key, std::span<const std::string> list, wire::JsonWriter* json) {
  json->Key(key).BeginArray();
  for (const std::string& text : list) json->Value(text);
  json->EndArray();
}

// Of the producers that went by what engines told, who told what: "told":[...], or nothing.
void WriteMatches(director::Journal::Matches matches, wire::JsonWriter* json) {
  const auto is_told = [](const model::PrefixColumn& column) { return !column.sources.empty(); };
  if (std::ranges::none_of(matches, is_told)) return;
  json->Key("told").BeginArray();
  std::string by;
  for (size_t i = 0; i < matches.size(); ++i) {
    const model::PrefixColumn& column = matches[i];
    if (!is_told(column)) continue;
    by.clear();
    for (const model::MatchSource source : column.sources) by += LetterOf(source);
    json->BeginObject()
        .Field("of", i)
        .Field("blocks", column.total_blocks)
        .Field("size", column.block_size_tokens)
        .Field("by", by)
        .Key("holds")
        .BeginArray();
    for (size_t at = 0; at < column.sources.size(); ++at) {
      const float matched = column.matched_blocks[at], told = column.told_blocks[at];
      if (column.sources[at] == model::MatchSource::kApproximate) continue;
      if (matched == 0 && told == 0) continue;
      json->BeginArray().Value(at).Value(double{matched}).Value(double{told}).EndArray();
    }
    json->EndArray().EndObject();
  }
  json->EndArray();
}

std::string HeadOf(const RecorderOptions& options) {
  std::string line;
  wire::JsonWriter json(&line);
  json.BeginObject()
      .Field("penstock_recording", kFormat)
      .Field("version", options.version)
      .Field("unix_micros", options.unix_micros)
      .Field("start", ToNanos(options.start))
      .Field("max_endpoints", options.max_endpoints)
      .Field("max_tries", options.max_tries)
      .Field("retry_budget_ratio", options.retry_budget_ratio)
      .Field("policy", options.policy)
      .Field("scheduling", options.scheduling);
  if (!options.attributes.empty()) WriteList("attributes", options.attributes, &json);
  json.EndObject();
  return line + '\n';
}

std::string LastLine(std::string_view why) {
  std::string line;
  wire::JsonWriter(&line).BeginObject().Field("e", "close").Field("why", why).EndObject();
  return line + '\n';
}

}  // namespace

// The file, and why it ended.
class Recorder::Output {
 public:
  std::unique_ptr<ZstdOutput> file;
  std::atomic<uint64_t> events{0};

  void End(std::string_view why) {
    std::lock_guard lock(mutex_);
    ended_ = why;
  }
  std::string ended() const {
    std::lock_guard lock(mutex_);
    return ended_;
  }

 private:
  mutable std::mutex mutex_;
  std::string ended_;
};

Result<std::unique_ptr<Recorder>> Recorder::Open(RecorderOptions options) {
  auto output = std::make_unique<Output>();
  Output* const raw = output.get();
  std::unique_ptr<Recorder> recorder(new Recorder(std::move(options), std::move(output)));
  Recorder* const self = recorder.get();
  auto file =
      ZstdOutput::Open({.path = self->options_.path,
                        .max_bytes = self->options_.max_bytes,
                        .max_waiting_bytes = self->options_.max_waiting_bytes},
                       LastLine, [self, raw](std::string_view why) {
                         raw->End(why);
                         self->Close();
                         telemetry::log::Warn("the recording has ended",
                                              {{"file", self->options_.path}, {"reason", why}});
                       });
  if (!file) return std::unexpected(file.error());
  raw->file = std::move(*file);
  raw->file->Put(HeadOf(self->options_));
  return recorder;
}

Result<> Recorder::Keep() { return output_->file->Keep(); }

Recorder::Recorder(RecorderOptions options, std::unique_ptr<Output> output)
    : options_(std::move(options)), output_(std::move(output)) {
  randombytes_buf(secret_, sizeof(secret_));
}

Recorder::~Recorder() {
  if (output_->file != nullptr) output_->file->Close("stopped");
}

RecorderStats Recorder::Stats() const {
  return {output_->events.load(std::memory_order_relaxed), output_->file->bytes(), is_open(),
          output_->ended()};
}

uint64_t Recorder::TokenOf(std::string_view text) const {
  uint64_t token = 0;
  crypto_shorthash(reinterpret_cast<unsigned char*>(&token),
                   reinterpret_cast<const unsigned char*>(text.data()), text.size(), secret_);
  return token;
}

uint64_t Recorder::TokenOf(uint64_t key) const {
  char bytes[sizeof(key)];
  std::memcpy(bytes, &key, sizeof(key));
  return TokenOf(std::string_view(bytes, sizeof(bytes)));
}

void Recorder::Put(const std::string& line) {
  // Nothing after a line that is missing: it could not be replayed.
  if (!is_open()) return;
  if (line.size() > kMaxLineBytes) output_->file->End("a line is too long");
  if (!output_->file->Put(line)) return Close();
  output_->events.fetch_add(1, std::memory_order_relaxed);
}

void Recorder::AppendKeys(const sched::PrefixKeys& keys, uint64_t tokens, std::string* out) const {
  wire::JsonWriter json(out);
  json.BeginObject().Field("size", keys.block_size_tokens);
  if (tokens > 0) json.Field("tokens", tokens);
  json.Key("ends").BeginArray();
  for (const uint32_t end : keys.sequence_ends) json.Value(end);
  json.EndArray().EndObject();
  out->pop_back();
  out->reserve(out->size() + keys.blocks.size() * 16 + 16);
  out->append(R"(,"keys":")");
  for (const uint64_t key : keys.blocks) AppendHex(TokenOf(key), out);
  out->append("\"}");
}

void Recorder::PutTokens(sched::RequestContext* context) const {
  if (!context->session_id.empty()) context->session_id = Hex(TokenOf(context->session_id));
  // So that no view into those that are added moves.
  context->header_texts.reserve(context->header_texts.size() + options_.headers.size());
  for (const sched::HeaderUse& use : options_.headers) {
    for (model::HeaderView& header : context->request.headers) {
      if (!EqualsIgnoreCase(header.name, use.name)) continue;
      const std::string_view value = TrimSpace(header.value);
      if (value.empty()) {
        header.value = {};  // no session, which no token may make one
      } else {
        context->header_texts.push_back(use.is_identity ? Hex(TokenOf(value))
                                                        : std::string(Short(value)));
        header.value = context->header_texts.back();
      }
      break;  // a plugin sees the first of that name
    }
  }
}

std::string Recorder::Describe(sched::RequestContext* context) {
  // After the end of the recording too: sessions stay known by the same names.
  PutTokens(context);
  if (!is_open()) return "";
  const model::Request& request = context->request;
  std::string text;
  wire::JsonWriter json(&text);
  json.BeginObject()
      .Field("api", model::ApiName(request.api))
      .Field("model", Short(request.model))
      .Field("target", Short(request.target_model))
      .Field("stream", request.stream)
      .Field("max", request.max_output_tokens)
      .Field("bytes", request.body_bytes)
      .Field("extra", request.extra_tokens)
      .Field("tokens", context->input_tokens);
  if (!context->session_id.empty()) json.Field("session", context->session_id);
  if (request.subset) WriteList("subset", *request.subset, &json);
  if (!options_.headers.empty()) {
    json.Key("headers").BeginObject();
    for (const sched::HeaderUse& use : options_.headers) {
      const std::string_view value = request.Header(use.name);
      if (!value.empty()) json.Field(use.name, value);
    }
    json.EndObject();
  }
  json.Key("prefixes").BeginArray();
  json.EndArray().EndObject();
  text.resize(text.size() - 2);
  for (const sched::PrefixKeys& keys : context->prefix_keys) {
    if (text.back() != '[') text += ',';
    AppendKeys(keys, 0, &text);
  }
  text += ']';
  for (const sched::PrefixKeys& keys : context->prefix_keys) {
    if (keys.blocks.size() > kMaxKeys) output_->file->End("a prompt has too many blocks");
  }
  if (context->prefix_keys.empty()) {
    sched::PrefixKeys own{.block_size_tokens = kBlockTokens};
    const size_t block_bytes = kBlockTokens * kBytesPerToken;
    kvcache::AppendBlockKeys(
        request.prompt, kvcache::KeySeed(request.target_model, request.cache_salt, block_bytes),
        block_bytes, kMaxKeyedTokens / kBlockTokens, &own.blocks, &own.sequence_ends);
    uint64_t bytes = 0;
    for (const model::PromptPart& part : request.prompt) bytes += part.bytes.size();
    text += R"(,"prompt":)";
    AppendKeys(own, (bytes + kBytesPerToken - 1) / kBytesPerToken + request.extra_tokens, &text);
  }
  return text + "}\n";
}

uint32_t Recorder::OnLane(uint64_t seed) {
  const uint32_t lane = lanes_++;
  line_ = fmt::format("{{\"e\":\"lane\",\"lane\":{},\"seed\":{}}}\n", lane, seed);
  Put(line_);
  return lane;
}

uint64_t Recorder::OnArrived(uint32_t lane, std::string described,
                             const director::DecisionRecord& record, int status, Matches matches,
                             Time now) {
  const uint64_t number = requests_++;
  if (described.empty()) return number;
  line_.clear();
  wire::JsonWriter json(&line_);
  json.BeginObject()
      .Field("e", "arrive")
      .Field("t", Since(now))
      .Field("n", number)
      .Field("lane", lane);
  if (record.attempts.empty()) {
    json.Field("status", status);
  } else {
    json.Field("to", record.attempts.back().endpoint);
  }
  WriteMatches(matches, &json);
  line_ += ',';
  line_.append(described, 1);  // behind its brace
  Put(line_);
  return number;
}

void Recorder::OnTryFailed(uint64_t request, director::TryFailure failure, std::string_view next,
                           Matches matches, Time now) {
  line_.clear();
  wire::JsonWriter json(&line_);
  json.BeginObject()
      .Field("e", "fail")
      .Field("t", Since(now))
      .Field("n", request)
      .Field("failure", director::TryFailureName(failure));
  if (!next.empty()) json.Field("to", next);
  WriteMatches(matches, &json);
  json.EndObject();
  Put(line_ += '\n');
}

void Recorder::OnServedBy(uint64_t request, std::string_view endpoint, Matches matches, Time now) {
  line_.clear();
  wire::JsonWriter json(&line_);
  json.BeginObject()
      .Field("e", "served")
      .Field("t", Since(now))
      .Field("n", request)
      .Field("to", endpoint);
  WriteMatches(matches, &json);
  json.EndObject();
  Put(line_ += '\n');
}

void Recorder::OnFirstChunk(uint64_t request, Time now) {
  line_ = fmt::format("{{\"e\":\"first\",\"t\":{},\"n\":{}}}\n", Since(now), request);
  Put(line_);
}

void Recorder::OnEnded(uint64_t request, const director::DecisionRecord& record, Time now) {
  line_.clear();
  wire::JsonWriter json(&line_);
  json.BeginObject()
      .Field("e", "end")
      .Field("t", Since(now))
      .Field("n", request)
      .Field("kind", director::EndKindName(record.end))
      .Field("status", record.status);
  if (record.usage_known) {
    json.Field("in", record.reported_input_tokens).Field("out", record.output_tokens);
  }
  if (record.cached_known) json.Field("cached", record.cached_tokens);
  json.EndObject();
  Put(line_ += '\n');
}

void Recorder::OnReplaced(std::span<const model::EndpointSpec> endpoints) {
  line_.clear();
  wire::JsonWriter json(&line_);
  json.BeginObject().Field("e", "endpoints").Key("endpoints").BeginArray();
  for (const model::EndpointSpec& spec : endpoints) {
    json.BeginObject()
        .Field("name", spec.name)
        .Field("host", spec.host)
        .Field("port", spec.port)
        .Field("metrics_port", spec.metrics_port)
        .Key("labels")
        .BeginObject();
    for (const auto& [key, value] : spec.labels) json.Field(key, value);
    json.EndObject().EndObject();
  }
  json.EndArray().EndObject();
  Put(line_ += '\n');
}

void Recorder::OnScraped(uint32_t slot, const director::EngineSignals& signals, Time now) {
  line_.clear();
  wire::JsonWriter json(&line_);
  json.BeginObject().Field("e", "scrape").Field("t", Since(now)).Field("slot", slot);
  const auto number = [&](std::string_view key, const auto& value) {
    if (value) json.Field(key, double{*value});
  };
  number("waiting", signals.waiting);
  number("running", signals.running);
  number("kv", signals.kv_usage);
  if (signals.block_size_tokens) json.Field("block", *signals.block_size_tokens);
  if (signals.gpu_blocks) json.Field("blocks", *signals.gpu_blocks);
  number("started", signals.started_at);
  if (!signals.attributes.empty()) {
    json.Key("attributes").BeginArray();
    // As texts, of which an empty one is no number: JSON has none for what is not told.
    for (const float value : signals.attributes) {
      json.Value(std::isnan(value) ? std::string() : fmt::format("{}", value));
    }
    json.EndArray();
  }
  if (signals.lora) {
    json.Key("lora").BeginObject().Field("max", signals.lora->max_adapters);
    WriteList("running", signals.lora->running, &json);
    WriteList("waiting", signals.lora->waiting, &json);
    json.EndObject();
  }
  json.EndObject();
  Put(line_ += '\n');
}

void Recorder::OnScrapeFailed(uint32_t slot, std::string_view reason, Time now) {
  line_.clear();
  wire::JsonWriter(&line_)
      .BeginObject()
      .Field("e", "scrape_failed")
      .Field("t", Since(now))
      .Field("slot", slot)
      .Field("reason", Short(reason))
      .EndObject();
  Put(line_ += '\n');
}

void Recorder::OnModelsRead(uint32_t slot, std::span<const std::string> models) {
  line_.clear();
  wire::JsonWriter json(&line_);
  json.BeginObject().Field("e", "models").Field("slot", slot);
  WriteList("models", models, &json);
  json.EndObject();
  Put(line_ += '\n');
}

void Recorder::OnTick(Time now) {
  line_ = fmt::format("{{\"e\":\"tick\",\"t\":{}}}\n", Since(now));
  Put(line_);
}

}  // namespace penstock::recording
