// One scenario for each kind of crash, concurrent process, full disk and foreign folder.
#include "kv/store/pack_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <fstream>
#include <functional>
#include <thread>

#include "kv/pack/test_support.h"
#include "tests/support/temporary_folder.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing_support::build_pack;
using testing_support::BuiltPack;
using testing_support::small_identity;

constexpr std::uint64_t kPlenty = 1ULL << 30;

// Runs `child` in a separate process, which may kill itself or change process-wide state. Returns child()'s result, or the
// negated number of the signal that ended the process.
int in_another_process(const std::function<int()>& child) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(child());
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

class PackStoreTest : public testing::Test {
 protected:
  fs::path folder() const { return folder_.path() / "packs"; }
  std::unique_ptr<PackStore> open(std::uint64_t budget = kPlenty) const {
    auto store = PackStore::open(folder(), budget, null_log());
    EXPECT_TRUE(store) << store.error().message;
    return std::move(store).value();
  }
  BuiltPack pack(int n) const {  // packs of different contexts, equal in size
    PackIdentity identity = small_identity();
    identity.tokens[0] = n;
    identity.context = context_id(identity.model.tokenizer, identity.tokens);
    return build_pack(identity, key_);
  }
  static Result<std::unique_ptr<PackWriter>> begin(PackStore& store, const BuiltPack& pack) {
    return store.create(pack.identity);
  }
  static Status put_all(PackWriter& writer, const BuiltPack& pack) {
    for (int i = 0; i < pack.identity.n_blocks(); ++i) CELSLM_CHECK_OK(writer.put(pack.checked(i)));
    return {};
  }
  static Status store_pack(PackStore& store, const BuiltPack& pack) {
    CELSLM_TRY(const auto writer, begin(store, pack));
    CELSLM_CHECK_OK(put_all(*writer, pack));
    return writer->commit(pack.header);
  }
  Result<StoredPack> find(PackStore& store, const BuiltPack& pack) const {
    return store.find(pack.identity.id(), key_.public_key());
  }
  fs::path file_of(const BuiltPack& pack) const { return folder() / (pack.identity.id().hex() + ".kvpack"); }
  void overwrite(const BuiltPack& pack, const Bytes& bytes) const {
    std::ofstream(file_of(pack), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  std::vector<std::string> unfinished() const {
    std::vector<std::string> out;
    for (const auto& entry : fs::directory_iterator(folder())) {
      if (is_temporary_name(entry.path().filename().string())) out.push_back(entry.path().filename().string());
    }
    return out;
  }

  testing_support::TemporaryFolder folder_;
  SigningKey key_ = SigningKey::generate().value();
};

TEST_F(PackStoreTest, RoundTrips) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  ASSERT_TRUE(store_pack(*store, stored));
  const auto found = find(*store, stored);
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->header.identity, stored.identity);
  for (std::size_t i = 0; i < stored.blocks.size(); ++i) {
    EXPECT_TRUE(std::ranges::equal(found->block(static_cast<int>(i))->bytes(), stored.blocks[i])) << i;
  }
}

TEST_F(PackStoreTest, WritesExactlyTheFormatsBytes) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  ASSERT_TRUE(store_pack(*store, stored));
  EXPECT_EQ(read_file(file_of(stored), kPlenty).value(), stored.file());
}

TEST_F(PackStoreTest, ReportsAMissingPack) {
  EXPECT_EQ(find(*open(), pack(1)).error().kind, ErrorKind::kNotFound);
}

TEST_F(PackStoreTest, KeepsPacksWhenReopened) {
  const BuiltPack stored = pack(1);
  ASSERT_TRUE(store_pack(*open(), stored));
  const auto store = open();
  EXPECT_TRUE(find(*store, stored));
  EXPECT_EQ(store->list().size(), 1U);
  EXPECT_EQ(store->list()[0].pack_id, stored.identity.id());
  EXPECT_EQ(store->bytes(), stored.file().size());
}

TEST_F(PackStoreTest, TwoStoresOnOneFolderSeeEachOthersPacks) {
  const auto one = open();
  const auto two = open();
  const BuiltPack stored = pack(1);
  ASSERT_TRUE(store_pack(*one, stored));
  EXPECT_TRUE(find(*two, stored));
}

