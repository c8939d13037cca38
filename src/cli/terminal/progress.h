// How far something is, for a person who watches.
#pragma once

#include <ostream>
#include <string>

namespace celslm {

// One line on a terminal that changes per cent by per cent; elsewhere a line each quarter: enough to see that it lives,
// little enough for a log. One thread.
class Progress {
 public:
  // what: "loading small.gguf"
  Progress(std::ostream& err, std::string what);
  void show(double part, const std::string& detail = {});  // part: 0 to 1
  void end();                                              // makes room for what is said next

 private:
  std::ostream& err_;
  const std::string what_;
  const bool terminal_;
  int shown_ = -1;
};

}  // namespace celslm
