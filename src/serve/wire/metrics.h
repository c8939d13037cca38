// Measurements of one process, in Prometheus' text format. docs/metrics.md lists every metric with its unit.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/labels.h>

#include <memory>
#include <string>
#include <vector>

namespace prometheus {
class Registry;
}

namespace celslm {

// Owns the counters, gauges and histograms it returns: references stay valid as long as the Metrics. Asking for the same
// name and labels again gives the same object, so a handler may ask each time. Thread-safe.
//
// Names: "celslm_<part>_<what>_<unit>", counters ending in "_total"; a name that Prometheus would refuse is a bug here and
// throws std::invalid_argument.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  prometheus::Counter& counter(const std::string& name, const std::string& help, const prometheus::Labels& labels = {});
  prometheus::Gauge& gauge(const std::string& name, const std::string& help, const prometheus::Labels& labels = {});
  // upper_bounds: ascending, without infinity.
  prometheus::Histogram& histogram(const std::string& name, const std::string& help, const std::vector<double>& upper_bounds,
                                   const prometheus::Labels& labels = {});

  // The body of GET /metrics.
  std::string text() const;
  static constexpr const char* kContentType = "text/plain; version=0.0.4; charset=utf-8";

 private:
  std::unique_ptr<prometheus::Registry> registry_;
};

// 1, 2, 5, 10, … seconds for waiting times of people: 5 ms to 100 s.
std::vector<double> seconds_buckets();

}  // namespace celslm
