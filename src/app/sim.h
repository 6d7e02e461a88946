// `penstock sim`: simulated engines that speak vLLM's HTTP API.
#pragma once

namespace penstock::app {

// Returns the exit status: 0 after SIGTERM or SIGINT, 1 when it cannot start, 2 for wrong flags.
int RunSim(int argc, char** argv);

}  // namespace penstock::app
