#include "engine/block_listener.h"

#include <gmock/gmock.h>

#include <set>

#include "core/random.h"
#include "engine/testing.h"

namespace penstock::engine {
namespace {

using ::testing::IsEmpty;

class Heard : public BlockListener {
 public:
  void OnStored(uint64_t hash, Memory memory) override {
    EXPECT_TRUE(held(memory).insert(hash).second) << "told twice";
    ever.insert(hash);
  }
  void OnRemoved(uint64_t hash, Memory memory) override {
    EXPECT_EQ(held(memory).erase(hash), 1u) << "was not there";
  }
  std::set<uint64_t>& held(Memory memory) { return memory == Memory::kGpu ? gpu : host; }

  std::set<uint64_t> gpu, host, ever;
};

TEST(BlockListener, HearsWhatIsStoredAndWhatGivesWay) {
  Heard heard;
  EngineOptions options = Small();
  options.block_listener = &heard;
  const auto engine = Make(options);
  ASSERT_TRUE(engine->Submit(Ask(1, 9, 2, Hashes(0, 11))));
  RunStep(*engine);
  EXPECT_EQ(heard.gpu.size(), 2u);
  while (engine->HasWork()) RunStep(*engine);
  EXPECT_EQ(heard.gpu.size(), 2u) << "what an ended request leaves stays";
  ASSERT_TRUE(engine->Submit(Ask(2, 60, 1, Hashes(1000, 61))));
  while (engine->HasWork()) RunStep(*engine);
  EXPECT_EQ(heard.gpu.size(), 16u) << "15 new ones, and one of the old";
  engine->Reset();
  EXPECT_THAT(heard.gpu, IsEmpty());
}

// Requests hit what was told, and only that; whatever is aborted, preempted, loaded or evicted.
TEST(BlockListener, WhatItHearsIsWhatRequestsFind) {
  Random random(1);
  for (int round = 0; round < 30; ++round) {
    Heard heard;
    EngineOptions options = Small();
    options.num_blocks = 16 + static_cast<uint32_t>(random.Below(64));
    options.block_listener = &heard;
    options.async_scheduling = random.Below(2) == 0;
    if (random.Below(2) == 0) {
      options.cpu_blocks = 8 + static_cast<uint32_t>(random.Below(40));
      options.kv_bytes_per_token = 1000;
    }
    const auto engine = Make(options);
    std::map<uint64_t, std::vector<uint64_t>> asked;
    uint64_t hits = 0;
    for (uint64_t id = 1; id < 200; ++id) {
      const auto prompt = static_cast<uint32_t>(1 + random.Below(50));
      const auto output = static_cast<uint32_t>(1 + random.Below(10));
      asked[id] = Hashes(static_cast<uint32_t>(100 * random.Below(6)), prompt + output);
      ASSERT_TRUE(engine->Submit(Ask(id, prompt, output, asked[id])));
      if (random.Below(20) == 0) engine->Abort(1 + random.Below(id));
      for (uint64_t steps = random.Below(4); steps > 0; --steps) {
        const std::set<uint64_t> gpu = heard.gpu, host = heard.host;
        heard.ever.clear();
        const Step step = engine->BeginStep();
        for (const Event& event : step.events) {
          if (event.kind != Event::Kind::kScheduled) continue;
          for (uint32_t block = 0; block < event.count / options.block_size; ++block) {
            const uint64_t hash = asked[event.id][block];
            EXPECT_TRUE(gpu.contains(hash) || host.contains(hash) || heard.ever.contains(hash));
            ++hits;
          }
        }
        engine->EndStep();
        EXPECT_LE(heard.gpu.size(), options.num_blocks);
        EXPECT_LE(heard.host.size(), options.cpu_blocks);
        EXPECT_EQ(heard.host.size(), engine->Stats().cpu_blocks_used);
      }
    }
    EXPECT_GT(hits, 50u);
    engine->Reset();
    // What is being written to by a step under way is gone, too.
    EXPECT_THAT(heard.gpu, IsEmpty());
    EXPECT_THAT(heard.host, IsEmpty());
  }
}

}  // namespace
}  // namespace penstock::engine
