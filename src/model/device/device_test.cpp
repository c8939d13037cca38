#include "model/device/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

namespace celslm {
namespace {

using testing::HasSubstr;

const std::array kDevices{
    DeviceInfo{.name = "Vulkan0", .description = "Small", .kind = DeviceKind::kGpu, .free_bytes = 4, .total_bytes = 16},
    DeviceInfo{.name = "Vulkan1", .description = "Large", .kind = DeviceKind::kGpu, .free_bytes = 8, .total_bytes = 8},
    DeviceInfo{.name = "Vulkan2", .description = "Shared", .kind = DeviceKind::kIntegrated, .free_bytes = 64},
    DeviceInfo{.name = "Vulkan3", .description = "llvmpipe", .kind = DeviceKind::kSoftware, .free_bytes = 64},
};

std::string chosen(const std::string& text, std::span<const DeviceInfo> devices = kDevices) {
  const auto request = parse_device_request(text);
  if (!request) return request.error().message;
  const auto device = choose_device(*request, devices);
  if (!device) return device.error().message;
  return *device ? (*device)->name : "cpu";
}

TEST(DeviceTest, AutoTakesTheGpuWithTheMostFreeMemory) {
  EXPECT_EQ(chosen("auto"), "Vulkan1");
}

TEST(DeviceTest, AutoTakesNeitherIntegratedNorSoftwareGpus) {
  EXPECT_EQ(chosen("auto", std::span(kDevices).last(2)), "cpu");
  EXPECT_EQ(chosen("auto", {}), "cpu");
}

TEST(DeviceTest, AnyDeviceIsTakenByName) {
  EXPECT_EQ(chosen("Vulkan2"), "Vulkan2");
  EXPECT_EQ(chosen("Vulkan3:7"), "Vulkan3");
  EXPECT_EQ(chosen("cpu"), "cpu");
}

TEST(DeviceTest, AnUnknownNameIsRefusedWithThoseThereAre) {
  EXPECT_THAT(chosen("CUDA0"), HasSubstr("no device 'CUDA0' here: there are cpu, Vulkan0, Vulkan1, Vulkan2, Vulkan3"));
}

TEST(DeviceTest, LayersFollowTheNameBehindAColon) {
  EXPECT_EQ(parse_device_request("Vulkan0:12")->layers, 12);
  EXPECT_EQ(parse_device_request("Vulkan0")->layers, std::nullopt);
  for (const char* wrong : {"Vulkan0:", "Vulkan0:0", "Vulkan0:-1", "Vulkan0:7x", "Vulkan0:99999999999"})
    EXPECT_THAT(chosen(wrong), HasSubstr("expected a number of layers")) << wrong;
  for (const char* wrong : {"", ":3"}) EXPECT_THAT(chosen(wrong), HasSubstr("expected auto, cpu, NAME")) << wrong;
}

TEST(DeviceTest, TheCpuIsNotListed) {
  const auto devices = list_devices();
  ASSERT_TRUE(devices) << devices.error().message;
  for (const DeviceInfo& device : *devices) EXPECT_NE(device.name, "CPU");
}

}  // namespace
}  // namespace celslm
