// `penstock epp`: the endpoint picker behind Envoy.
#pragma once

namespace penstock::app {

// Until SIGTERM or SIGINT. Returns the process's exit status.
int RunEpp(int argc, char** argv);

}  // namespace penstock::app
