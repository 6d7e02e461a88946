#include "signals/metric_scanner.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <utility>

#include "core/text.h"

namespace penstock::signals {

namespace {

constexpr double kMaxCount = 1e9;
constexpr double kMaxUsage = 1.5;
constexpr uint64_t kMaxBlockSize = 1 << 20;
constexpr size_t kMaxGroups = 1024;

bool IsBlank(char c) { return c == ' ' || c == '\t'; }

void SkipBlanks(std::string_view* text) {
  size_t at = 0;
  while (at < text->size() && IsBlank((*text)[at])) ++at;
  text->remove_prefix(at);
}

std::string Unescape(std::string_view raw) {
  std::string out;
  out.reserve(raw.size());
  for (size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] == '\\' && i + 1 < raw.size()) {
      ++i;
      out += raw[i] == 'n' ? '\n' : raw[i];
    } else {
      out += raw[i];
    }
  }
  return out;
}

// "a,b" as names, sorted, so that an engine that tells them in changing order changes nothing.
std::vector<std::string> SplitNames(std::string_view raw) {
  std::vector<std::string> out;
  const std::string text = Unescape(raw);
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(',', start), text.size());
    const std::string_view name = TrimSpace(std::string_view(text).substr(start, end - start));
    if (!name.empty()) out.emplace_back(name);
    start = end + 1;
  }
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

