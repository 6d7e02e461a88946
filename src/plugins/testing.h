// What tests of plugins share: a pool of endpoints with columns to write on, and instances made
// from YAML as a configuration would have it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "plugins/builtin.h"
#include "sched/scheduler.h"
#include "wire/yaml.h"

namespace penstock::plugins::testing {

// Endpoints e0, e1, ... in slots 10, 11, ..., so that a mix-up of slots and columns shows.
inline constexpr uint32_t kFirstSlot = 10;

struct TestPool {
  explicit TestPool(size_t size) {
    for (size_t i = 0; i < size; ++i) {
      model::EndpointInfo endpoint;
      endpoint.slot = kFirstSlot + static_cast<uint32_t>(i);
      endpoint.spec.name = "e" + std::to_string(i);
      endpoint.address = "10.0.0.1:" + std::to_string(8000 + i);
      endpoint.health = model::Health::kHealthy;
      pool.endpoints.push_back(std::move(endpoint));
    }
    Index();
  }
  TestPool(const TestPool&) = delete;
  TestPool& operator=(const TestPool&) = delete;

  // After each change of `pool`.
  void Index() {
    pool.Index();
    const size_t size = pool.endpoints.size();
    columns.pool = &pool;
    for (auto* column :
         {&columns.waiting, &columns.running, &columns.kv_usage, &columns.metrics_age_s,
          &columns.in_flight_requests, &columns.in_flight_tokens, &columns.uncached_tokens}) {
      column->resize(size);
    }
    all.Reset(size);
    for (size_t i = 0; i < size; ++i) all.Set(i);
  }
  void SetPrefix(uint32_t total_blocks, std::vector<float> matched, uint32_t block_size = 64) {
    columns.prefix.assign(1, {std::move(matched), total_blocks, block_size});
  }
  sched::Picked Pick(uint32_t column, Time now = {}) const {
    return {column, pool.slots[column], now};
  }

  model::PoolSnapshot pool;
  model::EndpointColumns columns;
  Mask all;
};

// An instance of the built-in `type`, or nullptr with the errors in `diagnostics`.
inline std::unique_ptr<sched::Plugin> TryMake(std::string_view type, std::string_view parameters,
                                              config::Diagnostics* diagnostics) {
  const sched::PluginType* found = Builtins().Find(type);
  if (found == nullptr) {
    diagnostics->errors.push_back("no such type");
    return nullptr;
  }
  const Result<wire::YamlNode> node = wire::ParseYaml(parameters, "test.yaml");
  if (!node) {
    diagnostics->errors.push_back(node.error().message);
    return nullptr;
  }
  diagnostics->file = "test.yaml";
  auto plugin = found->make(*node, type, diagnostics);
  if (plugin != nullptr) plugin->SetIdentity(std::string(type), std::string(found->type));
  return plugin;
}

inline std::vector<std::string> ErrorsOf(std::string_view type, std::string_view parameters) {
  config::Diagnostics diagnostics;
  EXPECT_EQ(TryMake(type, parameters, &diagnostics), nullptr);
  return diagnostics.errors;
}

// An instance as the interface that it is tested through.
template <class Interface>
class Made {
 public:
  explicit Made(std::string_view type, std::string_view parameters = "{}") {
    config::Diagnostics diagnostics;
    plugin_ = TryMake(type, parameters, &diagnostics);
    for (const std::string& error : diagnostics.errors) ADD_FAILURE() << error;
    interface_ = dynamic_cast<Interface*>(plugin_.get());
    if (interface_ == nullptr) {
      ADD_FAILURE() << type << " was not made";
      std::abort();
    }
  }
  Interface* operator->() const { return interface_; }
  Interface& operator*() const { return *interface_; }

 private:
  std::unique_ptr<sched::Plugin> plugin_;
  Interface* interface_;
};

inline std::vector<float> Scores(const sched::Scorer& scorer, const TestPool& pool,
                                 const sched::RequestContext& context = {}) {
  std::vector<float> scores(pool.columns.size(), 0.0F);
  scorer.Score(context, pool.columns, pool.all, scores);
  return scores;
}

inline std::vector<uint32_t> Kept(const sched::Filter& filter, const TestPool& pool,
                                  const sched::RequestContext& context = {}, uint64_t seed = 1) {
  Mask mask = pool.all;
  Random random(seed);
  filter.Apply(context, pool.columns, mask, random);
  std::vector<uint32_t> kept;
  mask.ForEach([&](size_t i) { kept.push_back(static_cast<uint32_t>(i)); });
  return kept;
}

}  // namespace penstock::plugins::testing
