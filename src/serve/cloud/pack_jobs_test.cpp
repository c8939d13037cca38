#include "serve/cloud/pack_jobs.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <latch>
#include <limits>
#include <numeric>
#include <thread>

#include "tests/support/fake_producer.h"

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing_support::FakeProducer;

// Longer than any computation here; a test that waits so long has failed.
constexpr auto kLong = 60s;

// A store on disk whose disk can fill up.
class FaultyStorage final : public PackStorage {
 public:
  explicit FaultyStorage(PackStorage& under) : under_(under) {}

  std::atomic<int> puts_left = 1'000'000;  // then the disk is full
  std::atomic<bool> commit_fails = false;

  Result<StoredPack> find(const Hash256& pack_id) override { return under_.find(pack_id); }
  std::uint64_t budget_bytes() const override { return under_.budget_bytes(); }
  Result<std::unique_ptr<PackWriter>> create(const PackIdentity& identity) override {
    CELSLM_TRY(auto writer, under_.create(identity));
    return std::make_unique<FaultyWriter>(*this, std::move(writer));
  }

 private:
  class FaultyWriter final : public PackWriter {
   public:
    FaultyWriter(FaultyStorage& storage, std::unique_ptr<PackWriter> writer)
        : storage_(storage), writer_(std::move(writer)) {}
    Status put(const VerifiedBlock& block) override {
      if (storage_.puts_left-- <= 0) return fail(ErrorKind::kIo, "the disk is full");
      return writer_->put(block);
    }
    Result<Bytes> read(int index) const override { return writer_->read(index); }
    Status commit(ByteView header) override {
      if (storage_.commit_fails) return fail(ErrorKind::kIo, "the disk is full");
      return writer_->commit(header);
    }

   private:
    FaultyStorage& storage_;
    std::unique_ptr<PackWriter> writer_;
  };

  PackStorage& under_;
};

class CountingObserver final : public PackObserver {
 public:
  void computed(const HostedModel&, const PackIdentity&, std::uint64_t, Duration) override { ++n_computed; }
  void failed(const HostedModel&, const Error&) override { ++n_failed; }
  std::atomic<int> n_computed = 0;
  std::atomic<int> n_failed = 0;
};

class PackJobsTest : public testing::Test {
 protected:
  static constexpr int kTokens = 700;  // three chunks, the last one short

  PackJobsTest() : folder_(std::filesystem::path(testing::TempDir()) / fmt::format("celslm-jobs-{}", ::getpid())) {
    std::filesystem::remove_all(folder_);
    open_store(64U << 20);
  }
  ~PackJobsTest() override {
    jobs_.reset();
    std::filesystem::remove_all(folder_);
  }

  void open_store(std::uint64_t budget_bytes) {
    jobs_.reset();
    auto store = PackStore::open(folder_, budget_bytes, null_log());
    ASSERT_TRUE(store) << store.error().message;
    stored_ = std::make_unique<SignedPackStorage>(*std::move(store), key_.public_key());
    storage_ = std::make_unique<FaultyStorage>(*stored_);
  }

  PackJobs& jobs(PackJobsOptions options = {}) {
    if (!jobs_) {
      const std::vector<std::shared_ptr<KvProducer>> producers{producer_, other_};
      jobs_ = std::make_unique<PackJobs>(producers, *storage_, key_, clock_, observer_, null_log(), options);
    }
    return *jobs_;
  }

  PackIdentity identity(int first_token = 0, CodecId codec = CodecId::kF16) const {
    return identity(*producer_, first_token, codec);
  }
  static PackIdentity identity(const FakeProducer& producer, int first_token, CodecId codec = CodecId::kF16) {
    PackIdentity out{.model = producer.model().fingerprint, .codec = codec};
    out.tokens.resize(kTokens);
    std::iota(out.tokens.begin(), out.tokens.end(), first_token);
    out.context = context_id(out.model.tokenizer, out.tokens);
    return out;
  }

  std::shared_ptr<PackJob> begin(const PackIdentity& what) {
    auto access = jobs().request(what);
    EXPECT_TRUE(access) << access.error().message;
    if (!access || !std::holds_alternative<std::shared_ptr<PackJob>>(*access)) return nullptr;
    return std::get<std::shared_ptr<PackJob>>(*access);
  }

  // Computed, or as it lies in the store.
  StoredPack whole(const PackIdentity& what) {
    const auto job = begin(what);
    EXPECT_TRUE(job && job->wait_complete(kLong).value_or(false));
    return std::get<StoredPack>(*jobs().request(what));
  }

