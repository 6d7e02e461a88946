#include "app/markdown.h"

#include <fmt/format.h>

#include <algorithm>

namespace penstock::app {
namespace {

// Inside a table a pipe ends the cell even within code, unless it is escaped.
std::string EscapePipes(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

std::string Line(const std::vector<std::string>& cells, const std::vector<bool>& is_shown) {
  std::string out = "|";
  for (size_t i = 0; i < cells.size(); ++i) {
    if (is_shown[i]) out += fmt::format(" {}{}|", cells[i], cells[i].empty() ? "" : " ");
  }
  return out + "\n";
}

}  // namespace

std::string Prose(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '\n') {
      out += ' ';
    } else {
      if (std::string_view("\\|*").find(c) != std::string_view::npos) out += '\\';
      out += c;
    }
  }
  return out;
}

std::string Code(std::string_view text) {
  if (text.empty()) return "";
  const std::string_view fence = text.find('`') == std::string_view::npos ? "`" : "``";
  const std::string_view space = text.front() == '`' || text.back() == '`' ? " " : "";
  return fmt::format("{0}{1}{2}{1}{0}", fence, space, EscapePipes(text));
}

std::string Table(const std::vector<std::string>& titles,
                  const std::vector<std::vector<std::string>>& rows) {
  std::vector<bool> is_shown(titles.size());
  for (size_t i = 0; i < titles.size(); ++i) {
    is_shown[i] = std::any_of(rows.begin(), rows.end(),
                              [i](const auto& row) { return i < row.size() && !row[i].empty(); });
  }
  std::string out = Line(titles, is_shown) + "|";
  for (const bool shown : is_shown) out += shown ? "---|" : "";
  out += '\n';
  for (const auto& row : rows) out += Line(row, is_shown);
  return out;
}

std::string Block(std::string_view language, std::string_view text) {
  return fmt::format("```{}\n{}{}```\n", language, text, text.ends_with('\n') ? "" : "\n");
}

}  // namespace penstock::app
