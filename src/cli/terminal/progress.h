// Progress of a long operation, shown to a person.
#pragma once

#include <ostream>
#include <string>

namespace celslm {

// On a terminal one line that changes with every per cent; elsewhere a line per quarter: enough to see that it runs, little
// enough for a log. Used by one thread.
class Progress {
 public:
  // what: "loading small.gguf"
  Progress(std::ostream& err, std::string what);
  void show(double part, const std::string& detail = {});  // part: 0 to 1
  void end();                                              // clears the line on a terminal

 private:
  std::ostream& err_;
  const std::string what_;
  const bool terminal_;
  int shown_ = -1;
};

}  // namespace celslm
