#include "model/engine/thread_count.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <memory>

namespace celslm {
namespace {

double seconds_of(clockid_t clock) {
  struct timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

CpuSpent readings() {
  struct rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return {
      .wall_s = seconds_of(CLOCK_MONOTONIC), .cpu_s = seconds_of(CLOCK_PROCESS_CPUTIME_ID), .preemptions = usage.ru_nivcsw};
}

}  // namespace

// "0.10 0.20 0.30 3/456 7890": 3 threads run or want to.
bool machine_has_idle_core() {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen("/proc/loadavg", "re"), &std::fclose);
  long running = 0;
  if (!file || std::fscanf(file.get(), "%*s %*s %*s %ld/", &running) != 1) return true;
  return running < ::sysconf(_SC_NPROCESSORS_ONLN);
}

CpuMeter::CpuMeter() : began_(readings()) {}

CpuSpent CpuMeter::spent() const {
  const CpuSpent now = readings();
  return {.wall_s = now.wall_s - began_.wall_s,
          .cpu_s = now.cpu_s - began_.cpu_s,
          .preemptions = now.preemptions - began_.preemptions};
}

}  // namespace celslm
