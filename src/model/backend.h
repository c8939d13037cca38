// The ggml CPU backend of this process, found once.
#pragma once

#include <ggml-backend.h>
#include <ggml-cpp.h>

#include <vector>

#include "core/result.h"

namespace celslm {

// Constant after creation; thread-safe.
class CpuBackend {
 public:
  // Loads ggml's backends (plug-ins chosen by the machine's instruction sets) and silences ggml's and libllama's own
  // logging, once per process. kUnavailable when ggml has no CPU backend installed.
  static Result<const CpuBackend*> get();

  ggml_backend_dev_t device() const { return device_; }
  ggml_backend_buffer_type_t buffer_type() const { return ggml_backend_dev_buffer_type(device_); }
  // Buffer types that hold weights in a form of their own (repacked for fast products), best first.
  const std::vector<ggml_backend_buffer_type_t>& extra_buffer_types() const { return extra_; }

  // A stream of graph computations on n_threads threads. One thread at a time.
  Result<ggml_backend_ptr> start(int n_threads) const;
  void set_threads(ggml_backend_t backend, int n_threads) const { set_n_threads_(backend, n_threads); }

 private:
  CpuBackend();
  ggml_backend_dev_t device_ = nullptr;
  ggml_backend_set_n_threads_t set_n_threads_ = nullptr;
  std::vector<ggml_backend_buffer_type_t> extra_;
};

}  // namespace celslm