TEST_F(PackStoreTest, AnotherProcessSeesThePacks) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  ASSERT_EQ(in_another_process([&] { return store_pack(*open(), stored) ? 0 : 1; }), 0);
  EXPECT_TRUE(find(*store, stored));
}

TEST_F(PackStoreTest, ProcessesThatOpenANewFolderTogetherAllSucceed) {
  std::vector<pid_t> children;
  for (int i = 0; i < 8; ++i) {
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(PackStore::open(folder(), kPlenty, null_log()) ? 0 : 1);
    children.push_back(pid);
  }
  for (const pid_t pid : children) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
}

// Writing

TEST_F(PackStoreTest, APackIsInvisibleBeforeItsCommit) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  const auto writer = begin(*store, stored);
  ASSERT_TRUE(writer);
  ASSERT_TRUE(put_all(**writer, stored));
  EXPECT_EQ(find(*store, stored).error().kind, ErrorKind::kNotFound);
  EXPECT_TRUE(store->list().empty());
}

TEST_F(PackStoreTest, AnAbandonedWriterLeavesNothing) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  {
    ASSERT_TRUE((*begin(*store, stored))->put(stored.checked(0)));
  }
  EXPECT_EQ(store->bytes(), 0U);
}

TEST_F(PackStoreTest, BlocksMayBePutInAnyOrderFromSeveralThreads) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  const auto writer = begin(*store, stored).value();
  {
    std::vector<std::jthread> threads;
    for (std::size_t part = 0; part < 4; ++part) {
      threads.emplace_back([&, part] {
        for (std::size_t i = stored.blocks.size(); i-- > 0;) {
          if (i % 4 != part) continue;
          EXPECT_TRUE(writer->put(stored.checked(static_cast<int>(i))));
        }
      });
    }
  }
  ASSERT_TRUE(writer->commit(stored.header));
  EXPECT_EQ(read_file(file_of(stored), kPlenty).value(), stored.file());
}

TEST_F(PackStoreTest, ReadsBlocksWhileOthersAreStillMissing) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  const auto writer = begin(*store, stored).value();
  ASSERT_TRUE(writer->put(stored.checked(5)));
  EXPECT_EQ(writer->read(5).value(), stored.blocks[5]);
  for (const int missing : {4, -1, 1000}) EXPECT_EQ(writer->read(missing).error().kind, ErrorKind::kNotFound);
}

TEST_F(PackStoreTest, RefusesABlockThatThePackCannotHave) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  const auto writer = begin(*store, stored).value();
  for (const int index : {1, -1, 1000}) {
    EXPECT_FALSE(writer->put(VerifiedBlock::check(index, stored.entries[0], stored.blocks[0]).value())) << index;
  }
  EXPECT_FALSE(writer->put(VerifiedBlock::make(0, 0, Bytes(10))));
}

TEST_F(PackStoreTest, RefusesToCommitWithABlockMissing) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  const auto writer = begin(*store, stored).value();
  for (std::size_t i = 1; i < stored.blocks.size(); ++i) {
    ASSERT_TRUE(writer->put(stored.checked(static_cast<int>(i))));
  }
  EXPECT_THAT(writer->commit(stored.header).error().message, HasSubstr("block 0 of 12 has not been put"));
  EXPECT_FALSE(find(*store, stored));
}

TEST_F(PackStoreTest, RefusesToCommitTheHeaderOfAnotherPack) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  const auto writer = begin(*store, stored).value();
  ASSERT_TRUE(put_all(*writer, stored));
  EXPECT_EQ(writer->commit(pack(2).header).error().kind, ErrorKind::kMismatch);
  EXPECT_EQ(writer->commit(Bytes(stored.header.size())).error().kind, ErrorKind::kInvalid);
}

TEST_F(PackStoreTest, RefusesToCommitAHeaderWithOtherBlocks) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  const auto writer = begin(*store, stored).value();
  ASSERT_TRUE(put_all(*writer, stored));
  auto entries = stored.entries;
  entries[3].hash = hash_of("other");
  EXPECT_THAT(writer->commit(encode_header(stored.identity, entries, key_)).error().message, HasSubstr("block 3"));
}

TEST_F(PackStoreTest, RefusesABlockRegionThatTheIdentityDoesNotAllow) {
  EXPECT_EQ(open()->create(PackIdentity{}).error().kind, ErrorKind::kInvalid);
}

// The budget

