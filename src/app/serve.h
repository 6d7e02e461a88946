// `penstock serve`: the gateway.
#pragma once

#include "app/gateway.h"

namespace penstock::app {

// Returns the exit status: 0 after SIGTERM or SIGINT, 1 when it cannot start, 2 for wrong flags.
int RunServe(int argc, char** argv);

}  // namespace penstock::app
