#include "tokens/jinja_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <unordered_map>
#include <utility>

#include "core/text.h"
#include "tokens/jinja_builtins.h"
#include "tokens/jinja_lexer.h"
#include "wire/json.h"

namespace penstock::tokens::jinja {
namespace {

constexpr int kMaxDepth = 150;      // of nested brackets and blocks
constexpr int kMaxExprDepth = 400;  // of a tree; "a + b + c + ..." is as deep as it has terms

using Names = std::initializer_list<std::string_view>;

constexpr std::string_view kStatements[] = {"break", "call",       "continue", "filter",
                                            "for",   "generation", "if",       "macro",
                                            "print", "set",        "with"};
constexpr std::string_view kRefused[] = {"include", "import", "from",
                                         "extends", "block",  "autoescape"};

// Parsing stops at the first error: `failed_` holds, the token is kEnd from then on, and every loop
// ends.
class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  Result<std::shared_ptr<const Template>> Run() {
    out_->root = Body({});
    if (!failed_ && !Is(TokenKind::kEnd)) Fail(fmt::format("unexpected {}", Describe(Now())));
    if (failed_) return std::unexpected(error_);
    return out_;
  }

 private:
  // --- tokens

  const Token& Now() const { return tokens_[at_]; }
  const Token& Ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  bool Is(TokenKind kind) const { return Now().kind == kind; }
  bool IsOp(std::string_view op) const { return Now().IsOperator(op); }
  bool IsName(std::string_view name) const { return Now().IsName(name); }
  bool IsAnyName(Names names) const {
    return std::ranges::any_of(names, [this](std::string_view name) { return IsName(name); });
  }
  void Skip() {
    if (at_ + 1 < tokens_.size()) ++at_;
  }
  bool SkipOp(std::string_view op) {
    if (!IsOp(op)) return false;
    Skip();
    return true;
  }
  bool SkipName(std::string_view name) {
    if (!IsName(name)) return false;
    Skip();
    return true;
  }

  void Fail(std::string_view what) { FailAt(Now().line, what); }
  void FailAt(uint32_t line, std::string_view what) {
    if (failed_) return;
    failed_ = true;
    error_ = {Code::kInvalidArgument, fmt::format("line {}: {}", line, what)};
    at_ = tokens_.size() - 1;
  }
  void ExpectOp(std::string_view op) {
    if (!SkipOp(op)) Fail(fmt::format("expected '{}', got {}", op, Describe(Now())));
  }
  void ExpectName(std::string_view name) {
    if (!SkipName(name)) Fail(fmt::format("expected '{}', got {}", name, Describe(Now())));
  }
  void Expect(TokenKind kind, std::string_view what) {
    if (!Is(kind)) return Fail(fmt::format("expected {}, got {}", what, Describe(Now())));
    Skip();
  }
  // The name that stands here.
  std::string_view TakeName() {
    if (!Is(TokenKind::kName)) {
      Fail(fmt::format("expected a name, got {}", Describe(Now())));
      return {};
    }
    const std::string_view out = Keep(Now().text);
    Skip();
    return out;
  }

  // Copies into the template.
  std::string_view Keep(std::string text) {
    const auto known = kept_.find(text);
    if (known != kept_.end()) return known->second;
    const std::string_view out = out_->texts.emplace_back(std::move(text));
    kept_.emplace(out, out);
    return out;
  }
  NameId Intern(std::string_view name) {
    const auto [it, is_new] = ids_.emplace(name, static_cast<NameId>(out_->names.size()));
    if (is_new) out_->names.push_back(name);
    return it->second;
  }

  // Counts nesting while it lives.
  class Nested {
   public:
    explicit Nested(Parser* parser) : parser_(parser) {
      if (++parser_->depth_ > kMaxDepth) {
        parser_->Fail(fmt::format("nested deeper than {}", kMaxDepth));
      }
    }
    ~Nested() { --parser_->depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    Parser* parser_;
  };

  // --- expressions

  Expr& At(ExprId id) { return out_->exprs[id]; }
  ExprId Add(Expr expr) {
    int32_t deepest = 0;
    const auto see = [&](ExprId id) {
      if (id != kNoId) deepest = std::max(deepest, At(id).depth);
    };
    for (const ExprId id : {expr.a, expr.b, expr.c, expr.d}) see(id);
    for (const ExprId id : expr.parts) see(id);
    for (const Argument& argument : expr.arguments) see(argument.value);
    expr.depth = deepest + 1;
    if (expr.depth > kMaxExprDepth) {
      FailAt(expr.line, fmt::format("an expression is nested deeper than {}", kMaxExprDepth));
    }
    out_->exprs.push_back(std::move(expr));
    return static_cast<ExprId>(out_->exprs.size() - 1);
  }
  ExprId Make(ExprKind kind, uint32_t line, ExprId a = kNoId, ExprId b = kNoId, ExprId c = kNoId) {
    Expr expr{kind};
    expr.line = line;
    expr.a = a;
    expr.b = b;
    expr.c = c;
    return Add(std::move(expr));
  }
  ExprId MakeParts(ExprKind kind, uint32_t line, std::vector<ExprId> parts) {
    Expr expr{kind};
    expr.line = line;
    expr.parts = std::move(parts);
    return Add(std::move(expr));
  }
  ExprId Constant(uint32_t line, Value value) {
    Expr expr{ExprKind::kConstant};
    expr.line = line;
    expr.constant = value;
    return Add(std::move(expr));
  }