  static void expect_values(const PackIdentity& identity, const VerifiedBlock& block) {
    const BlockRef ref = block_ref(identity, block.index());
    const BlockShape shape = identity.shape(ref.kind, ref.chunk);
    std::vector<float> values(shape.values());
    ASSERT_TRUE(decode_block(identity, block, values));
    for (std::size_t i = 0; i < values.size(); ++i) {
      const int row = ref.chunk * kBlockTokens + static_cast<int>(i) / FakeProducer::kWidth;
      const int column = static_cast<int>(i) % FakeProducer::kWidth;
      ASSERT_EQ(values[i], FakeProducer::value(ref.layer, row, column, ref.kind == BlockKind::kKey));
    }
  }

  const std::filesystem::path folder_;
  const SigningKey key_ = *SigningKey::generate();
  const SystemClock clock_;
  CountingObserver observer_;
  const std::shared_ptr<FakeProducer> producer_ = std::make_shared<FakeProducer>();
  const std::shared_ptr<FakeProducer> other_ = std::make_shared<FakeProducer>("other");
  std::unique_ptr<SignedPackStorage> stored_;
  std::unique_ptr<FaultyStorage> storage_;
  std::unique_ptr<PackJobs> jobs_;
};

TEST_F(PackJobsTest, ComputesAPackWhoseBlocksAreTheModelsKv) {
  const StoredPack pack = whole(identity());
  EXPECT_EQ(pack.header.identity, identity());
  for (int i = 0; i < identity().n_blocks(); ++i) {
    expect_values(identity(), pack.block(i).value());
  }
}

TEST_F(PackJobsTest, MakesAPackFromAnExactOneOfTheSameContext) {
  constexpr std::array kCases = {std::pair(CodecId::kF16, CodecId::kT4), std::pair(CodecId::kF16z, CodecId::kT4),
                                 std::pair(CodecId::kF16, CodecId::kF16z), std::pair(CodecId::kF16z, CodecId::kF16)};
  for (const auto& [stored, wanted] : kCases) {
    open_store(64U << 20);
    const StoredPack computed = whole(identity(0, wanted));
    const Bytes expected = computed.file->read(0, computed.file->size()).value();
    std::filesystem::remove_all(folder_);
    open_store(64U << 20);

    whole(identity(0, stored));
    const int produced = producer_->produced;
    const StoredPack converted = whole(identity(0, wanted));
    EXPECT_EQ(producer_->produced, produced);
    EXPECT_EQ(converted.file->read(0, converted.file->size()).value(), expected);
    std::filesystem::remove_all(folder_);
  }
}

TEST_F(PackJobsTest, ComputesAPackOfBf16WhereThereIsOneOfF16) {
  whole(identity());
  const int produced = producer_->produced;
  whole(identity(0, CodecId::kBf16));
  EXPECT_EQ(producer_->produced, produced + 1);
}

TEST_F(PackJobsTest, ComputesAPackAgainWhoseFileHasBecomeShorterWhileItWasOpen) {
  const StoredPack pack = whole(identity());
  std::filesystem::resize_file(pack.file->path(), pack.file->size() - 10);
  EXPECT_EQ(jobs().lookup(identity().id()).error().kind, ErrorKind::kNotFound);
  const int produced = producer_->produced;
  whole(identity());
  EXPECT_EQ(producer_->produced, produced + 1);
}

TEST_F(PackJobsTest, ComputesAnApproximatePackWhereTheExactOneIsDamaged) {
  whole(identity());
  jobs_.reset();
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    if (entry.path().extension() != ".kvpack") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-1, std::ios::end);
    file.put('!');
  }
  const int produced = producer_->produced;
  whole(identity(0, CodecId::kT4));
  EXPECT_EQ(producer_->produced, produced + 1);
}

TEST_F(PackJobsTest, ComputesOnceHoweverManyAskAtOnce) {
  producer_->hold();
  jobs();
  constexpr int kThreads = 50;
  std::latch together(kThreads);
  std::latch all_have_asked(kThreads);  // the pack is not finished before, or the last to ask would find it stored
  std::atomic<int> whole = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        together.arrive_and_wait();
        const auto job = begin(identity());
        all_have_asked.arrive_and_wait();
        ASSERT_TRUE(job);
        producer_->allow(1);
        if (job->wait_complete(kLong).value_or(false)) ++whole;
      });
    }
  }
  EXPECT_EQ(whole, kThreads);
  EXPECT_EQ(producer_->produced, 1);
  EXPECT_EQ(observer_.n_computed, 1);
}

