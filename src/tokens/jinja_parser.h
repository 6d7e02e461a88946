// Tokens to the tree of a template.
//
// THREADS: any.
// SOURCE: Jinja 3.1's grammar with the loopcontrols extension and the `generation` tag of
// transformers.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "core/result.h"
#include "tokens/jinja_ast.h"

namespace penstock::tokens::jinja {

// A larger source is refused.
constexpr size_t kMaxSourceBytes = 256 << 10;

// Errors begin with the line: "line 3: ...". `include`, `import`, `from`, `extends`, `block` and
// `autoescape` are refused by name: a chat template stands alone.
Result<std::shared_ptr<const Template>> Parse(std::string_view source);

}  // namespace penstock::tokens::jinja
