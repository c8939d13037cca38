// Devices beside the CPU on which ggml can compute: GPUs, and software that behaves like one. ggml's backends find them
// (libggml0-backend-vulkan, CUDA, HIP, Metal); a person chooses one by name.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace celslm {

enum class DeviceKind {
  kGpu,         // with memory of its own, or as fast as if it had (Metal)
  kIntegrated,  // shares the CPU's memory
  kSoftware,    // the CPU behind a GPU's interface (Mesa's llvmpipe): for tests
};
const char* to_string(DeviceKind kind);

struct DeviceInfo {
  std::string name;         // ggml's: "Vulkan0"
  std::string description;  // the product's
  DeviceKind kind = DeviceKind::kGpu;
  std::uint64_t free_bytes = 0;  // now; some drivers report all of it as free
  std::uint64_t total_bytes = 0;
};

// Those that ggml finds in this process, in its order. kUnavailable without ggml's CPU backend. The first call loads ggml's
// backends, which may take a driver some hundred milliseconds.
Result<std::vector<DeviceInfo>> list_devices();

// What --device asks for: "auto", "cpu", "NAME" or "NAME:LAYERS".
struct DeviceRequest {
  enum class Kind { kAuto, kCpu, kNamed };
  Kind kind = Kind::kCpu;
  std::string name = {};           // of kNamed
  std::optional<int> layers = {};  // of kNamed: so many of the first layers there, the others on the CPU; absent: all
};
// kInvalid for a number of layers that is none, or below 1.
Result<DeviceRequest> parse_device_request(std::string_view text);

// The device to use; null: the CPU. kAuto: the GPU with the most free memory; one of another kind is used only where it is
// named. kNotFound, with the names there are, for a name that no device has.
Result<std::optional<DeviceInfo>> choose_device(const DeviceRequest& request, std::span<const DeviceInfo> devices);

}  // namespace celslm
