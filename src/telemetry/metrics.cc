#include "telemetry/metrics.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <charconv>
#include <cmath>
#include <deque>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <type_traits>
#include <unordered_map>

#include "core/text.h"

namespace penstock::telemetry {
namespace {

constexpr size_t kStripes = 8;

// Threads are dealt out over the stripes in the order in which they first count something.
size_t MyStripe() {
  static std::atomic<size_t> next{0};
  thread_local const size_t mine = next.fetch_add(1, std::memory_order_relaxed) % kStripes;
  return mine;
}

void AppendNumber(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "NaN";
  } else if (std::isinf(value)) {
    out += value > 0 ? "+Inf" : "-Inf";
  } else {
    std::array<char, 32> text;
    const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value);
    out.append(text.data(), error == std::errc() ? end : text.data());
  }
}

void AppendEscaped(std::string& out, std::string_view text, bool quote) {
  for (char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quote) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
}

constexpr char kKeySeparator = '\xff';  // never in UTF-8

// Values may be a client's: a page with one that is not UTF-8 is refused as a whole by Prometheus,
// and a long one stands in every line of every histogram.
void AppendToKey(std::string_view value, std::string& key) {
  AppendValidUtf8(Utf8Prefix(value, kMaxLabelBytes), &key);
  key.push_back(kKeySeparator);
}

// `model="a",code="b"`, without braces. `key` has the values, each with its separator.
std::string RenderLabels(const std::vector<std::string>& names, std::string_view key) {
  std::string out;
  for (const std::string& name : names) {
    const size_t end = key.find(kKeySeparator);
    if (!out.empty()) out += ',';
    out.append(name).append("=\"");
    AppendEscaped(out, key.substr(0, end), true);
    out += '"';
    key.remove_prefix(end + 1);
  }
  return out;
}

void AppendSample(std::string& out, std::string_view name, std::string_view labels, double value) {
  out += name;
  if (!labels.empty()) out.append("{").append(labels).append("}");
  out += ' ';
  AppendNumber(out, value);
  out += '\n';
}

void AppendHistogram(std::string& out, std::string_view name, std::string_view labels,
                     std::span<const double> bounds, std::span<const uint64_t> counts, double sum) {
  const std::string bucket = std::string(name) + "_bucket";
  uint64_t total = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    total += counts[i];
    std::string with_le(labels);
    if (!with_le.empty()) with_le += ',';
    with_le += "le=\"";
    AppendNumber(with_le, i < bounds.size() ? bounds[i] : INFINITY);
    with_le += '"';
    AppendSample(out, bucket, with_le, static_cast<double>(total));
  }
  AppendSample(out, std::string(name) + "_sum", labels, sum);
  AppendSample(out, std::string(name) + "_count", labels, static_cast<double>(total));
}

// The sum of these, which are at least one.
template <class M>
void AppendMetrics(std::string& out, std::string_view name, std::string_view labels,
                   std::span<const M* const> metrics) {
  if constexpr (std::is_same_v<M, Histogram>) {
    std::vector<uint64_t> counts(metrics.front()->bounds().size() + 1);
    double sum = 0;
    for (const Histogram* histogram : metrics) {
      const std::vector<uint64_t> buckets = histogram->Buckets();
      for (size_t i = 0; i < counts.size(); ++i) counts[i] += buckets[i];
      sum += histogram->Sum();
    }
    AppendHistogram(out, name, labels, metrics.front()->bounds(), counts, sum);
  } else {
    double sum = 0;
    for (const M* metric : metrics) sum += static_cast<double>(metric->Value());
    AppendSample(out, name, labels, sum);
  }
}

}  // namespace

// --- Counter

struct Counter::Stripes {
  struct alignas(64) Cell {
    std::atomic<uint64_t> value{0};
  };
  std::array<Cell, kStripes> cells;
};

Counter::Counter() : stripes_(std::make_unique<Stripes>()) {}
Counter::~Counter() = default;

void Counter::Add(uint64_t n) {
  stripes_->cells[MyStripe()].value.fetch_add(n, std::memory_order_relaxed);
}

uint64_t Counter::Value() const {
  uint64_t sum = 0;
  for (const auto& cell : stripes_->cells) sum += cell.value.load(std::memory_order_relaxed);
  return sum;
}

// --- Gauge

void Gauge::Set(double value) { value_.store(value, std::memory_order_relaxed); }
void Gauge::Add(double delta) { value_.fetch_add(delta, std::memory_order_relaxed); }
double Gauge::Value() const { return value_.load(std::memory_order_relaxed); }

// --- FollowedCounter