class PackBudgetTest : public PackStoreTest {
 protected:
  std::uint64_t size_ = pack(0).file().size();
};

TEST_F(PackBudgetTest, EvictsTheLeastRecentlyUsedPack) {
  const auto store = open(3 * size_);
  for (int i = 1; i <= 3; ++i) ASSERT_TRUE(store_pack(*store, pack(i)));
  ASSERT_TRUE(find(*store, pack(1)));  // now 2 is the oldest
  ASSERT_TRUE(store_pack(*store, pack(4)));
  EXPECT_TRUE(find(*store, pack(1)));
  EXPECT_FALSE(find(*store, pack(2)));
  EXPECT_TRUE(find(*store, pack(3)));
  EXPECT_LE(store->bytes(), store->budget_bytes());
}

TEST_F(PackBudgetTest, CountsAUseByAnotherProcess) {
  const auto store = open(2 * size_);
  for (int i = 1; i <= 2; ++i) ASSERT_TRUE(store_pack(*store, pack(i)));
  ASSERT_EQ(in_another_process([&] { return find(*open(2 * size_), pack(1)) ? 0 : 1; }), 0);
  ASSERT_TRUE(store_pack(*store, pack(3)));
  EXPECT_TRUE(find(*store, pack(1)));
  EXPECT_FALSE(find(*store, pack(2)));
}

TEST_F(PackBudgetTest, IsSharedByTwoStoresOnOneFolder) {
  const auto one = open(3 * size_);
  const auto two = open(3 * size_);
  for (int i = 1; i <= 8; ++i) {
    ASSERT_TRUE(store_pack(i % 2 == 0 ? *one : *two, pack(i)));
    ASSERT_LE(one->bytes(), 3 * size_);
  }
  EXPECT_TRUE(find(*one, pack(8)));
  EXPECT_TRUE(find(*one, pack(7)));
}

TEST_F(PackStoreTest, AFileThatIsShortenedOrOverwrittenWhileOpenCostsTheBlocksItLosesAndNoOther) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  ASSERT_TRUE(store_pack(*store, stored));
  const auto found = find(*store, stored);
  const int last = stored.identity.n_blocks() - 1;
  fs::resize_file(file_of(stored), stored.header.size() + stored.entries.back().offset + 1);
  EXPECT_EQ(found->block(last).error().kind, ErrorKind::kIo);
  EXPECT_EQ(found->read_block(last).error().kind, ErrorKind::kIo);
  EXPECT_TRUE(found->block(last - 1));
  overwrite(stored, Bytes(stored.file().size()));
  EXPECT_EQ(found->block(0).error().kind, ErrorKind::kMismatch);
  fs::resize_file(file_of(stored), 0);
  EXPECT_EQ(found->block(0).error().kind, ErrorKind::kIo);
}

TEST_F(PackBudgetTest, AnEvictedPackStaysReadableWhileOpen) {
  const auto store = open(size_);
  ASSERT_TRUE(store_pack(*store, pack(1)));
  const auto held = find(*store, pack(1));
  ASSERT_TRUE(store_pack(*store, pack(2)));
  EXPECT_FALSE(find(*store, pack(1)));
  EXPECT_TRUE(std::ranges::equal(held->block(3)->bytes(), pack(1).blocks[3]));
}

TEST_F(PackBudgetTest, RefusesAPackLargerThanTheBudgetAndKeepsTheOthers) {
  const auto store = open(size_);
  ASSERT_TRUE(store_pack(*store, pack(1)));
  const BuiltPack large = build_pack(small_identity(CodecId::kF16, 600), key_);
  const auto writer = begin(*store, large);
  ASSERT_FALSE(writer);
  EXPECT_EQ(writer.error().kind, ErrorKind::kOverloaded);
  EXPECT_TRUE(find(*store, pack(1)));
}

TEST_F(PackBudgetTest, CountsPacksBeingWrittenAndNeverEvictsThem) {
  const auto store = open(2 * size_);
  const auto one = begin(*store, pack(1));
  const auto two = begin(*store, pack(2));
  ASSERT_TRUE(one && two);
  EXPECT_EQ(begin(*store, pack(3)).error().kind, ErrorKind::kOverloaded);
  ASSERT_TRUE(put_all(**one, pack(1)));
  EXPECT_TRUE((*one)->commit(pack(1).header));
}

