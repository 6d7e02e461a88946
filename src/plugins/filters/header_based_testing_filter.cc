// Keeps the endpoints that a header of the request lists, for conformance tests.
#include "core/text.h"
#include "plugins/builtin_types.h"

namespace penstock::plugins {
namespace {

constexpr std::string_view kHeader = "test-epp-endpoint-selection";

// "10.0.0.1", "10.0.0.1:8000", "fd00::1", "[fd00::1]:8000" against one endpoint.
bool Names(std::string_view text, const model::EndpointInfo& endpoint) {
  if (text == endpoint.spec.host || text == endpoint.address) return true;
  return text.size() > 2 && text.front() == '[' && text.back() == ']' &&
         text.substr(1, text.size() - 2) == endpoint.spec.host;
}

class HeaderBasedTestingFilter : public sched::Filter {
 public:
  struct Params {
    template <class V>
    void Describe(V&) {}
  };
  explicit HeaderBasedTestingFilter(const Params&) {}

  void Apply(const sched::RequestContext& context, const model::EndpointColumns& columns,
             Mask& candidates, Random&) const override {
    const std::string_view list = context.request.Header(kHeader);
    candidates.Keep([&](size_t i) { return IsListed(list, columns.pool->endpoints[i]); });
  }

  std::vector<sched::HeaderUse> HeadersRead() const override {
    return {{std::string(kHeader), false, "lists the only endpoints that may serve the request"}};
  }

 private:
  static bool IsListed(std::string_view list, const model::EndpointInfo& endpoint) {
    while (!list.empty()) {
      const size_t comma = std::min(list.find(','), list.size());
      if (Names(TrimSpace(list.substr(0, comma)), endpoint)) return true;
      list.remove_prefix(std::min(comma + 1, list.size()));
    }
    return false;
  }
};

}  // namespace

sched::PluginType HeaderBasedTestingFilterType() {
  auto type = sched::MakeType<HeaderBasedTestingFilter>(
      "header-based-testing-filter", sched::Kind::kFilter,
      "For conformance tests: keeps the endpoints that the header test-epp-endpoint-selection "
      "lists, and none without it.");
  type.formula = "host or host:port is in the comma-separated list";
  return type;
}

}  // namespace penstock::plugins
