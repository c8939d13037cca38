// A small authority and the certificates that it signs, for nodes that know each other (docs/trust.md).
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

struct x509_st;  // OpenSSL's X509

namespace celslm {

// Both as PEM. The key is a secret.
struct CertificatePair {
  std::string certificate;
  std::string key;
};

inline constexpr std::size_t kMaxCertificateBytes = 64U << 10;  // a chain has a few KB

// What a node is known by.
struct NodeNames {
  std::string name;                    // of the certificate; a host name too, if it can be one
  std::vector<std::string> addresses;  // IPv4 or IPv6, by which others connect to it
  std::vector<std::string> hosts;      // host names by which they do, "*.example" among them
};

// Keys are P-256, signatures ECDSA with SHA-256. Certificates are valid from an hour ago, since clocks differ.
// kInvalid: a name that is empty, longer than 64 bytes or has other characters than letters, digits and " -_.@".
Result<CertificatePair> make_authority(const std::string& name, std::chrono::seconds valid);

// For a node, which is a server to some and a client to others. It ends no later than the authority's certificate.
// kInvalid: a name as above, or an address or host that is none; kMismatch if the authority's key is not its certificate's,
// or that is no authority's.
Result<CertificatePair> make_node_certificate(const CertificatePair& authority, const NodeNames& names,
                                              std::chrono::seconds valid);

struct CertificateFacts {
  std::string name;
  std::string issuer;
  std::vector<std::string> also;  // addresses and host names
  std::chrono::system_clock::time_point begins;
  std::chrono::system_clock::time_point ends;
  bool is_authority = false;
};
// Of the first certificate in a PEM text. kInvalid if there is none. Names are printable().
Result<CertificateFacts> certificate_facts(std::string_view pem);

// The subject's common name, printable(); "unnamed" if there is none.
std::string common_name(const x509_st* certificate);

}  // namespace celslm
