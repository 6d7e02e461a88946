#include "lab/kernel_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>
#include <iterator>
#include <optional>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "core/text.h"

namespace penstock::lab {
namespace {

constexpr size_t kMaxFields = 8;

// Calls `row` for each line below the header, which must be exactly `header`.
Result<> ReadCsv(std::string_view csv, std::string_view file, std::string_view header,
                 const std::function<Result<>(std::span<const std::string_view>)>& row) {
  const auto wanted = static_cast<size_t>(std::count(header.begin(), header.end(), ',')) + 1;
  size_t number = 0;
  while (!csv.empty()) {
    std::string_view line = csv.substr(0, csv.find('\n'));
    csv.remove_prefix(std::min(csv.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const auto complain = [&](std::string_view what) {
      return Fail(Code::kInvalidArgument, fmt::format("{}:{}: {}", file, number, what));
    };
    if (++number == 1) {
      if (line != header) return complain(fmt::format("the header must be '{}'", header));
      continue;
    }
    if (line.empty()) continue;
    std::array<std::string_view, kMaxFields> fields;
    size_t count = 0;
    while (count < kMaxFields) {
      const size_t comma = line.find(',');
      fields[count++] = line.substr(0, comma);
      if (comma == std::string_view::npos) break;
      line.remove_prefix(comma + 1);
    }
    if (count != wanted) return complain(fmt::format("{} fields, not {}", count, wanted));
    if (auto read = row(std::span(fields).first(count)); !read) {
      return complain(read.error().message);
    }
  }
  return {};
}

Result<double> Number(std::string_view text) {
  const std::optional<double> value = ParseDouble(text);
  if (value && *value >= 0) return *value;
  return Fail(Code::kInvalidArgument, fmt::format("'{}' is no number from 0 on", text));
}

// x to y, of several kernels.
using ByKernel = std::map<std::string, std::map<double, double>, std::less<>>;

Result<ByKernel> ReadKernels(std::string_view csv, std::string_view file, std::string_view header) {
  ByKernel kernels;
  auto read = ReadCsv(csv, file, header, [&](std::span<const std::string_view> row) -> Result<> {
    const auto x = Number(row[1]);
    const auto y = Number(row[2]);
    if (!x) return std::unexpected(x.error());
    if (!y) return std::unexpected(y.error());
    kernels[std::string(row[0])][*x] = *y;
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
  auto read = ReadCsv(csv, "attention.csv", "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us",
                      [&](std::span<const std::string_view> row) -> Result<> {
                        std::array<double, 5> values{};
                        for (size_t i = 0; i < values.size(); ++i) {
                          const auto value = Number(row[i]);
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
  const auto dense = ReadKernels(tables.dense, "dense.csv", "layer,tokens,time_us");
  if (!dense) return std::unexpected(dense.error());
  const auto heads =
      ReadKernels(tables.per_sequence, "per_sequence.csv", "layer,sequences,time_us");
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