TEST_F(PackBudgetTest, EvictsDamagedPacksBeforeGoodOnes) {
  const auto store = open(2 * size_);
  ASSERT_TRUE(store_pack(*store, pack(1)));
  ASSERT_TRUE(store_pack(*store, pack(2)));
  store->discard(find(*store, pack(2)).value(), Error{ErrorKind::kMismatch, "a block differs"});
  ASSERT_TRUE(store_pack(*store, pack(3)));
  EXPECT_TRUE(find(*store, pack(1)));
  EXPECT_TRUE(find(*store, pack(3)));
}

// Damage

class DamagedPackTest : public PackStoreTest {
 protected:
  DamagedPackTest() { EXPECT_TRUE(store_pack(*store_, stored_)); }
  // The error of find() with these bytes in the file. The file must have been moved aside, and a new pack must fit.
  Error found_with(const Bytes& file) {
    overwrite(stored_, file);
    const auto found = find(*store_, stored_);
    EXPECT_FALSE(found);
    EXPECT_FALSE(fs::exists(file_of(stored_)));
    EXPECT_TRUE(fs::exists(file_of(stored_).string() + ".bad"));
    EXPECT_EQ(find(*store_, stored_).error().kind, ErrorKind::kNotFound);
    EXPECT_TRUE(store_pack(*store_, stored_));
    EXPECT_TRUE(find(*store_, stored_));
    return found ? Error{} : found.error();
  }
  std::unique_ptr<PackStore> store_ = open();
  BuiltPack stored_ = pack(1);
};

TEST_F(DamagedPackTest, TruncatedIsMovedAsideAndReported) {
  for (const std::size_t keep : {std::size_t{0}, std::size_t{10}, stored_.header.size() - 1, stored_.file().size() - 1}) {
    Bytes file = stored_.file();
    file.resize(keep);
    const Error error = found_with(file);
    EXPECT_EQ(error.kind, ErrorKind::kInvalid) << keep;
    EXPECT_THAT(error.message, HasSubstr(".kvpack"));
  }
}

TEST_F(DamagedPackTest, WithBytesAfterItsEndIsMovedAside) {
  Bytes file = stored_.file();
  file.push_back(std::byte{0});
  EXPECT_EQ(found_with(file).kind, ErrorKind::kInvalid);
}

TEST_F(DamagedPackTest, WithAChangedHeaderIsMovedAside) {
  Bytes file = stored_.file();
  file[stored_.header.size() - 70] ^= std::byte{1};
  EXPECT_EQ(found_with(file).kind, ErrorKind::kMismatch);
}

TEST_F(DamagedPackTest, OfAnotherNameIsMovedAside) {
  EXPECT_THAT(found_with(pack(2).file()).message, HasSubstr("contains another pack"));
}

TEST_F(DamagedPackTest, WhoseSignatureIsNotThatOfTheSignerItNamesIsMovedAside) {
  Bytes file = build_pack(stored_.identity, SigningKey::generate().value()).file();
  file[stored_.header.size() - 1] ^= std::byte{1};
  EXPECT_EQ(found_with(file).kind, ErrorKind::kMismatch);
}

// Edges of different clouds that share a folder

class SharedStoreTest : public PackStoreTest {
 protected:
  Result<StoredPack> find_theirs(PackStore& store) const { return store.find(ours_.identity.id(), their_key_.public_key()); }
  std::size_t bad_files() const {
    return static_cast<std::size_t>(std::ranges::count_if(
        fs::directory_iterator(folder()), [](const auto& entry) { return entry.path().extension() == ".bad"; }));
  }
  const SigningKey their_key_ = SigningKey::generate().value();
  const BuiltPack ours_ = pack(1);
  const BuiltPack theirs_ = build_pack(ours_.identity, their_key_);
};

TEST_F(SharedStoreTest, APackOfAnotherCloudStaysWhereItIs) {
  const auto store = open();
  ASSERT_TRUE(store_pack(*store, theirs_));
  const auto found = find(*store, ours_);
  EXPECT_EQ(found.error().kind, ErrorKind::kNotFound);
  EXPECT_THAT(found.error().message, HasSubstr("signed by " + their_key_.public_key().hex()));
  EXPECT_EQ(bad_files(), 0U);
  EXPECT_TRUE(find_theirs(*store));
}

