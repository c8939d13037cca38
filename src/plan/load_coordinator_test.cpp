#include "plan/load_coordinator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "tests/support/manual_clock.h"
#include "tests/support/simulated_load.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing::Each;
using testing::IsEmpty;
using testing_support::ManualClock;
using testing_support::simulate;
using testing_support::SimulatedLoad;
using testing_support::SimulatedSource;
using testing_support::SimulationResult;

constexpr std::uint32_t kBlock = 64 << 10;

LoadShape shape(int n_layers = 4, int blocks_per_layer = 4) {
  return {.n_layers = n_layers,
          .blocks_per_layer = blocks_per_layer,
          .block_bytes = std::vector<std::uint32_t>(static_cast<std::size_t>(n_layers * blocks_per_layer), kBlock)};
}

// A load in a time that stands still, with as many places as a test gives it.
class LoadCoordinatorTest : public testing::Test, protected WorkPlaces {
 protected:
  Result<bool> take(LoadWork work) override {
    if (no_workers_) return fail(ErrorKind::kOverloaded, "no thread");
    int& left = places_[static_cast<std::size_t>(work)];
    return left > 0 && left-- > 0;
  }
  void put_back(LoadWork work) override { ++places_[static_cast<std::size_t>(work)]; }

  LoadCoordinator& begin(const PlanOptions& options = {}, const SourceTraits& traits = {.max_transfers = 4}) {
    load_.emplace(shape(), options, clock_, places());
    load_->add_source(traits);
    load_->start();
    return *load_;
  }
  // As begin(), with the source opened.
  LoadCoordinator& begin_opened(const PlanOptions& options = {}, const SourceTraits& traits = {.max_transfers = 4}) {
    LoadCoordinator& out = begin(options, traits);
    open_without_blocks(out);
    out.offered(0, {0, 16});
    out.opened(0, true);
    return out;
  }
  // Nothing comes with the headers.
  static void open_without_blocks(LoadCoordinator& load) {
    for (const OpenSource& open : only<OpenSource>(load.take_orders())) {
      if (open.early) load.ended(open.early->id, TransferEnd::kDone);
    }
  }
  template <typename Order>
  static std::vector<Order> only(const std::vector<LoadOrder>& orders) {
    std::vector<Order> out;
    for (const LoadOrder& order : orders) {
      if (const auto* one = std::get_if<Order>(&order)) out.push_back(*one);
    }
    return out;
  }

  WorkPlaces& places() { return *this; }

  ManualClock clock_;
  std::array<int, kLoadWorks> places_{100, 100, 100};
  bool no_workers_ = false;
  std::optional<LoadCoordinator> load_;
};

constexpr PlanOptions kEnergy{.policy = {.prefer = Prefer::kEnergy}};

TEST_F(LoadCoordinatorTest, AsksForABlockAgainAsSoonAsItIsReleased) {
  LoadCoordinator& load = begin_opened(kEnergy);
  // All that is asked for arrives but for one block, whose writing fails after everything else is here.
  std::optional<int> lost;
  for (auto reads = only<ReadBlocks>(load.take_orders()); !reads.empty(); reads = only<ReadBlocks>(load.take_orders())) {
    for (const ReadBlocks& read : reads) {
      for (int block = read.transfer.blocks.first; block < read.transfer.blocks.end(); ++block) {
        ASSERT_TRUE(load.verified(read.transfer.id, block));
        if (lost) load.written(block);
        if (!lost) lost = block;
      }
      load.ended(read.transfer.id, TransferEnd::kDone);
    }
  }
  load.released(*lost);
  const auto again = only<ReadBlocks>(load.take_orders());
  ASSERT_EQ(again.size(), 1U) << "time has not moved";
  EXPECT_EQ(again.front().transfer.blocks.first, *lost);
}

TEST_F(LoadCoordinatorTest, LooksAgainOnlyWhereTimeAloneChangesSomething) {
  EXPECT_TRUE(begin_opened().review_at());
  load_.emplace(shape(), PlanOptions(), clock_, places());
  load_->start();
  EXPECT_FALSE(load_->review_at()) << "there is nothing but the engine";
}

TEST_F(LoadCoordinatorTest, WaitsForAPlaceAndTakesItWhenItIsFree) {
  places_ = {0, 0, 0};
  LoadCoordinator& load = begin();
  EXPECT_THAT(load.take_orders(), IsEmpty());
  places_ = {1, 0, 0};
  load.places_free();
  EXPECT_EQ(only<OpenSource>(load.take_orders()).size(), 1U);
  load.offered(0, {0, 16});
  EXPECT_THAT(only<ReadBlocks>(load.take_orders()), IsEmpty());
  places_ = {0, 1, 0};
  load.places_free();
  EXPECT_EQ(only<ReadBlocks>(load.take_orders()).size(), 1U);
}

