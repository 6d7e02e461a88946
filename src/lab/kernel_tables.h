// Makes a profile's table of kernel times (engine/kernel_times.h) from tables of single kernels, as
// LLMServingSim publishes them: dense.csv (layer,tokens,time_us), per_sequence.csv
// (layer,sequences,time_us) and attention.csv
// (prefill_chunk,kv_prefill,n_decode,kv_decode,time_us), times of one layer in microseconds.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/result.h"

namespace penstock::lab {

struct KernelTables {
  std::string_view dense, per_sequence, attention;  // texts
};

struct ModelShape {
  uint32_t layers = 1;
  // How often a dense kernel runs, where that is not once a layer.
  std::map<std::string, double, std::less<>> runs_per_layer = {{"layernorm", 2}};
  std::map<std::string, double, std::less<>> runs_per_step = {{"embedding", 1},
                                                              {"final_layernorm", 1}};
};

// The CSV, beginning with `comment` as a line for people. Dense kernels are summed where all of
// them were measured. What decodes add to a step with a chunk is the median over the chunk's
// histories of (time together - time of the chunk alone). Complaints as FILE:LINE.
Result<std::string> FoldKernelTables(const KernelTables& tables, const ModelShape& shape,
                                     std::string_view comment);

}  // namespace penstock::lab