  enum class Choice { kAllowed, kRefused };
  ExprId Expression(Choice choice = Choice::kAllowed) {
    const Nested nested(this);
    if (failed_) return Constant(0, Value::None());
    return choice == Choice::kAllowed ? Conditional() : Or();
  }

  ExprId Conditional() {
    uint32_t line = Now().line;
    ExprId out = Or();
    while (SkipName("if")) {
      const ExprId test = Or();
      ExprId other = kNoId;
      if (SkipName("else")) {
        const Nested nested(this);
        other = failed_ ? kNoId : Conditional();
      }
      out = Make(ExprKind::kChoice, line, test, out, other);
      line = Now().line;
    }
    return out;
  }

  ExprId Or() {
    ExprId left = And();
    while (IsName("or")) {
      const uint32_t line = Now().line;
      Skip();
      left = Make(ExprKind::kOr, line, left, And());
    }
    return left;
  }

  ExprId And() {
    ExprId left = Not();
    while (IsName("and")) {
      const uint32_t line = Now().line;
      Skip();
      left = Make(ExprKind::kAnd, line, left, Not());
    }
    return left;
  }

  ExprId Not() {
    if (!IsName("not")) return Compare();
    const Nested nested(this);
    const uint32_t line = Now().line;
    Skip();
    return Make(ExprKind::kNot, line, Not());
  }

  // The comparison that stands here; false when none does.
  bool TakeComparison(Operator* op) {
    constexpr std::pair<std::string_view, Operator> kOperators[] = {
        {"==", Operator::kEqual},     {"!=", Operator::kNotEqual}, {"<", Operator::kLess},
        {"<=", Operator::kLessEqual}, {">", Operator::kGreater},   {">=", Operator::kGreaterEqual}};
    for (const auto& [text, known] : kOperators) {
      if (SkipOp(text)) {
        *op = known;
        return true;
      }
    }
    if (SkipName("in")) {
      *op = Operator::kIn;
      return true;
    }
    if (!IsName("not") || !Ahead().IsName("in")) return false;
    Skip();
    Skip();
    *op = Operator::kNotIn;
    return true;
  }

  ExprId Compare() {
    const uint32_t line = Now().line;
    const ExprId first = Sum();
    Expr expr{ExprKind::kCompare};
    expr.line = line;
    expr.a = first;
    Operator op;
    while (TakeComparison(&op)) {
      expr.ops.push_back(op);
      expr.parts.push_back(Sum());
    }
    return expr.ops.empty() ? first : Add(std::move(expr));
  }

  ExprId Binary(uint32_t line, Operator op, ExprId left, ExprId right) {
    Expr expr{ExprKind::kBinary};
    expr.line = line;
    expr.op = op;
    expr.a = left;
    expr.b = right;
    return Add(std::move(expr));
  }

  ExprId Sum() {
    ExprId left = Concat();
    while (IsOp("+") || IsOp("-")) {
      const Operator op = IsOp("+") ? Operator::kAdd : Operator::kSubtract;
      const uint32_t line = Now().line;
      Skip();
      left = Binary(line, op, left, Concat());
    }
    return left;
  }

  ExprId Concat() {
    const uint32_t line = Now().line;
    std::vector<ExprId> parts = {Product()};
    while (SkipOp("~")) parts.push_back(Product());
    return parts.size() == 1 ? parts[0] : MakeParts(ExprKind::kConcat, line, std::move(parts));
  }

  ExprId Product() {
    ExprId left = Power();
    while (true) {
      Operator op = Operator::kMultiply;
      if (IsOp("/")) {
        op = Operator::kDivide;
      } else if (IsOp("//")) {
        op = Operator::kFloorDivide;
      } else if (IsOp("%")) {
        op = Operator::kModulo;
      } else if (!IsOp("*")) {
        return left;
      }
      const uint32_t line = Now().line;
      Skip();
      left = Binary(line, op, left, Power());
    }
  }

  // Unlike Python's, this one groups from the left.
  ExprId Power() {
    ExprId left = Unary();
    while (IsOp("**")) {
      const uint32_t line = Now().line;
      Skip();
      left = Binary(line, Operator::kPower, left, Unary());
    }
    return left;
  }

