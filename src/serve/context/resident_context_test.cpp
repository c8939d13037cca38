#include "serve/context/resident_context.h"

#include <gtest/gtest.h>

#include "serve/context/test_support.h"

namespace celslm {
namespace {

using testing_support::make;

TEST(ResidentContextTest, LayersAreReadyOnlyUpToTheFirstMissingOne) {
  const auto context = make("a");
  context->layer_filled(1, {});
  EXPECT_EQ(context->ready_layers(), 0);
  context->layer_filled(0, {});
  EXPECT_EQ(context->ready_layers(), 2);
  EXPECT_FALSE(context->complete());
  context->layer_filled(2, {});
  EXPECT_TRUE(context->complete());
}

class NoWork final : public ComputeWork {
 public:
  bool wants_unit() override { return false; }
  void unit_computed(double, TimePoint) override {}
  std::shared_ptr<const KvTuning> tuning() const override { return nullptr; }
  bool wants_rows() const override { return false; }
  void layer_computed(int, KvSegment&, std::vector<float>, std::vector<float>) override {}
  void set_deadline(TimePoint) override {}
};

TEST(ResidentContextTest, HasComputeWorkOnlyWhileItIsIncomplete) {
  const auto context = make("a");
  EXPECT_EQ(context->compute_work(), nullptr);
  context->set_compute_work(std::make_shared<NoWork>());
  EXPECT_NE(context->compute_work(), nullptr);
  for (int layer = 0; layer < 3; ++layer) context->layer_filled(layer, {});
  EXPECT_EQ(context->compute_work(), nullptr);
}

TEST(ResidentContextTest, TellsItsListenerOfEveryChange) {
  const auto context = make("a");
  int changes = 0;
  context->on_change([&] { ++changes; });
  context->layer_filled(0, {});
  context->changed();
  EXPECT_EQ(changes, 2);
}

}  // namespace
}  // namespace celslm
