// Clouds and stores from before version 2 of the pack format: they may cost time, but never change an answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/file.h"
#include "serve/edge/edge_test_support.h"
#include "serve/edge/fault_test_support.h"

namespace celslm {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::failing;
using testing_support::Fault;
using testing_support::long_text;
using testing_support::only_packs;
using testing_support::PackFault;

// The parameter: whether the model adds a bias to K, which version 1 had in its KV. Without it, the KV is the same bit by
// bit.
class PackVersionTest : public testing_support::EdgeFixture, public testing::WithParamInterface<bool> {
 protected:
  PackVersionTest() : EdgeFixture(GetParam()) {
    put(text_);
    fetch_and_keep(text_, "new");  // and now the cloud has the complete pack
  }

  std::shared_ptr<const SigningKey> cloud_key() const {
    return std::make_shared<const SigningKey>(SigningKey::load_or_create(folder_ / "cloud0" / "signing.key").value());
  }

  // A header or a complete file, as version 1 had it.
  static Bytes downgraded(ByteView bytes, const SigningKey& key) {
    const std::uint64_t length = peek_header_bytes(bytes).value();
    const PackHeader header = parse_header_unverified(bytes.first(length)).value();
    Bytes out = encode_header(version_1(header.identity), header.blocks, key);
    out.insert(out.end(), bytes.begin() + static_cast<std::ptrdiff_t>(length), bytes.end());
    return out;
  }

  PackFault old_cloud() const {
    return only_packs(
        [key = cloud_key()](const HttpCall&, const auto& go_on) -> Result<HttpAnswer> {
          CELSLM_TRY(HttpAnswer answer, go_on());
          if (answer.status == 200) answer.body = downgraded(answer.body, *key);
          return answer;
        },
        "/header");
  }

  // The same while it computes: a preamble, then the entries.
  PackFault old_cloud_computing() const {
    auto pack = std::make_shared<std::optional<PackHeader>>();
    return only_packs([key = cloud_key(), pack](const HttpCall& call, const auto& go_on) -> Result<HttpAnswer> {
      if (call.path.contains("/entries")) {
        const Hash256 id = version_1((**pack).identity).id();
        for (std::uint32_t i = 0; i < (**pack).blocks.size(); ++i)
          call.sink(encode_entry(sign_entry(id, i, (**pack).blocks[i], *key)));
        return HttpAnswer{.status = 200};
      }
      CELSLM_TRY(HttpAnswer answer, go_on());
      if (!call.path.contains("/header")) return answer;
      const std::uint64_t length = peek_header_bytes(answer.body).value();
      *pack = parse_header_unverified(ByteView(answer.body).first(length)).value();
      return HttpAnswer{.status = 202, .body = encode_preamble(version_1((**pack).identity), *key)};
    });
  }

  void expect_answer(const json& answer, const std::string& source) {
    EXPECT_EQ(sources(answer), all(GetParam() ? "native compute" : source));
    EXPECT_EQ(said(answer), said(local_answer(text_)));
  }

  const std::string text_ = long_text();
};

TEST_P(PackVersionTest, FetchedIsComputed) {
  const json answer = ask(*edge(), text_);
  EXPECT_EQ(sources(answer), all("proxy cloud"));
  EXPECT_EQ(said(answer), said(local_answer(text_)));
}

TEST_P(PackVersionTest, AnOldCloudsPackIsUsedWhereItHoldsTheSameBits) {
  const PackFault fault = old_cloud();
  const json answer = ask(*edge(fault), text_);
  expect_answer(answer, "proxy cloud");
  EXPECT_GT(fault.struck(), 0);
  if (GetParam()) {
    EXPECT_THAT(answer["x_celslm"]["note"].get<std::string>(), HasSubstr("a version 1 pack, in which K contains"));
  }
}

TEST_P(PackVersionTest, AnOldCloudsPackIsUsedWhileItIsComputed) {
  const PackFault fault = old_cloud_computing();
  expect_answer(ask(*edge(fault), text_), "proxy cloud");
  EXPECT_GT(fault.struck(), 0);
}

TEST_P(PackVersionTest, APackOnDiskIsUsedWhereItHoldsTheSameBits) {
  for (const PackStore::Listing& kept : store_->list()) {
    const Bytes old = downgraded(read_file(kept.path, 1U << 30).value(), *cloud_key());
    const PackIdentity identity = parse_header_unverified(ByteView(old).first(peek_header_bytes(old).value()))->identity;
    std::filesystem::remove(kept.path);
    ASSERT_TRUE(write_file_atomically(kept.path.parent_path() / (identity.id().hex() + ".kvpack"), old));
  }
  const PackFault dead = failing("no route");
  expect_answer(ask(*edge(dead, {}, "new"), text_), "proxy disk");
}

// Its readers know no other version than 1.
TEST_P(PackVersionTest, AnOldEdgeRefusesANewCloudsPackByVersion) {
  Bytes header;
  const Fault look = only_packs(
      [&](const HttpCall&, const auto& go_on) -> Result<HttpAnswer> {
        CELSLM_TRY(HttpAnswer answer, go_on());
        if (answer.status == 200) header = answer.body;
        return answer;
      },
      "/header");
  ask(*edge(look), text_);
  ASSERT_GT(header.size(), kHeaderPrefixBytes);
  EXPECT_EQ(as_text(ByteView(header).first(10)), std::string_view("CELSLMKV\x02\0", 10));
}

INSTANTIATE_TEST_SUITE_P(Models, PackVersionTest, testing::Bool(),
                         [](const auto& test) { return test.param ? "WithAKeyBias" : "WithoutAKeyBias"; });

}  // namespace
}  // namespace celslm
