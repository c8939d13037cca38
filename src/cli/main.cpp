#include <csignal>

#include "cli/commands.h"
#include "cli/terminal/lost_pages.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a client that hangs up is an error of one write, not the end of the process
  celslm::end_clearly_where_a_mapped_file_is_lost();
  celslm::SignalWatch signals;
  const celslm::SystemClock clock;
  celslm::Environment env = celslm::environment_of_process(signals, clock);
  return celslm::run_command_line(argc, argv, env);
}
