// What vLLM does to a chat request's messages and tools before the template sees them.
//
// Contents become one text, or a list of parts where the template loops over it; arguments of tool
// calls become objects; fields that no template gets to see are dropped; the developer role becomes
// the system role for templates that do not know it.
//
// THREADS: any.
// SOURCE: vLLM 0.32: renderers/chat_utils.py, renderers/hf.py,
// entrypoints/openai/chat_completion/protocol.py.
#pragma once

#include <boost/json/fwd.hpp>

#include "core/result.h"
#include "tokens/chat_template.h"

namespace penstock::tokens {

// The messages as the template gets them. Errors: kInvalidArgument, with "messages[3]", for what
// vLLM refuses too; kFailedPrecondition for images, audio and video in a template that takes texts:
// what stands for them in the prompt is known to the model's processor only.
Result<boost::json::array> PrepareMessages(const boost::json::array& messages,
                                           ContentFormat format);
// The same in the format of the template, and with its roles.
Result<boost::json::array> PrepareMessages(const boost::json::array& messages,
                                           const ChatTemplate& chat_template);

// The tools as vLLM's classes write them: known fields in its order, others dropped, description
// and parameters always there.
Result<boost::json::array> PrepareTools(const boost::json::array& tools);

}  // namespace penstock::tokens
