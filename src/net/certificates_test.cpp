#include "net/certificates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace celslm {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr auto kYear = std::chrono::days(365);

TEST(CertificatesTest, ANodeHasItsNamesAndItsAuthority) {
  const auto authority = make_authority("our authority", kYear);
  ASSERT_TRUE(authority) << authority.error().message;
  const auto root = certificate_facts(authority->certificate);
  ASSERT_TRUE(root);
  EXPECT_EQ(root->name, "our authority");
  EXPECT_TRUE(root->is_authority);
  const auto pair =
      make_node_certificate(*authority, {.name = "edge-1", .addresses = {"10.0.0.1", "[::1]"}, .hosts = {"*.example"}}, 24h);
  ASSERT_TRUE(pair) << pair.error().message;
  EXPECT_THAT(pair->key, HasSubstr("PRIVATE KEY"));
  const auto facts = certificate_facts(pair->certificate);
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->name, "edge-1");
  EXPECT_EQ(facts->issuer, "our authority");
  EXPECT_FALSE(facts->is_authority);
  EXPECT_THAT(facts->also, ElementsAre("10.0.0.1", "::1", "*.example", "edge-1"));
  EXPECT_LT(facts->begins, std::chrono::system_clock::now());
  EXPECT_NEAR(std::chrono::duration<double>(facts->ends - std::chrono::system_clock::now()).count(), 86'400, 60);
}

TEST(CertificatesTest, NoneOutlivesItsAuthority) {
  const auto authority = make_authority("short", 1h);
  const auto pair = make_node_certificate(*authority, {.name = "edge-1"}, kYear);
  ASSERT_TRUE(pair) << pair.error().message;
  EXPECT_LE(certificate_facts(pair->certificate)->ends, certificate_facts(authority->certificate)->ends + 1s);
}

TEST(CertificatesTest, RefusesNamesThatCouldBeMoreThanOne) {
  const auto authority = make_authority("a", kYear);
  const auto problem = [&](const NodeNames& names) {
    const auto pair = make_node_certificate(*authority, names, kYear);
    return pair ? "none" : pair.error().message;
  };
  EXPECT_THAT(problem({.name = ""}), HasSubstr("name"));
  EXPECT_THAT(problem({.name = std::string(65, 'n')}), HasSubstr("name"));
  EXPECT_EQ(problem({.name = std::string(64, 'n')}), "none");
  EXPECT_THAT(problem({.name = "a,DNS:b"}), HasSubstr("name"));
  EXPECT_THAT(problem({.name = "a", .addresses = {"10.0.0.1,DNS:evil"}}), HasSubstr("address"));
  EXPECT_THAT(problem({.name = "a", .hosts = {"b,IP:10.0.0.1"}}), HasSubstr("host name"));
}

TEST(CertificatesTest, OnlyAnAuthoritySigns) {
  const auto authority = make_authority("a", kYear);
  const auto other = make_authority("b", kYear);
  const auto node = make_node_certificate(*authority, {.name = "edge-1"}, kYear);
  EXPECT_EQ(make_node_certificate(*node, {.name = "edge-2"}, kYear).error().kind, ErrorKind::kMismatch);
  const CertificatePair mixed{.certificate = authority->certificate, .key = other->key};
  EXPECT_EQ(make_node_certificate(mixed, {.name = "edge-2"}, kYear).error().kind, ErrorKind::kMismatch);
  EXPECT_EQ(make_node_certificate({"no", "pem"}, {.name = "edge-2"}, kYear).error().kind, ErrorKind::kInvalid);
  EXPECT_EQ(certificate_facts("no pem").error().kind, ErrorKind::kInvalid);
}

}  // namespace
}  // namespace celslm
