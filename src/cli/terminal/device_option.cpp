#include "cli/terminal/device_option.h"

#include <climits>

#include "cli/terminal/option_kinds.h"

namespace celslm {

void add_device_options(CLI::App& app, DeviceOptions& options) {
  app.add_option_function<std::string>(
         "--device",
         [&options](const std::string& text) {
           auto request = parse_device_request(text);
           if (!request) throw CLI::ValidationError("--device", request.error().message);
           options.request = *std::move(request);
         },
         "Where the model is computed: auto (the GPU with the most free memory, or the CPU where there is none), cpu, or a "
         "name from 'celslm doctor' such as Vulkan0; NAME:N computes the first N layers there and the others on the CPU")
      ->option_text("NAME [auto]");
  add_size(app, "--device-memory", options.bytes, "Memory of the device that may be used; what does not fit is refused",
           "all that is free");
}

Result<std::optional<DeviceInfo>> device_for(const DeviceOptions& options, const Log& log) {
  if (options.request.kind == DeviceRequest::Kind::kCpu) return std::nullopt;
  CELSLM_TRY(const auto devices, list_devices());
  CELSLM_TRY(auto device, choose_device(options.request, devices));
  if (device)
    log->info("computing on {} ({}, {}): {:.1f} of {:.1f} GB free", device->name, device->description,
              to_string(device->kind), static_cast<double>(device->free_bytes) / 1e9,
              static_cast<double>(device->total_bytes) / 1e9);
  return device;
}

void set_device(ModelOptions& model, const DeviceOptions& options, const std::optional<DeviceInfo>& device) {
  if (!device) return;
  model.device = device->name;
  model.device_layers = options.request.layers.value_or(INT_MAX);
  model.device_bytes = options.bytes;
}

}  // namespace celslm
