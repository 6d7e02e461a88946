#include "tokens/chat_template_format.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <vector>

namespace penstock::tokens {
namespace {

using jinja::BodyId;
using jinja::Expr;
using jinja::ExprId;
using jinja::ExprKind;
using jinja::kNoId;
using jinja::NameId;
using jinja::Signature;
using jinja::Statement;
using jinja::StatementKind;
using jinja::Target;
using jinja::Template;

class ContentLoops {
 public:
  explicit ContentLoops(const Template& parsed) : template_(parsed) {
    Collect(parsed.root, nullptr);
    FindMessages();
  }

  bool Any() const {
    return std::ranges::any_of(loops_, [this](const Found& loop) { return IsOverContent(loop); });
  }

 private:
  struct Found {
    const Statement* statement;
    const Signature* macro;  // the innermost one around it
  };

  void Collect(BodyId id, const Signature* macro) {
    if (id == kNoId) return;
    for (const Statement& statement : template_.bodies[id]) {
      const Signature* inner = macro;
      if (statement.kind == StatementKind::kFor) loops_.push_back({&statement, macro});
      if (statement.kind == StatementKind::kSet) sets_.push_back(&statement);
      if (statement.signature != kNoId) {
        const Signature& signature = template_.signatures[statement.signature];
        if (statement.kind == StatementKind::kMacro) inner = &signature;
        Collect(signature.body, inner);
      }
      for (const auto& [test, body] : statement.branches) Collect(body, macro);
      Collect(statement.body, macro);
      Collect(statement.other, macro);
    }
  }

  std::string_view Name(NameId id) const { return template_.names[id]; }
  const Expr& At(ExprId id) const { return template_.exprs[id]; }

  // `name`, or name.key and name['key'] when there is a key; also filtered, tested or sliced.
  bool IsAccess(ExprId id, std::string_view name, std::string_view key = {}) const {
    if (id == kNoId) return false;
    const Expr& expr = At(id);
    switch (expr.kind) {
      case ExprKind::kFilter:
      case ExprKind::kTest:
      case ExprKind::kSlice:
        return IsAccess(expr.a, name, key);
      case ExprKind::kName:
        return key.empty() && expr.text == name;
      case ExprKind::kAttribute:
        return !key.empty() && expr.text == key && IsName(expr.a, name);
      case ExprKind::kItem: {
        const Expr& index = At(expr.b);
        return !key.empty() && index.kind == ExprKind::kConstant && index.constant.is_string() &&
               index.constant.str() == key && IsName(expr.a, name);
      }
      default:
        return false;
    }
  }
  bool IsName(ExprId id, std::string_view name) const {
    return At(id).kind == ExprKind::kName && At(id).text == name;
  }

  // The variables that hold the messages, and those that loops put one of them into.
  void FindMessages() {
    std::vector<std::string_view> lists = {"messages"};
    std::set<std::string_view> known = {"messages"};
    for (size_t i = 0; i < lists.size(); ++i) {
      for (const Statement* set : sets_) {
        if (set->target.form != Target::Form::kName || !IsAccess(set->expr, lists[i])) continue;
        const std::string_view name = Name(set->target.name);
        if (known.insert(name).second) lists.push_back(name);
      }
    }
    for (const Found& loop : loops_) {
      if (loop.statement->target.form != Target::Form::kName) continue;
      for (const std::string_view list : lists) {
        if (!IsAccess(loop.statement->expr, list)) continue;
        messages_.push_back(Name(loop.statement->target.name));
        break;
      }
    }
  }

  bool IsContent(ExprId id) const {
    return std::ranges::any_of(
        messages_, [&](std::string_view message) { return IsAccess(id, message, "content"); });
  }

  bool IsOverContent(const Found& loop) const {
    if (IsContent(loop.statement->expr)) return true;
    const Expr& iterated = At(loop.statement->expr);
    if (iterated.kind != ExprKind::kName) return false;
    if (loop.macro == nullptr) return iterated.text == "content";
    return TakesContent(*loop.macro, iterated.text);
  }

  // Whether a call gives the macro's parameter a message's content.
  bool TakesContent(const Signature& macro, std::string_view parameter) const {
    for (const Expr& call : template_.exprs) {
      if (call.kind != ExprKind::kCall || !IsName(call.a, macro.name)) continue;
      size_t position = 0;
      for (const jinja::Argument& argument : call.arguments) {
        std::string_view name = argument.name;
        if (argument.form == jinja::Argument::Form::kPositional) {
          if (position >= macro.parameters.size()) break;
          name = macro.parameters[position++].text;
        }
        if (name == parameter && IsContent(argument.value)) return true;
      }
    }
    return false;
  }

  const Template& template_;
  std::vector<Found> loops_;
  std::vector<const Statement*> sets_;
  std::vector<std::string_view> messages_;
};

}  // namespace

bool LoopsOverContent(const Template& parsed) { return ContentLoops(parsed).Any(); }

}  // namespace penstock::tokens
