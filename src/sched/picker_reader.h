// Reads what an EndpointPickerConfig says beside plugins of the scheduler and profiles. Private to
// the loader.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "sched/loader_context.h"
#include "sched/picker_document.h"
#include "sched/picker_settings.h"

namespace penstock::sched {

class PickerReader {
 public:
  PickerReader(const Abilities& abilities, const Instances& instances, PickerSettings* out,
               Complaints* complaints)
      : abilities_(abilities), instances_(instances), out_(*out), complaints_(*complaints) {}

  // A declared plugin that the scheduler's registry does not hold.
  void ReadPlugin(const KnownType& known, const std::string& name, const PluginDocument& plugin,
                  const wire::YamlNode& node);
  // Says what becomes of the policies of flow control; ReadDocument does it, once it knows the
  // gate.
  void SettleFlowPolicies();
  // After all plugins were read.
  void ReadDocument(const wire::YamlNode& document, const PickerDocument& parsed);

 private:
  template <class Parameters>
  bool Parse(const PluginDocument& plugin, Parameters* parameters) {
    return config::ParseInto(plugin.parameters, plugin.type, parameters, complaints_.diagnostics());
  }
  // What the program lacks, but not every program of this version.
  void Lacking(const wire::YamlNode& node, std::string what, std::string_view capability,
               std::string_view instead = {}) {
    complaints_.Missing(node, std::move(what), capability, abilities_.program, instead);
  }
  void ReadSource(const KnownType& known, const std::string& name, const PluginDocument& plugin,
                  const wire::YamlNode& node);
  void CheckSource(const EngineSource& source, const PluginDocument& plugin,
                   std::string_view usual_path, const wire::YamlNode& node);
  void ReadExtractor(const std::string& name, const PluginDocument& plugin,
                     const wire::YamlNode& node);
  void ReadEngine(const EngineMetricsDocument& engine, const wire::YamlNode& node);
  void AddAttribute(const std::string& key, MetricSpec spec, const wire::YamlNode& node,
                    EngineMetrics* engine);
  void CheckEngines(const PluginDocument& plugin, const wire::YamlNode& node);
  void ReadGates(const std::vector<std::string>& gates, const wire::YamlNode& node);
  void ReadFlowControl(const wire::YamlNode& document, const PickerDocument& parsed);
  void ReadDetector(const std::string& name, const wire::YamlNode& node);
  void CheckPolicy(const std::string& name, const wire::YamlNode& node);
  void ReadDataLayer(const DataLayerDocument& data_layer, const wire::YamlNode& node);
  void ReadDiscovery(const DataLayerDocument& data_layer, const wire::YamlNode& node);
  void CheckSources(const std::vector<SourceDocument>& sources, const wire::YamlNode& node);
  void ReadParser(const std::string& name, const wire::YamlNode& node);

  const Abilities& abilities_;
  const Instances& instances_;
  PickerSettings& out_;
  Complaints& complaints_;
  std::map<std::string, FileDiscovery, std::less<>> discoveries_;  // by instance
  std::set<std::string> attributes_;                               // of customMetrics
  struct FlowPolicy {
    const KnownType* known;
    const wire::YamlNode& place;
  };
  std::vector<FlowPolicy> flow_policies_;
  bool has_metrics_ = false;
  bool has_extractor_ = false;
};

}  // namespace penstock::sched
