// `penstock check`: reads a configuration, explains it, finds mistakes and traps, converts llm-d's.
#pragma once

namespace penstock::app {

// Returns the exit status: 0, 1 when the configuration has errors, 2 for wrong flags.
int RunCheck(int argc, char** argv);

}  // namespace penstock::app
