#include "model/backend.h"

#include <llama.h>

namespace celslm {
namespace {

template <typename F>
F procedure(ggml_backend_dev_t device, const char* name) {
  return reinterpret_cast<F>(ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), name));
}

}  // namespace

CpuBackend::CpuBackend() {
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);  // before loading, which logs; sets ggml's too
  ggml_backend_load_all();
  llama_backend_init();
  device_ = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (device_ == nullptr) return;
  set_n_threads_ = procedure<ggml_backend_set_n_threads_t>(device_, "ggml_backend_set_n_threads");
  const auto list = procedure<ggml_backend_dev_get_extra_bufts_t>(device_, "ggml_backend_dev_get_extra_bufts");
  if (list == nullptr) return;
  for (ggml_backend_buffer_type_t* type = list(device_); type != nullptr && *type != nullptr; ++type)
    extra_.push_back(*type);
}

// ggml keeps its registry for the life of the process, and so does this view of it: the one static of this layer.
Result<const CpuBackend*> CpuBackend::get() {
  static const CpuBackend backend;
  if (backend.device_ == nullptr || backend.set_n_threads_ == nullptr) {
    return fail(ErrorKind::kUnavailable, "ggml has no CPU backend here; install libggml0's backends");
  }
  return &backend;
}

Result<ggml_backend_ptr> CpuBackend::start(int n_threads) const {
  ggml_backend_ptr backend(ggml_backend_dev_init(device_, nullptr));
  if (!backend) return fail(ErrorKind::kUnavailable, "ggml's CPU backend does not start");
  set_n_threads_(backend.get(), n_threads);
  return backend;
}

}  // namespace celslm
