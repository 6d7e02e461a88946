// What the generated pages are made of. Text goes in as plain text and comes out as Markdown that
// shows exactly that.
//
// THREADS: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace penstock::app {

// Text for a paragraph or a cell: pipes, angle brackets, backslashes and stars stand for
// themselves, line breaks become spaces. Backticks mark code, as they do in the texts of fields.
std::string Prose(std::string_view text);
// `text` as code; "" gives "".
std::string Code(std::string_view text);

// Rows of finished cells (Prose or Code). A column that has nothing in any row is left out.
std::string Table(const std::vector<std::string>& titles,
                  const std::vector<std::vector<std::string>>& rows);

// A fenced block.
std::string Block(std::string_view language, std::string_view text);

}  // namespace penstock::app
