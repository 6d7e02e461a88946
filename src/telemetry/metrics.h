// Counters, gauges and histograms, and their Prometheus text.
//
// A hot path keeps a reference and increments; nothing is looked up per event. Labelled families
// are looked up with With(), which is bounded: past `max_series` distinct label sets everything
// goes to the series whose labels are all "other", and penstock_metric_series_overflow_total says
// so.
//
// THREADS: all methods from any thread. Counter and Histogram are striped by thread (8 stripes of
// one cache line), so loops do not share lines. COST: Counter::Add one relaxed add;
// Histogram::Observe two adds and a short search; With() a shared-lock hash look-up: cache the
// reference when the labels do not change.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace penstock::telemetry {

class Counter {
 public:
  Counter();
  ~Counter();
  void Add(uint64_t n = 1);
  uint64_t Value() const;

 private:
  struct Stripes;
  std::unique_ptr<Stripes> stripes_;
};

class Gauge {
 public:
  void Set(double value);
  void Add(double delta);
  double Value() const;

 private:
  std::atomic<double> value_{0};
};

// A counter whose count is kept elsewhere and read at collection.
class FollowedCounter {
 public:
  void Follow(double value);  // what is below the value so far is ignored: a counter only grows
  double Value() const;

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  explicit Histogram(std::span<const double> upper_bounds);  // rising, without +Inf
  ~Histogram();
  void Observe(double value);
  uint64_t Count() const;
  double Sum() const;
  // Linear interpolation inside the bucket, as Prometheus does; 0 when empty. q in [0, 1].
  double Quantile(double q) const;
  std::vector<uint64_t> Buckets() const;  // not cumulative; the last one is +Inf
  std::span<const double> bounds() const { return bounds_; }

 private:
  struct Stripes;
  std::vector<double> bounds_;
  std::unique_ptr<Stripes> stripes_;
};

using LabelValues = std::initializer_list<std::string_view>;
// Of one label value; what lies beyond is left out.
inline constexpr size_t kMaxLabelBytes = 256;

template <class M>
class Family {
 public:
  virtual ~Family() = default;
  // Values may hold anything: they are cut at kMaxLabelBytes, and what is not UTF-8 in them becomes
  // U+FFFD. REQUIRES: as many values as the family has label names. The reference stays valid for
  // ever.
  virtual M& With(LabelValues values) = 0;
  // Removes a series (an endpoint that left). References to it must not be used again.
  virtual void Remove(LabelValues values) = 0;
};

// Another name of a family, for those who still look for it: shown from the family's own series, so
// that nothing is counted twice.
struct Twin {
  std::string name;
  std::string of;  // the family; until there is one of that name, the twin is not shown
  // Its labels, each with the family's label whose values it has. Series that differ in others only
  // are one series of the twin: their sum.
  std::vector<std::pair<std::string, std::string>> labels;
};

// Names are without a common prefix ("llm_d_epp_request_total" is given whole). Asking again for
// the same name gives the same object; a different type or other labels under one name is a defect
// (assertion).
class Registry {
 public:
  Registry();
  ~Registry();
  Counter& AddCounter(std::string_view name, std::string_view help);
  FollowedCounter& AddFollowedCounter(std::string_view name, std::string_view help);
  Gauge& AddGauge(std::string_view name, std::string_view help);
  Histogram& AddHistogram(std::string_view name, std::string_view help,
                          std::span<const double> bounds);
  Family<Counter>& AddCounterFamily(std::string_view name, std::string_view help,
                                    std::vector<std::string> label_names, size_t max_series = 1000);
  Family<FollowedCounter>& AddFollowedCounterFamily(std::string_view name, std::string_view help,
                                                    std::vector<std::string> label_names,
                                                    size_t max_series = 1000);
  Family<Gauge>& AddGaugeFamily(std::string_view name, std::string_view help,
                                std::vector<std::string> label_names, size_t max_series = 1000);
  Family<Histogram>& AddHistogramFamily(std::string_view name, std::string_view help,
                                        std::vector<std::string> label_names,
                                        std::span<const double> bounds, size_t max_series = 1000);
  // REQUIRES: the twin's labels are the family's.
  void AddTwin(Twin twin);
  // Called before each exposition, to refresh gauges from live state.
  void OnCollect(std::function<void()> refresh);
  // Prometheus text format 0.0.4, families sorted by name.
  std::string Expose();
  // name, type, labels, help of every family and twin: for the generated reference.
  struct Row {
    std::string name, type, labels, help;
    std::string twin_of;  // "": a family
  };
  std::vector<Row> Rows() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace penstock::telemetry