TEST_F(LoadCoordinatorTest, ClosesWhenEverythingThatItAskedForHasEnded) {
  LoadCoordinator& load = begin();
  load.offered(0, {0, 16});
  const auto begun = load.take_orders();
  std::vector<TransferId> transfers;
  for (const ReadBlocks& read : only<ReadBlocks>(begun)) transfers.push_back(read.transfer.id);
  for (const OpenSource& open : only<OpenSource>(begun)) {
    if (open.early) transfers.push_back(open.early->id);
  }
  ASSERT_GE(transfers.size(), 2U);
  load.stop();
  const auto orders = load.take_orders();
  EXPECT_EQ(only<CancelTransfer>(orders).size(), transfers.size());
  EXPECT_EQ(only<CancelOpening>(orders).size(), 1U);
  EXPECT_THAT(only<CloseLoad>(orders), IsEmpty());
  for (const TransferId transfer : transfers) load.ended(transfer, TransferEnd::kDone);
  EXPECT_THAT(load.take_orders(), IsEmpty());
  load.opened(0, false);
  EXPECT_EQ(only<CloseLoad>(load.take_orders()).size(), 1U);
}

TEST_F(LoadCoordinatorTest, GivesATransferUpThatStallsThoughWhoeverReadsItDoesNotReturn) {
  LoadCoordinator& load = begin_opened(kEnergy);
  const auto reads = only<ReadBlocks>(load.take_orders());
  ASSERT_FALSE(reads.empty());
  clock_.advance(kTransferTimeout + 1ms);
  load.tick();
  const auto orders = load.take_orders();
  EXPECT_EQ(only<CancelTransfer>(orders).size(), reads.size());
  EXPECT_TRUE(only<CancelTransfer>(orders).front().stalled);
  EXPECT_FALSE(only<ReadBlocks>(orders).empty()) << "its blocks are asked for again";
  // What it brings after all is not lost, and written once.
  const int block = reads.front().transfer.blocks.first;
  EXPECT_TRUE(load.verified(reads.front().transfer.id, block));
  EXPECT_FALSE(load.verified(reads.front().transfer.id, block));
}

TEST_F(LoadCoordinatorTest, CancelsWhatNobodyNeedsButNotWhatHasBroughtItsLastBlock) {
  LoadCoordinator& load = begin_opened();
  const auto reads = only<ReadBlocks>(load.take_orders());
  ASSERT_GE(reads.size(), 2U);
  const Transfer& first = reads[0].transfer;
  for (int block = first.blocks.first; block < first.blocks.end(); ++block) {
    ASSERT_TRUE(load.verified(first.id, block));
    load.written(block);
  }
  EXPECT_THAT(only<CancelTransfer>(load.take_orders()), IsEmpty());
  const Transfer& second = reads[1].transfer;
  for (int layer = 0; layer < 4; ++layer) load.layer_written(load.claim_layer(layer));
  std::vector<TransferId> cancelled;
  for (const CancelTransfer& cancel : only<CancelTransfer>(load.take_orders())) cancelled.push_back(cancel.transfer);
  EXPECT_THAT(cancelled, testing::Contains(second.id));
  EXPECT_THAT(cancelled, testing::Not(testing::Contains(first.id)));
}

TEST_F(LoadCoordinatorTest, TellsAnEngineThatWaitsWhenItsSourcesHaveFailed) {
  LoadCoordinator& load = begin(kEnergy);
  load.take_orders();
  EXPECT_FALSE(load.wants_unit());
  load.opened(0, false);
  for (auto orders = load.take_orders(); !orders.empty(); orders = load.take_orders()) {
    if (!only<FallBack>(orders).empty()) load.fell_back();
    if (only<WakeEngine>(orders).empty()) continue;
    EXPECT_TRUE(load.wants_unit());
    return;
  }
  FAIL() << "nobody woke it";
}

TEST_F(LoadCoordinatorTest, LeavesEverythingToTheEngineWhereNobodyCanAskSources) {
  no_workers_ = true;
  LoadCoordinator& load = begin(kEnergy);
  const auto orders = load.take_orders();
  EXPECT_EQ(only<GiveUpSources>(orders).size(), 1U);
  ASSERT_EQ(only<CloseLoad>(orders).size(), 1U);
  EXPECT_FALSE(only<CloseLoad>(orders).front().on_worker);
  EXPECT_TRUE(load.wants_unit());
}

TEST_F(LoadCoordinatorTest, AsksOthersWhenThoseGivenFirstHaveFailed) {
  LoadCoordinator& load = begin();
  open_without_blocks(load);
  load.opened(0, false);
  EXPECT_EQ(only<FallBack>(load.take_orders()).size(), 1U);
  load.add_source({.max_transfers = 1});
  load.fell_back();
  const auto opens = only<OpenSource>(load.take_orders());
  ASSERT_EQ(opens.size(), 1U);
  EXPECT_EQ(opens.front().source, 1);
  if (opens.front().early) load.ended(opens.front().early->id, TransferEnd::kDone);
  load.opened(1, false);
  const auto end = load.take_orders();
  EXPECT_THAT(only<FallBack>(end), IsEmpty());
  EXPECT_EQ(only<CloseLoad>(end).size(), 1U);
}

