#include "net/certificates.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <ctime>
#include <memory>

#include "core/printable.h"
#include "net/address.h"

namespace celslm {
namespace {

template <auto free_it>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    free_it(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using Bio = std::unique_ptr<BIO, Free<BIO_free_all>>;
using Name = std::unique_ptr<X509_NAME, Free<X509_NAME_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION_free>>;
using Number = std::unique_ptr<BIGNUM, Free<BN_free>>;

constexpr std::size_t kMaxNameBytes = 64;  // ub-common-name of RFC 5280
constexpr int kSerialBits = 127;
constexpr long kSkewSeconds = 3600;

std::unexpected<Error> openssl_failed(const char* doing) {
  std::array<char, 256> text{};
  ERR_error_string_n(ERR_get_error(), text.data(), text.size());
  ERR_clear_error();
  return fail(ErrorKind::kInternal, "OpenSSL cannot {}: {}", doing, text.data());
}

Status check_name(const std::string& name) {
  const bool plain = std::ranges::all_of(name, [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view(" -_.@").contains(static_cast<char>(c));
  });
  if (plain && !name.empty() && name.size() <= kMaxNameBytes) return {};
  return fail(ErrorKind::kInvalid, "'{}' cannot be a name in a certificate: expected 1 to {} letters, digits and \" -_.@\"",
              printable(name), kMaxNameBytes);
}

bool is_host(std::string_view host) {
  if (host.starts_with("*.")) host.remove_prefix(2);
  constexpr std::size_t kMaxHostBytes = 253;
  return !host.empty() && host.size() <= kMaxHostBytes &&
         std::ranges::all_of(host, [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '.'; });
}

// "IP:10.0.0.1,DNS:cloud": neither part can have a comma.
Result<std::string> alternative_names(const NodeNames& names) {
  std::string out;
  const auto add = [&](const char* kind, std::string_view name) {
    out += (out.empty() ? "" : ",") + std::string(kind) + std::string(name);
  };
  for (const std::string& address : names.addresses) {
    if (!is_address(address)) return fail(ErrorKind::kInvalid, "'{}' is no IPv4 or IPv6 address", printable(address));
    add("IP:", unbracketed(address));
  }
  for (const std::string& host : names.hosts) {
    if (!is_host(host)) return fail(ErrorKind::kInvalid, "'{}' is no host name", printable(host));
    add("DNS:", host);
  }
  if (is_host(names.name) && !std::ranges::contains(names.hosts, names.name)) add("DNS:", names.name);
  return out;
}

Result<std::string> text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  if (size <= 0) return openssl_failed("write PEM");
  return std::string(data, static_cast<std::size_t>(size));
}

Result<CertificatePair> pair_of(X509* certificate, EVP_PKEY* key) {
  const Bio certificate_out(BIO_new(BIO_s_mem()));
  const Bio key_out(BIO_new(BIO_s_secmem()));
  if (!certificate_out || !key_out || PEM_write_bio_X509(certificate_out.get(), certificate) != 1 ||
      PEM_write_bio_PrivateKey(key_out.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1)
    return openssl_failed("write PEM");
  CertificatePair out;
  CELSLM_TRY(out.certificate, text_of(certificate_out.get()));
  CELSLM_TRY(out.key, text_of(key_out.get()));
  return out;
}

Bio reader_of(std::string_view text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(std::min<std::size_t>(text.size(), kMaxCertificateBytes))));
}

Certificate certificate_from(std::string_view pem) {
  const Bio bio = reader_of(pem);
  Certificate out(bio ? PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr) : nullptr);
  ERR_clear_error();
  return out;
}

// No passphrase is asked for on a terminal.
int no_passphrase(char*, int, int, void*) {
  return -1;
}

Key key_from(std::string_view pem) {
  const Bio bio = reader_of(pem);
  Key out(bio ? PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr) : nullptr);
  ERR_clear_error();
  return out;
}

bool set_name(X509* certificate, const std::string& name) {
  const Name out(X509_NAME_new());
  return out &&
         X509_NAME_add_entry_by_txt(out.get(), "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(name.data()),
                                    static_cast<int>(name.size()), -1, 0) == 1 &&
         X509_set_subject_name(certificate, out.get()) == 1;
}

bool set_serial(X509* certificate) {
  const Number number(BN_new());
  return number && BN_rand(number.get(), kSerialBits, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool add_extension(X509* certificate, X509* issuer, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str()));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

// Not signed yet.
Result<Certificate> begin_certificate(EVP_PKEY* key, const std::string& name, std::chrono::seconds valid) {
  Certificate out(X509_new());
  const bool good = out && X509_set_version(out.get(), X509_VERSION_3) == 1 && set_serial(out.get()) &&
                    X509_gmtime_adj(X509_getm_notBefore(out.get()), -kSkewSeconds) != nullptr &&
                    X509_gmtime_adj(X509_getm_notAfter(out.get()), static_cast<long>(valid.count())) != nullptr &&
                    X509_set_pubkey(out.get(), key) == 1 && set_name(out.get(), name);
  if (!good) return openssl_failed("make a certificate");
  return out;
}

std::chrono::system_clock::time_point time_of(const ASN1_TIME* time) {
  std::tm utc{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &utc) != 1) return {};
  return std::chrono::system_clock::from_time_t(::timegm(&utc));
}

