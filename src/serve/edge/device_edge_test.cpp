// An edge whose cloud computes on a device, and so rounds differently. ggml's CPU backend stands for the device.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing_support::dying_after;
using testing_support::long_text;

class DeviceEdgeTest : public testing_support::EdgeFixture {
 protected:
  DeviceEdgeTest() {
    auto model = Model::load(folder_ / "small.gguf", {.device = "CPU"});
    EXPECT_TRUE(model) << model.error().message;
    start_cloud(*model);
    put(text_);
  }

  static std::string text_of(const json& answer) { return answer["choices"][0]["message"]["content"]; }

  const std::string text_ = long_text();
};

TEST_F(DeviceEdgeTest, AnswersFromTheDevicesKv) {
  const auto e = edge();
  const json answer = ask(*e, text_);
  EXPECT_EQ(sources(answer), all("proxy cloud"));
  EXPECT_EQ(text_of(answer), text_of(local_answer(text_)));
}

TEST_F(DeviceEdgeTest, ThePackOnDiskTellsItsClass) {
  fetch_and_keep(text_, "kept");
  ASSERT_EQ(store_->list().size(), 1U);
  const auto again = edge(testing_support::failing("the cloud is gone"), {}, "kept");
  EXPECT_EQ(sources(ask(*again, text_)), all("proxy disk"));
}

TEST_F(DeviceEdgeTest, ANeighbourSharesIt) {
  const Neighbour neighbour(*this, text_);
  const auto e = edge(testing_support::failing("the cloud is gone"));
  EXPECT_EQ(sources(ask(*e, text_)), all("proxy peer"));
}

TEST_F(DeviceEdgeTest, NothingIsComputedWhileTheCloudSuppliesIt) {
  prefer_ = Prefer::kBytes;  // would compute all that it may
  const auto e = edge();
  EXPECT_EQ(sources(ask(*e, text_)), all("proxy cloud"));
}

TEST_F(DeviceEdgeTest, BothAreUsedWhereMixingIsAllowed) {
  prefer_ = Prefer::kBytes;
  const auto e = edge({}, {.load = {.mix_arithmetic = true}});
  EXPECT_EQ(sources(ask(*e, text_)), all("native compute"));
}

TEST_F(DeviceEdgeTest, WhatADeadCloudLeftMissingIsComputed) {
  const testing_support::PackFault fault = dying_after(1);
  const auto e = edge(fault);
  const json answer = ask(*e, text_);
  EXPECT_GT(fault.struck(), 0);
  EXPECT_THAT(sources(answer), testing::Contains("native compute"));
  EXPECT_EQ(text_of(answer), text_of(local_answer(text_)));
}

}  // namespace
}  // namespace celslm
