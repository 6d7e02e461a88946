#include "sched/plugin.h"

namespace penstock::sched {

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
  }
  return "unknown";
}

}  // namespace penstock::sched
