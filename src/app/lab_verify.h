// penstock lab verify: a recording's decisions once more.
#pragma once

namespace CLI {
class App;
}

namespace penstock::app {

// Adds the command; `*status` is its exit status.
void DeclareVerify(CLI::App& app, int* status);

}  // namespace penstock::app