TEST_F(PackJobsTest, ReadersFollowWhileLaterLayersAreComputed) {
  producer_->hold();
  const auto job = begin(identity());
  ASSERT_TRUE(job);
  const int per_layer = 2 * job->identity.n_chunks();
  EXPECT_TRUE(job->entries(0, 0ms)->empty());
  EXPECT_FALSE(job->read(0));
  for (int layer = 0; layer < FakeProducer::kLayers; ++layer) {
    producer_->allow(1);
    const auto bytes = job->entries(layer * per_layer, kLong);
    ASSERT_TRUE(bytes);
    ASSERT_EQ(bytes->size(), static_cast<std::size_t>(per_layer) * kSignedEntryBytes);
    for (int i = 0; i < per_layer; ++i) {
      const auto entry =
          parse_entry(ByteView(*bytes).subspan(static_cast<std::size_t>(i) * kSignedEntryBytes, kSignedEntryBytes),
                      job->identity, key_.public_key());
      ASSERT_TRUE(entry) << entry.error().message;
      EXPECT_EQ(entry->index, static_cast<std::uint32_t>(layer * per_layer + i));
      const auto block = job->read(entry->entry.offset);
      ASSERT_TRUE(block) << block.error().message;
      expect_values(job->identity, VerifiedBlock::check(layer * per_layer + i, entry->entry, *block).value());
    }
    EXPECT_FALSE(layer + 1 < FakeProducer::kLayers && job->read(job->announced_bytes()));
  }
  EXPECT_TRUE(job->wait_complete(kLong).value_or(false));
  EXPECT_TRUE(job->read(0)) << "a reader that still holds the job goes on reading";
  EXPECT_TRUE(job->entries(job->identity.n_blocks(), kLong)->empty()) << "nothing comes after the last";
}

TEST_F(PackJobsTest, ReadsFromTheMiddleOfABlockToItsEnd) {
  const auto job = begin(identity());
  ASSERT_TRUE(job->wait_complete(kLong).value_or(false));
  const auto whole = job->read(0);
  const auto part = job->read(100);
  ASSERT_TRUE(whole && part);
  EXPECT_EQ(*part, Bytes(whole->begin() + 100, whole->end()));
}

TEST_F(PackJobsTest, AnErrorInTheMiddleReachesAllWhoWaitAndTheNextRequestStartsAnew) {
  producer_->hold();
  const auto job = begin(identity());
  const int per_layer = 2 * job->identity.n_chunks();
  std::atomic<int> told = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        const auto later = job->entries(per_layer, kLong);
        if (!later && later.error().message == "the engine broke") ++told;
      });
    }
    producer_->allow(1);
    ASSERT_TRUE(job->entries(0, kLong));
    producer_->fail_next({ErrorKind::kInternal, "the engine broke"});
  }
  EXPECT_EQ(told, 8);
  EXPECT_FALSE(job->wait_complete(kLong));
  EXPECT_FALSE(job->read(0)) << "nothing half-visible remains";
  EXPECT_EQ(jobs().lookup(identity().id()).error().kind, ErrorKind::kNotFound);

  const auto again = begin(identity());
  ASSERT_TRUE(again);
  EXPECT_NE(again, job);
  producer_->allow(FakeProducer::kLayers);
  EXPECT_TRUE(again->wait_complete(kLong).value_or(false));
  EXPECT_EQ(observer_.n_failed, 1);
}

TEST_F(PackJobsTest, ADiskThatFillsUpEndsTheJobAndLeavesNothingBehind) {
  storage_->puts_left = 7;
  const auto job = begin(identity());
  const auto ended = job->wait_complete(kLong);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind, ErrorKind::kIo);
  while (stored_->bytes() != 0) std::this_thread::yield();  // whoever waited is told before the file is gone
  storage_->puts_left = 1'000'000;
  EXPECT_TRUE(begin(identity())->wait_complete(kLong).value_or(false));
}

TEST_F(PackJobsTest, APackThatCannotBeCommittedIsNotFound) {
  storage_->commit_fails = true;
  const auto job = begin(identity());
  EXPECT_FALSE(job->wait_complete(kLong));
  EXPECT_FALSE(jobs().lookup(identity().id()));
}

TEST_F(PackJobsTest, ShutdownEndsTheRunningJobAndThoseThatWait) {
  producer_->hold();
  const auto running = begin(identity(0));
  producer_->allow(1);
  ASSERT_TRUE(running->entries(0, kLong)) << "it runs";
  const auto waiting = begin(identity(1));
  jobs().stop();
  for (const auto& job : {running, waiting}) {
    const auto ended = job->wait_complete(kLong);
    ASSERT_FALSE(ended);
    EXPECT_EQ(ended.error().kind, ErrorKind::kCancelled);
  }
  EXPECT_EQ(jobs().request(identity(2)).error().kind, ErrorKind::kUnavailable);
  EXPECT_EQ(stored_->bytes(), 0U);
}