TEST_F(SharedStoreTest, EachCloudsPackOfAContextIsKeptBesideTheOthers) {
  const auto ours = open();
  const auto theirs = open();
  ASSERT_TRUE(store_pack(*ours, ours_));
  ASSERT_TRUE(store_pack(*theirs, theirs_));
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(find(*ours, ours_));
    EXPECT_EQ(find(*ours, ours_)->header.signer, key_.public_key());
    ASSERT_TRUE(find_theirs(*theirs));
    EXPECT_EQ(find_theirs(*theirs)->header.signer, their_key_.public_key());
    ASSERT_TRUE(store_pack(*theirs, theirs_)) << "again, to the name it has";
    ASSERT_TRUE(store_pack(*ours, ours_));
  }
  EXPECT_EQ(bad_files(), 0U);
  const auto listed = ours->list();
  ASSERT_EQ(listed.size(), 2U);
  for (const PackStore::Listing& each : listed) EXPECT_EQ(each.pack_id, ours_.identity.id());
}

TEST_F(SharedStoreTest, ADamagedPackIsMovedAsideAndTheOthersStays) {
  const auto store = open();
  ASSERT_TRUE(store_pack(*store, theirs_));
  ASSERT_TRUE(store_pack(*store, ours_));
  const auto found = find(*store, ours_);
  ASSERT_TRUE(found);
  store->discard(*found, {ErrorKind::kMismatch, "a block is damaged"});
  EXPECT_EQ(bad_files(), 1U);
  EXPECT_FALSE(find(*store, ours_));
  EXPECT_TRUE(find_theirs(*store));
}

TEST_F(DamagedPackTest, WithAChangedBlockIsDetectedOnDecodingAndCanBeDiscarded) {
  Bytes file = stored_.file();
  file.back() ^= std::byte{1};
  overwrite(stored_, file);
  const auto found = find(*store_, stored_);
  ASSERT_TRUE(found);
  const int last = stored_.identity.n_blocks() - 1;
  const auto block = found->block(last);
  ASSERT_FALSE(block);
  store_->discard(*found, block.error());
  EXPECT_EQ(find(*store_, stored_).error().kind, ErrorKind::kNotFound);
}

// Crashes

class CrashTest : public PackStoreTest {
 protected:
  // Opens the store in another process, which runs `work` and is then killed.
  void killed_after(const std::function<void(PackStore&)>& work) const {
    EXPECT_EQ(in_another_process([&] {
                const auto store = PackStore::open(folder(), kPlenty, null_log());
                work(**store);
                ::kill(::getpid(), SIGKILL);
                return 0;
              }),
              -SIGKILL);
  }
};

TEST_F(CrashTest, AnUnfinishedPackOfAKilledProcessIsRemovedOnOpen) {
  const BuiltPack stored = pack(1);
  killed_after([&](PackStore& store) { begin(store, stored)->release()->put(stored.checked(0)).value(); });
  EXPECT_EQ(unfinished().size(), 1U);
  const auto store = open();
  EXPECT_TRUE(unfinished().empty());
  EXPECT_EQ(store->bytes(), 0U);
  EXPECT_TRUE(store_pack(*store, stored));
}

TEST_F(CrashTest, KilledJustBeforeTheCommitShowsNoPack) {
  const BuiltPack stored = pack(1);
  killed_after([&](PackStore& store) { put_all(*begin(store, stored)->release(), stored).value(); });
  EXPECT_EQ(find(*open(), stored).error().kind, ErrorKind::kNotFound);
}

TEST_F(CrashTest, KilledJustAfterTheCommitShowsTheCompletePack) {
  const BuiltPack stored = pack(1);
  killed_after([&](PackStore& store) { store_pack(store, stored).value(); });
  EXPECT_TRUE(find(*open(), stored));
}

TEST_F(CrashTest, KilledBetweenTheFoldersFirstStepsLeavesAFolderThatOpens) {
  fs::create_directories(folder());
  EXPECT_TRUE(PackStore::open(folder(), kPlenty, null_log())) << "only the folder was created";
  fs::resize_file(folder() / "celslm-packs", 0);
  EXPECT_TRUE(PackStore::open(folder(), kPlenty, null_log())) << "the marker was created but not written";
}

TEST_F(CrashTest, AKilledProcessReleasesTheFoldersLock) {
  killed_after([&](PackStore& store) { begin(store, pack(1))->release(); });
  EXPECT_TRUE(store_pack(*open(), pack(2)));
}