std::string text_of(const ASN1_STRING* string) {
  unsigned char* text = nullptr;
  const int size = ASN1_STRING_to_UTF8(&text, string);
  if (size < 0) return "";
  std::string out(reinterpret_cast<char*>(text), static_cast<std::size_t>(size));
  OPENSSL_free(text);
  return out;
}

std::string common_name_of(const X509_NAME* name) {
  const int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
  const std::string text = at < 0 ? "" : text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
  return text.empty() ? "unnamed" : printable(text);
}

std::string address_of(const ASN1_OCTET_STRING* bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = ASN1_STRING_length(bytes) == 4 ? AF_INET : AF_INET6;
  if (family == AF_INET6 && ASN1_STRING_length(bytes) != 16) return "?";
  return ::inet_ntop(family, ASN1_STRING_get0_data(bytes), text.data(), text.size()) == nullptr ? "?" : text.data();
}

std::vector<std::string> alternative_names_of(const X509* certificate) {
  std::vector<std::string> out;
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names); ++i) {
    int kind = 0;
    const void* value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &kind);
    if (kind == GEN_DNS) out.push_back(printable(text_of(static_cast<const ASN1_STRING*>(value))));
    if (kind == GEN_IPADD) out.push_back(address_of(static_cast<const ASN1_OCTET_STRING*>(value)));
  }
  GENERAL_NAMES_free(names);
  return out;
}

}  // namespace

std::string common_name(const X509* certificate) {
  return common_name_of(X509_get_subject_name(certificate));
}

Result<CertificatePair> make_authority(const std::string& name, std::chrono::seconds valid) {
  CELSLM_CHECK_OK(check_name(name));
  const Key key(EVP_EC_gen("P-256"));
  if (!key) return openssl_failed("make a key");
  CELSLM_TRY(const Certificate out, begin_certificate(key.get(), name, valid));
  const bool good = X509_set_issuer_name(out.get(), X509_get_subject_name(out.get())) == 1 &&
                    add_extension(out.get(), out.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                    add_extension(out.get(), out.get(), NID_key_usage, "critical,keyCertSign,cRLSign") &&
                    add_extension(out.get(), out.get(), NID_subject_key_identifier, "hash") &&
                    X509_sign(out.get(), key.get(), EVP_sha256()) > 0;
  if (!good) return openssl_failed("sign the authority's certificate");
  return pair_of(out.get(), key.get());
}

Result<CertificatePair> make_node_certificate(const CertificatePair& authority, const NodeNames& names,
                                              std::chrono::seconds valid) {
  CELSLM_CHECK_OK(check_name(names.name));
  CELSLM_TRY(const std::string also, alternative_names(names));
  const Certificate issuer = certificate_from(authority.certificate);
  const Key issuer_key = key_from(authority.key);
  if (!issuer || !issuer_key) return fail(ErrorKind::kInvalid, "the authority's certificate or key is no PEM");
  if (X509_check_ca(issuer.get()) == 0) return fail(ErrorKind::kMismatch, "the certificate is not an authority's");
  if (X509_check_private_key(issuer.get(), issuer_key.get()) != 1)
    return fail(ErrorKind::kMismatch, "the authority's key does not belong to its certificate");
  const auto left =
      std::chrono::floor<std::chrono::seconds>(time_of(X509_get0_notAfter(issuer.get())) - std::chrono::system_clock::now());
  const Key key(EVP_EC_gen("P-256"));
  if (!key) return openssl_failed("make a key");
  CELSLM_TRY(const Certificate out, begin_certificate(key.get(), names.name, std::min(valid, left)));
  const bool good = X509_set_issuer_name(out.get(), X509_get_subject_name(issuer.get())) == 1 &&
                    add_extension(out.get(), issuer.get(), NID_basic_constraints, "critical,CA:FALSE") &&
                    add_extension(out.get(), issuer.get(), NID_key_usage, "critical,digitalSignature") &&
                    add_extension(out.get(), issuer.get(), NID_ext_key_usage, "serverAuth,clientAuth") &&
                    add_extension(out.get(), issuer.get(), NID_subject_key_identifier, "hash") &&
                    add_extension(out.get(), issuer.get(), NID_authority_key_identifier, "keyid:always") &&
                    (also.empty() || add_extension(out.get(), issuer.get(), NID_subject_alt_name, also)) &&
                    X509_sign(out.get(), issuer_key.get(), EVP_sha256()) > 0;
  if (!good) return openssl_failed("sign the certificate");
  return pair_of(out.get(), key.get());
}

Result<CertificateFacts> certificate_facts(std::string_view pem) {
  const Certificate certificate = certificate_from(pem);
  if (!certificate) return fail(ErrorKind::kInvalid, "no PEM certificate");
  return CertificateFacts{.name = common_name(certificate.get()),
                          .issuer = common_name_of(X509_get_issuer_name(certificate.get())),
                          .also = alternative_names_of(certificate.get()),
                          .begins = time_of(X509_get0_notBefore(certificate.get())),
                          .ends = time_of(X509_get0_notAfter(certificate.get())),
                          .is_authority = X509_check_ca(certificate.get()) != 0};
}

}  // namespace celslm