void FollowedCounter::Follow(double value) {
  double so_far = value_.load(std::memory_order_relaxed);
  while (so_far < value &&
         !value_.compare_exchange_weak(so_far, value, std::memory_order_relaxed)) {
  }
}
double FollowedCounter::Value() const { return value_.load(std::memory_order_relaxed); }

// --- Histogram

// One allocation of kStripes rows; a row is the buckets and the sum, rounded up to cache lines.
struct Histogram::Stripes {
  explicit Stripes(size_t buckets) : row((buckets + 1 + 7) / 8 * 8), cells(row * kStripes) {}
  std::atomic<uint64_t>& Bucket(size_t stripe, size_t i) { return cells[stripe * row + i]; }
  size_t row;
  std::vector<std::atomic<uint64_t>> cells;
  struct alignas(64) Sum {
    std::atomic<double> value{0};
  };
  std::array<Sum, kStripes> sums;
};

Histogram::Histogram(std::span<const double> upper_bounds)
    : bounds_(upper_bounds.begin(), upper_bounds.end()),
      stripes_(std::make_unique<Stripes>(bounds_.size() + 1)) {
  assert(std::is_sorted(bounds_.begin(), bounds_.end()));
}
Histogram::~Histogram() = default;

void Histogram::Observe(double value) {
  const size_t bucket = static_cast<size_t>(
      std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin());
  const size_t stripe = MyStripe();
  stripes_->Bucket(stripe, bucket).fetch_add(1, std::memory_order_relaxed);
  stripes_->sums[stripe].value.fetch_add(value, std::memory_order_relaxed);
}

std::vector<uint64_t> Histogram::Buckets() const {
  std::vector<uint64_t> counts(bounds_.size() + 1);
  for (size_t stripe = 0; stripe < kStripes; ++stripe) {
    for (size_t i = 0; i < counts.size(); ++i) {
      counts[i] += stripes_->Bucket(stripe, i).load(std::memory_order_relaxed);
    }
  }
  return counts;
}

uint64_t Histogram::Count() const {
  uint64_t sum = 0;
  for (uint64_t count : Buckets()) sum += count;
  return sum;
}

double Histogram::Sum() const {
  double sum = 0;
  for (const auto& cell : stripes_->sums) sum += cell.value.load(std::memory_order_relaxed);
  return sum;
}

double Histogram::Quantile(double q) const {
  const std::vector<uint64_t> counts = Buckets();
  uint64_t total = 0;
  for (uint64_t count : counts) total += count;
  if (total == 0 || bounds_.empty()) return 0;
  const double rank = q * static_cast<double>(total);
  double below = 0;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    const auto here = static_cast<double>(counts[i]);
    if (here > 0 && below + here >= rank) {
      const double low = i == 0 ? 0 : bounds_[i - 1];
      return low + (bounds_[i] - low) * std::clamp((rank - below) / here, 0.0, 1.0);
    }
    below += here;
  }
  return bounds_.back();
}

// --- families

namespace {

class FamilyBase {
 public:
  virtual ~FamilyBase() = default;
  virtual void Expose(std::string& out) const = 0;
  virtual void ExposeTwin(const Twin& twin, std::string& out) const = 0;
  std::string name, type, help;
  std::vector<std::string> label_names;
};

template <class M>
class FamilyImpl : public Family<M>, public FamilyBase {
 public:
  // `overflow` counts look-ups that went to "other", under the family's name; may be null.
  FamilyImpl(size_t max_series, std::vector<double> bounds, Family<Counter>* overflow)
      : max_series_(std::max<size_t>(1, max_series)),
        bounds_(std::move(bounds)),
        overflow_(overflow) {}

  M& With(LabelValues values) override {
    assert(values.size() == label_names.size());
    thread_local std::string key;
    MakeKey(values, key);
    {
      std::shared_lock lock(mutex_);
      const auto it = series_.find(key);
      if (it != series_.end()) return *it->second.metric;
      if (other_ != nullptr && series_.size() >= max_series_) return CountOther();
    }
    std::unique_lock lock(mutex_);
    const auto it = series_.find(key);
    if (it != series_.end()) return *it->second.metric;
    if (series_.size() < max_series_) {
      return Make(key);
    }
    MakeOther();
    return CountOther();
  }

  void Remove(LabelValues values) override {
    std::string key;
    MakeKey(values, key);
    std::unique_lock lock(mutex_);
    const auto it = series_.find(key);
    if (it == series_.end()) return;
    if (it->second.metric.get() == other_) other_ = nullptr;
    // Somebody may still hold the reference: the metric stays, only its exposition ends.
    retired_.push_back(std::move(it->second.metric));
    if (retired_.size() > kMaxRetired) retired_.pop_front();
    series_.erase(it);
  }