TEST_F(CrashTest, UnfinishedPacksOfLivingWritersAreKept) {
  const auto store = open();
  const BuiltPack stored = pack(1);
  const auto writer = begin(*store, stored).value();
  ASSERT_EQ(in_another_process([&] { return PackStore::open(folder(), kPlenty, null_log()) ? 0 : 1; }), 0);
  open();  // and by another store of the same process
  EXPECT_EQ(unfinished().size(), 1U);
  ASSERT_TRUE(put_all(*writer, stored));
  ASSERT_TRUE(writer->commit(stored.header));
  EXPECT_TRUE(find(*store, stored));
}

// Stores that keep incomplete packs

class PartsTest : public CrashTest {
 protected:
  std::unique_ptr<PackStore> open_keeping(std::uint64_t budget = kPlenty) const {
    return PackStore::open(folder(), budget, null_log(), true).value();
  }
  // The part contains block 1 of `stored` and nothing else.
  static void expect_second_block(const PackStore& store, const BuiltPack& stored) {
    const auto part = store.part(stored.identity);
    ASSERT_TRUE(part) << part.error().message;
    EXPECT_TRUE(std::ranges::equal(part->block(1, stored.entries[1])->bytes(), stored.blocks[1]));
    EXPECT_FALSE(part->block(0, stored.entries[0]));
  }
  static Status put_second(PackWriter& writer, const BuiltPack& stored) { return writer.put(stored.checked(1)); }
};

TEST_F(PartsTest, AnAbandonedWriterLeavesItsBlocks) {
  const auto store = open_keeping();
  const BuiltPack stored = pack(1);
  ASSERT_TRUE(put_second(*begin(*store, stored).value(), stored));
  expect_second_block(*store, stored);
  EXPECT_FALSE(find(*store, stored));
  EXPECT_TRUE(store->list().empty());
}

TEST_F(PartsTest, SoDoesAKilledProcess) {
  const BuiltPack stored = pack(1);
  killed_after([&](PackStore& store) { put_second(*begin(store, stored)->release(), stored).value(); });
  expect_second_block(*open_keeping(), stored);
  EXPECT_TRUE(unfinished().empty());
}

TEST_F(PartsTest, AWriterWithoutABlockKeepsAnEarlierPart) {
  const auto store = open_keeping();
  const BuiltPack stored = pack(1);
  ASSERT_TRUE(put_second(*begin(*store, stored).value(), stored));
  begin(*store, stored).value().reset();
  expect_second_block(*store, stored);
}

TEST_F(PartsTest, AreRemovedOnceThePackIsComplete) {
  const auto store = open_keeping();
  const BuiltPack stored = pack(1);
  ASSERT_TRUE(put_second(*begin(*store, stored).value(), stored));
  ASSERT_TRUE(store_pack(*store, stored));
  EXPECT_EQ(store->part(stored.identity).error().kind, ErrorKind::kNotFound);
  EXPECT_TRUE(find(*store, stored));
}

TEST_F(PartsTest, AreEvictedBeforeCompletePacks) {
  const BuiltPack complete = pack(1), begun = pack(2);
  const std::uint64_t size = complete.header.size() + complete.entries.back().offset + complete.entries.back().bytes;
  const auto store = open_keeping(2 * size + size / 2);
  ASSERT_TRUE(store_pack(*store, complete));
  ASSERT_TRUE(put_second(*begin(*store, begun).value(), begun));
  ASSERT_TRUE(store_pack(*store, pack(3)));
  EXPECT_TRUE(find(*store, complete));
  EXPECT_FALSE(store->part(begun.identity));
}

TEST_F(PartsTest, AFileThatIsTooShortContainsNoBlock) {
  const auto store = open_keeping();
  const BuiltPack stored = pack(1);
  std::ofstream(file_of(stored).string() + ".part") << "short";
  const auto part = store->part(stored.identity);
  ASSERT_TRUE(part);
  EXPECT_EQ(part->block(0, stored.entries[0]).error().kind, ErrorKind::kIo);
}

// Unsuitable folders

class HostileFolderTest : public PackStoreTest {
 protected:
  Error open_error(const fs::path& path) const {
    const auto store = PackStore::open(path, kPlenty, null_log());
    EXPECT_FALSE(store);
    if (store) return {};
    EXPECT_THAT(store.error().message, HasSubstr(path.string()));
    return store.error();
  }
};