  ExprId Unary() { return Filters(Signed()); }

  ExprId Signed() {
    const uint32_t line = Now().line;
    if (!IsOp("-") && !IsOp("+")) return Postfix(Primary());
    const Nested nested(this);
    const ExprKind kind = IsOp("-") ? ExprKind::kNegative : ExprKind::kPositive;
    Skip();
    return Postfix(Make(kind, line, failed_ ? Constant(line, Value::None()) : Signed()));
  }

  ExprId Primary() {
    const uint32_t line = Now().line;
    switch (Now().kind) {
      case TokenKind::kName:
        return NameOrConstant();
      case TokenKind::kString: {
        std::string text;
        for (; Is(TokenKind::kString); Skip()) text += Now().text;
        return Constant(line, Value::String(Keep(std::move(text))));
      }
      case TokenKind::kInteger: {
        const int64_t value = Now().integer;
        Skip();
        return Constant(line, Value::Int(value));
      }
      case TokenKind::kFloat: {
        const double value = Now().number;
        Skip();
        return Constant(line, Value::Float(value));
      }
      default:
        break;
    }
    if (SkipOp("(")) {
      const ExprId inner = Tuple(Choice::kAllowed, {}, Empty::kAllowed);
      ExpectOp(")");
      return inner;
    }
    if (SkipOp("[")) return ListOf(line);
    if (SkipOp("{")) return DictOf(line);
    Fail(fmt::format("unexpected {}", Describe(Now())));
    return Constant(line, Value::None());
  }

  ExprId NameOrConstant() {
    const uint32_t line = Now().line;
    const std::string_view name = TakeName();
    if (name == "true" || name == "True") return Constant(line, Value::Bool(true));
    if (name == "false" || name == "False") return Constant(line, Value::Bool(false));
    if (name == "none" || name == "None") return Constant(line, Value::None());
    for (Signature* macro : macros_) {
      macro->uses_caller |= name == "caller";
      macro->uses_varargs |= name == "varargs";
      macro->uses_kwargs |= name == "kwargs";
    }
    names_loop_ |= name == "loop";
    Expr expr{ExprKind::kName};
    expr.line = line;
    expr.text = name;
    expr.name = Intern(name);
    return Add(std::move(expr));
  }

