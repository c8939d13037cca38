// One more than each limit on a GGUF's header. docs/trust.md has the attacks that they stop.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/bytes.h"
#include "model/gguf/gguf_check.h"

namespace celslm {
namespace {

using testing::HasSubstr;

constexpr std::uint32_t kUint32 = 4;
constexpr std::uint32_t kString = 8;
constexpr std::uint32_t kArray = 9;

class GgufLimitsTest : public testing::Test {
 protected:
  void head(std::uint64_t n_tensors, std::uint64_t n_keys) {
    out_.u32(0x46554747);
    out_.u32(3);
    out_.u64(n_tensors);
    out_.u64(n_keys);
  }
  void text(const std::string& s) {
    out_.u64(s.size());
    out_.bytes(as_bytes(s));
  }
  std::string problem() const {
    const Status checked = check_gguf(out_.data());
    return checked ? "none" : checked.error().message;
  }
  ByteWriter out_;
};

TEST_F(GgufLimitsTest, Keys) {
  head(0, 8193);
  EXPECT_THAT(problem(), HasSubstr("8193 metadata keys; at most 8192"));
}

TEST_F(GgufLimitsTest, AsManyKeysAsThereMayBe) {
  head(0, 8192);
  for (int i = 0; i < 8192; ++i) {
    text(fmt::format("k{}", i));
    out_.u32(kUint32);
    out_.u32(0);
  }
  EXPECT_EQ(problem(), "none");
}

TEST_F(GgufLimitsTest, Tensors) {
  head(16385, 0);
  EXPECT_THAT(problem(), HasSubstr("16385 tensors; at most 16384"));
}

TEST_F(GgufLimitsTest, NameOfAKey) {
  head(0, 1);
  text(std::string(1025, 'k'));
  EXPECT_THAT(problem(), HasSubstr("a string of 1025 bytes"));
}

TEST_F(GgufLimitsTest, TextOfAKey) {
  head(0, 1);
  text("k");
  out_.u32(kString);
  text(std::string((16U << 20) + 1, 'v'));
  EXPECT_THAT(problem(), HasSubstr("at most 16777216 are accepted"));
}

TEST_F(GgufLimitsTest, EntriesOfAnArray) {
  head(0, 1);
  text("k");
  out_.u32(kArray);
  out_.u32(kUint32);
  out_.u64((1U << 24) + 1);
  EXPECT_THAT(problem(), HasSubstr("has 16777217 entries; at most 16777216"));
}

}  // namespace
}  // namespace celslm