TEST_F(LoadCoordinatorTest, KeepsComputedRowsBeforeItCloses) {
  load_.emplace(shape(1, 2), PlanOptions(), clock_, places());
  LoadCoordinator& load = *load_;
  load.add_source({.max_transfers = 1});
  load.keeping({.wants_blocks = true});
  load.start();
  open_without_blocks(load);
  load.rows_to_keep();
  load.layer_written(load.claim_layer(0));
  load.opened(0, true);
  EXPECT_EQ(only<KeepRows>(load.take_orders()).size(), 1U);
  load.rows_kept();
  EXPECT_EQ(only<CloseLoad>(load.take_orders()).size(), 1U);
}

TEST_F(LoadCoordinatorTest, ReportsOnceThatASourceMayNotBeAskedForMore) {
  LoadCoordinator& load = begin_opened(kEnergy, {.max_transfers = 4, .max_bytes = 3 * kBlock});
  std::size_t reported = 0;
  for (auto orders = load.take_orders(); !orders.empty(); orders = load.take_orders()) {
    reported += only<SourceSpent>(orders).size();
    for (const ReadBlocks& read : only<ReadBlocks>(orders)) load.ended(read.transfer.id, TransferEnd::kDone);
    if (!only<FallBack>(orders).empty()) load.fell_back();
  }
  EXPECT_EQ(reported, 1U);
  EXPECT_TRUE(load.wants_unit());
}

// --- whole loads, simulated -------------------------------------------------------------------------------------------

TEST(SimulatedLoadTest, ASourceThatMayNotBeAskedForMoreLeavesTheRestToTheEngine) {
  for (const Prefer prefer : {Prefer::kLatency, Prefer::kEnergy, Prefer::kBytes}) {
    for (const int blocks : {1, 20, 100}) {
      const SimulatedLoad load{
          .shape = shape(24, 16),
          .options = {.policy = {.prefer = prefer}},
          .sources = {{.rate_bytes_per_s = 1e8, .known = true, .max_bytes = static_cast<std::uint64_t>(blocks) * kBlock}},
          .unit_s = 0.05};
      const SimulationResult result = simulate(load);
      EXPECT_TRUE(result.complete) << blocks;
      EXPECT_LE(result.bytes[0], static_cast<std::uint64_t>(blocks + 100) * kBlock);
    }
  }
}

TEST(SimulatedLoadTest, ReadsEverythingThroughOnePlace) {
  std::mt19937 random(1);
  for (int i = 0; i < 50; ++i) {
    SimulatedLoad load{.shape = shape(12, 8), .max_reads = 1};
    for (int n = 1 + i % 3; n > 0; --n)
      load.sources.push_back({.rate_bytes_per_s = 1e6, .latency_s = std::uniform_real_distribution(0.0, 0.2)(random)});
    const SimulationResult result = simulate(load);
    EXPECT_TRUE(result.complete) << i;
    EXPECT_THAT(result.writes, Each(1)) << i;
  }
}

// As './dev bench load --faults' has them: 512 tokens of a 0.5B model, links of 20 to 200 Mbit/s, one to three sources, of
// which one fails at a random moment of what the load takes without that.
TEST(SimulatedLoadTest, FaultsAtRandomMomentsCostLittleMoreThanALocalPrefill) {
  constexpr int kLoads = 500;
  constexpr double kLocal = 24 * 0.08;
  std::mt19937 random(7);
  const auto between = [&](double low, double high) { return std::uniform_real_distribution(low, high)(random); };
  std::vector<double> over;
  for (int i = 0; i < kLoads; ++i) {
    SimulatedLoad load{.shape = shape(24, 4), .unit_s = 0.04, .compute_known = true};
    for (int n = 1 + i % 3; n > 0; --n) {
      load.sources.push_back({.rate_bytes_per_s = std::exp(between(std::log(2.5e6), std::log(2.5e7))),
                              .latency_s = between(0, 0.02),
                              .known = true});
    }
    const double moment = between(0, simulate(load).seconds);
    SimulatedSource& source = load.sources[random() % load.sources.size()];
    switch (i % 4) {
      case 0: source.dies_at_s = moment; break;
      case 1: source.stalls_at_s = moment; break;
      case 2: source.slows_at_s = moment; break;
      default: source.garbage_share = between(0.01, 1); break;
    }
    const SimulationResult result = simulate(load);
    ASSERT_TRUE(result.complete) << i;
    EXPECT_THAT(result.writes, Each(1)) << i;
    over.push_back(std::max(0.0, result.seconds - moment) / kLocal);
  }
  std::ranges::sort(over);
  EXPECT_LE(over[kLoads * 99 / 100], 1.3);
}

// Most of a load's time passes from event to event: with nothing under way the coordinator is left in peace.
TEST(SimulatedLoadTest, IsNotLookedAtWhileOnlyTheEngineWorks) {
  const SimulatedLoad load{
      .shape = shape(24, 16), .sources = {{.rate_bytes_per_s = 1e8, .known = true, .dies_at_s = 0.0}}, .unit_s = 0.05};
  EXPECT_LE(simulate(load).reviews, 2);
}

}  // namespace
}  // namespace celslm
