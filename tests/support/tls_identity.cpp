#include "tests/support/tls_identity.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdio>

namespace celslm::testing_support {
namespace {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

bool add_extension(X509* certificate, int id, const char* value) {
  const std::unique_ptr<X509_EXTENSION, decltype(&X509_EXTENSION_free)> extension(
      X509V3_EXT_conf_nid(nullptr, nullptr, id, value), &X509_EXTENSION_free);
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

Certificate self_signed(EVP_PKEY* key) {
  Certificate out(X509_new(), &X509_free);
  if (!out) return out;
  X509_set_version(out.get(), X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(out.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(out.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(out.get()), 24L * 3600);
  X509_set_pubkey(out.get(), key);
  X509_NAME* name = X509_NAME_new();
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
  X509_set_subject_name(out.get(), name);
  X509_set_issuer_name(out.get(), name);
  X509_NAME_free(name);
  const bool good = add_extension(out.get(), NID_subject_alt_name, "IP:127.0.0.1,DNS:localhost") &&
                    add_extension(out.get(), NID_basic_constraints, "critical,CA:TRUE") &&
                    X509_sign(out.get(), key, EVP_sha256()) != 0;
  if (!good) out.reset();
  return out;
}

}  // namespace

std::unique_ptr<TlsIdentity> TlsIdentity::create(const std::filesystem::path& folder) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  std::unique_ptr<TlsIdentity> out(new TlsIdentity(folder));
  const Key key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
  const Certificate certificate = key ? self_signed(key.get()) : Certificate(nullptr, &X509_free);
  if (!certificate) return nullptr;
  const File certificate_out(std::fopen(out->certificate_file().c_str(), "w"));
  const File key_out(std::fopen(out->key_file().c_str(), "w"));
  if (!certificate_out || !key_out) return nullptr;
  if (PEM_write_X509(certificate_out.get(), certificate.get()) != 1) return nullptr;
  if (PEM_write_PrivateKey(key_out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) return nullptr;
  return out;
}

TlsIdentity::~TlsIdentity() {
  std::error_code code;
  std::filesystem::remove_all(folder_, code);
}

}  // namespace celslm::testing_support
