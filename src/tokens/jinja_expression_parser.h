// The expressions of templates, from tokens to nodes; jinja_parser.cc adds the statements.
//
// Parsing stops at the first error: failed_ holds, the token is kEnd from then on, and every loop
// ends.
//
// THREADS: belongs to one parse.
// SOURCE: Jinja 3.1's grammar.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/result.h"
#include "tokens/jinja_ast.h"
#include "tokens/jinja_lexer.h"

namespace penstock::tokens::jinja {

using Names = std::initializer_list<std::string_view>;

class ExpressionParser {
 protected:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  // --- tokens

  const Token& Now() const { return tokens_[at_]; }
  const Token& Ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  bool Is(TokenKind kind) const { return Now().kind == kind; }
  bool IsOp(std::string_view op) const { return Now().IsOperator(op); }
  bool IsName(std::string_view name) const { return Now().IsName(name); }
  bool IsAnyName(Names names) const;
  void Skip();
  bool SkipOp(std::string_view op);
  bool SkipName(std::string_view name);

  void Fail(std::string_view what) { FailAt(Now().line, what); }
  void FailAt(uint32_t line, std::string_view what);
  void ExpectOp(std::string_view op);
  void ExpectName(std::string_view name);
  void Expect(TokenKind kind, std::string_view what);
  // The name that stands here.
  std::string_view TakeName();

  // Copies into the template.
  std::string_view Keep(std::string text);
  NameId Intern(std::string_view name);

  // One level deeper, up to the bound.
  void Enter();
  // Counts nesting while it lives.
  class Nested {
   public:
    explicit Nested(ExpressionParser* parser) : parser_(parser) { parser_->Enter(); }
    ~Nested() { --parser_->depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;

   private:
    ExpressionParser* parser_;
  };

  // --- expressions

  Expr& At(ExprId id) { return out_->exprs[id]; }
  ExprId Add(Expr expr);
  ExprId Make(ExprKind kind, uint32_t line, ExprId a = kNoId, ExprId b = kNoId, ExprId c = kNoId);
  ExprId MakeParts(ExprKind kind, uint32_t line, std::vector<ExprId> parts);
  ExprId Constant(uint32_t line, Value value);

  enum class Choice { kAllowed, kRefused };
  ExprId Expression(Choice choice = Choice::kAllowed);

  ExprId Conditional();

  ExprId Or();

  ExprId And();

  ExprId Not();

  // The comparison that stands here; false when none does.
  bool TakeComparison(Operator* op);

  ExprId Compare();

  ExprId Binary(uint32_t line, Operator op, ExprId left, ExprId right);

  ExprId Sum();

  ExprId Concat();

  ExprId Product();

  // Unlike Python's, this one groups from the left.
  ExprId Power();

  ExprId Unary() { return Filters(Signed()); }

  ExprId Signed();

  ExprId Primary();

  ExprId NameOrConstant();

  enum class Empty { kAllowed, kRefused };
  bool IsTupleEnd(Names ends) const;
  // One expression, or several between commas.
  ExprId Tuple(Choice choice, Names ends, Empty empty);

  ExprId ListOf(uint32_t line);

  ExprId DictOf(uint32_t line);

  ExprId Postfix(ExprId node);

  ExprId Filters(ExprId node);

  ExprId Subscript(ExprId node);

  // What stands between brackets: an index or a slice.
  ExprId Subscribed(ExprId node, uint32_t line);

  std::vector<Argument> Arguments();

  ExprId Call(ExprId node);

  std::string_view DottedName();

  ExprId Filter(ExprId node);

  // From the filter's name on.
  ExprId FilterNamed(ExprId node);

  ExprId Test(ExprId node);

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

}  // namespace penstock::tokens::jinja
