// `penstock lab`: policies and engines in virtual time.
#pragma once

namespace penstock::app {

int RunLab(int argc, char** argv);

}  // namespace penstock::app
