#include "sched/plugin.h"

#include "sched/stopwatch.h"

namespace penstock::sched {

std::string_view StepName(Step step) {
  switch (step) {
    case Step::kDataProducer:
      return "DataProducer";
    case Step::kProfilePicker:
      return "ProfilePicker";
    case Step::kFilter:
      return "Filter";
    case Step::kScorer:
      return "Scorer";
    case Step::kPicker:
      return "Picker";
    case Step::kProcessProfilesResults:
      return "ProcessProfilesResults";
    case Step::kPreRequest:
      return "PreRequest";
  }
  return "unknown";
}

std::string_view DataKeyName(DataKey key) {
  switch (key) {
    case DataKey::kTokens:
      return "TokenizedPrompt";
    case DataKey::kPrefixMatch:
      return "PrefixCacheMatchInfo";
    case DataKey::kInFlightLoad:
      return "InFlightLoad";
    case DataKey::kSessionId:
      return "SessionID";
    case DataKey::kWaiting:
      return "WaitingQueueSize";
    case DataKey::kRunning:
      return "RunningRequestsSize";
    case DataKey::kKvUsage:
      return "KVCacheUsagePercent";
    case DataKey::kLora:
      return "ActiveModels";
    case DataKey::kAttribute:
      return "a custom attribute";
  }
  return "unknown";
}

}  // namespace penstock::sched
