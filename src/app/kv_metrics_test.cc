#include "app/kv_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "admin/caches_testing.h"

namespace penstock::app {
namespace {

using kvcache::PublisherReason;
using kvcache::PublisherState;
using ::testing::HasSubstr;
using ::testing::Not;

class KvMetricsTest : public ::testing::Test {
 protected:
  KvMetricsTest() { ingest.Add("a", PublisherState::kExact); }

  admin::ToldIngest ingest;
  admin::ToldCaches knows;
  std::vector<admin::UnheardEndpoint> unheard = {{"u", "why"}};
  admin::HeardCaches heard{
      &knows, &ingest,
      [this] { return std::make_shared<const std::vector<admin::UnheardEndpoint>>(unheard); }};
  telemetry::Registry registry;
  KvMetrics metrics{registry, heard};
};

TEST_F(KvMetricsTest, TellOfEveryPublisher) {
  ingest.views[0].missed = 5;
  ingest.views[0].lag_s = 0.5;
  ingest.views[0].tier_blocks[1] = 12;
  ingest.views[0].faults[0] = 2;
  ingest.views[0].counters.unkeyed = 3;
  ingest.views[0].connections = 3;
  const std::string text = registry.Expose();
  for (const std::string_view line : {
           "penstock_kv_events_missed_batches_total{endpoint_name=\"a\"} 5\n",
           "penstock_kv_events_lag_seconds{endpoint_name=\"a\"} 0.5\n",
           "penstock_kv_cache_blocks{endpoint_name=\"a\",tier=\"cpu\"} 12\n",
           "penstock_kv_events_faults_total{endpoint_name=\"a\",reason=\"unknown_type\"} 2\n",
           "penstock_kv_events_skipped_total{endpoint_name=\"a\",reason=\"unkeyed\"} 3\n",
           "subscriber_reconnections_total{pod_identifier=\"a:8000\"} 2\n",
           "penstock_kv_events_publishers{state=\"EXACT\"} 1\n",
           "penstock_kv_events_publishers{state=\"STALE\"} 0\n",
           "penstock_kv_events_unheard_endpoints 1\n",
           "penstock_kv_events_unknown_topics_total 7\n",
       }) {
    EXPECT_THAT(text, HasSubstr(std::string(line)));
  }
  EXPECT_THAT(text, Not(HasSubstr("reason=\"malformed\""))) << "only what happened";
}

TEST_F(KvMetricsTest, TellOfSnapshots) {
  EXPECT_THAT(registry.Expose(), Not(HasSubstr("penstock_kv_snapshots_total{")));
  admin::ToldSnapshots snapshots;
  snapshots.told = {.written = 3, .served = 4, .bytes = 500, .age_s = 2, .refused = 1};
  heard.snapshots = &snapshots;
  ingest.restore_counts = {.publishers = 2, .blocks = 70, .refused = 5};
  const std::string text = registry.Expose();
  for (const std::string_view line : {
           "penstock_kv_snapshots_total{to=\"file\"} 3\n",
           "penstock_kv_snapshots_total{to=\"router\"} 4\n",
           "penstock_kv_snapshot{what=\"bytes\"} 500\n",
           "penstock_kv_snapshot{what=\"age_seconds\"} 2\n",
           "penstock_kv_snapshot_failures_total{reason=\"refused\"} 1\n",
           "penstock_kv_snapshot_failures_total{reason=\"broken_publisher\"} 5\n",
           "penstock_kv_snapshot_restored_publishers_total 2\n",
           "penstock_kv_snapshot_restored_blocks_total 70\n",
       }) {
    EXPECT_THAT(text, HasSubstr(std::string(line)));
  }
  EXPECT_THAT(text, Not(HasSubstr("reason=\"unreadable\""))) << "only what happened";
}

TEST_F(KvMetricsTest, ThereIsOneStateOfAnEndpoint) {
  EXPECT_THAT(registry.Expose(), HasSubstr("state=\"EXACT\",reason=\"none\"} 1\n"));
  ingest.views[0].state = PublisherState::kDegraded;
  ingest.views[0].reason = PublisherReason::kGap;
  const std::string text = registry.Expose();
  EXPECT_THAT(text, HasSubstr("state=\"DEGRADED\",reason=\"gap\"} 1\n"));
  EXPECT_THAT(text, Not(HasSubstr("state=\"EXACT\",reason")));
}

TEST_F(KvMetricsTest, SeriesGoWithTheirEndpoint) {
  ingest.views[0].faults[0] = 1;
  EXPECT_THAT(registry.Expose(), HasSubstr("endpoint_name=\"a\""));
  ingest.views.clear();
  ingest.Add("b", PublisherState::kExact);
  const std::string text = registry.Expose();
  EXPECT_THAT(text, Not(HasSubstr("=\"a\"")));
  EXPECT_THAT(text, Not(HasSubstr("=\"a:8000\"")));
  EXPECT_THAT(text, HasSubstr("endpoint_name=\"b\""));
}

TEST_F(KvMetricsTest, TotalsOutliveEndpoints) {
  ingest.views[0].counters.stored = 10;
  ingest.views[0].counters.removed = 3;
  ingest.views[0].counters.cleared = 1;
  registry.Expose();
  ingest.views.clear();
  ingest.Add("b", PublisherState::kExact).counters.stored = 2;
  registry.Expose();
  ingest.views[0].counters.stored = 5;
  const std::string text = registry.Expose();
  EXPECT_THAT(text, HasSubstr("kv_cache_index_admissions_total 15\n"));
  EXPECT_THAT(text, HasSubstr("kv_cache_index_evictions_total 4\n"));
}

TEST(KvMetrics, ShowNoSeriesOfNobody) {
  telemetry::Registry registry;
  const admin::HeardCaches heard;
  const KvMetrics metrics(registry, heard);
  EXPECT_THAT(registry.Expose(), Not(HasSubstr("penstock_kv_events_publishers{")));
}

}  // namespace
}  // namespace penstock::app