  void Expose(std::string& out) const override {
    std::shared_lock lock(mutex_);
    std::vector<const Series*> sorted;
    sorted.reserve(series_.size());
    for (const auto& [key, series] : series_) sorted.push_back(&series);
    std::sort(sorted.begin(), sorted.end(),
              [](const Series* a, const Series* b) { return a->labels < b->labels; });
    for (const Series* series : sorted) {
      const M* const metric = series->metric.get();
      AppendMetrics<M>(out, name, series->labels, std::span(&metric, 1));
    }
  }

  void ExposeTwin(const Twin& twin, std::string& out) const override {
    std::vector<std::string> names;
    std::vector<size_t> places;  // of the twin's labels among the family's
    for (const auto& [name, of] : twin.labels) {
      const auto at = std::find(label_names.begin(), label_names.end(), of);
      assert(at != label_names.end());
      names.push_back(name);
      places.push_back(static_cast<size_t>(at - label_names.begin()));
    }
    std::shared_lock lock(mutex_);
    std::map<std::string, std::vector<const M*>> merged;
    for (const auto& [key, series] : series_) {
      merged[PartOfKey(key, places)].push_back(series.metric.get());
    }
    for (const auto& [key, metrics] : merged) {
      AppendMetrics<M>(out, twin.name, RenderLabels(names, key), metrics);
    }
  }

 private:
  static constexpr size_t kMaxRetired = 4096;
  struct Series {
    std::string labels;
    std::unique_ptr<M> metric;
  };

  static void MakeKey(LabelValues values, std::string& key) {
    key.clear();
    for (std::string_view value : values) AppendToKey(value, key);
  }

  static std::string PartOfKey(std::string_view key, const std::vector<size_t>& places) {
    std::vector<std::string_view> values;
    while (!key.empty()) {
      const size_t end = key.find(kKeySeparator) + 1;
      values.push_back(key.substr(0, end));
      key.remove_prefix(end);
    }
    std::string part;
    for (const size_t place : places) part += values[place];
    return part;
  }

  std::unique_ptr<M> MakeMetric() const {
    if constexpr (std::is_same_v<M, Histogram>) {
      return std::make_unique<M>(bounds_);
    } else {
      return std::make_unique<M>();
    }
  }

  M& Make(const std::string& key) {
    Series& series = series_[key];
    series.labels = RenderLabels(label_names, key);
    series.metric = MakeMetric();
    return *series.metric;
  }

  void MakeOther() {
    std::string key;
    for (size_t i = 0; i < label_names.size(); ++i) AppendToKey("other", key);
    const auto it = series_.find(key);
    other_ = it != series_.end() ? it->second.metric.get() : &Make(key);
  }

  M& CountOther() {
    if (overflow_ != nullptr) overflow_->With({name}).Add();
    return *other_;
  }

  const size_t max_series_;
  const std::vector<double> bounds_;
  Family<Counter>* const overflow_;
  // Shared by look-ups, exclusive for a new series only.
  mutable std::shared_mutex mutex_;
  std::unordered_map<std::string, Series> series_;
  std::deque<std::unique_ptr<M>> retired_;
  M* other_ = nullptr;  // the series of whatever finds no place; null until it is needed
};

template <class M>
constexpr const char* TypeName() {
  if constexpr (std::is_same_v<M, FollowedCounter>) return "counter";
  if constexpr (std::is_same_v<M, Counter>) return "counter";
  if constexpr (std::is_same_v<M, Gauge>) return "gauge";
  return "histogram";
}

}  // namespace

// --- Registry

struct Registry::Impl {
  template <class M>
  FamilyImpl<M>& Add(std::string_view name, std::string_view help,
                     std::vector<std::string> label_names, std::span<const double> bounds,
                     size_t max_series) {
    std::unique_lock lock(mutex);
    const auto it = families.find(name);
    if (it != families.end()) {
      auto* existing = dynamic_cast<FamilyImpl<M>*>(it->second.get());
      assert(existing != nullptr && existing->label_names == label_names);
      return *existing;
    }
    auto family = std::make_unique<FamilyImpl<M>>(
        max_series, std::vector<double>(bounds.begin(), bounds.end()), overflow);
    family->name = name;
    family->help = help;
    family->type = TypeName<M>();
    family->label_names = std::move(label_names);
    FamilyImpl<M>& reference = *family;
    families.emplace(std::string(name), std::move(family));
    return reference;
  }

  // Registration and exposition; never on a request's path.
  mutable std::mutex mutex;
  std::map<std::string, std::unique_ptr<FamilyBase>, std::less<>> families;
  std::map<std::string, Twin, std::less<>> twins;
  std::vector<std::function<void()>> refreshers;
  Family<Counter>* overflow = nullptr;

