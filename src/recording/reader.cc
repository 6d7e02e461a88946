#include "recording/reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "core/text.h"
#include "recording/recorder.h"
#include "sched/picker_settings.h"
#include "wire/json_scan.h"
#include "workload/recorded.h"

namespace penstock::recording {
namespace {

using wire::JsonScanner;

constexpr uint32_t kMaxEndpoints = 16384;
constexpr uint32_t kMaxTries = 10;
constexpr uint32_t kMaxProducers = 256;
constexpr int64_t kMaxNanos = int64_t{1} << 61;
constexpr double kMaxNumber = 1e30;

// Fields of one object, read as they are asked for; the first complaint stays.
class Fields {
 public:
  explicit Fields(JsonScanner& json) : json_(json) {}

  bool Next() {
    wire::JsonString key;
    if (!complaint_.empty() || !json_.NextField(&key)) return false;
    key_ = Text(key);
    return true;
  }
  const std::string& key() const { return key_; }

  std::string Text() {
    wire::JsonString value;
    json_.ReadString(&value);
    return Text(value);
  }
  // As it stands between the quotes.
  std::string_view Raw() {
    wire::JsonString value;
    json_.ReadString(&value);
    return value.raw;
  }
  bool Bool() {
    bool value = false;
    json_.ReadBool(&value);
    return value;
  }
  double Number() {
    std::string_view text;
    json_.ReadNumber(&text);
    const auto value = ParseDouble(text);
    if (json_.ok() && (!value || std::fabs(*value) > kMaxNumber)) {
      Complain(fmt::format("{}: '{}' is no number up to {}", key_, text, kMaxNumber));
      return 0;
    }
    return value.value_or(0);
  }
  template <class T>
  T Uint(uint64_t most = std::numeric_limits<T>::max()) {
    std::string_view text;
    json_.ReadNumber(&text);
    const auto value = ParseUint(text);
    if (json_.ok() && (!value || *value > most)) {
      Complain(fmt::format("{}: '{}' is no whole number up to {}", key_, text, most));
    }
    return static_cast<T>(value.value_or(0));
  }
  // A time after `start`; before it, too: a request may have come in before.
  Time At(Time start) {
    std::string_view text;
    json_.ReadNumber(&text);
    const bool is_before = text.starts_with('-');
    const auto value = ParseUint(is_before ? text.substr(1) : text);
    if (json_.ok() && (!value || *value > static_cast<uint64_t>(kMaxNanos))) {
      Complain(fmt::format("{}: '{}' is no time in nanoseconds", key_, text));
      return start;
    }
    const auto nanos = static_cast<int64_t>(value.value_or(0));
    return start + Duration(is_before ? -nanos : nanos);
  }
  std::vector<std::string> Texts() {
    std::vector<std::string> out;
    for (json_.EnterArray(); json_.NextElement();) out.push_back(Text());
    return out;
  }

  void Complain(std::string what) {
    if (complaint_.empty()) complaint_ = std::move(what);
  }
  const std::string& complaint() const { return complaint_; }
  JsonScanner& json() { return json_; }

 private:
  static std::string Text(const wire::JsonString& value) {
    std::string out(value.raw);
    if (value.escaped) out.resize(wire::UnescapeJson(value.raw, out.data()));
    return out;
  }

