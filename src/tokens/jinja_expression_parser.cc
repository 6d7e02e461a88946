#include "tokens/jinja_expression_parser.h"

#include <fmt/format.h>

#include "tokens/jinja_builtins.h"

namespace penstock::tokens::jinja {
namespace {

constexpr int kMaxDepth = 150;      // of nested brackets and blocks
constexpr int kMaxExprDepth = 400;  // of a tree; "a + b + c + ..." is as deep as it has terms

}  // namespace

bool ExpressionParser::IsAnyName(Names names) const {
  return std::ranges::any_of(names, [this](std::string_view name) { return IsName(name); });
}

void ExpressionParser::Skip() {
  if (at_ + 1 < tokens_.size()) ++at_;
}

bool ExpressionParser::SkipOp(std::string_view op) {
  if (!IsOp(op)) return false;
  Skip();
  return true;
}

bool ExpressionParser::SkipName(std::string_view name) {
  if (!IsName(name)) return false;
  Skip();
  return true;
}

void ExpressionParser::FailAt(uint32_t line, std::string_view what) {
  if (failed_) return;
  failed_ = true;
  error_ = {Code::kInvalidArgument, fmt::format("line {}: {}", line, what)};
  at_ = tokens_.size() - 1;
}

void ExpressionParser::ExpectOp(std::string_view op) {
  if (!SkipOp(op)) Fail(fmt::format("expected '{}', got {}", op, Describe(Now())));
}

void ExpressionParser::ExpectName(std::string_view name) {
  if (!SkipName(name)) Fail(fmt::format("expected '{}', got {}", name, Describe(Now())));
}

void ExpressionParser::Expect(TokenKind kind, std::string_view what) {
  if (!Is(kind)) return Fail(fmt::format("expected {}, got {}", what, Describe(Now())));
  Skip();
}

std::string_view ExpressionParser::TakeName() {
  if (!Is(TokenKind::kName)) {
    Fail(fmt::format("expected a name, got {}", Describe(Now())));
    return {};
  }
  const std::string_view out = Keep(Now().text);
  Skip();
  return out;
}

std::string_view ExpressionParser::Keep(std::string text) {
  const auto known = kept_.find(text);
  if (known != kept_.end()) return known->second;
  const std::string_view out = out_->texts.emplace_back(std::move(text));
  kept_.emplace(out, out);
  return out;
}

NameId ExpressionParser::Intern(std::string_view name) {
  const auto [it, is_new] = ids_.emplace(name, static_cast<NameId>(out_->names.size()));
  if (is_new) out_->names.push_back(name);
  return it->second;
}

ExprId ExpressionParser::Add(Expr expr) {
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

ExprId ExpressionParser::Make(ExprKind kind, uint32_t line, ExprId a, ExprId b, ExprId c) {
  Expr expr{kind};
  expr.line = line;
  expr.a = a;
  expr.b = b;
  expr.c = c;
  return Add(std::move(expr));
}

ExprId ExpressionParser::MakeParts(ExprKind kind, uint32_t line, std::vector<ExprId> parts) {
  Expr expr{kind};
  expr.line = line;
  expr.parts = std::move(parts);
  return Add(std::move(expr));
}

ExprId ExpressionParser::Constant(uint32_t line, Value value) {
  Expr expr{ExprKind::kConstant};
  expr.line = line;
  expr.constant = value;
  return Add(std::move(expr));
}

ExprId ExpressionParser::Expression(Choice choice) {
  const Nested nested(this);
  if (failed_) return Constant(0, Value::None());
  return choice == Choice::kAllowed ? Conditional() : Or();
}

ExprId ExpressionParser::Conditional() {
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

ExprId ExpressionParser::Or() {
  ExprId left = And();
  while (IsName("or")) {
    const uint32_t line = Now().line;
    Skip();
    left = Make(ExprKind::kOr, line, left, And());
  }
  return left;
}

ExprId ExpressionParser::And() {
  ExprId left = Not();
  while (IsName("and")) {
    const uint32_t line = Now().line;
    Skip();
    left = Make(ExprKind::kAnd, line, left, Not());
  }
  return left;
}

ExprId ExpressionParser::Not() {
  if (!IsName("not")) return Compare();
  const Nested nested(this);
  const uint32_t line = Now().line;
  Skip();
  return Make(ExprKind::kNot, line, Not());
}

bool ExpressionParser::TakeComparison(Operator* op) {
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

ExprId ExpressionParser::Compare() {
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

ExprId ExpressionParser::Binary(uint32_t line, Operator op, ExprId left, ExprId right) {
  Expr expr{ExprKind::kBinary};
  expr.line = line;
  expr.op = op;
  expr.a = left;
  expr.b = right;
  return Add(std::move(expr));
}

ExprId ExpressionParser::Sum() {
  ExprId left = Concat();
  while (IsOp("+") || IsOp("-")) {
    const Operator op = IsOp("+") ? Operator::kAdd : Operator::kSubtract;
    const uint32_t line = Now().line;
    Skip();
    left = Binary(line, op, left, Concat());
  }
  return left;
}

ExprId ExpressionParser::Concat() {
  const uint32_t line = Now().line;
  std::vector<ExprId> parts = {Product()};
  while (SkipOp("~")) parts.push_back(Product());
  return parts.size() == 1 ? parts[0] : MakeParts(ExprKind::kConcat, line, std::move(parts));
}

ExprId ExpressionParser::Product() {
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

ExprId ExpressionParser::Power() {
  ExprId left = Unary();
  while (IsOp("**")) {
    const uint32_t line = Now().line;
    Skip();
    left = Binary(line, Operator::kPower, left, Unary());
  }
  return left;
}

ExprId ExpressionParser::Signed() {
  const uint32_t line = Now().line;
  if (!IsOp("-") && !IsOp("+")) return Postfix(Primary());
  const Nested nested(this);
  const ExprKind kind = IsOp("-") ? ExprKind::kNegative : ExprKind::kPositive;
  Skip();
  return Postfix(Make(kind, line, failed_ ? Constant(line, Value::None()) : Signed()));
}

ExprId ExpressionParser::Primary() {
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

ExprId ExpressionParser::NameOrConstant() {
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

bool ExpressionParser::IsTupleEnd(Names ends) const {
  return Is(TokenKind::kVariableEnd) || Is(TokenKind::kBlockEnd) || IsOp(")") || IsAnyName(ends);
}

ExprId ExpressionParser::Tuple(Choice choice, Names ends, Empty empty) {
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

ExprId ExpressionParser::ListOf(uint32_t line) {
  std::vector<ExprId> parts;
  while (!failed_ && !IsOp("]")) {
    if (!parts.empty()) ExpectOp(",");
    if (IsOp("]")) break;
    parts.push_back(Expression());
  }
  ExpectOp("]");
  return MakeParts(ExprKind::kList, line, std::move(parts));
}

ExprId ExpressionParser::DictOf(uint32_t line) {
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

ExprId ExpressionParser::Postfix(ExprId node) {
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

ExprId ExpressionParser::Filters(ExprId node) {
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

ExprId ExpressionParser::Subscript(ExprId node) {
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

ExprId ExpressionParser::Subscribed(ExprId node, uint32_t line) {
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

std::vector<Argument> ExpressionParser::Arguments() {
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

ExprId ExpressionParser::Call(ExprId node) {
  Expr expr{ExprKind::kCall};
  expr.line = Now().line;
  expr.a = node;
  expr.arguments = Arguments();
  return Add(std::move(expr));
}

std::string_view ExpressionParser::DottedName() {
  std::string name(TakeName());
  while (SkipOp(".")) name.append(".").append(TakeName());
  return Keep(std::move(name));
}

ExprId ExpressionParser::Filter(ExprId node) {
  ExpectOp("|");
  return FilterNamed(node);
}

ExprId ExpressionParser::FilterNamed(ExprId node) {
  Expr expr{ExprKind::kFilter};
  expr.line = Now().line;
  expr.a = node;
  expr.text = DottedName();
  expr.builtin = FilterNumber(expr.text);
  if (IsOp("(")) expr.arguments = Arguments();
  return Add(std::move(expr));
}

ExprId ExpressionParser::Test(ExprId node) {
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

void ExpressionParser::Enter() {
  if (++depth_ > kMaxDepth) Fail(fmt::format("nested deeper than {}", kMaxDepth));
}

}  // namespace penstock::tokens::jinja
