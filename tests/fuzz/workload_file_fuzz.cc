// Any bytes as a workload file: complaints say where, and what comes through makes requests that
// are in order and no longer than they may be.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "workload/generated_source.h"
#include "workload/workload_file.h"

namespace {

void Check(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto workload = penstock::workload::ParseWorkload(text, "f");
  if (!workload) {
    Check(workload.error().message.starts_with("f:"));
    return 0;
  }
  const auto source = penstock::workload::Generate(*workload, 1, {.max_model_len = 5000});
  penstock::Duration before{0};
  for (int i = 0; i < 200; ++i) {
    const auto at = source->NextAt();
    if (!at) break;
    const penstock::workload::Job job = source->Take();
    Check(job.at == *at && job.at >= before);
    Check(job.output_tokens > 0 && job.prompt_tokens() > 0);
    Check(job.prompt_tokens() + job.output_tokens <= 5000);
    before = job.at;
    // Every third answer is lost, every fourth stays open.
    if (i % 4 != 3)
      source->OnEnd(job, {.at = job.at + penstock::milliseconds(10), .is_served = i % 3 != 0});
  }
  return 0;
}
