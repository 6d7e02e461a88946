// `penstock demo`: a gateway, simulated engines, traffic and the live page in one process.
#pragma once

namespace penstock::app {

// Returns the exit status: 0 after Ctrl-C, SIGTERM or the duration, 1 when it cannot start, 2 for
// wrong flags.
int RunDemo(int argc, char** argv);

}  // namespace penstock::app
