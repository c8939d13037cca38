#include "model/device/open_device.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "model/backend.h"

namespace celslm {
namespace {

ggml_backend_dev_props props_of(ggml_backend_dev_t device) {
  ggml_backend_dev_props out{};
  ggml_backend_dev_get_props(device, &out);
  return out;
}

double megabytes(std::uint64_t bytes) {
  return static_cast<double>(bytes) / 1e6;
}

}  // namespace

Result<std::shared_ptr<OpenDevice>> OpenDevice::open(const std::string& name, std::uint64_t limit_bytes) {
  CELSLM_CHECK_OK(CpuBackend::get().transform([](auto*) {}));  // loads the backends
  const ggml_backend_dev_t handle = ggml_backend_dev_by_name(name.c_str());
  if (handle == nullptr)
    return fail(ErrorKind::kNotFound, "no device '{}' here ('celslm doctor' lists those there are)", name);
  return std::shared_ptr<OpenDevice>(new OpenDevice(name, handle, limit_bytes));
}

ggml_backend_buffer_type_t OpenDevice::staging_type() const {
  const ggml_backend_buffer_type_t own = ggml_backend_dev_host_buffer_type(handle_);
  if (own != nullptr) return own;
  return ggml_backend_dev_buffer_type(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
}

bool OpenDevice::has_events() const {
  return props_of(handle_).caps.events;
}

std::uint64_t OpenDevice::free_bytes() const {
  const std::uint64_t used = used_;
  return std::min<std::uint64_t>(props_of(handle_).memory_free, limit_bytes_ - std::min(limit_bytes_, used));
}

std::unexpected<Error> OpenDevice::no_room(std::uint64_t bytes, const std::string& what) const {
  return fail(ErrorKind::kOverloaded, "{}: {} needs {:.1f} MB, {:.1f} MB are free", name_, what, megabytes(bytes),
              megabytes(free_bytes()));
}

// What a driver reports as free is no promise, and drivers throw.
Result<DeviceBuffer> OpenDevice::allocate(ggml_context* context, const std::string& what) {
  const std::uint64_t size = ggml_backend_alloc_ctx_tensors_from_buft_size(context, buffer_type());
  if (size > free_bytes()) return no_room(size, what);
  DeviceBuffer out;
  try {
    out.buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(context, buffer_type()));
    if (!out.buffer_) return no_room(size, what);
    ggml_backend_buffer_clear(out.buffer_.get(), 0);
  } catch (const std::exception&) {
    return no_room(size, what);
  }
  out.device_ = shared_from_this();
  used_ += out.size_bytes();
  return out;
}

Result<ggml_backend_ptr> OpenDevice::start() const {
  ggml_backend_ptr out;
  try {
    out.reset(ggml_backend_dev_init(handle_, nullptr));
  } catch (const std::exception& error) {
    return fail(ErrorKind::kUnavailable, "{} does not start: {}", name_, error.what());
  }
  if (!out) return fail(ErrorKind::kUnavailable, "{} does not start", name_);
  return out;
}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  release();
  device_ = std::move(other.device_);
  buffer_ = std::move(other.buffer_);
  return *this;
}

void DeviceBuffer::release() {
  if (device_ && buffer_) device_->used_ -= size_bytes();
  buffer_.reset();
  device_.reset();
}

}  // namespace celslm