  JsonScanner& json_;
  std::string key_;
  std::string complaint_;
};

void ReadKeys(Fields& outer, sched::PrefixKeys* keys) {
  Fields fields(outer.json());
  for (outer.json().EnterObject(); fields.Next();) {
    if (fields.key() == "size") {
      keys->block_size_tokens = fields.Uint<uint32_t>(1U << 20);
    } else if (fields.key() == "ends") {
      for (fields.json().EnterArray(); fields.json().NextElement();) {
        keys->sequence_ends.push_back(fields.Uint<uint32_t>(kMaxKeys));
      }
    } else if (fields.key() == "keys") {
      if (!workload::ReadHexKeys(fields.Raw(), &keys->blocks))
        fields.Complain(fmt::format("keys: not up to {} hexadecimal keys", kMaxKeys));
    } else {
      fields.json().Skip();
    }
  }
  outer.Complain(fields.complaint());
  if (!outer.json().ok()) return;
  uint32_t before = 0;
  for (const uint32_t end : keys->sequence_ends) {
    if (end < before || end > keys->blocks.size())
      outer.Complain("ends: not rising up to the keys");
    before = end;
  }
  if (keys->block_size_tokens == 0) outer.Complain("size: 0 tokens");
}

std::optional<model::MatchSource> SourceOf(char letter) {
  using model::MatchSource;
  for (const auto source :
       {MatchSource::kApproximate, MatchSource::kExact, MatchSource::kDegraded}) {
    if (LetterOf(source) == letter) return source;
  }
  return std::nullopt;
}

void ReadSources(Fields& fields, std::vector<model::MatchSource>* sources) {
  const std::string_view letters = fields.Raw();
  if (letters.size() > kMaxEndpoints) {
    return fields.Complain(fmt::format("by: more than {} endpoints", kMaxEndpoints));
  }
  for (const char letter : letters) {
    const auto source = SourceOf(letter);
    if (!source) return fields.Complain("by: letters are a, d and e");
    sources->push_back(*source);
  }
}

// [endpoint, matched blocks, told blocks]
sched::ToldMatches::Hold ReadHold(Fields& fields) {
  sched::ToldMatches::Hold hold;
  JsonScanner& json = fields.json();
  size_t read = 0;
  for (json.EnterArray(); json.NextElement(); ++read) {
    if (read == 0) {
      hold.column = fields.Uint<uint32_t>(kMaxEndpoints);
    } else if (read == 1) {
      hold.matched_blocks = static_cast<float>(fields.Number());
    } else if (read == 2) {
      hold.told_blocks = static_cast<float>(fields.Number());
    } else {
      json.Skip();
    }
  }
  if (json.ok() && read != 3) fields.Complain("holds: not three numbers each");
  if (hold.matched_blocks < 0 || hold.told_blocks < 0) fields.Complain("holds: below 0");
  return hold;
}

// Whether every hold is of an endpoint that told something, and they rise.
bool AreSound(const sched::ToldMatches& told) {
  uint32_t next = 0;
  for (const sched::ToldMatches::Hold& hold : told.holds) {
    if (hold.column < next || hold.column >= told.sources.size()) return false;
    if (told.sources[hold.column] == model::MatchSource::kApproximate) return false;
    next = hold.column + 1;
  }
  return true;
}

void ReadTold(Fields& outer, Event* event) {
  sched::ToldMatches told;
  uint32_t producer = 0;
  Fields fields(outer.json());
  for (outer.json().EnterObject(); fields.Next();) {
    if (fields.key() == "of") {
      producer = fields.Uint<uint32_t>(kMaxProducers - 1);
    } else if (fields.key() == "blocks") {
      told.total_blocks = fields.Uint<uint32_t>();
    } else if (fields.key() == "size") {
      told.block_size_tokens = fields.Uint<uint32_t>(1U << 20);
    } else if (fields.key() == "by") {
      ReadSources(fields, &told.sources);
    } else if (fields.key() == "holds") {
      for (fields.json().EnterArray(); fields.json().NextElement();) {
        told.holds.push_back(ReadHold(fields));
      }
    } else {
      fields.json().Skip();
    }
  }
  outer.Complain(fields.complaint());
  if (!outer.json().ok() || !outer.complaint().empty()) return;
  if (told.block_size_tokens == 0) outer.Complain("told: size: 0 tokens");
  if (!AreSound(told)) outer.Complain("told: holds: not rising, or of endpoints that told nothing");
  if (producer >= event->told.size()) event->told.resize(producer + size_t{1});
  event->told[producer] = std::move(told);
}

void ReadHeaders(Fields& outer, Event* event) {
  Fields fields(outer.json());
  for (outer.json().EnterObject(); fields.Next();) {
    event->header_names.push_back(fields.key());
    event->context.header_texts.push_back(fields.Text());
  }
  outer.Complain(fields.complaint());
}

void ReadEndpoints(Fields& outer, std::vector<model::EndpointSpec>* endpoints) {
  JsonScanner& json = outer.json();
  for (json.EnterArray(); json.NextElement();) {
    model::EndpointSpec& spec = endpoints->emplace_back();
    Fields fields(json);
    for (json.EnterObject(); fields.Next();) {
      if (fields.key() == "name") {
        spec.name = fields.Text();
      } else if (fields.key() == "host") {
        spec.host = fields.Text();
      } else if (fields.key() == "port") {
        spec.port = fields.Uint<uint16_t>();
      } else if (fields.key() == "metrics_port") {
        spec.metrics_port = fields.Uint<uint16_t>();
      } else if (fields.key() == "labels") {
        Fields labels(json);
        for (json.EnterObject(); labels.Next();) {
          std::string key = labels.key();
          spec.labels.emplace_back(std::move(key), labels.Text());
        }
      } else {
        json.Skip();
      }
    }
    outer.Complain(fields.complaint());
    std::sort(spec.labels.begin(), spec.labels.end());
  }
}

void ReadLora(Fields& outer, model::LoraState* lora) {
  Fields fields(outer.json());
  for (outer.json().EnterObject(); fields.Next();) {
    if (fields.key() == "max") {
      lora->max_adapters = fields.Uint<uint32_t>();
    } else if (fields.key() == "running") {
      lora->running = fields.Texts();
    } else if (fields.key() == "waiting") {
      lora->waiting = fields.Texts();
    } else {
      fields.json().Skip();
    }
  }
  outer.Complain(fields.complaint());
}

// The enumerator, up to `last`, of which `name_of` gives the name.
template <class E>
std::optional<E> Named(std::string_view name, E last, std::string_view (*name_of)(E)) {
  for (int i = 0; i <= static_cast<int>(last); ++i) {
    if (name_of(static_cast<E>(i)) == name) return static_cast<E>(i);
  }
  return std::nullopt;
}

template <class E>
void ReadNamed(Fields& fields, E last, std::string_view (*name_of)(E), E* out) {
  const std::string name = fields.Text();
  if (const auto found = Named(name, last, name_of)) {
    *out = *found;
  } else {
    fields.Complain(fmt::format("{}: '{}' is not known", fields.key(), Utf8Prefix(name, 40)));
  }
}

constexpr std::array<std::pair<std::string_view, Event::Kind>, 12> kKinds = {{
    {"lane", Event::Kind::kLane},
    {"arrive", Event::Kind::kArrive},
    {"fail", Event::Kind::kFail},
    {"served", Event::Kind::kServed},
    {"first", Event::Kind::kFirst},
    {"end", Event::Kind::kEnd},
    {"endpoints", Event::Kind::kEndpoints},
    {"scrape", Event::Kind::kScrape},
    {"scrape_failed", Event::Kind::kScrapeFailed},
    {"models", Event::Kind::kModels},
    {"tick", Event::Kind::kTick},
    {"close", Event::Kind::kClose},
}};

void ReadKind(Fields& fields, Event* event) {
  const std::string name = fields.Text();
  const auto* const found =
      std::find_if(kKinds.begin(), kKinds.end(), [&](const auto& k) { return k.first == name; });
  if (found == kKinds.end()) {
    fields.Complain(fmt::format("e: '{}' is no event", Utf8Prefix(name, 40)));
  } else {
    event->kind = found->second;
  }
}

// What an arrival says of its request. False: another field.
bool ReadRequestField(Fields& fields, Event* event) {
  const std::string& key = fields.key();
  model::Request& request = event->context.request;
  if (key == "api") {
    ReadNamed(fields, model::Api::kOther, model::ApiName, &request.api);
  } else if (key == "model") {
    request.model = fields.Text();
  } else if (key == "target") {
    request.target_model = fields.Text();
  } else if (key == "stream") {
    request.stream = fields.Bool();
  } else if (key == "max") {
    request.max_output_tokens = fields.Uint<uint32_t>();
  } else if (key == "bytes") {
    request.body_bytes = fields.Uint<uint64_t>();
  } else if (key == "extra") {
    request.extra_tokens = fields.Uint<uint64_t>();
  } else if (key == "tokens") {
    event->context.input_tokens = fields.Uint<uint64_t>(uint64_t{1} << 40);
  } else if (key == "session") {
    event->context.session_id = fields.Text();
  } else if (key == "subset") {
    request.subset = fields.Texts();
    std::sort(request.subset->begin(), request.subset->end());
  } else if (key == "headers") {
    ReadHeaders(fields, event);
  } else if (key == "prefixes") {
    for (fields.json().EnterArray(); fields.json().NextElement();) {
      ReadKeys(fields, &event->context.prefix_keys.emplace_back());
    }
  } else if (key == "prompt") {
    ReadKeys(fields, &event->prompt);
  } else {
    return false;
  }
  return true;
}

void ReadAttributes(Fields& fields, std::vector<float>* values) {
  for (const std::string& text : fields.Texts()) {
    float value = std::numeric_limits<float>::quiet_NaN();
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool is_number =
        error == std::errc() && end == text.data() + text.size() && std::isfinite(value);
    if (!text.empty() && !is_number) {
      fields.Complain(fmt::format("attributes: '{}' is no number", Utf8Prefix(text, 40)));
    }
    values->push_back(value);
  }
  if (values->size() > sched::kMaxAttributes) {
    fields.Complain(fmt::format("attributes: more than {}", sched::kMaxAttributes));
  }
}

// What a scrape says. False: another field.
bool ReadSignalField(Fields& fields, director::EngineSignals* signals) {
  const std::string& key = fields.key();
  if (key == "waiting") {
    signals->waiting = static_cast<float>(fields.Number());
  } else if (key == "running") {
    signals->running = static_cast<float>(fields.Number());
  } else if (key == "kv") {
    signals->kv_usage = static_cast<float>(fields.Number());
  } else if (key == "block") {
    signals->block_size_tokens = fields.Uint<uint32_t>();
  } else if (key == "blocks") {
    signals->gpu_blocks = fields.Uint<uint32_t>();
  } else if (key == "started") {
    signals->started_at = fields.Number();
  } else if (key == "attributes") {
    ReadAttributes(fields, &signals->attributes);
  } else if (key == "lora") {
    ReadLora(fields, &signals->lora.emplace());
  } else {
    return false;
  }
  return true;
}

void ReadEndField(Fields& fields, Event* event) {
  const std::string& key = fields.key();
  director::ReportedUsage& usage = event->usage;
  if (key == "kind") {
    ReadNamed(fields, director::EndKind::kRejected, director::EndKindName, &event->end);
  } else if (key == "in") {
    usage.known = true;
    usage.input_tokens = fields.Uint<uint64_t>();
  } else if (key == "out") {
    usage.output_tokens = fields.Uint<uint64_t>();
  } else if (key == "cached") {
    usage.cached_known = true;
    usage.cached_tokens = fields.Uint<uint64_t>();
  } else {
    fields.json().Skip();
  }
}

bool IsDecision(Event::Kind kind) {
  return kind == Event::Kind::kArrive || kind == Event::Kind::kFail || kind == Event::Kind::kServed;
}

void ReadEventField(Fields& fields, Time start, Event* event) {
  const std::string& key = fields.key();
  if (key == "t") {
    event->at = fields.At(start);
  } else if (key == "n") {
    event->request = fields.Uint<uint64_t>();
  } else if (key == "lane") {
    event->lane = fields.Uint<uint32_t>();
  } else if (key == "slot") {
    event->slot = fields.Uint<uint32_t>();
  } else if (key == "seed") {
    event->seed = fields.Uint<uint64_t>();
  } else if (key == "to") {
    event->to = fields.Text();
  } else if (key == "status") {
    event->status = fields.Uint<uint16_t>(999);
  } else if (key == "failure") {
    ReadNamed(fields, director::TryFailure::kStatus504, director::TryFailureName, &event->failure);
  } else if (key == "endpoints") {
    ReadEndpoints(fields, &event->endpoints);
  } else if (event->kind == Event::Kind::kModels && key == "models") {
    event->models = fields.Texts();
  } else if (key == "reason" || key == "why") {
    event->text = fields.Text();
  } else if (key == "told" && IsDecision(event->kind)) {
    for (fields.json().EnterArray(); fields.json().NextElement();) ReadTold(fields, event);
  } else if (event->kind == Event::Kind::kArrive) {
    if (!ReadRequestField(fields, event)) fields.json().Skip();
  } else if (event->kind == Event::Kind::kScrape) {
    if (!ReadSignalField(fields, &event->signals)) fields.json().Skip();
  } else if (event->kind == Event::Kind::kEnd) {
    ReadEndField(fields, event);
  } else {
    fields.json().Skip();
  }
}

}  // namespace

Result<Head> ReadHead(std::string_view line) {
  Head head;
  JsonScanner json(line);
  Fields fields(json);
  uint32_t format = 0;
  for (json.EnterObject(); fields.Next();) {
    const std::string& key = fields.key();
    if (key == "penstock_recording") {
      format = fields.Uint<uint32_t>();
    } else if (key == "version") {
      head.version = fields.Text();
    } else if (key == "policy") {
      head.policy = fields.Text();
    } else if (key == "unix_micros") {
      head.unix_micros = fields.Uint<int64_t>(kMaxNanos);
    } else if (key == "start") {
      head.start = fields.At(Time());
    } else if (key == "max_endpoints") {
      head.max_endpoints = fields.Uint<uint32_t>(kMaxEndpoints);
    } else if (key == "max_tries") {
      head.max_tries = fields.Uint<uint32_t>(kMaxTries);
    } else if (key == "retry_budget_ratio") {
      head.retry_budget_ratio = fields.Number();
    } else if (key == "scheduling") {
      head.scheduling = fields.Text();
    } else if (key == "attributes") {
      head.attributes = fields.Texts();
    } else {
      json.Skip();
    }
  }
  if (!fields.complaint().empty()) return Fail(Code::kInvalidArgument, fields.complaint());
  if (!json.Finish()) {
    return Fail(Code::kInvalidArgument, "is no recording: " + json.Complaint());
  }
  if (format == 0) return Fail(Code::kInvalidArgument, "is no recording: no penstock_recording");
  if (format != kFormat) {
    return Fail(Code::kInvalidArgument,
                fmt::format("has format {}; this version reads {}", format, kFormat));
  }
  if (head.attributes.size() > sched::kMaxAttributes) {
    return Fail(Code::kInvalidArgument,
                fmt::format("attributes: more than {}", sched::kMaxAttributes));
  }
  if (!(head.retry_budget_ratio >= 0 && head.retry_budget_ratio <= 1)) {
    return Fail(Code::kInvalidArgument, "retry_budget_ratio: not between 0 and 1");
  }
  return head;
}

Result<Event> ReadEvent(std::string_view line, Time start) {
  Event event;
  event.at = start;
  JsonScanner json(line);
  Fields fields(json);
  bool is_first = true;
  for (json.EnterObject(); fields.Next(); is_first = false) {
    if (is_first != (fields.key() == "e")) {
      return Fail(Code::kInvalidArgument, "the first field, and only it, must be 'e'");
    }
    if (is_first) {
      ReadKind(fields, &event);
    } else {
      ReadEventField(fields, start, &event);
    }
  }
  if (!fields.complaint().empty()) return Fail(Code::kInvalidArgument, fields.complaint());
  if (!json.Finish()) return Fail(Code::kInvalidArgument, json.Complaint());
  if (is_first) return Fail(Code::kInvalidArgument, "no event in it");
  for (size_t i = 0; i < event.header_names.size(); ++i) {
    event.context.request.headers.push_back({event.header_names[i], event.context.header_texts[i]});
  }
  return event;
}

}  // namespace penstock::recording
