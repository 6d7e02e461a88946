#include "lab/kernel_tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/kernel_times.h"

namespace penstock::lab {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kDense =
    "layer,tokens,time_us\nlayernorm,1,2\nlayernorm,8,3\nlayernorm,9,3\nqkv,1,10\nqkv,8,20\n"
    "embedding,1,5\nembedding,8,6\n";
constexpr std::string_view kHeads = "layer,sequences,time_us\nlm_head,1,100\nsampler,1,7\n";
constexpr std::string_view kAttention =
    "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n0,0,4,64,3\n16,0,0,0,8\n16,32,0,0,9\n"
    "16,64,0,0,10\n16,0,4,64,10\n16,32,4,64,14\n16,64,4,64,20\n32,0,4,64,99\n";

TEST(FoldKernelTables, SumsLayersAndFindsWhatDecodesAdd) {
  const auto table = FoldKernelTables({kDense, kHeads, kAttention}, {.layers = 10}, "a test");
  ASSERT_TRUE(table) << table.error().message;
  EXPECT_EQ(*table,
            "# a test\nkind,a,b,c,us\n"
            "dense,1,,,145\n"  // 10 (2 * 2 + 10) + 5
            "dense,8,,,266\n"  // not all kernels were measured at 9
            "per_sequence,1,,,107\n"
            "decode,4,64,,30\n"
            "prefill,16,0,,80\nprefill,16,32,,90\nprefill,16,64,,100\n"
            "mixed,4,64,16,50\n");  // the median of 20, 50, 100
  EXPECT_TRUE(engine::KernelTimes::Parse(*table, "t"));
}

TEST(FoldKernelTables, ComplaintsNameFileAndLine) {
  const auto complaint = [](KernelTables tables) {
    const auto table = FoldKernelTables(tables, {}, "");
    return table ? "" : table.error().message;
  };
  EXPECT_EQ(complaint({"layer,time\n", kHeads, kAttention}), "dense.csv:1: no column 'tokens'");
  EXPECT_EQ(complaint({kDense, "layer,sequences,time_us\nlm_head,1\n", kAttention}),
            "per_sequence.csv:2: 2 cells, not 3");
  EXPECT_THAT(complaint({kDense, kHeads,
                         "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n0,0,1,16,fast\n"}),
              HasSubstr("attention.csv:2: time_us: 'fast' is no number"));
  EXPECT_EQ(complaint({"layer,tokens,time_us\n", kHeads, kAttention}), "dense.csv: no line");
}

}  // namespace
}  // namespace penstock::lab
