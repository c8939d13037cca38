#include "serve/load/pack_keeper.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <thread>
#include <utility>

#include "kv/pack/test_support.h"
#include "kv/store/pack_store.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;
using testing_support::build_pack;
using testing_support::BuiltPack;
using testing_support::small_identity;

// A store of one pack whose n-th call fails, counted over creating, writing and finishing. Each call waits for `gate`. What
// is counted is for when the disk's thread is idle. Ends when that is, whose work uses it.
class FakeDisk {
 public:
  FakeDisk(const DiskThread& thread, int fails_at, std::shared_future<void> gate = {})
      : thread_(thread), left_(fails_at), gate_(std::move(gate)) {}
  ~FakeDisk() { thread_.wait_until_idle(); }
  FakeDisk(const FakeDisk&) = delete;
  FakeDisk& operator=(const FakeDisk&) = delete;

  NewPack new_pack() {
    return [this](const PackIdentity&) -> Result<std::unique_ptr<PackWriter>> {
      CELSLM_CHECK_OK(call());
      return std::make_unique<Writer>(*this);
    };
  }
  bool failed() const { return left_ <= 0; }
  int calls_after_failure() const { return -std::min(left_, 0); }
  int written() const { return written_; }
  bool finished() const { return finished_; }
  std::thread::id closed_on() const { return closed_on_; }

 private:
  class Writer final : public PackWriter {
   public:
    explicit Writer(FakeDisk& disk) : disk_(disk) {}
    ~Writer() override { disk_.closed_on_ = std::this_thread::get_id(); }
    Status put(const VerifiedBlock&) override {
      CELSLM_CHECK_OK(disk_.call());
      ++disk_.written_;
      return {};
    }
    Result<Bytes> read(int) const override { return fail(ErrorKind::kNotFound, "not asked for here"); }
    Status commit(ByteView) override {
      CELSLM_CHECK_OK(disk_.call());
      disk_.finished_ = true;
      return {};
    }

   private:
    FakeDisk& disk_;
  };

  Status call() {
    if (gate_.valid()) gate_.wait();
    if (--left_ > 0) return {};
    return fail(ErrorKind::kIo, "no space left on device");
  }

  const DiskThread& thread_;
  int left_;
  const std::shared_future<void> gate_;
  int written_ = 0;
  bool finished_ = false;
  std::thread::id closed_on_;
};

constexpr int kNever = 1 << 30;

class PackKeeperTest : public testing::Test {
 protected:
  // Blocks come before their announcement, in several announcements, twice, and computed here.
  Status keep_all(PackKeeper& keeper) const {
    const int n = identity_.n_blocks();
    for (int block = n - 1; block >= 0; block -= 2) keeper.put(pack_.checked(block));
    keeper.announce(0, std::span(pack_.entries).first(pack_.entries.size() / 2));
    for (int block = 0; block < n; block += 3) keeper.put(pack_.checked(block));
    keeper.announce(0, pack_.entries);
    for (int block = 0; block < n; ++block) keeper.put(pack_.checked(block));
    const auto rows = static_cast<std::size_t>(identity_.n_tokens() * identity_.model.n_kv_heads * identity_.model.head_dim);
    keeper.add_computed(0, std::vector<float>(rows), std::vector<float>(rows));
    keeper.keep_computed();
    return keeper.complete() ? keeper.commit(pack_.header) : fail(ErrorKind::kIo, "not complete");
  }

  const PackIdentity identity_ = small_identity();
  const SigningKey key_ = SigningKey::generate().value();
  const BuiltPack pack_ = build_pack(identity_, key_);
  const std::shared_ptr<DiskThread> thread_ = std::make_shared<DiskThread>();
};

