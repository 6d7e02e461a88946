// `penstock tokenize`: what a text's tokens are, as the router sees them.
#pragma once

namespace penstock::app {

// Returns the exit status: 0, 1 when the tokenizer or the input cannot be read, 2 for wrong flags.
int RunTokenize(int argc, char** argv);

}  // namespace penstock::app
