// What a user wrote, in every form in which it would be recognised among the bytes that an edge sends.
#pragma once

#include <random>
#include <string>
#include <string_view>
#include <vector>

namespace celslm {

// 16 letters that are no hexadecimal digits, so that neither a mark nor half of one occurs by chance in a hash.
std::string random_mark(std::mt19937_64& random);

// Not thread-safe.
class Secrets {
 public:
  // A mark: looked for as it is, in any case, reversed, its halves, and encoded (hex, base64 at every alignment, percent
  // escapes, JSON escapes); and by its hashes.
  void add_mark(const std::string& name, std::string_view mark);
  // A longer text: looked for by its hashes (BLAKE3, BLAKE2b-256, SHA-256, SHA-512; raw, hex and base64; of hex digits the
  // first 12 are enough).
  void add_text(const std::string& name, std::string_view text);

  // What of it occurs in `sent`: "the mark of the prompt, in base64". Each form once.
  std::vector<std::string> found_in(std::string_view sent) const;

 private:
  struct Form {
    std::string what;
    std::string bytes;
    bool any_case = false;  // `bytes` are in lower case
  };
  void add(const std::string& what, std::string bytes, bool any_case = false);
  std::vector<Form> forms_;
};

}  // namespace celslm
