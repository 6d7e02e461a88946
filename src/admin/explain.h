// Why a request went where it went, in sentences for people, worked out from its record alone.
//
// THREADS: const data in, new data out; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/mask.h"
#include "director/decisions.h"

namespace penstock::admin {

// The column indices of attempt `i` that could be picked before any filter ran: healthy, serving
// the model, not tried by an earlier attempt. REQUIRES: i < record.attempts.size() and the attempt
// has its pool.
Mask CandidatesOf(const director::DecisionRecord& record, size_t i);

// Why an endpoint of attempt i's pool was no candidate: "had been tried", for the end of a
// sentence. REQUIRES: it is not in CandidatesOf(record, i).
std::string WhyNotACandidate(const director::DecisionRecord& record, size_t i, size_t column);

// The column of the endpoint that the attempt went to, or the pool's size when it is not there.
size_t PickedColumn(const director::Attempt& attempt);

// What decided, in a few plain words, for a cell of a table.
std::string ExplainBriefly(const director::DecisionRecord& record);

// The whole story in the order in which it happened.
std::vector<std::string> Explain(const director::DecisionRecord& record);

}  // namespace penstock::admin
