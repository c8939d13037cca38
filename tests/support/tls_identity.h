// A self-signed certificate for 127.0.0.1 and localhost, generated for each test.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace celslm::testing_support {

class TlsIdentity {
 public:
  // Creates `folder` with two PEM files; the destructor removes it. Null on failure.
  static std::unique_ptr<TlsIdentity> create(const std::filesystem::path& folder);
  ~TlsIdentity();
  TlsIdentity(const TlsIdentity&) = delete;
  TlsIdentity& operator=(const TlsIdentity&) = delete;

  std::string certificate_file() const { return (folder_ / "certificate.pem").string(); }
  std::string key_file() const { return (folder_ / "key.pem").string(); }

 private:
  explicit TlsIdentity(std::filesystem::path folder) : folder_(std::move(folder)) {}
  std::filesystem::path folder_;
};

}  // namespace celslm::testing_support
