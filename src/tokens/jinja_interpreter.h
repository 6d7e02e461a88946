// Renders a parsed template.
//
// THREADS: one render at a time per Interpreter; any number of Interpreters share a Template.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokens/jinja_ast.h"
#include "tokens/jinja_builtins.h"
#include "tokens/jinja_value.h"

namespace penstock::tokens::jinja {

// The variables of one `for` iteration, a macro call, a block; `set` writes into the innermost.
struct Scope {
  struct Variable {
    NameId name;
    Value value;
  };
  Scope* parent = nullptr;
  Variable* variables = nullptr;
  uint32_t size = 0;
  uint32_t capacity = 0;
};

// Output that an iteration of a loop over the conversation's messages wrote.
struct MessageSpan {
  size_t message = 0;
  size_t begin = 0;
  size_t end = 0;
};

class Interpreter {
 public:
  Interpreter(const Template& parsed, Runtime& runtime,
              std::chrono::local_time<std::chrono::microseconds> now);

  // Gives the template a variable. Does nothing when the template does not name it.
  void Set(std::string_view name, const Value& value);
  // Whether the template names it at all.
  bool Names(std::string_view name) const;

  // False: the runtime has the error.
  bool Run();
  std::string& output() { return output_; }
  std::vector<MessageSpan>& messages() { return messages_; }

 private:
  enum class Flow : uint8_t { kNormal, kBreak, kContinue, kFailed };

  // Statements.
  Flow RunBody(BodyId id, Scope* scope);
  Flow RunStatement(const Statement& statement, Scope* scope);
  Flow RunIf(const Statement& statement, Scope* scope);
  Flow RunFor(const Statement& statement, Scope* scope);
  Flow RunIteration(const Statement& statement, const Value& item, Scope* scope);
  Flow RunWith(const Statement& statement, Scope* scope);
  Flow RunSetBlock(const Statement& statement, Scope* scope);
  Flow RunFilterBlock(const Statement& statement, Scope* scope);
  Flow RunCallBlock(const Statement& statement, Scope* scope);
  bool Filtered(const Statement& statement, std::span<const Value> items, Scope* scope,
                std::vector<Value>* out);
  bool Passes(const Statement& statement, const Value& item, Scope* scope, bool* passes);
  // Output of a body in a scope of its own, as a text.
  Value Captured(BodyId body, Scope* scope);
  bool Print(const Value& value);
  bool CheckOutput();
  bool Assign(const Target& target, const Value& value, Scope* scope);
  bool Store(Scope* scope, NameId name, const Value& value);
  Scope* NewScope(Scope* parent);
  Value MakeMacro(const Signature& signature, Scope* scope);

  // Expressions.
  Value Eval(ExprId id, Scope* scope);
  Value EvalNode(const Expr& expr, Scope* scope);
  Value EvalParts(const Expr& expr, Kind kind, Scope* scope);
  Value EvalDict(const Expr& expr, Scope* scope);
  Value EvalItem(const Expr& expr, Scope* scope);
  Value EvalSlice(const Expr& expr, Scope* scope);
  Value EvalCompare(const Expr& expr, Scope* scope);
  Value EvalConcat(const Expr& expr, Scope* scope);
  Value EvalBinary(const Expr& expr, Scope* scope);
  Value EvalCall(const Expr& expr, Scope* scope, const Value* caller);
  Value EvalFilter(const Expr& expr, Scope* scope);
  Value EvalTest(const Expr& expr, Scope* scope);
  bool EvalArguments(const Expr& expr, Scope* scope, const Value* caller, CallArguments* out);
  bool EvalSpreads(const Expr& expr, Scope* scope, const Value* caller, CallArguments* out);
  Value Call(const Value& callee, const CallArguments& arguments);
  Value CallMacro(const Callable& macro, const CallArguments& arguments);
  bool BindMacro(const Callable& macro, const CallArguments& arguments, Scope* scope);
  Value Lookup(NameId name, Scope* scope);

  const Template& template_;
  Runtime& runtime_;
  std::chrono::local_time<std::chrono::microseconds> now_;
  Scope root_;
  Scope context_;
  std::vector<Value> globals_;  // by NameId; kFailed where there is none
  std::string output_;
  std::string* out_ = &output_;
  std::vector<MessageSpan> messages_;
  bool in_message_ = false;
  Value placeholder_;
  int depth_ = 0;
};

}  // namespace penstock::tokens::jinja
