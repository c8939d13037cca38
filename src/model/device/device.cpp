#include "model/device/device.h"

#include <algorithm>
#include <charconv>
#include <iterator>

#include "model/backend.h"

namespace celslm {
namespace {

// Vulkan implementations that run on the CPU. ggml reports them as GPUs, and leaves them out unless they are asked for with
// GGML_VK_VISIBLE_DEVICES.
bool is_software(std::string_view description) {
  return std::ranges::any_of(std::initializer_list<std::string_view>{"llvmpipe", "lavapipe", "SwiftShader"},
                             [&](std::string_view name) { return description.contains(name); });
}

std::optional<DeviceKind> kind_of(const ggml_backend_dev_props& props) {
  if (is_software(props.description)) return DeviceKind::kSoftware;
  if (props.type == GGML_BACKEND_DEVICE_TYPE_GPU) return DeviceKind::kGpu;
  if (props.type == GGML_BACKEND_DEVICE_TYPE_IGPU) return DeviceKind::kIntegrated;
  return std::nullopt;  // the CPU, or what works for it (BLAS)
}

std::string names_of(std::span<const DeviceInfo> devices) {
  std::string out = "cpu";
  for (const DeviceInfo& device : devices) out += ", " + device.name;
  return out;
}

}  // namespace

const char* to_string(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kGpu: return "GPU";
    case DeviceKind::kIntegrated: return "integrated GPU";
    case DeviceKind::kSoftware: return "software";
  }
  return "unknown";
}

Result<std::vector<DeviceInfo>> list_devices() {
  CELSLM_CHECK_OK(CpuBackend::get().transform([](auto*) {}));  // loads the backends
  std::vector<DeviceInfo> out;
  for (std::size_t i = 0; i < ggml_backend_dev_count(); ++i) {
    ggml_backend_dev_props props{};
    ggml_backend_dev_get_props(ggml_backend_dev_get(i), &props);
    const auto kind = kind_of(props);
    if (!kind) continue;
    out.push_back({.name = props.name,
                   .description = props.description,
                   .kind = *kind,
                   .free_bytes = props.memory_free,
                   .total_bytes = props.memory_total});
  }
  return out;
}

Result<DeviceRequest> parse_device_request(std::string_view text) {
  if (text == "auto") return DeviceRequest{.kind = DeviceRequest::Kind::kAuto};
  if (text == "cpu") return DeviceRequest{.kind = DeviceRequest::Kind::kCpu};
  const std::size_t colon = text.rfind(':');
  const std::string_view name = text.substr(0, colon);
  if (name.empty()) return fail(ErrorKind::kInvalid, "device '{}': expected auto, cpu, NAME or NAME:LAYERS", text);
  DeviceRequest out{.kind = DeviceRequest::Kind::kNamed, .name = std::string(name)};
  if (colon == std::string_view::npos) return out;
  const std::string_view number = text.substr(colon + 1);
  int layers = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), layers);
  if (error != std::errc() || end != number.data() + number.size() || layers < 1)
    return fail(ErrorKind::kInvalid, "device '{}': expected a number of layers, 1 or more, behind the colon", text);
  out.layers = layers;
  return out;
}

Result<std::optional<DeviceInfo>> choose_device(const DeviceRequest& request, std::span<const DeviceInfo> devices) {
  if (request.kind == DeviceRequest::Kind::kCpu) return std::nullopt;
  if (request.kind == DeviceRequest::Kind::kNamed) {
    const auto named = std::ranges::find(devices, request.name, &DeviceInfo::name);
    if (named != devices.end()) return *named;
    return fail(ErrorKind::kNotFound, "no device '{}' here: there are {} ('celslm doctor' lists them)", request.name,
                names_of(devices));
  }
  const DeviceInfo* best = nullptr;
  for (const DeviceInfo& device : devices) {
    if (device.kind != DeviceKind::kGpu || (best != nullptr && best->free_bytes >= device.free_bytes)) continue;
    best = &device;
  }
  return best == nullptr ? std::nullopt : std::optional(*best);
}

}  // namespace celslm
