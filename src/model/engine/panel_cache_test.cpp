// Packed weights that are kept between starts: used where they are right, made again where they are not.
#include "model/engine/panel_cache.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

#include "model/engine/engine.h"
#include "model/engine/model.h"
#include "model/engine/model_impl.h"
#include "tests/support/random_model.h"

namespace celslm {
namespace {

namespace fs = std::filesystem;
using testing_support::RandomModel;
using testing_support::TemporaryFolder;
using testing_support::write_random_model;

class PanelCacheTest : public testing::Test {
 protected:
  PanelCacheTest() { write({}); }

  void write(const RandomModel& changes) {
    RandomModel model = changes;
    model.n_embd = 256;
    model.n_ff = 256;
    model.n_filler = 7;
    model.type = GGML_TYPE_Q4_K;
    write_random_model(folder_ / "m.gguf", model);
  }

  // Waits until what it keeps is on disk: the model's end would stop the writing.
  std::shared_ptr<const Model> load() const {
    auto model = Model::load(folder_ / "m.gguf", {.panel_folder = panels()});
    EXPECT_TRUE(model) << model.error().message;
    (*model)->impl().weights->wait_until_kept();
    return *model;
  }

  static bool is_mapped(const Model& model) { return model.impl().weights->panels_are_mapped(); }

  static std::vector<float> logits(const std::shared_ptr<const Model>& model) {
    const auto engine = Engine::create(model, {.n_threads = 1}).value();
    const std::vector<Token> tokens = {5, 77, 130, 9};
    const auto own = KvSegment::create(model->config(), KvType::kF32, 0, 8).value();
    const SequenceChunk chunk{.own = own, .own_length = 0, .n_tokens = 4};
    const auto out = engine->forward(tokens, {&chunk, 1});
    return {out->begin(), out->end()};
  }

  fs::path panels() const { return folder_ / "weights"; }
  fs::path file() const {
    for (const auto& entry : fs::directory_iterator(panels())) return entry.path();
    return {};
  }
  void overwrite(std::uint64_t at, char byte) const {
    std::fstream out(file(), std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(at));
    out.put(byte);
  }

  TemporaryFolder folder_;
};

TEST_F(PanelCacheTest, TheSecondStartMapsWhatTheFirstOneKept) {
  const auto first = load();
  EXPECT_FALSE(is_mapped(*first));
  const auto second = load();
  EXPECT_TRUE(is_mapped(*second));
  EXPECT_EQ(logits(first), logits(second));
  EXPECT_EQ(first->fingerprint().weights, second->fingerprint().weights);
}

TEST_F(PanelCacheTest, WithoutAFolderNothingIsKept) {
  ASSERT_TRUE(Model::load(folder_ / "m.gguf"));
  EXPECT_FALSE(fs::exists(panels()));
}

TEST_F(PanelCacheTest, OtherWeightsUnderTheSameHeadersAreNotTakenForThese) {
  load();
  write({.seed = 99});
  const auto other = load();
  EXPECT_FALSE(is_mapped(*other));
  const auto again = load();  // and the file is that of the other now
  EXPECT_TRUE(is_mapped(*again));
  EXPECT_EQ(logits(other), logits(again));
}

TEST_F(PanelCacheTest, ADamagedFileIsMadeAgain) {
  const auto right = logits(load());
  for (const std::uint64_t at :
       {std::uint64_t{0}, std::uint64_t{9}, std::uint64_t{40}, std::uint64_t{5000}, fs::file_size(file()) - 1}) {
    overwrite(at, 0x5a);
    const auto damaged = load();
    EXPECT_FALSE(is_mapped(*damaged)) << at;
    EXPECT_EQ(logits(damaged), right) << at;
    EXPECT_TRUE(is_mapped(*load())) << at;
  }
}

TEST_F(PanelCacheTest, AFileOfAnotherLengthIsMadeAgain) {
  load();
  for (const std::uint64_t size :
       {std::uint64_t{0}, std::uint64_t{10}, fs::file_size(file()) - 1, fs::file_size(file()) + 4096}) {
    fs::resize_file(file(), size);
    EXPECT_FALSE(is_mapped(*load())) << size;
    EXPECT_TRUE(is_mapped(*load())) << size;
  }
}

TEST_F(PanelCacheTest, WhereNothingCanBeKeptTheModelLoadsAllTheSame) {
  std::ofstream(panels()) << "a file where the folder should be";
  const auto model = load();
  EXPECT_FALSE(is_mapped(*model));
  EXPECT_EQ(logits(model).size(), static_cast<std::size_t>(model->config().n_vocab));
}

TEST_F(PanelCacheTest, WritingStopsWhenItsModelGoes) {
  std::stop_source stop;
  stop.request_stop();
  const Bytes some(100);
  const std::vector<ByteView> matrices = {some};
  const Status written = write_panels(panels() / "m.panels", {}, matrices, stop.get_token());
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().kind, ErrorKind::kCancelled);
  EXPECT_TRUE(fs::is_empty(panels()));
}

TEST_F(PanelCacheTest, OfManyModelsTheLastOnesUsedAreKept) {
  const Bytes some(100);
  const std::vector<ByteView> matrices = {some};
  const auto path = [&](int i) { return panels() / fmt::format("{}.panels", i); };
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(write_panels(path(i), {}, matrices, {}));
    fs::last_write_time(path(i), fs::file_time_type::clock::now() - std::chrono::hours(10 - i));
    const std::size_t sizes[] = {100};
    ASSERT_TRUE(CachedPanels::open(path(0), sizes));  // in use: not the oldest any more
  }
  EXPECT_TRUE(fs::exists(path(0)));
  EXPECT_FALSE(fs::exists(path(1)));
  EXPECT_FALSE(fs::exists(path(2)));
  EXPECT_TRUE(fs::exists(path(5)));
}

}  // namespace
}  // namespace celslm
