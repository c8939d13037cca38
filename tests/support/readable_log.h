// A log that a test reads.
#pragma once

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <sstream>
#include <string>
#include <string_view>

#include "core/log.h"

namespace celslm::testing_support {

// Lines are "LEVEL MESSAGE".
class ReadableLog {
 public:
  ReadableLog() : log_(std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(out_))) {
    log_->set_pattern("%l %v");
  }
  const Log& log() const { return log_; }
  std::string text() const {
    log_->flush();
    return out_.str();
  }
  // What came since the last call.
  std::string taken() {
    std::string all = text();
    out_.str({});
    return all;
  }
  std::size_t count(std::string_view words) const {
    const std::string all = text();
    std::size_t n = 0;
    for (std::size_t at = all.find(words); at != std::string::npos; at = all.find(words, at + 1)) ++n;
    return n;
  }

 private:
  std::ostringstream out_;
  Log log_;
};

}  // namespace celslm::testing_support
