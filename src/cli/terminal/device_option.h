// --device: where a model is computed.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>

#include "core/log.h"
#include "model/device/device.h"
#include "model/engine/model.h"

namespace celslm {

struct DeviceOptions {
  DeviceRequest request{.kind = DeviceRequest::Kind::kAuto};
  std::uint64_t bytes = UINT64_MAX;  // that may be used of the device's memory
};

inline const DeviceOptions kOnCpu{.request = {.kind = DeviceRequest::Kind::kCpu}};

// --device and --device-memory. The options must outlive the parsing.
void add_device_options(CLI::App& app, DeviceOptions& options);

// The device to load models on (choose_device), reported to `log` where it is not the CPU; null: the CPU.
Result<std::optional<DeviceInfo>> device_for(const DeviceOptions& options, const Log& log);
// What a model that is loaded there is loaded with.
void set_device(ModelOptions& model, const DeviceOptions& options, const std::optional<DeviceInfo>& device);

}  // namespace celslm