std::optional<double> ReadNumber(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

MetricScanner::MetricScanner(const EngineTable& table)
    : table_(table), totals_(table.size()), attribute_totals_(table.attribute_totals()) {}

void MetricScanner::Begin(EngineType expected) {
  expected_ = expected;
  for (Totals& totals : totals_) {
    Lora lora = std::move(totals.lora);  // its memory stays
    lora.is_seen = false;
    totals = {};
    totals.lora = std::move(lora);
  }
  std::ranges::fill(attribute_totals_, Total());
  groups_.clear();
  started_at_ = 0;
  carry_.clear();
  skips_line_ = false;
  has_bytes_ = false;
  bad_values_ = 0;
}

void MetricScanner::Feed(std::string_view piece) {
  if (!piece.empty()) has_bytes_ = true;
  while (!piece.empty()) {
    const void* found = std::memchr(piece.data(), '\n', piece.size());
    if (found == nullptr) break;
    const size_t length = static_cast<size_t>(static_cast<const char*>(found) - piece.data());
    const std::string_view line = piece.substr(0, length);
    piece.remove_prefix(length + 1);
    if (skips_line_) {
      skips_line_ = false;
    } else if (carry_.size() + length > kMaxLineBytes) {
      ++bad_values_;
    } else if (carry_.empty()) {
      ScanLine(line);
    } else {
      carry_ += line;
      ScanLine(carry_);
    }
    carry_.clear();
  }
  if (piece.empty() || skips_line_) return;
  if (carry_.size() + piece.size() > kMaxLineBytes) {
    ++bad_values_;
    skips_line_ = true;
    carry_.clear();
  } else {
    carry_ += piece;
  }
}

void MetricScanner::ScanLine(std::string_view line) {
  if (!line.empty() && IsBlank(line[0])) SkipBlanks(&line);
  const EngineTable::Family* family = table_.FindFamily(line);
  if (family == nullptr) return;
  if (line.ends_with('\r')) line.remove_suffix(1);
  line.remove_prefix(family->name.size());
  double value = 0;
  if (!ReadSample(line, &value)) {
    ++bad_values_;
    return;
  }
  bool is_bad = false;  // counted once, however many look at it
  for (const EngineTable::Use& use : family->uses) {
    if (!HasLabels(use.labels)) continue;
    if (value < 0 && use.meaning != Meaning::kAttribute) {
      is_bad = true;
    } else {
      Take(use, value);
    }
  }
  bad_values_ += is_bad ? 1 : 0;
}

// `text`: what follows the name. A timestamp and an exemplar after the value are not looked at.
bool MetricScanner::ReadSample(std::string_view text, double* value) {
  labels_.clear();
  SkipBlanks(&text);
  if (text.starts_with('{') && !ReadLabels(&text)) return false;
  SkipBlanks(&text);
  const std::optional<double> number = ReadNumber(text.substr(0, text.find_first_of(" \t")));
  if (!number || !std::isfinite(*number)) return false;
  *value = *number;
  return true;
}

bool MetricScanner::ReadLabels(std::string_view* text) {
  text->remove_prefix(1);
  for (;;) {
    SkipBlanks(text);
    if (text->starts_with('}')) {
      text->remove_prefix(1);
      return true;
    }
    const size_t equals = text->find('=');
    if (equals == std::string_view::npos) return false;
    Label label;
    label.name = TrimSpace(text->substr(0, equals));
    text->remove_prefix(equals + 1);
    SkipBlanks(text);
    if (!text->starts_with('"')) return false;
    size_t end = 1;
    while (end < text->size() && (*text)[end] != '"') end += (*text)[end] == '\\' ? 2 : 1;
    if (end >= text->size()) return false;
    label.raw = text->substr(1, end - 1);
    labels_.push_back(label);
    text->remove_prefix(end + 1);
    SkipBlanks(text);
    if (text->starts_with(',')) {
      text->remove_prefix(1);
    } else if (!text->starts_with('}')) {
      return false;
    }
  }
}

std::string_view MetricScanner::RawLabel(std::string_view name) const {
  for (const Label& label : labels_) {
    if (label.name == name) return label.raw;
  }
  return {};
}

bool MetricScanner::HasLabels(const EngineTable::LabelValues& wanted) const {
  return std::ranges::all_of(wanted, [this](const auto& label) {
    const std::string_view raw = RawLabel(label.first);
    return raw.find('\\') == std::string_view::npos ? raw == label.second
                                                    : Unescape(raw) == label.second;
  });
}

void MetricScanner::Take(const EngineTable::Use& use, double value) {
  switch (use.meaning) {
    case Meaning::kStartTime:
      started_at_ = std::max(started_at_, value);
      return;
    case Meaning::kLora:
      return TakeLora(&totals_[static_cast<size_t>(use.engine)].lora, value);
    case Meaning::kCacheInfo:
      return TakeCacheInfo(use);
    default:
      return TakeGauge(use, use.meaning, value);
  }
}

void MetricScanner::TakeCacheInfo(const EngineTable::Use& use) {
  const std::pair<Meaning, std::string_view> sizes[] = {
      {Meaning::kBlockSize, RawLabel(use.size_label)},
      {Meaning::kBlocks, RawLabel(use.blocks_label)}};
  for (const auto& [meaning, raw] : sizes) {
    // vLLM says None until it has measured its memory.
    if (raw.empty() || raw == "None") continue;
    if (const auto number = ParseUint(raw)) {
      TakeGauge(use, meaning, static_cast<double>(*number));
    } else {
      ++bad_values_;
    }
  }
}

void MetricScanner::TakeLora(Lora* lora, double time) {
  if (lora->is_seen && time < lora->time) return;
  lora->is_seen = true;
  lora->time = time;
  lora->running = RawLabel("running_lora_adapters");
  lora->waiting = RawLabel("waiting_lora_adapters");
  const std::string_view raw = RawLabel("max_lora");
  const std::optional<uint64_t> max = ParseUint(raw);
  const bool is_good = max && *max <= static_cast<uint64_t>(kMaxCount);
  if (!is_good && !raw.empty()) ++bad_values_;
  lora->max_adapters = is_good ? static_cast<uint32_t>(*max) : 0;
}

// Judges the value, and puts several views of the same thing together.
void MetricScanner::TakeGauge(const EngineTable::Use& use, Meaning meaning, double value) {
  const bool is_usage = meaning == Meaning::kKvUsage || meaning == Meaning::kOldKvUsage;
  const bool is_good = meaning == Meaning::kAttribute ? true
                       : meaning == Meaning::kBlockSize
                           ? value >= 1 && value <= kMaxBlockSize
                           : value <= (is_usage ? kMaxUsage : kMaxCount);
  if (!is_good) {
    ++bad_values_;
    return;
  }
  if (is_usage) value = std::min(value, 1.0);
  const std::optional<uint64_t> key = GroupKey();
  if (!key) return Add(use, meaning, value);
  for (Group& group : groups_) {
    if (group.use == &use && group.meaning == meaning && group.key == *key) {
      group.value = std::max(group.value, value);
      return;
    }
  }
  if (groups_.size() == kMaxGroups) {
    ++bad_values_;
    return;
  }
  groups_.push_back({&use, meaning, *key, value});
}

std::optional<uint64_t> MetricScanner::GroupKey() const {
  const auto is_rank = [](const Label& label) {
    return label.name == "tp_rank" || label.name == "pp_rank";
  };
  if (std::ranges::none_of(labels_, is_rank)) return std::nullopt;
  uint64_t key = 0;
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15ULL;
  for (const Label& label : labels_) {
    if (is_rank(label)) continue;
    const std::hash<std::string_view> hash;
    key += (hash(label.name) * kOdd) ^ hash(label.raw);  // whatever the order of labels
  }
  return key;
}

void MetricScanner::Add(const EngineTable::Use& use, Meaning meaning, double value) {
  Totals& totals = totals_[static_cast<size_t>(use.engine)];
  switch (meaning) {
    case Meaning::kWaiting:
      return totals.waiting.Add(value);
    case Meaning::kRunning:
      return totals.running.Add(value);
    case Meaning::kKvUsage:
      return totals.kv_usage.Add(value);
    case Meaning::kOldKvUsage:
      return totals.old_kv_usage.Add(value);
    case Meaning::kBlocks:
      return totals.blocks.Add(value);
    case Meaning::kBlockSize:
      if (totals.block_size_tokens == 0) totals.block_size_tokens = static_cast<uint32_t>(value);
      return;
    case Meaning::kAttribute:
      return attribute_totals_[use.attribute_total].Add(value);
    default:
      return;
  }
}

uint32_t MetricScanner::Known(EngineType type) const {
  const Totals& totals = totals_[static_cast<size_t>(type)];
  return (totals.waiting.count > 0) + (totals.running.count > 0) +
         (totals.kv_usage.count + totals.old_kv_usage.count > 0);
}

// Whose page it is.
EngineType MetricScanner::Judge() const {
  if (expected_ != EngineType::kUnknown) return expected_;
  const EngineType usual = table_.default_type();
  if (usual != EngineType::kUnknown && (Known(usual) > 0 || !table_.HasLoad(usual))) return usual;
  EngineType best = usual;
  for (size_t i = 1; i < table_.size(); ++i) {
    if (Known(static_cast<EngineType>(i)) > Known(best)) best = static_cast<EngineType>(i);
  }
  return best;
}

void MetricScanner::FillAttributes(EngineType type, std::vector<float>* out) const {
  out->assign(table_.attributes().size(), std::numeric_limits<float>::quiet_NaN());
  for (const EngineTable::Family& family : table_.families()) {
    for (const EngineTable::Use& use : family.uses) {
      if (use.engine != type || use.meaning != Meaning::kAttribute) continue;
      const Total& total = attribute_totals_[use.attribute_total];
      if (total.count > 0) (*out)[use.attribute] = static_cast<float>(total.sum / total.count);
    }
  }
}

Error MetricScanner::Complaint() const {
  const EngineType usual = expected_ != EngineType::kUnknown ? expected_ : table_.default_type();
  std::string text;
  if (!has_bytes_) {
    text = "/metrics is empty";
  } else if (usual != EngineType::kUnknown) {
    text = fmt::format("/metrics has none of {}, though the engine type is {}{}",
                       table_.LoadNames(usual), table_.Name(usual),
                       expected_ == EngineType::kUnknown ? " by default" : "");
    for (size_t i = 1; i < table_.size(); ++i) {
      const auto type = static_cast<EngineType>(i);
      if (Known(type) > 0) text += fmt::format("; it has those of {}", table_.Name(type));
    }
  } else {
    text =
        "/metrics has no queue or cache metrics of vLLM, SGLang, TensorRT-LLM or Triton: is this "
        "the engine's own port, and are its metrics on?";
  }
  if (bad_values_ > 0) text += fmt::format(" ({} unusable values)", bad_values_);
  return {Code::kUnavailable, std::move(text)};
}

Result<ScannedMetrics> MetricScanner::Finish() {
  if (!carry_.empty()) ScanLine(carry_);
  carry_.clear();
  for (const Group& group : groups_) Add(*group.use, group.meaning, group.value);
  groups_.clear();
  const EngineType type = Judge();
  const bool is_usable =
      type != EngineType::kUnknown && has_bytes_ && (Known(type) > 0 || !table_.HasLoad(type));
  if (!is_usable) return std::unexpected(Complaint());

  const Totals& totals = totals_[static_cast<size_t>(type)];
  ScannedMetrics out;
  out.type = type;
  director::EngineSignals& signals = out.signals;
  if (totals.waiting.count > 0) signals.waiting = static_cast<float>(totals.waiting.sum);
  if (totals.running.count > 0) signals.running = static_cast<float>(totals.running.sum);
  const Total& usage = totals.kv_usage.count > 0 ? totals.kv_usage : totals.old_kv_usage;
  if (usage.count > 0) signals.kv_usage = static_cast<float>(usage.sum / usage.count);
  if (totals.block_size_tokens > 0) signals.block_size_tokens = totals.block_size_tokens;
  if (totals.blocks.sum >= 1) {
    signals.gpu_blocks = static_cast<uint32_t>(std::min<double>(totals.blocks.sum, UINT32_MAX));
  }
  if (started_at_ > 0) signals.started_at = started_at_;
  if (totals.lora.is_seen) {
    signals.lora = model::LoraState{SplitNames(totals.lora.running),
                                    SplitNames(totals.lora.waiting), totals.lora.max_adapters};
  }
  if (!table_.attributes().empty()) FillAttributes(type, &signals.attributes);
  return out;
}

}  // namespace penstock::signals
