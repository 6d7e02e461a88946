// `penstock docs`: the reference that is generated from the declarations, docs/generated/.
#pragma once

#include <string>

#include "core/result.h"

namespace penstock::app {

// Writes configuration.md, configuration.schema.json, metrics.md and plugins.md into `folder`,
// which is made when it is missing. The texts depend on nothing but this program.
Result<> WriteDocs(const std::string& folder);

// Returns the exit status: 0, 1 when the folder cannot be written, 2 for wrong flags.
int RunDocs(int argc, char** argv);

}  // namespace penstock::app
