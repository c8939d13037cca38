// Reads questions and answers out of what a model wrote, whatever it wrote.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace celslm {

struct QaPair {
  std::string question;
  std::string answer;
};

// The pairs of "Q: ..." and "A: ..." in a reply, each on a line; numbers ("Q1:", "2. Q:"), emphasis ("**Q:**") and the words
// "Question" and "Answer" are accepted. A question without an answer, an answer without a question and all other lines are
// passed over. complete: whether the reply ended; of one that was cut off, the last line is not used.
// Questions of 8 to 300 bytes and answers of 1 to 200, in UTF-8 and without control characters; others are passed over.
// At most `limit` pairs.
std::vector<QaPair> parse_pairs(std::string_view reply, bool complete, std::size_t limit);

}  // namespace celslm
