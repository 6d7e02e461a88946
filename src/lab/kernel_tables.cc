#include "lab/kernel_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <iterator>
#include <tuple>
#include <utility>
#include <vector>

#include "core/csv.h"

namespace penstock::lab {
namespace {

// x to y, of several kernels.
using ByKernel = std::map<std::string, std::map<double, double>, std::less<>>;

Result<ByKernel> ReadKernels(std::string_view csv, std::string_view file, std::string_view x_name) {
  ByKernel kernels;
  auto read = ReadCsv(csv, file, {"layer", x_name, "time_us"}, [&](const CsvRow& row) -> Result<> {
    const auto x = row.Number(1);
    const auto y = row.Number(2);
    if (!x) return std::unexpected(x.error());
    if (!y) return std::unexpected(y.error());
    kernels[std::string(row.Text(0))][*x] = *y;
    return {};
  });
  if (!read) return std::unexpected(read.error());
  if (kernels.empty()) return Fail(Code::kInvalidArgument, fmt::format("{}: no line", file));
  return kernels;
}

void AppendSum(const ByKernel& kernels, std::string_view kind,
               const std::function<double(std::string_view)>& runs, std::string* out) {
  for (const auto& [x, unused] : kernels.begin()->second) {
    double sum = 0;
    bool is_whole = true;
    for (const auto& [name, curve] : kernels) {
      const auto found = curve.find(x);
      if (found == curve.end()) {
        is_whole = false;
        break;
      }
      sum += runs(name) * found->second;
    }
    if (is_whole) fmt::format_to(std::back_inserter(*out), "{},{},,,{:.6g}\n", kind, x, sum);
  }
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Attention by (chunk, history, decodes, context).
using Attention = std::map<std::tuple<double, double, double, double>, double>;

Result<Attention> ReadAttention(std::string_view csv) {
  Attention attention;
  auto read = ReadCsv(csv, "attention.csv",
                      {"prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"},
                      [&](const CsvRow& row) -> Result<> {
                        std::array<double, 5> values{};
                        for (size_t i = 0; i < values.size(); ++i) {
                          const auto value = row.Number(i);
                          if (!value) return std::unexpected(value.error());
                          values[i] = *value;
                        }
                        attention[{values[0], values[1], values[2], values[3]}] = values[4];
                        return {};
                      });
  if (!read) return std::unexpected(read.error());
  return attention;
}

void AppendAttention(const Attention& attention, double layers, std::string* out) {
  std::string prefill, mixed;
  std::map<std::tuple<double, double, double>, std::vector<double>> additions;
  for (const auto& [key, micros] : attention) {
    const auto& [chunk, history, decodes, context] = key;
    if (chunk == 0) {
      fmt::format_to(std::back_inserter(*out), "decode,{},{},,{:.6g}\n", decodes, context,
                     layers * micros);
    } else if (decodes == 0) {
      fmt::format_to(std::back_inserter(prefill), "prefill,{},{},,{:.6g}\n", chunk, history,
                     layers * micros);
    } else if (const auto alone = attention.find({chunk, history, 0, 0});
               alone != attention.end()) {
      additions[{decodes, context, chunk}].push_back(layers *
                                                     std::max(0.0, micros - alone->second));
    }
  }
  for (const auto& [key, values] : additions) {
    const auto& [decodes, context, chunk] = key;
    fmt::format_to(std::back_inserter(mixed), "mixed,{},{},{},{:.6g}\n", decodes, context, chunk,
                   Median(values));
  }
  out->append(prefill).append(mixed);
}

}  // namespace

Result<std::string> FoldKernelTables(const KernelTables& tables, const ModelShape& shape,
                                     std::string_view comment) {
  const auto dense = ReadKernels(tables.dense, "dense.csv", "tokens");
  if (!dense) return std::unexpected(dense.error());
  const auto heads = ReadKernels(tables.per_sequence, "per_sequence.csv", "sequences");
  if (!heads) return std::unexpected(heads.error());
  const auto attention = ReadAttention(tables.attention);
  if (!attention) return std::unexpected(attention.error());

  const double layers = shape.layers;
  std::string out = fmt::format("# {}\nkind,a,b,c,us\n", comment);
  AppendSum(
      *dense, "dense",
      [&](std::string_view kernel) {
        if (const auto once = shape.runs_per_step.find(kernel); once != shape.runs_per_step.end()) {
          return once->second;
        }
        const auto several = shape.runs_per_layer.find(kernel);
        return layers * (several != shape.runs_per_layer.end() ? several->second : 1);
      },
      &out);
  AppendSum(
      *heads, "per_sequence", [](std::string_view) { return 1.0; }, &out);
  AppendAttention(*attention, layers, &out);
  return out;
}

}  // namespace penstock::lab