TEST_F(PackKeeperTest, AFailureOfAnyCallCostsThePackAndNothingElse) {
  const int calls = identity_.n_blocks() + 2;  // create, each block, commit
  for (int k = 1; k <= calls + 1; ++k) {
    SCOPED_TRACE(k);
    FakeDisk disk(*thread_, k);
    {
      PackKeeper keeper(disk.new_pack(), identity_, thread_, null_log());
      (void)keep_all(keeper);  // may notice the failure, or be done before it
      thread_->wait_until_idle();
      EXPECT_EQ(keeper.complete(), k > calls);
      EXPECT_FALSE(keeper.wants_anything());
    }
    thread_->wait_until_idle();
    EXPECT_EQ(disk.finished(), k > calls);
    EXPECT_EQ(disk.failed(), k <= calls);
    EXPECT_EQ(disk.written(), std::clamp(k - 2, 0, identity_.n_blocks()));
    EXPECT_EQ(disk.calls_after_failure(), 0);
  }
}

TEST_F(PackKeeperTest, WithoutAStoreNothingIsKept) {
  PackKeeper keeper({}, identity_, nullptr, null_log());
  EXPECT_FALSE(keep_all(keeper));
  EXPECT_FALSE(keeper.wants_anything());
}

TEST_F(PackKeeperTest, ADiskThatHangsDelaysNobody) {
  std::promise<void> gate;
  FakeDisk disk(*thread_, kNever, gate.get_future().share());
  {
    PackKeeper keeper(disk.new_pack(), identity_, thread_, null_log());
    EXPECT_TRUE(keep_all(keeper)) << "every block and the header wait for the disk";
    EXPECT_FALSE(thread_->idle());
  }
  EXPECT_EQ(disk.written(), 0);
  gate.set_value();
  thread_->wait_until_idle();
  EXPECT_EQ(disk.written(), identity_.n_blocks()) << "although the keeper is gone";
  EXPECT_TRUE(disk.finished());
}

TEST_F(PackKeeperTest, ADiskThatDoesNotKeepUpCostsThePackAndHoldsNoMoreThanTheLimit) {
  std::promise<void> gate;
  FakeDisk disk(*thread_, kNever, gate.get_future().share());
  const std::size_t block = pack_.blocks[0].size();
  const auto narrow = std::make_shared<DiskThread>(3 * block);
  {
    PackKeeper keeper(disk.new_pack(), identity_, narrow, null_log());
    for (int i = 0; i < identity_.n_blocks(); ++i) keeper.put(pack_.checked(i));
    EXPECT_FALSE(keeper.wants_anything());
    EXPECT_FALSE(keeper.complete());
  }
  gate.set_value();
  narrow->wait_until_idle();
  EXPECT_EQ(disk.written(), 0) << "what waited for a pack that was given up is not written any more";
  EXPECT_FALSE(disk.finished());
}

TEST_F(PackKeeperTest, WhatWaitsForTheDiskIsInTheLedgerAndMayBeRefused) {
  const std::size_t block = pack_.blocks[0].size();
  const auto ledger = std::make_shared<MemoryLedger>(3 * block);
  const auto counted = std::make_shared<DiskThread>(DiskThread::kMaxBytes, ledger);
  std::promise<void> gate;
  FakeDisk disk(*counted, kNever, gate.get_future().share());
  PackKeeper keeper(disk.new_pack(), identity_, counted, null_log());
  keeper.put(pack_.checked(0));
  EXPECT_GE(ledger->used_bytes(), block);
  for (int i = 1; i < identity_.n_blocks(); ++i) keeper.put(pack_.checked(i));
  EXPECT_FALSE(keeper.wants_anything());
  EXPECT_LE(ledger->used_bytes(), 3 * block);
  gate.set_value();
  counted->wait_until_idle();
  EXPECT_EQ(ledger->used_bytes(), 0U);
}

TEST_F(PackKeeperTest, AFileIsClosedOnTheDisksThread) {
  FakeDisk disk(*thread_, kNever);
  {
    PackKeeper(disk.new_pack(), identity_, thread_, null_log()).put(pack_.checked(0));
  }
  thread_->wait_until_idle();
  EXPECT_EQ(disk.written(), 1);
  EXPECT_NE(disk.closed_on(), std::thread::id());
  EXPECT_NE(disk.closed_on(), std::this_thread::get_id());
}

