#include "core/version.h"

namespace celslm {

std::string_view program_version() {
  return CELSLM_VERSION;
}

}  // namespace celslm
