// How vLLM finds out whether a template takes a message's content as a text or as a list of parts.
//
// THREADS: any.
// SOURCE: vLLM 0.32's renderers/hf.py, --chat-template-content-format auto.
#pragma once

#include "tokens/jinja_ast.h"

namespace penstock::tokens {

// Whether a `for` of the template goes over the content of one of the messages: over
// message.content, over a variable named `content`, or in a macro over a parameter that is given a
// message's content.
bool LoopsOverContent(const jinja::Template& parsed);

}  // namespace penstock::tokens
