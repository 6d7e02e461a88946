// Finds the few families that routing needs in an engine's Prometheus text, and nothing else: no
// tree, no general parser. The page is fed in pieces as they arrive, so it is never kept.
// What it looks for is in an EngineTable.
//
// Several series of one family describe parts of one server (data-parallel ranks, models), and the
// engine spreads requests over the parts. So waiting, running and blocks are summed, and kv usage
// is the mean: the used share of all there is, as ranks are of one size. (The maximum would call a
// server full whose other ranks are empty.) A configuration's own attribute is the mean too. Series
// that differ in tp_rank or pp_rank only are the same requests seen by several processes; the
// largest of them counts. Of LoRA's series the sample with the largest value, a time, counts.
//
// A value that is not finite, negative or absurd (a count above 1e9, a usage above 1.5; between 1
// and 1.5 it counts as 1) is left out and counted, as is a sample that is no valid text and a line
// above 64 KiB. An attribute may be any finite number.
//
// THREADS: belongs to its caller.
// COST: 6.5 us a page of 57 KB and 589 lines (bench/metric_scan_bench). No allocation but for LoRA
// names, labels of a longer line than before and lines that are cut by the end of a piece.
//
// SOURCE: Prometheus text format 0.0.4 (timestamps and OpenMetrics' exemplars are passed over).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "director/fleet.h"
#include "signals/engine_table.h"

namespace penstock::signals {

struct ScannedMetrics {
  director::EngineSignals signals;
  EngineType type = EngineType::kUnknown;  // whose families these are
};

class MetricScanner {
 public:
  static constexpr size_t kMaxLineBytes = 64 * 1024;

  // The table outlives the scanner.
  explicit MetricScanner(const EngineTable& table = EngineTable::Known());

  // Begins a page of an engine of this type. kUnknown: of the table's default one, and when the
  // page has nothing of that, of the type whose families it has most of.
  void Begin(EngineType expected);
  void Feed(std::string_view piece);
  // What the page said. A page without any of waiting, running and kv usage, though its engine has
  // them, is an error whose message tells a person what to look at.
  Result<ScannedMetrics> Finish();

  // Of the page since Begin.
  uint64_t bad_values() const { return bad_values_; }

 private:
  struct Label {
    std::string_view name;
    std::string_view raw;  // as between its quotes
  };
  struct Total {
    double sum = 0;
    uint32_t count = 0;
    void Add(double value) {
      sum += value;
      ++count;
    }
  };
  // The largest of the samples that several processes give for the same thing.
  struct Group {
    const EngineTable::Use* use;
    Meaning meaning;
    uint64_t key = 0;
    double value = 0;
  };
  struct Lora {
    bool is_seen = false;
    double time = 0;
    std::string running, waiting;  // raw label values
    uint32_t max_adapters = 0;
  };
  // Of one engine.
  struct Totals {
    Total waiting, running, kv_usage, old_kv_usage, blocks;
    uint32_t block_size_tokens = 0;
    Lora lora;
  };

  void ScanLine(std::string_view line);
  bool ReadSample(std::string_view text, double* value);
  bool ReadLabels(std::string_view* text);
  std::string_view RawLabel(std::string_view name) const;
  bool HasLabels(const EngineTable::LabelValues& wanted) const;
  void Take(const EngineTable::Use& use, double value);
  void TakeCacheInfo(const EngineTable::Use& use);
  void TakeLora(Lora* lora, double time);
  void TakeGauge(const EngineTable::Use& use, Meaning meaning, double value);
  void Add(const EngineTable::Use& use, Meaning meaning, double value);
  // Of the sample's labels; nothing when none tells processes of one rank apart.
  std::optional<uint64_t> GroupKey() const;
  uint32_t Known(EngineType type) const;
  EngineType Judge() const;
  void FillAttributes(EngineType type, std::vector<float>* out) const;
  Error Complaint() const;

  const EngineTable& table_;
  EngineType expected_ = EngineType::kUnknown;
  std::vector<Totals> totals_;  // by engine
  std::vector<Total> attribute_totals_;
  std::vector<Group> groups_;
  double started_at_ = 0;      // of several processes the youngest; 0: not told
  std::vector<Label> labels_;  // of the sample that is being read
  std::string carry_;          // the cut line at the end of the last piece
  bool skips_line_ = false;    // the rest of a line that is too long
  bool has_bytes_ = false;
  uint64_t bad_values_ = 0;
};

}  // namespace penstock::signals
