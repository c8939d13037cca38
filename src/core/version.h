// Which program this is.
#pragma once

#include <string_view>

namespace celslm {

// As `celslm --version` prints it: "0.1.0".
std::string_view program_version();

}  // namespace celslm