  enum class Empty { kAllowed, kRefused };
  bool IsTupleEnd(Names ends) const {
    return Is(TokenKind::kVariableEnd) || Is(TokenKind::kBlockEnd) || IsOp(")") || IsAnyName(ends);
  }
  // One expression, or several between commas.
  ExprId Tuple(Choice choice, Names ends, Empty empty) {
    const uint32_t line = Now().line;
    std::vector<ExprId> parts;
    bool is_tuple = false;
    while (!failed_) {
      if (!parts.empty()) ExpectOp(",");
      if (IsTupleEnd(ends)) break;
      parts.push_back(Expression(choice));
      if (!IsOp(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && !parts.empty()) return parts[0];
    if (!is_tuple && empty == Empty::kRefused) {
      Fail(fmt::format("expected an expression, got {}", Describe(Now())));
    }
    return MakeParts(ExprKind::kTuple, line, std::move(parts));
  }

  ExprId ListOf(uint32_t line) {
    std::vector<ExprId> parts;
    while (!failed_ && !IsOp("]")) {
      if (!parts.empty()) ExpectOp(",");
      if (IsOp("]")) break;
      parts.push_back(Expression());
    }
    ExpectOp("]");
    return MakeParts(ExprKind::kList, line, std::move(parts));
  }

  ExprId DictOf(uint32_t line) {
    std::vector<ExprId> parts;
    while (!failed_ && !IsOp("}")) {
      if (!parts.empty()) ExpectOp(",");
      if (IsOp("}")) break;
      parts.push_back(Expression());
      ExpectOp(":");
      parts.push_back(Expression());
    }
    ExpectOp("}");
    return MakeParts(ExprKind::kDict, line, std::move(parts));
  }

  ExprId Postfix(ExprId node) {
    while (!failed_) {
      if (IsOp(".") || IsOp("[")) {
        node = Subscript(node);
      } else if (IsOp("(")) {
        node = Call(node);
      } else {
        break;
      }
    }
    return node;
  }

  ExprId Filters(ExprId node) {
    while (!failed_) {
      if (IsOp("|")) {
        node = Filter(node);
      } else if (IsName("is")) {
        node = Test(node);
      } else if (IsOp("(")) {
        node = Call(node);
      } else {
        break;
      }
    }
    return node;
  }

  ExprId Subscript(ExprId node) {
    const uint32_t line = Now().line;
    if (SkipOp(".")) {
      if (Is(TokenKind::kInteger)) {
        const ExprId index = Constant(line, Value::Int(Now().integer));
        Skip();
        return Make(ExprKind::kItem, line, node, index);
      }
      Expr expr{ExprKind::kAttribute};
      expr.line = line;
      expr.a = node;
      expr.text = TakeName();
      return Add(std::move(expr));
    }
    ExpectOp("[");
    if (IsOp("]")) Fail("expected an index, got ']'");
    const ExprId out = Subscribed(node, line);
    if (IsOp(",")) Fail("an index of several parts is not supported");
    ExpectOp("]");
    return out;
  }

  // What stands between brackets: an index or a slice.
  ExprId Subscribed(ExprId node, uint32_t line) {
    const ExprId first = IsOp(":") ? kNoId : Expression();
    if (first != kNoId && !IsOp(":")) return Make(ExprKind::kItem, line, node, first);
    Expr expr{ExprKind::kSlice};
    expr.line = line;
    expr.a = node;
    expr.b = first;
    ExpectOp(":");
    if (!IsOp(":") && !IsOp("]")) expr.c = Expression();
    if (SkipOp(":") && !IsOp("]")) expr.d = Expression();
    return Add(std::move(expr));
  }

  std::vector<Argument> Arguments() {
    const Nested nested(this);
    std::vector<Argument> out;
    ExpectOp("(");
    auto seen = Argument::Form::kPositional;
    while (!failed_ && !IsOp(")")) {
      if (!out.empty()) {
        ExpectOp(",");
        if (IsOp(")")) break;
      }
      Argument argument;
      if (SkipOp("**")) {
        argument.form = Argument::Form::kKeywordSpread;
      } else if (SkipOp("*")) {
        argument.form = Argument::Form::kSpread;
      } else if (Is(TokenKind::kName) && Ahead().IsOperator("=")) {
        argument.form = Argument::Form::kKeyword;
        argument.name = TakeName();
        Skip();
      }
      const bool is_in_order =
          argument.form >= seen && !(argument.form == seen && seen > Argument::Form::kKeyword);
      const bool is_keyword_after_spread =
          argument.form == Argument::Form::kKeyword && seen == Argument::Form::kSpread;
      if (!is_in_order && !is_keyword_after_spread) Fail("invalid syntax for a call's arguments");
      seen = std::max(seen, argument.form);
      argument.value = Expression();
      out.push_back(argument);
    }
    ExpectOp(")");
    return out;
  }

  ExprId Call(ExprId node) {
    Expr expr{ExprKind::kCall};
    expr.line = Now().line;
    expr.a = node;
    expr.arguments = Arguments();
    return Add(std::move(expr));
  }

  std::string_view DottedName() {
    std::string name(TakeName());
    while (SkipOp(".")) name.append(".").append(TakeName());
    return Keep(std::move(name));
  }

  ExprId Filter(ExprId node) {
    ExpectOp("|");
    return FilterNamed(node);
  }

  // From the filter's name on.
  ExprId FilterNamed(ExprId node) {
    Expr expr{ExprKind::kFilter};
    expr.line = Now().line;
    expr.a = node;
    expr.text = DottedName();
    expr.builtin = FilterNumber(expr.text);
    if (IsOp("(")) expr.arguments = Arguments();
    return Add(std::move(expr));
  }

  ExprId Test(ExprId node) {
    const uint32_t line = Now().line;
    ExpectName("is");
    const bool is_negated = SkipName("not");
    Expr expr{ExprKind::kTest};
    expr.line = line;
    expr.a = node;
    expr.text = DottedName();
    expr.builtin = TestNumber(expr.text);
    const bool has_operand = Is(TokenKind::kName) || Is(TokenKind::kString) ||
                             Is(TokenKind::kInteger) || Is(TokenKind::kFloat) || IsOp("[") ||
                             IsOp("{");
    if (IsOp("(")) {
      expr.arguments = Arguments();
    } else if (has_operand && !IsAnyName({"else", "or", "and"})) {
      if (IsName("is")) Fail("tests cannot be chained with 'is'");
      const Nested nested(this);
      expr.arguments.push_back({Argument::Form::kPositional, {}, Postfix(Primary())});
    }
    const ExprId out = Add(std::move(expr));
    return is_negated ? Make(ExprKind::kNot, line, out) : out;
  }

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

  std::vector<Token> tokens_;
  size_t at_ = 0;
  bool failed_ = false;
  Error error_;
  int depth_ = 0;
  size_t loops_ = 0;         // that `break` could leave
  bool names_loop_ = false;  // `loop` was named since the innermost `for`
  std::vector<Signature*> macros_;
  std::shared_ptr<Template> out_ = std::make_shared<Template>();
  std::unordered_map<std::string_view, std::string_view> kept_;
  std::unordered_map<std::string_view, NameId> ids_;
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