  // Families and the twins of those that are there, by name.
  struct Shown {
    const FamilyBase* family;
    const Twin* twin;  // null: the family itself
  };
  std::map<std::string_view, Shown> AllShown() const {
    std::map<std::string_view, Shown> all;
    for (const auto& [name, family] : families) all.emplace(name, Shown{family.get(), nullptr});
    for (const auto& [name, twin] : twins) {
      const auto family = families.find(twin.of);
      if (family != families.end()) all.emplace(name, Shown{family->second.get(), &twin});
    }
    return all;
  }
  static std::string HelpOf(const Shown& shown) {
    return shown.twin == nullptr ? shown.family->help : "Older name of " + shown.twin->of + ".";
  }
};

Registry::Registry() : impl_(std::make_unique<Impl>()) {
  impl_->overflow = &AddCounterFamily("penstock_metric_series_overflow_total",
                                      "Look-ups of a label set that found its metric full and were "
                                      "counted under \"other\" instead.",
                                      {"metric"});
}
Registry::~Registry() = default;

Counter& Registry::AddCounter(std::string_view name, std::string_view help) {
  return impl_->Add<Counter>(name, help, {}, {}, 1).With({});
}
FollowedCounter& Registry::AddFollowedCounter(std::string_view name, std::string_view help) {
  return impl_->Add<FollowedCounter>(name, help, {}, {}, 1).With({});
}
Gauge& Registry::AddGauge(std::string_view name, std::string_view help) {
  return impl_->Add<Gauge>(name, help, {}, {}, 1).With({});
}
Histogram& Registry::AddHistogram(std::string_view name, std::string_view help,
                                  std::span<const double> bounds) {
  return impl_->Add<Histogram>(name, help, {}, bounds, 1).With({});
}
Family<Counter>& Registry::AddCounterFamily(std::string_view name, std::string_view help,
                                            std::vector<std::string> label_names,
                                            size_t max_series) {
  return impl_->Add<Counter>(name, help, std::move(label_names), {}, max_series);
}
Family<FollowedCounter>& Registry::AddFollowedCounterFamily(std::string_view name,
                                                            std::string_view help,
                                                            std::vector<std::string> label_names,
                                                            size_t max_series) {
  return impl_->Add<FollowedCounter>(name, help, std::move(label_names), {}, max_series);
}
Family<Gauge>& Registry::AddGaugeFamily(std::string_view name, std::string_view help,
                                        std::vector<std::string> label_names, size_t max_series) {
  return impl_->Add<Gauge>(name, help, std::move(label_names), {}, max_series);
}
Family<Histogram>& Registry::AddHistogramFamily(std::string_view name, std::string_view help,
                                                std::vector<std::string> label_names,
                                                std::span<const double> bounds, size_t max_series) {
  return impl_->Add<Histogram>(name, help, std::move(label_names), bounds, max_series);
}

void Registry::AddTwin(Twin twin) {
  std::unique_lock lock(impl_->mutex);
  std::string name = twin.name;
  impl_->twins.insert_or_assign(std::move(name), std::move(twin));
}

void Registry::OnCollect(std::function<void()> refresh) {
  std::unique_lock lock(impl_->mutex);
  impl_->refreshers.push_back(std::move(refresh));
}

std::string Registry::Expose() {
  std::vector<std::function<void()>> refreshers;
  {
    std::unique_lock lock(impl_->mutex);
    refreshers = impl_->refreshers;
  }
  for (const auto& refresh : refreshers) refresh();
  std::string out;
  std::unique_lock lock(impl_->mutex);
  for (const auto& [name, shown] : impl_->AllShown()) {
    out.append("# HELP ").append(name).append(" ");
    AppendEscaped(out, Impl::HelpOf(shown), false);
    out.append("\n# TYPE ").append(name).append(" ").append(shown.family->type).append("\n");
    if (shown.twin == nullptr) {
      shown.family->Expose(out);
    } else {
      shown.family->ExposeTwin(*shown.twin, out);
    }
  }
  return out;
}

std::vector<Registry::Row> Registry::Rows() const {
  std::vector<Row> rows;
  std::unique_lock lock(impl_->mutex);
  for (const auto& [name, shown] : impl_->AllShown()) {
    std::string labels;
    const auto add = [&labels](const std::string& label) {
      labels += (labels.empty() ? "" : ", ") + label;
    };
    if (shown.twin == nullptr) {
      for (const std::string& label : shown.family->label_names) add(label);
    } else {
      for (const auto& [label, of] : shown.twin->labels) add(label);
    }
    rows.push_back({std::string(name), shown.family->type, labels, Impl::HelpOf(shown),
                    shown.twin == nullptr ? "" : shown.twin->of});
  }
  return rows;
}

}  // namespace penstock::telemetry
