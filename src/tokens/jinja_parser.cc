#include "tokens/jinja_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/text.h"
#include "tokens/jinja_expression_parser.h"
#include "tokens/jinja_lexer.h"
#include "wire/json.h"

namespace penstock::tokens::jinja {
namespace {

constexpr std::string_view kStatements[] = {"break", "call",       "continue", "filter",
                                            "for",   "generation", "if",       "macro",
                                            "print", "set",        "with"};
constexpr std::string_view kRefused[] = {"include", "import", "from",
                                         "extends", "block",  "autoescape"};

class Parser : private ExpressionParser {
 public:
  explicit Parser(std::vector<Token> tokens) : ExpressionParser(std::move(tokens)) {}

  Result<std::shared_ptr<const Template>> Run() {
    out_->root = Body({});
    if (!failed_ && !Is(TokenKind::kEnd)) Fail(fmt::format("unexpected {}", Describe(Now())));
    if (failed_) return std::unexpected(error_);
    return out_;
  }

 private:
  // --- statements

  // Everything up to a block that begins with one of `ends`, whose name is the next token then.
  BodyId Body(Names ends) {
    const Nested nested(this);
    std::vector<Statement> out;
    while (!failed_ && !Is(TokenKind::kEnd)) {
      const uint32_t line = Now().line;
      if (Is(TokenKind::kText)) {
        Statement statement{StatementKind::kText, line};
        statement.text = Keep(Now().text);
        out.push_back(std::move(statement));
        Skip();
      } else if (Is(TokenKind::kVariableBegin)) {
        Skip();
        Statement statement{StatementKind::kPrint, line};
        statement.expr = Tuple(Choice::kAllowed, {}, Empty::kRefused);
        Expect(TokenKind::kVariableEnd, "'}}'");
        out.push_back(std::move(statement));
      } else {
        Expect(TokenKind::kBlockBegin, "'{%'");
        if (IsAnyName(ends)) break;
        Block(&out);
        Expect(TokenKind::kBlockEnd, "'%}'");
      }
    }
    if (!failed_ && ends.size() != 0 && Is(TokenKind::kEnd)) {
      Fail(fmt::format("unexpected end of template; looking for '{}'", fmt::join(ends, "' or '")));
    }
    out_->bodies.push_back(std::move(out));
    return static_cast<BodyId>(out_->bodies.size() - 1);
  }

  // The rest of an opening tag, then Body().
  BodyId BodyAfterTag(Names ends) {
    SkipOp(":");
    Expect(TokenKind::kBlockEnd, "'%}'");
    return Body(ends);
  }
  BodyId BodyUntil(std::string_view end) {
    const BodyId out = BodyAfterTag({end});
    ExpectName(end);
    return out;
  }

  void Block(std::vector<Statement>* out) {
    if (!Is(TokenKind::kName)) return Fail("tag name expected");
    const uint32_t line = Now().line;
    const std::string name = Now().text;
    Skip();
    Statement statement{StatementKind::kText, line};
    if (name == "if") {
      If(&statement);
    } else if (name == "for") {
      For(&statement);
    } else if (name == "set") {
      Set(&statement);
    } else if (name == "print") {
      return Print(out, line);
    } else if (name == "macro") {
      statement.kind = StatementKind::kMacro;
      const std::string_view macro = TakeName();
      statement.signature = MacroSignature(macro, Head::kRequired);
      statement.target.name = Intern(macro);
      MacroBody(statement.signature, "endmacro");
    } else if (name == "call") {
      CallBlock(&statement);
    } else if (name == "with") {
      With(&statement);
    } else if (name == "filter") {
      statement.kind = StatementKind::kFilterBlock;
      statement.expr = FilterNamed(Make(ExprKind::kPlaceholder, line));
      while (IsOp("|")) statement.expr = Filter(statement.expr);
      statement.body = BodyUntil("endfilter");
    } else if (name == "generation") {
      statement.kind = StatementKind::kScope;
      out_->has_generation = true;
      const size_t loops = std::exchange(loops_, 0);
      statement.body = BodyUntil("endgeneration");
      loops_ = loops;
    } else if (name == "break" || name == "continue") {
      if (loops_ == 0) return FailAt(line, fmt::format("'{}' outside a loop", name));
      statement.kind = name == "break" ? StatementKind::kBreak : StatementKind::kContinue;
    } else {
      return UnknownTag(line, name);
    }
    out->push_back(std::move(statement));
  }

  void UnknownTag(uint32_t line, std::string_view name) {
    if (std::ranges::find(kRefused, name) != std::end(kRefused)) {
      return FailAt(line, fmt::format("the tag '{}' is not supported in chat templates", name));
    }
    if (name.starts_with("end") || name == "else" || name == "elif") {
      return FailAt(line, fmt::format("the tag '{}' has nothing to end or continue here", name));
    }
    FailAt(line,
           fmt::format("encountered unknown tag '{}'{}", name, DidYouMean(name, kStatements)));
  }

  void If(Statement* statement) {
    statement->kind = StatementKind::kIf;
    while (!failed_) {
      const ExprId test = Tuple(Choice::kRefused, {}, Empty::kRefused);
      statement->branches.emplace_back(test, BodyAfterTag({"elif", "else", "endif"}));
      if (SkipName("elif")) continue;
      if (SkipName("else")) {
        statement->body = BodyUntil("endif");
      } else {
        ExpectName("endif");
      }
      break;
    }
  }

