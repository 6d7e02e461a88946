#include "signals/engine_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

namespace penstock::signals {
namespace {

using sched::EngineMetrics;
using sched::MetricSpec;

constexpr std::string_view kOldLabelKey = "inference.networking.k8s.io/engine-type";

MetricSpec Spec(std::string family) { return {std::move(family), {}}; }
MetricSpec Spec(std::string family, std::string label, std::string value) {
  return {std::move(family), {{std::move(label), std::move(value)}}};
}

std::vector<EngineMetrics> KnownEngines() {
  const std::string requests = "nv_trt_llm_request_metrics";
  const std::string blocks = "nv_trt_llm_kv_cache_block_metrics";
  std::vector<EngineMetrics> out;
  out.push_back({.name = "vllm",
                 .waiting = Spec("vllm:num_requests_waiting"),
                 .running = Spec("vllm:num_requests_running"),
                 .kv_usage = Spec("vllm:kv_cache_usage_perc"),
                 .lora = Spec("vllm:lora_requests_info"),
                 .cache_info = Spec("vllm:cache_config_info"),
                 .block_size_label = "block_size",
                 .block_count_label = "num_gpu_blocks"});
  out.push_back({.name = "sglang",
                 .waiting = Spec("sglang:num_queue_reqs"),
                 .running = Spec("sglang:num_running_reqs"),
                 .kv_usage = Spec("sglang:token_usage"),
                 .cache_info = Spec("sglang:cache_config_info"),
                 .block_size_label = "page_size",
                 .block_count_label = "num_pages"});
  out.push_back({.name = "trtllm-serve",
                 .waiting = Spec("trtllm_num_requests_waiting"),
                 .running = Spec("trtllm_num_requests_running"),
                 .kv_usage = Spec("trtllm_kv_cache_utilization"),
                 .block_size = Spec("trtllm_kv_cache_tokens_per_block"),
                 .block_count = Spec("trtllm_kv_cache_max_blocks")});
  out.push_back({.name = "triton-tensorrt-llm",
                 .waiting = Spec(requests, "request_type", "waiting"),
                 .running = Spec(requests, "request_type", "scheduled"),
                 .kv_usage = Spec(blocks, "kv_cache_block_type", "fraction"),
                 .block_size = Spec(blocks, "kv_cache_block_type", "tokens_per"),
                 .block_count = Spec(blocks, "kv_cache_block_type", "max")});
  out.push_back({.name = "triton", .waiting = Spec("nv_inference_pending_request_count")});
  return out;
}

std::string SpecText(const MetricSpec& spec) {
  std::string labels;
  for (const auto& [name, value] : spec.labels) {
    labels += fmt::format("{}{}={}", labels.empty() ? "" : ",", name, value);
  }
  return labels.empty() ? spec.family : fmt::format("{}{{{}}}", spec.family, labels);
}

size_t CommonPrefix(std::string_view a, std::string_view b) {
  const size_t size = std::min(a.size(), b.size());
  size_t i = 0;
  while (i < size && a[i] == b[i]) ++i;
  return i;
}

}  // namespace

const EngineTable& EngineTable::Known() {
  static const EngineTable table({}, false);
  return table;
}

EngineTable::EngineTable(const sched::ExtractorSettings& settings) : EngineTable(settings, true) {}

EngineTable::EngineTable(const sched::ExtractorSettings& settings, bool has_default)
    : label_key_(settings.engine_label_key) {
  std::vector<EngineMetrics> engines = KnownEngines();
  for (const EngineMetrics& engine : settings.engines) {
    const auto known = std::ranges::find(engines, engine.name, &EngineMetrics::name);
    if (known != engines.end()) {
      *known = engine;
    } else {
      engines.push_back(engine);
    }
  }
  std::set<std::string> attributes;
  for (const EngineMetrics& engine : engines) {
    for (const sched::CustomMetric& metric : engine.custom) {
      attributes.insert(metric.attribute_key);
    }
  }
  attributes_.assign(attributes.begin(), attributes.end());
  names_.resize(1 + engines.size());
  load_names_.resize(names_.size());
  for (size_t i = 0; i < engines.size(); ++i) Add(static_cast<EngineType>(i + 1), engines[i]);
  if (engines.front() == KnownEngines().front()) {
    AddUse(Spec("vllm:gpu_cache_usage_perc"),
           {.engine = EngineType::kVllm, .meaning = Meaning::kOldKvUsage});
  }
  AddUse(Spec("process_start_time_seconds"), {.meaning = Meaning::kStartTime});
  Arrange();
  if (has_default) default_type_ = Find(settings.default_engine);
}

void EngineTable::Add(EngineType type, const EngineMetrics& engine) {
  const auto index = static_cast<size_t>(type);
  names_[index] = engine.name;
  const auto add = [&](const std::optional<MetricSpec>& spec, Meaning meaning) {
    if (spec) AddUse(*spec, {.engine = type, .meaning = meaning});
  };
  for (const auto& [spec, meaning] : {std::pair(&engine.waiting, Meaning::kWaiting),
                                      std::pair(&engine.running, Meaning::kRunning),
                                      std::pair(&engine.kv_usage, Meaning::kKvUsage)}) {
    add(*spec, meaning);
    if (!*spec) continue;
    if (!load_names_[index].empty()) load_names_[index] += ", ";
    load_names_[index] += SpecText(**spec);
  }
  add(engine.lora, Meaning::kLora);
  add(engine.block_size, Meaning::kBlockSize);
  add(engine.block_count, Meaning::kBlocks);
  if (engine.cache_info) {
    AddUse(*engine.cache_info, {.engine = type,
                                .meaning = Meaning::kCacheInfo,
                                .size_label = engine.block_size_label,
                                .blocks_label = engine.block_count_label});
  }
  for (const sched::CustomMetric& metric : engine.custom) {
    const auto at = std::ranges::lower_bound(attributes_, metric.attribute_key);
    AddUse(metric.spec, {.engine = type,
                         .meaning = Meaning::kAttribute,
                         .attribute = static_cast<uint32_t>(at - attributes_.begin()),
                         .attribute_total = attribute_totals_++});
  }
}

void EngineTable::AddUse(const MetricSpec& spec, Use use) {
  use.labels = spec.labels;
  auto family = std::ranges::find(families_, spec.family, &Family::name);
  if (family == families_.end()) {
    families_.push_back({spec.family, {}});
    family = families_.end() - 1;
  }
  family->uses.push_back(std::move(use));
}

void EngineTable::Arrange() {
  std::map<unsigned char, std::vector<const Family*>> by_letter;
  for (const Family& family : families_) {
    by_letter[static_cast<unsigned char>(family.name[0])].push_back(&family);
  }
  for (const auto& [letter, families] : by_letter) {
    // At least the last letter is left, so that entries have something to differ in.
    const std::string_view first = families.front()->name;
    size_t common = first.size() - 1;
    for (const Family* family : families) {
      common = std::min({common, CommonPrefix(first, family->name), family->name.size() - 1});
    }
    Bucket& bucket = buckets_.emplace_back();
    bucket.prefix = first.substr(0, common);
    for (const Family* family : families) {
      bucket.entries.push_back({std::string_view(family->name).substr(common), family});
    }
    bucket_of_[letter] = static_cast<uint8_t>(buckets_.size());
  }
}

EngineType EngineTable::Find(std::string_view name) const {
  for (size_t i = 1; i < names_.size(); ++i) {
    if (name == names_[i]) return static_cast<EngineType>(i);
  }
  return EngineType::kUnknown;
}

std::string_view EngineTable::Name(EngineType type) const {
  if (type == EngineType::kUnknown) return "unknown";
  return names_[static_cast<size_t>(type)];
}

std::string_view EngineTable::LabelOf(const model::Labels& labels) const {
  std::string_view old;
  for (const auto& [key, value] : labels) {
    if (key == label_key_) return value;
    if (key == kOldLabelKey) old = value;
  }
  return old;
}

const EngineTable::Family* EngineTable::FindFamily(std::string_view line) const {
  const uint8_t bucket_number = line.empty() ? 0 : bucket_of_[static_cast<unsigned char>(line[0])];
  if (bucket_number == 0) return nullptr;
  const Bucket& bucket = buckets_[bucket_number - 1];
  if (!line.starts_with(bucket.prefix)) return nullptr;
  const std::string_view rest = line.substr(bucket.prefix.size());
  for (const Entry& entry : bucket.entries) {
    if (rest.empty() || rest[0] != entry.rest[0]) continue;
    if (!rest.starts_with(entry.rest) || rest.size() == entry.rest.size()) continue;
    const char next = rest[entry.rest.size()];
    if (next == '{' || next == ' ' || next == '\t') return entry.family;
  }
  return nullptr;
}

}  // namespace penstock::signals