TEST_F(HostileFolderTest, AFolderWithOtherFilesIsRefusedAndUnchanged) {
  fs::create_directories(folder());
  ASSERT_TRUE(write_file_atomically(folder() / "thesis.tmp", as_bytes("my thesis")));
  EXPECT_EQ(open_error(folder()).kind, ErrorKind::kInvalid);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder()), {}), 1);
}

TEST_F(HostileFolderTest, AFolderOfAnotherVersionIsRefused) {
  open();
  std::ofstream(folder() / "celslm-packs") << "celslm pack store 2\n";
  EXPECT_EQ(open_error(folder()).kind, ErrorKind::kInvalid);
}

TEST_F(HostileFolderTest, APathUnderAFileIsRefused) {
  ASSERT_TRUE(write_file_atomically(folder_.path() / "file", as_bytes("x")));
  EXPECT_EQ(open_error(folder_.path() / "file" / "packs").kind, ErrorKind::kIo);
  EXPECT_EQ(open_error(folder_.path() / "file").kind, ErrorKind::kIo);
}

TEST_F(HostileFolderTest, AReadOnlyFolderIsRefused) {
  fs::create_directories(folder());
  fs::permissions(folder_.path(), fs::perms::all);
  fs::permissions(folder(), fs::perms::owner_read | fs::perms::owner_exec | fs::perms::others_read | fs::perms::others_exec);
  const int result = in_another_process([&] {
    if (::geteuid() == 0 && ::seteuid(65534) != 0) return 2;  // nothing is read-only to root
    const auto store = PackStore::open(folder(), kPlenty, null_log());
    return !store && store.error().kind == ErrorKind::kIo ? 0 : 1;
  });
  if (result == 2) GTEST_SKIP() << "the process cannot change its user";
  EXPECT_EQ(result, 0);
}

TEST_F(HostileFolderTest, ForeignFilesAreNeitherListedNorEvicted) {
  const auto store = open(pack(1).file().size());
  ASSERT_TRUE(write_file_atomically(folder() / "README", as_bytes("a note")));
  ASSERT_TRUE(store_pack(*store, pack(1)));
  ASSERT_TRUE(store_pack(*store, pack(2)));
  EXPECT_TRUE(fs::exists(folder() / "README"));
  EXPECT_EQ(store->list().size(), 1U);
}

// A full disk is reported when space is reserved, before any block is fetched, and leaves no files.
int stores_nothing_on_a_full_disk(const fs::path& folder, const BuiltPack& pack) {
  const auto store = PackStore::open(folder, kPlenty, null_log());
  if (!store) return 10;
  const auto writer = (*store)->create(pack.identity);
  if (writer) return 11;
  if (writer.error().kind != ErrorKind::kIo || !writer.error().message.contains("reserve space")) return 12;
  return (*store)->bytes() == 0 ? 0 : 13;
}

TEST_F(HostileFolderTest, AFullDiskIsAnErrorBeforeTheFirstBlockAndLeavesNothing) {
  const BuiltPack large = build_pack(small_identity(CodecId::kF16, 3000), key_);
  fs::create_directories(folder());
  const int result = in_another_process([&] {
    const int spaces = CLONE_NEWNS | (::geteuid() == 0 ? 0 : CLONE_NEWUSER);
    if (::unshare(spaces) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 2;
    if (::mount("tmpfs", folder().c_str(), "tmpfs", 0, "size=256k") != 0) return 2;
    return stores_nothing_on_a_full_disk(folder(), large);
  });
  if (result == 2) GTEST_SKIP() << "no permission to mount a small disk; the next test limits the file size instead";
  EXPECT_EQ(result, 0);
}

TEST_F(HostileFolderTest, AFileSizeLimitIsAnErrorBeforeTheFirstBlockAndLeavesNothing) {
  const BuiltPack large = build_pack(small_identity(CodecId::kF16, 3000), key_);
  EXPECT_EQ(in_another_process([&] {
              ::signal(SIGXFSZ, SIG_IGN);
              const struct rlimit limit{.rlim_cur = 256 << 10, .rlim_max = 256 << 10};
              if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
              return stores_nothing_on_a_full_disk(folder(), large);
            }),
            0);
}

}  // namespace
}  // namespace celslm
