// penstock lab verify: a recording's decisions once more.
#pragma once

#include <CLI/CLI.hpp>

namespace penstock::app {

// Adds the command; `*status` is its exit status.
void DeclareVerify(CLI::App& app, int* status);

}  // namespace penstock::app
