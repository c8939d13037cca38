#include "serve/load/pack_keeper.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "core/file.h"
#include "kv/pack/test_support.h"
#include "kv/store/pack_store.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;
using testing_support::build_pack;
using testing_support::BuiltPack;
using testing_support::small_identity;

// A store of one pack whose n-th call fails, counted over creating, writing and finishing.
class FailingDisk {
 public:
  explicit FailingDisk(int fails_at) : left_(fails_at) {}

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

 private:
  class Writer final : public PackWriter {
   public:
    explicit Writer(FailingDisk& disk) : disk_(disk) {}
    Status put(int, const BlockEntry&, ByteView) override {
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
    FailingDisk& disk_;
  };

  Status call() {
    if (--left_ > 0) return {};
    return fail(ErrorKind::kIo, "no space left on device");
  }

  int left_;
  int written_ = 0;
  bool finished_ = false;
};

class PackKeeperTest : public testing::Test {
 protected:
  // Blocks come before their announcement, in several announcements, twice, and computed here.
  Status keep_all(PackKeeper& keeper) const {
    const int n = identity_.n_blocks();
    for (int block = n - 1; block >= 0; block -= 2) keeper.put(block, pack_.blocks[static_cast<std::size_t>(block)]);
    keeper.announce(0, std::span(pack_.entries).first(pack_.entries.size() / 2));
    for (int block = 0; block < n; block += 3) keeper.put(block, pack_.blocks[static_cast<std::size_t>(block)]);
    keeper.announce(0, pack_.entries);
    for (int block = 0; block < n; ++block) keeper.put(block, pack_.blocks[static_cast<std::size_t>(block)]);
    const auto rows = static_cast<std::size_t>(identity_.n_tokens() * identity_.model.n_kv_heads * identity_.model.head_dim);
    keeper.add_computed(0, std::vector<float>(rows), std::vector<float>(rows));
    keeper.keep_computed();
    return keeper.complete() ? keeper.commit(pack_.header) : fail(ErrorKind::kIo, "not complete");
  }

  const PackIdentity identity_ = small_identity();
  const SigningKey key_ = SigningKey::generate().value();
  const BuiltPack pack_ = build_pack(identity_, key_);
};

TEST_F(PackKeeperTest, AFailureOfAnyCallCostsThePackAndNothingElse) {
  const int calls = identity_.n_blocks() + 2;  // create, each block, commit
  for (int k = 1; k <= calls + 1; ++k) {
    SCOPED_TRACE(k);
    FailingDisk disk(k);
    PackKeeper keeper(disk.new_pack(), identity_, null_log());
    EXPECT_EQ(keep_all(keeper).has_value(), k > calls);
    EXPECT_EQ(disk.finished(), k > calls);
    EXPECT_EQ(disk.failed(), k <= calls);
    EXPECT_EQ(disk.written(), std::clamp(k - 2, 0, identity_.n_blocks()));
    EXPECT_EQ(disk.calls_after_failure(), 0);
    EXPECT_FALSE(keeper.wants_anything());
  }
}

TEST_F(PackKeeperTest, WithoutAStoreNothingIsKept) {
  PackKeeper keeper({}, identity_, null_log());
  EXPECT_FALSE(keep_all(keeper));
  EXPECT_FALSE(keeper.wants_anything());
}

class PackKeeperStoreTest : public PackKeeperTest {
 protected:
  std::unique_ptr<PackStore> store(std::uint64_t budget) const {
    return PackStore::open(folder_.path() / "packs", budget, null_log()).value();
  }
  Status keep_in(PackStore& store) const {
    PackKeeper keeper([&store](const PackIdentity& identity) { return store.create(identity); }, identity_, null_log());
    return keep_all(keeper);
  }
  const testing_support::TemporaryFolder folder_;
};

TEST_F(PackKeeperStoreTest, APackThatFitsIsKept) {
  const auto packs = store(1 << 30);
  EXPECT_TRUE(keep_in(*packs));
  EXPECT_TRUE(packs->find(identity_.id(), key_.public_key()));
}

TEST_F(PackKeeperStoreTest, ABudgetThatIsTooSmallCostsThePack) {
  const auto packs = store(100);
  EXPECT_FALSE(keep_in(*packs));
}

TEST_F(PackKeeperStoreTest, AFolderThatIsDeletedMeanwhileCostsThePack) {
  const auto packs = store(1 << 30);
  fs::remove_all(folder_.path() / "packs");
  EXPECT_FALSE(keep_in(*packs));
}

}  // namespace
}  // namespace celslm
