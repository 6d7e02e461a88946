// Random pages, also broken ones, in random pieces: the scanner and a plain parser that reads every
// sample of a page must agree.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "core/random.h"
#include "signals/metric_scanner.h"

namespace penstock::signals {
namespace {

// --- the plain parser

struct Sample {
  std::string name;
  std::map<std::string, std::string> labels;
  double value = 0;
};

bool IsSpace(char c) { return c == ' ' || c == '\t'; }

std::string Trim(std::string s) {
  while (!s.empty() && IsSpace(s.front())) s.erase(0, 1);
  while (!s.empty() && IsSpace(s.back())) s.pop_back();
  return s;
}

// A decimal number, and nothing that strtod takes besides.
std::optional<double> Number(std::string text) {
  if (!text.empty() && text[0] == '+') text.erase(0, 1);
  if (text.empty() || text.find_first_not_of("0123456789.eE+-") != std::string::npos) return {};
  if (text[0] == '+') return {};
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (*end != '\0' || end == text.c_str()) return {};
  return value;
}

enum class Verdict { kGood, kBad, kNoSample };

Verdict ParseLine(std::string line, Sample* out) {
  while (!line.empty() && IsSpace(line[0])) line.erase(0, 1);
  if (line.empty() || line[0] == '#') return Verdict::kNoSample;
  size_t at = line.find_first_of("{ \t");
  if (at == std::string::npos) return Verdict::kNoSample;
  if (line.back() == '\r') line.pop_back();
  out->name = line.substr(0, at);
  const auto skip = [&] {
    while (at < line.size() && IsSpace(line[at])) ++at;
  };
  const auto is_at = [&](char c) { return at < line.size() && line[at] == c; };
  skip();
  if (is_at('{')) {
    ++at;
    for (;;) {
      skip();
      if (is_at('}')) break;
      std::string name;
      while (at < line.size() && line[at] != '=') name += line[at++];
      if (!is_at('=')) return Verdict::kBad;
      ++at;
      skip();
      if (!is_at('"')) return Verdict::kBad;
      std::string value;
      for (++at; at < line.size() && line[at] != '"'; ++at) {
        value += line[at];
        if (line[at] == '\\' && at + 1 < line.size()) value += line[++at];
      }
      if (!is_at('"')) return Verdict::kBad;
      ++at;
      out->labels.emplace(Trim(name), value);
      skip();
      if (is_at(',')) {
        ++at;
      } else if (!is_at('}')) {
        return Verdict::kBad;
      }
    }
    ++at;
  }
  skip();
  std::string value;
  while (at < line.size() && !IsSpace(line[at])) value += line[at++];
  const auto number = Number(value);
  if (!number || !std::isfinite(*number) || *number < 0) return Verdict::kBad;
  out->value = *number;
  return Verdict::kGood;
}

struct Expected {
  std::optional<float> waiting, running, kv_usage;
  uint64_t bad = 0;
};

struct Names {
  std::string waiting, running, kv_usage;
};

// Sums, and the mean of usage; series of several ranks are put together by their other labels.
Expected Reference(const std::string& page, const Names& names) {
  using Key = std::pair<std::string, std::string>;
  std::map<Key, double> groups;
  std::map<std::string, std::vector<double>> plain;
  Expected out;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    Sample sample;
    const Verdict verdict = ParseLine(line, &sample);
    if (sample.name != names.waiting && sample.name != names.running &&
        sample.name != names.kv_usage) {
      continue;
    }
    const bool is_usage = sample.name == names.kv_usage;
    if (verdict == Verdict::kBad || sample.value > (is_usage ? 1.5 : 1e9)) {
      ++out.bad;
      continue;
    }
    if (is_usage) sample.value = std::min(sample.value, 1.0);
    std::string key;
    bool has_rank = false;
    for (const auto& [name, value] : sample.labels) {
      if (name == "tp_rank" || name == "pp_rank") {
        has_rank = true;
      } else {
        key += name + '\0' + value + '\0';
      }
    }
    if (!has_rank) {
      plain[sample.name].push_back(sample.value);
      continue;
    }
    const auto [it, added] = groups.emplace(Key{sample.name, key}, sample.value);
    if (!added) it->second = std::max(it->second, sample.value);
  }
  for (const auto& [key, value] : groups) plain[key.first].push_back(value);
  const auto sum = [&](const std::string& name) -> std::optional<float> {
    const auto& values = plain[name];
    if (values.empty()) return {};
    double total = 0;
    for (double value : values) total += value;
    return static_cast<float>(name == names.kv_usage ? total / values.size() : total);
  };
  out.waiting = sum(names.waiting);
  out.running = sum(names.running);
  out.kv_usage = sum(names.kv_usage);
  return out;
}

// --- random pages

template <class T, size_t kSize>
const T& Any(Random& random, const T (&list)[kSize]) {
  return list[random.Below(kSize)];
}

std::string RandomLabels(Random& random) {
  static const char* const kNames[] = {"engine", "model_name", "tp_rank", "pp_rank", "dp_rank"};
  static const char* const kValues[] = {"0",    "1",    "2",       "Qwen/Qwen3", "a\\\"b",
                                        "}{ 7", "\\\\", "x,y=\\n", "",           "\xc3\xbc"};
  static const char* const kBroken[] = {"{a=b}",  "{a=\"b}",    "{a", "{a=\"b\"c=\"d\"}",
                                        "{=\"\"", "{a=\"b\\\"}"};
  if (random.Below(4) == 0) return "";
  if (random.Below(12) == 0) return Any(random, kBroken);
  std::string out = "{";
  for (size_t i = 0; i < std::size(kNames); ++i) {
    if (random.Below(2) == 0) continue;
    out += std::string(kNames[i]) + "=\"" + Any(random, kValues) + "\"";
    if (i + 1 < std::size(kNames) || random.Below(2) == 0)
      out += random.Below(5) == 0 ? " , " : ",";
  }
  // Without a comma at the end, unless it is allowed to stand there.
  return out + "}";
}

std::string RandomLine(Random& random, const Names& names) {
  static const char* const kValues[] = {"0",    "1.0", "17",   "2.5e1", "0.25",  "0.875",
                                        "1.2",  "NaN", "+Inf", "-3",    "1e300", "",
                                        "0x1f", "+4",  "1e9",  "--1"};
  static const char* const kEnds[] = {
      "\n", "\n", "\n", "\r\n", " 1700000000\n", " # {id=\"1\"} 4\n", "\n\n"};
  const std::string other[] = {names.waiting + "_total",
                               "vllm:e2e_request_latency_seconds_bucket",
                               "# HELP " + names.waiting,
                               "process_cpu_seconds_total",
                               "}",
                               "{"};
  const std::string wanted[] = {names.waiting, names.running, names.kv_usage};
  const std::string& name = random.Below(2) == 0 ? Any(random, wanted) : Any(random, other);
  return (random.Below(20) == 0 ? " " : "") + name + RandomLabels(random) + " " +
         Any(random, kValues) + Any(random, kEnds);
}

std::string RandomPage(Random& random, const Names& names) {
  std::string page;
  const uint64_t lines = random.Below(40);
  for (uint64_t i = 0; i < lines; ++i) page += RandomLine(random, names);
  for (uint64_t i = random.Below(3); i > 0 && !page.empty(); --i) {
    page[random.Below(page.size())] = static_cast<char>(random.Below(256));
  }
  page.resize(random.Below(4) == 0 ? random.Below(page.size() + 1) : page.size());
  return page;
}

bool Same(std::optional<float> a, std::optional<float> b) {
  if (a.has_value() != b.has_value()) return false;
  return !a || std::abs(*a - *b) <= 1e-5f * std::max(1.0f, *a);
}

void Check(uint64_t seed, EngineType type, const Names& names) {
  Random random(seed);
  const std::string page = RandomPage(random, names);
  const Expected expected = Reference(page, names);
  MetricScanner scanner;
  scanner.Begin(random.Below(2) == 0 ? type : EngineType::kUnknown);
  for (size_t at = 0; at < page.size();) {
    const size_t size = 1 + random.Below(random.Below(2) == 0 ? 8 : 400);
    scanner.Feed(std::string_view(page).substr(at, size));
    at += size;
  }
  const auto scanned = scanner.Finish();
  RC_ASSERT(scanned.has_value() == (expected.waiting || expected.running || expected.kv_usage));
  RC_ASSERT(scanner.bad_values() == expected.bad);
  if (!scanned) return;
  RC_ASSERT(scanned->type == type);
  RC_ASSERT(Same(scanned->signals.waiting, expected.waiting));
  RC_ASSERT(Same(scanned->signals.running, expected.running));
  RC_ASSERT(Same(scanned->signals.kv_usage, expected.kv_usage));
}

TEST(MetricScannerProperty, AgreesWithAPlainParserOnVllm) {
  EXPECT_TRUE(rc::check([](uint64_t seed) {
    for (uint64_t i = 0; i < 50; ++i) {
      Check(seed + i, EngineType::kVllm,
            {"vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"});
    }
  }));
}

TEST(MetricScannerProperty, AgreesWithAPlainParserOnSglang) {
  EXPECT_TRUE(rc::check([](uint64_t seed) {
    for (uint64_t i = 0; i < 50; ++i) {
      Check(seed + i, EngineType::kSglang,
            {"sglang:num_queue_reqs", "sglang:num_running_reqs", "sglang:token_usage"});
    }
  }));
}

TEST(MetricScannerProperty, AgreesWithAPlainParserOnTensorRtLlm) {
  EXPECT_TRUE(rc::check([](uint64_t seed) {
    for (uint64_t i = 0; i < 50; ++i) {
      Check(seed + i, EngineType::kTrtllm,
            {"trtllm_num_requests_waiting", "trtllm_num_requests_running",
             "trtllm_kv_cache_utilization"});
    }
  }));
}

}  // namespace
}  // namespace penstock::signals
