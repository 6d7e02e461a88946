// Decision records as JSON, for /debug/decisions and the live page. Numbers that are not known are
// null; times are seconds unless the name says otherwise.
//
// THREADS: const data in, text out; any thread.
#pragma once

#include "director/decisions.h"
#include "wire/json.h"

namespace penstock::admin {

// One object: what a list shows of a request.
void WriteDecisionSummary(const director::DecisionRecord& record, wire::JsonWriter* json);

// One object: everything, with each try's candidates, filter verdicts and scores by plugin, and the
// explanation in sentences.
void WriteDecision(const director::DecisionRecord& record, wire::JsonWriter* json);

// The value, or null below zero.
void WriteIfKnown(std::string_view key, double value, wire::JsonWriter* json);

// Rounded to four digits behind the point, so that polled text stays short.
double Rounded(double value);

}  // namespace penstock::admin
