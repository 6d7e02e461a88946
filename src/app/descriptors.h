// The process's limit of open files, which is what connections run out of first.
#pragma once

#include <cstddef>
#include <cstdint>

namespace penstock::app {

// Raises the limit as far as the system lets this process, and returns it.
uint64_t RaiseDescriptorLimit();

// How many client connections each of `loops` loops may have, so that each of them can have a
// connection to an engine and a fifth of `limit` stays for scraping, the admin port and files. A
// client too many is told so; an engine that cannot be reached for want of a descriptor looks dead.
size_t ConnectionsPerLoop(uint64_t limit, size_t loops, size_t wanted);

}  // namespace penstock::app
