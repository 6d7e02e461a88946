// `penstock traffic`: realistic chat traffic against a gateway on this machine.
#pragma once

namespace penstock::app {

// Returns the exit status: 0 when requests were answered, 1 when not one was (no gateway, no
// model), 2 for wrong flags.
int RunTraffic(int argc, char** argv);

}  // namespace penstock::app
