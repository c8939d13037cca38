// A folder that ends with the test.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

namespace celslm::testing_support {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    // By its process number it would not be unique: processes in other namespaces share the folder for temporary files.
    std::string name = std::filesystem::temp_directory_path() / "celslm-test-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make a temporary folder: " + name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

  // Writes a file that is its owner's alone; its path.
  std::string write(const std::string& name, std::string_view content) const {
    using std::filesystem::perms;
    std::ofstream(path_ / name) << content;
    std::filesystem::permissions(path_ / name, perms::owner_read | perms::owner_write);
    return (path_ / name).string();
  }
  std::string read(const std::string& name) const {
    std::ifstream in(path_ / name);
    return {std::istreambuf_iterator<char>(in), {}};
  }

 private:
  std::filesystem::path path_;
};

}  // namespace celslm::testing_support