TEST_F(PackKeeperTest, ABlockOfAnotherEntryThanTheFirstAnnouncedIsNotKept) {
  FakeDisk disk(*thread_, kNever);
  PackKeeper keeper(disk.new_pack(), identity_, thread_, null_log());
  keeper.announce(0, pack_.entries);
  keeper.put(VerifiedBlock::make(0, 0, Bytes(pack_.blocks[0].size())));
  for (int i = 1; i < identity_.n_blocks(); ++i) keeper.put(pack_.checked(i));
  EXPECT_TRUE(keeper.wants_anything());
  keeper.put(pack_.checked(0));
  EXPECT_TRUE(keeper.complete());
}

TEST_F(PackKeeperTest, TheHeaderOfOtherBlocksFinishesNothing) {
  FakeDisk disk(*thread_, kNever);
  PackKeeper keeper(disk.new_pack(), identity_, thread_, null_log());
  for (int i = 0; i < identity_.n_blocks(); ++i) keeper.put(pack_.checked(i));
  BuiltPack other = pack_;
  other.entries[3].hash.bytes[0] ^= 1;
  EXPECT_EQ(keeper.commit(encode_header(identity_, other.entries, key_)).error().kind, ErrorKind::kMismatch);
  EXPECT_TRUE(keeper.commit(pack_.header));
  thread_->wait_until_idle();
  EXPECT_TRUE(disk.finished());
}

class PackKeeperStoreTest : public PackKeeperTest {
 protected:
  std::unique_ptr<PackStore> store(std::uint64_t budget) const {
    return PackStore::open(folder_.path() / "packs", budget, null_log()).value();
  }
  // Whether the store then has the pack.
  bool keep_in(PackStore& store) const {
    {
      PackKeeper keeper([&store](const PackIdentity& identity) { return store.create(identity); }, identity_, thread_,
                        null_log());
      (void)keep_all(keeper);
    }
    thread_->wait_until_idle();
    return store.find(identity_.id(), key_.public_key()).has_value();
  }
  const testing_support::TemporaryFolder folder_;
};

TEST_F(PackKeeperStoreTest, APackThatFitsIsKept) {
  EXPECT_TRUE(keep_in(*store(1 << 30)));
}

TEST_F(PackKeeperStoreTest, ABudgetThatIsTooSmallCostsThePack) {
  EXPECT_FALSE(keep_in(*store(100)));
}

TEST_F(PackKeeperStoreTest, AFolderThatIsDeletedMeanwhileCostsThePack) {
  const auto packs = store(1 << 30);
  fs::remove_all(folder_.path() / "packs");
  EXPECT_FALSE(keep_in(*packs));
}

TEST(DiskThreadTest, DoesAllThatWasPostedInOrderBeforeItEnds) {
  std::vector<int> done;
  {
    DiskThread thread;
    EXPECT_TRUE(thread.idle());
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(thread.post(1, [&done, i] { done.push_back(i); }));
  }
  EXPECT_EQ(done.size(), 100U);
  EXPECT_TRUE(std::ranges::is_sorted(done));
}

TEST(DiskThreadTest, TakesWorkAgainOnceItHasCaughtUp) {
  std::promise<void> gate;
  const auto opened = gate.get_future().share();
  DiskThread thread(10);
  EXPECT_TRUE(thread.post(10, [&] { opened.wait(); }));
  EXPECT_FALSE(thread.post(1, [] {}));
  EXPECT_TRUE(thread.post(0, [] {})) << "what holds no bytes is always taken";
  gate.set_value();
  thread.wait_until_idle();
  EXPECT_TRUE(thread.post(10, [] {}));
  EXPECT_FALSE(thread.post(11, [] {}));
}

}  // namespace
}  // namespace celslm
