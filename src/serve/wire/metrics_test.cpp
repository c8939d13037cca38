#include "serve/wire/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace celslm {
namespace {

using testing::HasSubstr;

TEST(MetricsTest, ShowsWhatWasCountedWithItsHelpAndLabels) {
  Metrics metrics;
  metrics.counter("celslm_test_things_total", "Things seen.", {{"kind", "big"}}).Increment(3);
  metrics.gauge("celslm_test_bytes", "Bytes held.").Set(12);
  const std::string text = metrics.text();
  EXPECT_THAT(text, HasSubstr("# HELP celslm_test_things_total Things seen."));
  EXPECT_THAT(text, HasSubstr("# TYPE celslm_test_things_total counter"));
  EXPECT_THAT(text, HasSubstr("celslm_test_things_total{kind=\"big\"} 3"));
  EXPECT_THAT(text, HasSubstr("celslm_test_bytes 12"));
}

TEST(MetricsTest, TheSameNameAndLabelsAreTheSameCounter) {
  Metrics metrics;
  metrics.counter("celslm_test_total", "x", {{"a", "1"}}).Increment();
  metrics.counter("celslm_test_total", "x", {{"a", "1"}}).Increment();
  metrics.counter("celslm_test_total", "x", {{"a", "2"}}).Increment();
  EXPECT_EQ(metrics.counter("celslm_test_total", "x", {{"a", "1"}}).Value(), 2);
}

TEST(MetricsTest, HistogramsCountByUpperBound) {
  Metrics metrics;
  auto& seconds = metrics.histogram("celslm_test_seconds", "x", seconds_buckets());
  seconds.Observe(0.3);
  EXPECT_THAT(metrics.text(), HasSubstr("celslm_test_seconds_bucket{le=\"0.5\"} 1"));
  EXPECT_THAT(metrics.text(), HasSubstr("celslm_test_seconds_bucket{le=\"0.2\"} 0"));
}

}  // namespace
}  // namespace celslm
