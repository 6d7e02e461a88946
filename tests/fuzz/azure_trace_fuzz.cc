// Any bytes as an Azure trace: see trace_fuzz.h.
#include "trace_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return penstock::workload::FuzzTrace(penstock::workload::ReadAzure, data, size);
}
