#include "signals/metric_scanner.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>
#include <utility>

#include "core/text.h"

namespace penstock::signals {

enum class MetricScanner::What : uint8_t {
  kWaiting,
  kRunning,
  kKvUsage,
  kKvUsageOld,
  kBlockSize,
  kBlocks,
  kLora,           // a time, with names in labels
  kVllmCacheInfo,  // sizes in labels
  kSglangCacheInfo,
  kTritonRequests,  // a label says which
  kTritonBlocks,
  kStartTime,
};

struct MetricScanner::Family {
  std::string_view name;  // after the engine's prefix
  EngineType type;
  What what;
};

namespace {

constexpr double kMaxCount = 1e9;
constexpr double kMaxUsage = 1.5;
constexpr uint64_t kMaxBlockSize = 1 << 20;
constexpr size_t kMaxGroups = 256;

constexpr std::array<std::string_view, kEngineTypes> kTypeNames = {
    "", "vllm", "sglang", "trtllm-serve", "triton-tensorrt-llm", "triton"};
constexpr std::array<std::string_view, kEngineTypes> kExpectedFamilies = {
    "",
    "vllm:num_requests_waiting, vllm:num_requests_running, vllm:kv_cache_usage_perc",
    "sglang:num_queue_reqs, sglang:num_running_reqs, sglang:token_usage",
    "trtllm_num_requests_waiting, trtllm_num_requests_running, trtllm_kv_cache_utilization",
    "nv_trt_llm_request_metrics, nv_trt_llm_kv_cache_block_metrics",
    "nv_inference_pending_request_count"};

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

EngineType ParseEngineType(std::string_view label) {
  for (size_t i = 1; i < kEngineTypes; ++i) {
    if (label == kTypeNames[i]) return static_cast<EngineType>(i);
  }
  return EngineType::kUnknown;
}

std::string_view EngineTypeName(EngineType type) {
  return type == EngineType::kUnknown ? "unknown" : kTypeNames[static_cast<size_t>(type)];
}

void MetricScanner::Begin(EngineType expected) {
  expected_ = expected;
  totals_.fill({});
  groups_.clear();
  lora_.is_seen = false;
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

const MetricScanner::Family* MetricScanner::FindFamily(std::string_view line) {
  using enum EngineType;
  static constexpr Family kVllmFamilies[] = {
      {"num_requests_waiting", kVllm, What::kWaiting},
      {"num_requests_running", kVllm, What::kRunning},
      {"kv_cache_usage_perc", kVllm, What::kKvUsage},
      {"gpu_cache_usage_perc", kVllm, What::kKvUsageOld},
      {"lora_requests_info", kVllm, What::kLora},
      {"cache_config_info", kVllm, What::kVllmCacheInfo},
  };
  static constexpr Family kSglangFamilies[] = {
      {"num_queue_reqs", kSglang, What::kWaiting},
      {"num_running_reqs", kSglang, What::kRunning},
      {"token_usage", kSglang, What::kKvUsage},
      {"cache_config_info", kSglang, What::kSglangCacheInfo},
  };
  static constexpr Family kTrtllmFamilies[] = {
      {"num_requests_waiting", kTrtllm, What::kWaiting},
      {"num_requests_running", kTrtllm, What::kRunning},
      {"kv_cache_utilization", kTrtllm, What::kKvUsage},
      {"kv_cache_tokens_per_block", kTrtllm, What::kBlockSize},
      {"kv_cache_max_blocks", kTrtllm, What::kBlocks},
  };
  static constexpr Family kTritonFamilies[] = {
      {"trt_llm_request_metrics", kTritonTrtllm, What::kTritonRequests},
      {"trt_llm_kv_cache_block_metrics", kTritonTrtllm, What::kTritonBlocks},
      {"inference_pending_request_count", kTriton, What::kWaiting},
  };
  static constexpr Family kProcessFamilies[] = {
      {"start_time_seconds", kUnknown, What::kStartTime},
  };
  const auto find = [&line](std::string_view prefix, auto& families) -> const Family* {
    if (!line.starts_with(prefix)) return nullptr;
    const std::string_view rest = line.substr(prefix.size());
    for (const Family& family : families) {
      // The first letter alone turns nearly every line of a page away.
      if (rest.empty() || rest[0] != family.name[0]) continue;
      if (!rest.starts_with(family.name) || rest.size() == family.name.size()) continue;
      const char next = rest[family.name.size()];
      if (next == '{' || IsBlank(next)) return &family;
    }
    return nullptr;
  };
  switch (line.empty() ? '\0' : line[0]) {
    case 'v':
      return find("vllm:", kVllmFamilies);
    case 's':
      return find("sglang:", kSglangFamilies);
    case 't':
      return find("trtllm_", kTrtllmFamilies);
    case 'p':
      return find("process_", kProcessFamilies);
    case 'n':
      return find("nv_", kTritonFamilies);
    default:
      return nullptr;
  }
}

void MetricScanner::ScanLine(std::string_view line) {
  if (!line.empty() && IsBlank(line[0])) SkipBlanks(&line);
  const Family* family = FindFamily(line);
  if (family == nullptr) return;
  if (line.ends_with('\r')) line.remove_suffix(1);
  line.remove_prefix(std::min(line.find_first_of("{ \t"), line.size()));
  double value = 0;
  if (!ReadSample(line, &value)) {
    ++bad_values_;
    return;
  }
  Take(*family, value);
}

// `text`: what follows the name. A timestamp and an exemplar after the value are not looked at.
bool MetricScanner::ReadSample(std::string_view text, double* value) {
  labels_.clear();
  SkipBlanks(&text);
  if (text.starts_with('{') && !ReadLabels(&text)) return false;
  SkipBlanks(&text);
  const std::optional<double> number = ReadNumber(text.substr(0, text.find_first_of(" \t")));
  if (!number || !std::isfinite(*number) || *number < 0) return false;
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

void MetricScanner::Take(const Family& family, double value) {
  switch (family.what) {
    case What::kStartTime:
      started_at_ = std::max(started_at_, value);
      return;
    case What::kLora:
      return TakeLora(value);
    case What::kVllmCacheInfo:
    case What::kSglangCacheInfo:
      return TakeCacheInfo(family);
    case What::kTritonRequests:
    case What::kTritonBlocks:
      return TakeTriton(family, value);
    default:
      return AddGauge(family.type, family.what, value);
  }
}

void MetricScanner::TakeTriton(const Family& family, double value) {
  if (family.what == What::kTritonRequests) {
    const std::string_view which = RawLabel("request_type");
    if (which == "waiting") AddGauge(family.type, What::kWaiting, value);
    if (which == "scheduled") AddGauge(family.type, What::kRunning, value);
    return;
  }
  const std::string_view which = RawLabel("kv_cache_block_type");
  if (which == "fraction") AddGauge(family.type, What::kKvUsage, value);
  if (which == "tokens_per") AddGauge(family.type, What::kBlockSize, value);
  if (which == "max") AddGauge(family.type, What::kBlocks, value);
}

void MetricScanner::TakeCacheInfo(const Family& family) {
  const bool is_vllm = family.what == What::kVllmCacheInfo;
  const std::pair<What, std::string_view> sizes[] = {
      {What::kBlockSize, RawLabel(is_vllm ? "block_size" : "page_size")},
      {What::kBlocks, RawLabel(is_vllm ? "num_gpu_blocks" : "num_pages")}};
  for (const auto& [what, raw] : sizes) {
    // vLLM says None until it has measured its memory.
    if (raw.empty() || raw == "None") continue;
    if (const auto number = ParseUint(raw)) {
      AddGauge(family.type, what, static_cast<double>(*number));
    } else {
      ++bad_values_;
    }
  }
}

void MetricScanner::TakeLora(double time) {
  if (lora_.is_seen && time < lora_.time) return;
  lora_.is_seen = true;
  lora_.time = time;
  lora_.running = RawLabel("running_lora_adapters");
  lora_.waiting = RawLabel("waiting_lora_adapters");
  const std::string_view raw = RawLabel("max_lora");
  const std::optional<uint64_t> max = ParseUint(raw);
  const bool is_good = max && *max <= static_cast<uint64_t>(kMaxCount);
  if (!is_good && !raw.empty()) ++bad_values_;
  lora_.max_adapters = is_good ? static_cast<uint32_t>(*max) : 0;
}

// Judges the value, and puts SGLang's views of the same thing together.
void MetricScanner::AddGauge(EngineType type, What what, double value) {
  const bool is_usage = what == What::kKvUsage || what == What::kKvUsageOld;
  const bool is_good = what == What::kBlockSize ? value >= 1 && value <= kMaxBlockSize
                                                : value <= (is_usage ? kMaxUsage : kMaxCount);
  if (!is_good) {
    ++bad_values_;
    return;
  }
  if (is_usage) value = std::min(value, 1.0);
  if (type != EngineType::kSglang) return Add(type, what, value);
  const uint64_t key = GroupKey();
  for (Group& group : groups_) {
    if (group.what == what && group.key == key) {
      group.value = std::max(group.value, value);
      return;
    }
  }
  if (groups_.size() == kMaxGroups) {
    ++bad_values_;
    return;
  }
  groups_.push_back({what, key, value});
}

// Of the sample's labels, but for those that tell processes of one rank apart.
uint64_t MetricScanner::GroupKey() const {
  uint64_t key = 0;
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15ULL;
  for (const Label& label : labels_) {
    if (label.name == "tp_rank" || label.name == "pp_rank") continue;
    const std::hash<std::string_view> hash;
    key += (hash(label.name) * kOdd) ^ hash(label.raw);  // whatever the order of labels
  }
  return key;
}

void MetricScanner::Add(EngineType type, What what, double value) {
  Totals& totals = totals_[static_cast<size_t>(type)];
  const auto add = [value](Total& total) {
    total.sum += value;
    ++total.count;
  };
  switch (what) {
    case What::kWaiting:
      return add(totals.waiting);
    case What::kRunning:
      return add(totals.running);
    case What::kKvUsage:
      return add(totals.kv_usage);
    case What::kKvUsageOld:
      return add(totals.kv_usage_old);
    case What::kBlocks:
      return add(totals.blocks);
    case What::kBlockSize:
      if (totals.block_size_tokens == 0) totals.block_size_tokens = static_cast<uint32_t>(value);
      return;
    default:
      return;
  }
}

uint32_t MetricScanner::Known(EngineType type) const {
  const Totals& totals = totals_[static_cast<size_t>(type)];
  return (totals.waiting.count > 0) + (totals.running.count > 0) +
         (totals.kv_usage.count + totals.kv_usage_old.count > 0);
}

Error MetricScanner::Complaint() const {
  std::string text;
  if (!has_bytes_) {
    text = "/metrics is empty";
  } else if (expected_ != EngineType::kUnknown) {
    text =
        fmt::format("/metrics has none of {}, though the engine type is {}",
                    kExpectedFamilies[static_cast<size_t>(expected_)], EngineTypeName(expected_));
    for (size_t i = 1; i < kEngineTypes; ++i) {
      const auto type = static_cast<EngineType>(i);
      if (Known(type) > 0) text += fmt::format("; it has those of {}", EngineTypeName(type));
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
  for (const Group& group : groups_) Add(EngineType::kSglang, group.what, group.value);
  groups_.clear();
  EngineType type = expected_;
  for (size_t i = 1; i < kEngineTypes && expected_ == EngineType::kUnknown; ++i) {
    if (Known(static_cast<EngineType>(i)) > Known(type)) type = static_cast<EngineType>(i);
  }
  if (Known(type) == 0) return std::unexpected(Complaint());

  const Totals& totals = totals_[static_cast<size_t>(type)];
  ScannedMetrics out;
  out.type = type;
  director::EngineSignals& signals = out.signals;
  if (totals.waiting.count > 0) signals.waiting = static_cast<float>(totals.waiting.sum);
  if (totals.running.count > 0) signals.running = static_cast<float>(totals.running.sum);
  const Total& usage = totals.kv_usage.count > 0 ? totals.kv_usage : totals.kv_usage_old;
  if (usage.count > 0) signals.kv_usage = static_cast<float>(usage.sum / usage.count);
  if (totals.block_size_tokens > 0) signals.block_size_tokens = totals.block_size_tokens;
  if (totals.blocks.sum >= 1) {
    signals.gpu_blocks = static_cast<uint32_t>(std::min<double>(totals.blocks.sum, UINT32_MAX));
  }
  if (started_at_ > 0) signals.started_at = started_at_;
  if (type == EngineType::kVllm && lora_.is_seen) {
    signals.lora =
        model::LoraState{SplitNames(lora_.running), SplitNames(lora_.waiting), lora_.max_adapters};
  }
  return out;
}

}  // namespace penstock::signals
