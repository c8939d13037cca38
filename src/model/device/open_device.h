// A device that is in use: memory on it, and its stream of computations.
#pragma once

#include <ggml-backend.h>
#include <ggml-cpp.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "core/result.h"

namespace celslm {

class DeviceBuffer;

// Thread-safe. Memory that was taken keeps it alive.
class OpenDevice : public std::enable_shared_from_this<OpenDevice> {
 public:
  // name: as in DeviceInfo, or "CPU": ggml's CPU backend behind the same interface, for tests. limit_bytes: of what
  // allocate() gives out at a time; for a GPU that others use, too. kNotFound where there is no such device.
  static Result<std::shared_ptr<OpenDevice>> open(const std::string& name, std::uint64_t limit_bytes = UINT64_MAX);

  const std::string& name() const { return name_; }
  ggml_backend_dev_t handle() const { return handle_; }
  ggml_backend_buffer_type_t buffer_type() const { return ggml_backend_dev_buffer_type(handle_); }
  // Of host memory that the device reads and writes while the CPU does other things; ordinary memory where it has none.
  ggml_backend_buffer_type_t staging_type() const;
  bool has_events() const;

  // What could still be had. A driver that reports all memory as free makes this too large.
  std::uint64_t free_bytes() const;
  std::uint64_t used_bytes() const { return used_; }  // of what allocate() gave out

  // Memory for all tensors of `context` that have none, zeroed. what: for the message. kOverloaded, with the size needed and
  // the size free.
  Result<DeviceBuffer> allocate(ggml_context* context, const std::string& what);
  std::unexpected<Error> no_room(std::uint64_t bytes, const std::string& what) const;

  // A stream of computations and copies in order. One thread at a time.
  Result<ggml_backend_ptr> start() const;

 private:
  friend class DeviceBuffer;
  OpenDevice(std::string name, ggml_backend_dev_t handle, std::uint64_t limit_bytes)
      : name_(std::move(name)), handle_(handle), limit_bytes_(limit_bytes) {}

  const std::string name_;
  const ggml_backend_dev_t handle_;
  const std::uint64_t limit_bytes_;
  std::atomic<std::uint64_t> used_{0};
};

// Memory on a device, given back on destruction.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(DeviceBuffer&&) = default;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  ~DeviceBuffer() { release(); }

  std::uint64_t size_bytes() const { return buffer_ ? ggml_backend_buffer_get_size(buffer_.get()) : 0; }
  void use_for_weights() { ggml_backend_buffer_set_usage(buffer_.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS); }

 private:
  friend class OpenDevice;
  void release();

  std::shared_ptr<OpenDevice> device_;
  ggml_backend_buffer_ptr buffer_;
};

}  // namespace celslm