  void For(Statement* statement) {
    statement->kind = StatementKind::kFor;
    statement->target = AssignTarget({"in"}, Attributes::kRefused);
    if (NamesLoop(statement->target)) Fail("cannot assign to the special variable 'loop'");
    ExpectName("in");
    statement->expr = Tuple(Choice::kRefused, {"recursive"}, Empty::kRefused);
    if (SkipName("if")) statement->test = Expression();
    if (IsName("recursive")) Fail("recursive loops are not supported");
    const bool named_loop = std::exchange(names_loop_, false);
    ++loops_;
    statement->body = BodyAfterTag({"endfor", "else"});
    --loops_;
    statement->uses_loop = names_loop_;
    names_loop_ |= named_loop;
    if (SkipName("else")) {
      statement->other = BodyUntil("endfor");
    } else {
      ExpectName("endfor");
    }
  }

  bool NamesLoop(const Target& target) const {
    if (target.form == Target::Form::kTuple) {
      return std::ranges::any_of(target.parts, [this](const Target& t) { return NamesLoop(t); });
    }
    return target.name != kNoId && out_->names[target.name] == "loop";
  }

  enum class Attributes { kAllowed, kRefused };
  Target AssignTarget(Names ends, Attributes attributes) {
    Target out;
    out.form = Target::Form::kTuple;
    bool is_tuple = false;
    while (!failed_) {
      if (!out.parts.empty()) ExpectOp(",");
      if (IsTupleEnd(ends) || IsOp("=")) break;
      out.parts.push_back(OneTarget(attributes));
      if (!IsOp(",")) break;
      is_tuple = true;
    }
    if (out.parts.empty()) Fail(fmt::format("expected a name, got {}", Describe(Now())));
    if (!is_tuple && !failed_) return Target(out.parts[0]);
    return out;
  }

  Target OneTarget(Attributes attributes) {
    const Nested nested(this);
    if (!failed_ && SkipOp("(")) {
      Target out = AssignTarget({}, attributes);
      ExpectOp(")");
      return out;
    }
    Target out;
    const std::string_view name = TakeName();
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
      if (name == constant) Fail(fmt::format("cannot assign to '{}'", name));
    }
    out.name = Intern(name);
    if (attributes == Attributes::kAllowed && SkipOp(".")) {
      out.form = Target::Form::kAttribute;
      out.attribute = TakeName();
    }
    return out;
  }

  void Set(Statement* statement) {
    statement->target = AssignTarget({}, Attributes::kAllowed);
    if (SkipOp("=")) {
      statement->kind = StatementKind::kSet;
      statement->expr = Tuple(Choice::kAllowed, {}, Empty::kRefused);
      return;
    }
    statement->kind = StatementKind::kSetBlock;
    if (IsOp("|")) statement->expr = Make(ExprKind::kPlaceholder, statement->line);
    while (IsOp("|")) statement->expr = Filter(statement->expr);
    statement->body = BodyUntil("endset");
  }

  void Print(std::vector<Statement>* out, uint32_t line) {
    while (!failed_ && !Is(TokenKind::kBlockEnd)) {
      Statement statement{StatementKind::kPrint, line};
      statement.expr = Expression();
      out->push_back(std::move(statement));
      if (!Is(TokenKind::kBlockEnd)) ExpectOp(",");
    }
  }

  void With(Statement* statement) {
    statement->kind = StatementKind::kWith;
    while (!failed_ && !Is(TokenKind::kBlockEnd)) {
      if (!statement->assignments.empty()) ExpectOp(",");
      Target target = AssignTarget({}, Attributes::kRefused);
      ExpectOp("=");
      statement->assignments.emplace_back(std::move(target), Expression());
    }
    statement->body = BodyUntil("endwith");
  }

  enum class Head { kRequired, kOptional };
  uint32_t MacroSignature(std::string_view name, Head head) {
    Signature out;
    out.name = name;
    if (head == Head::kRequired || IsOp("(")) {
      ExpectOp("(");
      bool has_fallback = false;
      while (!failed_ && !IsOp(")")) {
        if (!out.parameters.empty()) ExpectOp(",");
        Parameter parameter;
        parameter.text = TakeName();
        parameter.name = Intern(parameter.text);
        if (SkipOp("=")) {
          parameter.fallback = Expression();
          has_fallback = true;
        } else if (has_fallback) {
          Fail("a parameter without a default follows one that has a default");
        }
        out.parameters.push_back(parameter);
      }
      ExpectOp(")");
    }
    out_->signatures.push_back(std::move(out));
    return static_cast<uint32_t>(out_->signatures.size() - 1);
  }

  void MacroBody(uint32_t id, std::string_view end) {
    Signature uses;
    macros_.push_back(&uses);
    const size_t loops = std::exchange(loops_, 0);
    const BodyId body = BodyUntil(end);
    loops_ = loops;
    macros_.pop_back();
    Signature& signature = out_->signatures[id];
    signature.body = body;
    signature.uses_caller = uses.uses_caller;
    signature.uses_varargs = uses.uses_varargs;
    signature.uses_kwargs = uses.uses_kwargs;
  }

  void CallBlock(Statement* statement) {
    statement->kind = StatementKind::kCallBlock;
    statement->signature = MacroSignature("caller", Head::kOptional);
    statement->expr = Expression();
    if (!failed_ && At(statement->expr).kind != ExprKind::kCall) {
      FailAt(statement->line, "expected call");
    }
    MacroBody(statement->signature, "endcall");
  }
};

}  // namespace

Result<std::shared_ptr<const Template>> Parse(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return Fail(Code::kOutOfRange, fmt::format("the template has {} bytes, {} at most",
                                               source.size(), kMaxSourceBytes));
  }
  if (const size_t valid = wire::ValidUtf8Length(source); valid != source.size()) {
    return Fail(Code::kInvalidArgument, fmt::format("byte {} is not UTF-8", valid));
  }
  auto tokens = Tokenize(source);
  if (!tokens) return std::unexpected(tokens.error());
  return Parser(std::move(*tokens)).Run();
}

}  // namespace penstock::tokens::jinja
