#include <array>
#include <string>
#include <utility>
#include <vector>

#include "workload/seeds.h"
#include "workload/trace_field.h"
#include "workload/trace_source.h"

namespace penstock::workload {
namespace {

constexpr size_t kColumns = 3;
constexpr std::array<std::string_view, kColumns> kNames = {"TIMESTAMP", "ContextTokens",
                                                           "GeneratedTokens"};
constexpr size_t kMostColumns = 1000;

class Azure final : public TraceFormat {
 public:
  explicit Azure(bool passes_unknown) : passes_unknown_(passes_unknown) {}

  Verdict Parse(std::string_view line, uint64_t ordinal, TraceRow* row, LineFault* fault) override {
    if (!Split(line)) return Blame(fault, "too many columns", "more than 1000");
    if (num_columns_ == 0) return ReadHeader(fault);
    if (cells_.size() != num_columns_) {
      return Blame(fault, "a wrong number of columns",
                   std::to_string(cells_.size()) + " instead of " + std::to_string(num_columns_));
    }
    for (size_t i = 0; i < kColumns; ++i) {
      if (Cell(i).empty()) return Blame(fault, kMissing, std::string(kNames[i]) + " is empty");
    }
    const auto time_ns = ParseTimestamp(Cell(0));
    if (!time_ns) {
      return Blame(fault, "a time is not one",
                   "TIMESTAMP is '" + std::string(Utf8Prefix(Cell(0), 40)) +
                       "', not like 2023-11-16 18:15:46.6805900");
    }
    row->time_ns = *time_ns;
    uint32_t tokens = 0;
    if (!ReadTokens(kNames[1], Cell(1), &tokens, fault)) return Verdict::kBad;
    if (!ReadTokens(kNames[2], Cell(2), &row->job.output_tokens, fault)) return Verdict::kBad;
    row->job.prompt.push_back({NumberOf(0, Purpose::kTraceRequest, ordinal), tokens});
    row->job.output_content = NumberOf(0, Purpose::kTraceAnswer, ordinal);
    return Verdict::kRow;
  }

  std::vector<std::string> Notes() const override {
    if (unknown_.empty()) return {};
    return {"columns not known, passed over: " + unknown_};
  }

 private:
  std::string_view Cell(size_t column) const { return cells_[places_[column]]; }

  bool Split(std::string_view line) {
    cells_.clear();
    for (;;) {
      const size_t comma = line.find(',');
      std::string_view cell = TrimSpace(line.substr(0, comma));
      if (cell.size() >= 2 && cell.front() == '"' && cell.back() == '"') {
        cell = cell.substr(1, cell.size() - 2);
      }
      cells_.push_back(cell);
      if (comma == std::string_view::npos) return true;
      if (cells_.size() == kMostColumns) return false;
      line.remove_prefix(comma + 1);
    }
  }

  static Verdict BlameHeader(LineFault* fault, std::string detail) {
    Blame(fault, "the header is not that of a trace", std::move(detail));
    return Verdict::kFatal;
  }

  Verdict ReadHeader(LineFault* fault) {
    std::array<bool, kColumns> has{};
    std::string unknown;
    for (size_t place = 0; place < cells_.size(); ++place) {
      size_t column = 0;
      while (column < kColumns && !EqualsIgnoreCase(cells_[place], kNames[column])) ++column;
      const std::string name(Utf8Prefix(cells_[place], 40));
      if (column == kColumns && !passes_unknown_) {
        return BlameHeader(fault, "unknown column '" + name + "'" +
                                      DidYouMean(cells_[place], kNames) +
                                      "; known are TIMESTAMP, ContextTokens and GeneratedTokens");
      }
      if (column == kColumns) {
        if (unknown.size() < 200) unknown += (unknown.empty() ? "'" : ", '") + name + "'";
        continue;
      }
      if (has[column]) return BlameHeader(fault, name + " comes twice");
      has[column] = true;
      places_[column] = place;
    }
    for (size_t i = 0; i < kColumns; ++i) {
      if (!has[i]) {
        return BlameHeader(fault, "there is no column " + std::string(kNames[i]));
      }
    }
    unknown_ = unknown;
    num_columns_ = cells_.size();
    return Verdict::kNothing;
  }

  const bool passes_unknown_;
  std::vector<std::string_view> cells_;
  std::array<size_t, kColumns> places_{};
  size_t num_columns_ = 0;  // 0: the header is still to come
  std::string unknown_;
};

}  // namespace

std::unique_ptr<Source> ReadAzure(LineReader lines, const TraceOptions& options) {
  return MakeTraceSource(std::move(lines), std::make_unique<Azure>(options.skips_bad_lines),
                         options);
}

}  // namespace penstock::workload