TEST_F(PackJobsTest, RefusesMoreThanMayWait) {
  producer_->hold();
  jobs({.max_waiting = 2});
  const auto running = begin(identity(0));
  producer_->allow(1);
  ASSERT_TRUE(running->entries(0, kLong)) << "it is out of the queue";
  EXPECT_TRUE(begin(identity(1)));
  EXPECT_TRUE(begin(identity(2)));
  EXPECT_EQ(jobs().request(identity(3)).error().kind, ErrorKind::kOverloaded);
  EXPECT_TRUE(begin(identity(1))) << "joining costs nothing and is never refused";
  EXPECT_TRUE(begin(identity(*other_, 3))) << "another model has a queue of its own";
}

TEST_F(PackJobsTest, ModelsDoNotWaitForEachOther) {
  producer_->hold();
  const auto held = begin(identity(0));
  EXPECT_TRUE(begin(identity(*other_, 0))->wait_complete(kLong).value_or(false));
  EXPECT_FALSE(held->wait_complete(0ms).value_or(true));
}

TEST_F(PackJobsTest, RefusesAPackThatCouldNeverBeKept) {
  open_store(10'000);
  const auto access = jobs().request(identity());
  ASSERT_FALSE(access);
  EXPECT_EQ(access.error().kind, ErrorKind::kIo);
  EXPECT_THAT(access.error().message, HasSubstr("--pack-budget"));
}

TEST_F(PackJobsTest, RefusesAModelThatIsNotHosted) {
  PackIdentity foreign = identity();
  foreign.model.weights = hash_of("somebody else's");
  EXPECT_EQ(jobs().request(foreign).error().kind, ErrorKind::kNotFound);
}

TEST_F(PackJobsTest, LookingUpBeginsNothing) {
  EXPECT_EQ(jobs().lookup(identity().id()).error().kind, ErrorKind::kNotFound);
  EXPECT_EQ(producer_->produced, 0);
}

TEST_F(PackJobsTest, APackSurvivesARestart) {
  ASSERT_TRUE(begin(identity())->wait_complete(kLong).value_or(false));
  open_store(64U << 20);
  const auto access = jobs().request(identity());
  ASSERT_TRUE(access);
  EXPECT_TRUE(std::holds_alternative<StoredPack>(*access));
  EXPECT_EQ(producer_->produced, 1);
}

TEST_F(PackJobsTest, EachCodecIsAPackOfItsOwnRoundedForItsType) {
  ASSERT_TRUE(begin(identity(0, CodecId::kBf16))->wait_complete(kLong).value_or(false));
  EXPECT_EQ(producer_->last_type, KvType::kBf16);
  ASSERT_TRUE(begin(identity(0, CodecId::kQ8))->wait_complete(kLong).value_or(false));
  EXPECT_EQ(producer_->last_type, KvType::kF16);
  EXPECT_EQ(producer_->produced, 2);
}

TEST_F(PackJobsTest, KvThatIsNotANumberIsNeverSigned) {
  producer_->poison = std::numeric_limits<float>::quiet_NaN();
  const auto job = begin(identity());
  const auto ended = job->wait_complete(kLong);
  ASSERT_FALSE(ended);
  EXPECT_THAT(ended.error().message, HasSubstr("layer 0"));
  EXPECT_EQ(job->announced(), 0);
}

// A producer that leaves out the first step of layer 1.
class SkippingProducer final : public KvProducer {
 public:
  explicit SkippingProducer(std::shared_ptr<FakeProducer> under) : under_(std::move(under)) {}
  const HostedModel& model() const override { return under_->model(); }
  Result<std::vector<Token>> tokens(std::string_view text) const override { return under_->tokens(text); }
  Status produce(std::span<const Token> tokens, KvType type, std::stop_token stop, const OnRows& on_rows) override {
    return under_->produce(tokens, type, stop, [&](int layer, int row, auto k, auto v) {
      return layer == 1 && row == 0 ? Status() : on_rows(layer, row, k, v);
    });
  }

 private:
  std::shared_ptr<FakeProducer> under_;
};

TEST_F(PackJobsTest, AHoleInAProducersRowsIsNeverSigned) {
  const std::vector<std::shared_ptr<KvProducer>> producers{std::make_shared<SkippingProducer>(producer_)};
  jobs_ = std::make_unique<PackJobs>(producers, *storage_, key_, clock_, observer_, null_log());
  const auto job = begin(identity());
  const auto ended = job->wait_complete(kLong);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().kind, ErrorKind::kInternal);
}

}  // namespace
}  // namespace celslm
