// The process that runs grammars, for tests that have no celslm: MODEL.
#include "model/constraint/constraint_child.h"

int main(int argc, char** argv) {
  return argc == 2 ? celslm::run_constraint_host(argv[1], celslm::kControlDescriptor) : 2;
}
