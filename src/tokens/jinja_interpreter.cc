#include "tokens/jinja_interpreter.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace penstock::tokens::jinja {

Interpreter::Interpreter(const Template& parsed, Runtime& runtime,
                         std::chrono::local_time<std::chrono::microseconds> now)
    : template_(parsed), runtime_(runtime), now_(now) {
  root_.parent = &context_;
  globals_.assign(parsed.names.size(), Value::Failed());
  for (size_t i = 0; i < parsed.names.size(); ++i) {
    if (!IsGlobal(parsed.names[i])) continue;
    Callable* callable = runtime_.New<Callable>();
    if (callable == nullptr) return;
    callable->form = Callable::Form::kGlobal;
    callable->name = parsed.names[i];
    globals_[i] = Value::Of(Kind::kCallable);
    globals_[i].callable = callable;
  }
}

bool Interpreter::Names(std::string_view name) const {
  return std::ranges::find(template_.names, name) != template_.names.end();
}

void Interpreter::Set(std::string_view name, const Value& value) {
  const auto it = std::ranges::find(template_.names, name);
  if (it != template_.names.end()) {
    Store(&context_, static_cast<NameId>(it - template_.names.begin()), value);
  }
}

bool Interpreter::Run() {
  if (runtime_.has_failed()) return false;
  return RunBody(template_.root, &root_) != Flow::kFailed && !runtime_.has_failed();
}

// --- statements

Interpreter::Flow Interpreter::RunBody(BodyId id, Scope* scope) {
  if (++depth_ > runtime_.limits().depth) {
    runtime_.Fail(fmt::format("nested deeper than {}", runtime_.limits().depth),
                  Code::kResourceExhausted);
    --depth_;
    return Flow::kFailed;
  }
  Flow flow = Flow::kNormal;
  for (const Statement& statement : template_.bodies[id]) {
    flow = RunStatement(statement, scope);
    if (flow != Flow::kNormal) break;
  }
  --depth_;
  return flow;
}

Interpreter::Flow Interpreter::RunStatement(const Statement& statement, Scope* scope) {
  runtime_.set_line(statement.line);
  if (!runtime_.Charge(1)) return Flow::kFailed;
  const auto flow = [](bool done) { return done ? Flow::kNormal : Flow::kFailed; };
  switch (statement.kind) {
    case StatementKind::kText:
      out_->append(statement.text);
      return flow(runtime_.ChargeBytes(statement.text.size()) && CheckOutput());
    case StatementKind::kPrint:
      return flow(Print(Eval(statement.expr, scope)));
    case StatementKind::kIf:
      return RunIf(statement, scope);
    case StatementKind::kFor:
      return RunFor(statement, scope);
    case StatementKind::kSet: {
      const Value value = Eval(statement.expr, scope);
      return flow(!value.failed() && Assign(statement.target, value, scope));
    }
    case StatementKind::kSetBlock:
      return RunSetBlock(statement, scope);
    case StatementKind::kWith:
      return RunWith(statement, scope);
    case StatementKind::kMacro: {
      const Value macro = MakeMacro(template_.signatures[statement.signature], scope);
      return flow(!macro.failed() && Store(scope, statement.target.name, macro));
    }
    case StatementKind::kCallBlock:
      return RunCallBlock(statement, scope);
    case StatementKind::kFilterBlock:
      return RunFilterBlock(statement, scope);
    case StatementKind::kScope: {
      Scope* inner = NewScope(scope);
      return inner == nullptr ? Flow::kFailed : RunBody(statement.body, inner);
    }
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kFailed;
}

Interpreter::Flow Interpreter::RunIf(const Statement& statement, Scope* scope) {
  for (const auto& [test, body] : statement.branches) {
    const Value value = Eval(test, scope);
    if (value.failed()) return Flow::kFailed;
    if (IsTrue(value)) return RunBody(body, scope);
  }
  return statement.body == kNoId ? Flow::kNormal : RunBody(statement.body, scope);
}

bool Interpreter::Passes(const Statement& statement, const Value& item, Scope* scope,
                         bool* passes) {
  scope->size = 0;
  if (!runtime_.Charge(1) || !Assign(statement.target, item, scope)) return false;
  const Value value = Eval(statement.test, scope);
  *passes = IsTrue(value);
  scope->size = 0;
  return !value.failed();
}

bool Interpreter::Filtered(const Statement& statement, std::span<const Value> items, Scope* scope,
                           std::vector<Value>* out) {
  for (const Value& item : items) {
    bool passes = false;
    if (!Passes(statement, item, scope, &passes)) return false;
    if (passes) out->push_back(item);
  }
  return true;
}

Interpreter::Flow Interpreter::RunIteration(const Statement& statement, const Value& item,
                                            Scope* scope) {
  if (!runtime_.Charge(1) || !Assign(statement.target, item, scope)) return Flow::kFailed;
  const bool is_message =
      item.Is(Kind::kDict) && item.dict->message >= 0 && !in_message_ && out_ == &output_;
  if (!is_message) return RunBody(statement.body, scope);
  const size_t begin = output_.size();
  in_message_ = true;
  const Flow flow = RunBody(statement.body, scope);
  in_message_ = false;
  if (output_.size() > begin) {
    messages_.push_back({static_cast<size_t>(item.dict->message), begin, output_.size()});
  }
  return flow;
}

Interpreter::Flow Interpreter::RunFor(const Statement& statement, Scope* scope) {
  const Value iterated = Eval(statement.expr, scope);
  std::span<const Value> items;
  if (iterated.failed() || !Elements(runtime_, iterated, &items)) return Flow::kFailed;
  Scope* inner = NewScope(scope);
  if (inner == nullptr) return Flow::kFailed;
  std::vector<Value> filtered;
  const bool filters_now = statement.test != kNoId && statement.uses_loop;
  if (filters_now) {
    if (!Filtered(statement, items, inner, &filtered)) return Flow::kFailed;
    items = filtered;
  }
  Loop* loop = nullptr;
  Value loop_value = Value::Of(Kind::kLoop);
  NameId loop_name = kNoId;
  if (statement.uses_loop) {
    loop = runtime_.New<Loop>();
    if (loop == nullptr) return Flow::kFailed;
    loop_value.loop = loop;
    loop->length = items.size();
    loop_name = static_cast<NameId>(std::ranges::find(template_.names, std::string_view("loop")) -
                                    template_.names.begin());
  }
  bool any = false;
  for (size_t i = 0; i < items.size(); ++i) {
    if (statement.test != kNoId && !filters_now) {
      bool passes = false;
      if (!Passes(statement, items[i], inner, &passes)) return Flow::kFailed;
      if (!passes) continue;
    }
    any = true;
    inner->size = 0;
    if (loop != nullptr) {
      loop->index0 = i;
      loop->has_next = i + 1 < items.size();
      loop->next = loop->has_next ? items[i + 1] : Value();
      loop->previous = i > 0 ? items[i - 1] : Value();
      if (!Store(inner, loop_name, loop_value)) return Flow::kFailed;
    }
    const Flow flow = RunIteration(statement, items[i], inner);
    if (flow == Flow::kFailed) return flow;
    if (flow == Flow::kBreak) break;
  }
  if (any || statement.other == kNoId) return Flow::kNormal;
  inner->size = 0;
  return RunBody(statement.other, inner);
}

Interpreter::Flow Interpreter::RunWith(const Statement& statement, Scope* scope) {
  Scope* inner = NewScope(scope);
  if (inner == nullptr) return Flow::kFailed;
  for (const auto& [target, expr] : statement.assignments) {
    const Value value = Eval(expr, scope);  // none of them sees the others
    if (value.failed() || !Assign(target, value, inner)) return Flow::kFailed;
  }
  return RunBody(statement.body, inner);
}

Value Interpreter::Captured(BodyId body, Scope* scope) {
  std::string text;
  std::string* outer = std::exchange(out_, &text);
  Scope* inner = NewScope(scope);
  const Flow flow = inner == nullptr ? Flow::kFailed : RunBody(body, inner);
  out_ = outer;
  return flow == Flow::kFailed ? Value::Failed() : runtime_.MakeString(text);
}

Interpreter::Flow Interpreter::RunSetBlock(const Statement& statement, Scope* scope) {
  Value value = Captured(statement.body, scope);
  if (!value.failed() && statement.expr != kNoId) {
    placeholder_ = value;
    value = Eval(statement.expr, scope);
  }
  return !value.failed() && Assign(statement.target, value, scope) ? Flow::kNormal : Flow::kFailed;
}

Interpreter::Flow Interpreter::RunFilterBlock(const Statement& statement, Scope* scope) {
  const Value text = Captured(statement.body, scope);
  if (text.failed()) return Flow::kFailed;
  placeholder_ = text;
  return Print(Eval(statement.expr, scope)) ? Flow::kNormal : Flow::kFailed;
}

Interpreter::Flow Interpreter::RunCallBlock(const Statement& statement, Scope* scope) {
  const Value caller = MakeMacro(template_.signatures[statement.signature], scope);
  if (caller.failed()) return Flow::kFailed;
  return Print(EvalCall(template_.exprs[statement.expr], scope, &caller)) ? Flow::kNormal
                                                                          : Flow::kFailed;
}

bool Interpreter::CheckOutput() {
  if (out_->size() <= runtime_.limits().output_bytes) return true;
  runtime_.Fail(fmt::format("the text has more than {} bytes", runtime_.limits().output_bytes),
                Code::kResourceExhausted);
  return false;
}

bool Interpreter::Print(const Value& value) {
  return !value.failed() && AppendStr(runtime_, value, out_) && CheckOutput();
}

bool Interpreter::Assign(const Target& target, const Value& value, Scope* scope) {
  if (target.form == Target::Form::kName) return Store(scope, target.name, value);
  if (target.form == Target::Form::kAttribute) {
    const Value object = Lookup(target.name, scope);
    if (!object.Is(Kind::kNamespace)) {
      runtime_.Fail("cannot assign attribute on non-namespace object");
      return false;
    }
    auto& attributes = object.names->attributes;
    const auto it =
        std::ranges::find(attributes, target.attribute, &std::pair<std::string_view, Value>::first);
    if (it != attributes.end()) {
      it->second = value;
    } else {
      attributes.emplace_back(target.attribute, value);
    }
    return true;
  }
  std::span<const Value> items;
  if (value.is_undefined()) {
    FailUndefined(runtime_, value);
    return false;
  }
  if (!Elements(runtime_, value, &items)) return false;
  if (items.size() != target.parts.size()) {
    runtime_.Fail(
        fmt::format("{} values to unpack, expected {}", items.size(), target.parts.size()));
    return false;
  }
  for (size_t i = 0; i < items.size(); ++i) {
    if (!Assign(target.parts[i], items[i], scope)) return false;
  }
  return true;
}

Scope* Interpreter::NewScope(Scope* parent) {
  Scope* scope = runtime_.New<Scope>();
  if (scope != nullptr) scope->parent = parent;
  return scope;
}

bool Interpreter::Store(Scope* scope, NameId name, const Value& value) {
  for (uint32_t i = 0; i < scope->size; ++i) {
    if (scope->variables[i].name == name) {
      scope->variables[i].value = value;
      return true;
    }
  }
  if (scope->size == scope->capacity) {
    const uint32_t capacity = scope->capacity == 0 ? 4 : scope->capacity * 2;
    auto* larger = runtime_.Array<Scope::Variable>(capacity);
    if (larger == nullptr) return false;
    std::copy_n(scope->variables, scope->size, larger);
    scope->variables = larger;
    scope->capacity = capacity;
  }
  scope->variables[scope->size++] = {name, value};
  return true;
}

Value Interpreter::MakeMacro(const Signature& signature, Scope* scope) {
  Callable* callable = runtime_.New<Callable>();
  if (callable == nullptr) return Value::Failed();
  callable->form = Callable::Form::kMacro;
  callable->name = signature.name;
  callable->signature = &signature;
  callable->scope = scope;
  Value out = Value::Of(Kind::kCallable);
  out.callable = callable;
  return out;
}

// --- expressions

Value Interpreter::Lookup(NameId name, Scope* scope) {
  for (const Scope* at = scope; at != nullptr; at = at->parent) {
    for (uint32_t i = 0; i < at->size; ++i) {
      if (at->variables[i].name == name) return at->variables[i].value;
    }
  }
  if (!globals_[name].failed()) return globals_[name];
  return Value::Undefined(template_.names[name]);
}

Value Interpreter::Eval(ExprId id, Scope* scope) {
  const Expr& expr = template_.exprs[id];
  if (expr.kind == ExprKind::kConstant) return expr.constant;
  if (!runtime_.Charge(1)) return Value::Failed();
  if (expr.kind == ExprKind::kName) return Lookup(expr.name, scope);
  if (++depth_ > runtime_.limits().depth) {
    --depth_;
    return runtime_.Fail(fmt::format("nested deeper than {}", runtime_.limits().depth),
                         Code::kResourceExhausted);
  }
  runtime_.set_line(expr.line);
  const Value out = EvalNode(expr, scope);
  --depth_;
  return out;
}

Value Interpreter::EvalNode(const Expr& expr, Scope* scope) {
  switch (expr.kind) {
    case ExprKind::kConstant:
      return expr.constant;
    case ExprKind::kName:
      return Lookup(expr.name, scope);
    case ExprKind::kPlaceholder:
      return placeholder_;
    case ExprKind::kList:
      return EvalParts(expr, Kind::kList, scope);
    case ExprKind::kTuple:
      return EvalParts(expr, Kind::kTuple, scope);
    case ExprKind::kDict:
      return EvalDict(expr, scope);
    case ExprKind::kAttribute: {
      const Value object = Eval(expr.a, scope);
      return object.failed() ? object : GetAttribute(runtime_, object, expr.text);
    }
    case ExprKind::kItem:
      return EvalItem(expr, scope);
    case ExprKind::kSlice:
      return EvalSlice(expr, scope);
    case ExprKind::kCall:
      return EvalCall(expr, scope, nullptr);
    case ExprKind::kFilter:
      return EvalFilter(expr, scope);
    case ExprKind::kTest:
      return EvalTest(expr, scope);
    case ExprKind::kAnd:
    case ExprKind::kOr: {
      const Value left = Eval(expr.a, scope);
      if (left.failed() || IsTrue(left) == (expr.kind == ExprKind::kOr)) return left;
      return Eval(expr.b, scope);
    }
    case ExprKind::kNot: {
      const Value value = Eval(expr.a, scope);
      return value.failed() ? value : Value::Bool(!IsTrue(value));
    }
    case ExprKind::kNegative:
    case ExprKind::kPositive: {
      const Value value = Eval(expr.a, scope);
      if (value.failed()) return value;
      return expr.kind == ExprKind::kNegative ? Negated(runtime_, value)
                                              : Positive(runtime_, value);
    }
    case ExprKind::kBinary:
      return EvalBinary(expr, scope);
    case ExprKind::kCompare:
      return EvalCompare(expr, scope);
    case ExprKind::kConcat:
      return EvalConcat(expr, scope);
    case ExprKind::kChoice: {
      const Value test = Eval(expr.a, scope);
      if (test.failed()) return test;
      if (IsTrue(test)) return Eval(expr.b, scope);
      return expr.c == kNoId ? Value::Undefined("the inline if without else") : Eval(expr.c, scope);
    }
  }
  return Value::Failed();
}

Value Interpreter::EvalParts(const Expr& expr, Kind kind, Scope* scope) {
  Value* out = runtime_.Array<Value>(expr.parts.size());
  if (out == nullptr) return Value::Failed();
  for (size_t i = 0; i < expr.parts.size(); ++i) {
    out[i] = Eval(expr.parts[i], scope);
    if (out[i].failed()) return out[i];
  }
  return runtime_.AdoptList({out, expr.parts.size()}, kind);
}

Value Interpreter::EvalDict(const Expr& expr, Scope* scope) {
  const size_t size = expr.parts.size() / 2;
  Entry* out = runtime_.Array<Entry>(size);
  if (out == nullptr) return Value::Failed();
  for (size_t i = 0; i < size; ++i) {
    out[i].key = Eval(expr.parts[2 * i], scope);
    if (out[i].key.failed()) return out[i].key;
    out[i].value = Eval(expr.parts[2 * i + 1], scope);
    if (out[i].value.failed()) return out[i].value;
  }
  return runtime_.MakeDict({out, size});
}

Value Interpreter::EvalItem(const Expr& expr, Scope* scope) {
  const Value object = Eval(expr.a, scope);
  if (object.failed()) return object;
  const Value key = Eval(expr.b, scope);
  return key.failed() ? key : GetItem(runtime_, object, key);
}

Value Interpreter::EvalSlice(const Expr& expr, Scope* scope) {
  const Value object = Eval(expr.a, scope);
  if (object.failed()) return object;
  Value bounds[3] = {Value::None(), Value::None(), Value::None()};
  const ExprId ids[3] = {expr.b, expr.c, expr.d};
  for (size_t i = 0; i < 3; ++i) {
    if (ids[i] == kNoId) continue;
    bounds[i] = Eval(ids[i], scope);
    if (bounds[i].failed()) return bounds[i];
  }
  return GetSlice(runtime_, object, bounds[0], bounds[1], bounds[2]);
}

Value Interpreter::EvalBinary(const Expr& expr, Scope* scope) {
  const Value left = Eval(expr.a, scope);
  if (left.failed()) return left;
  const Value right = Eval(expr.b, scope);
  return right.failed() ? right : BinaryOperation(runtime_, expr.op, left, right);
}

Value Interpreter::EvalCompare(const Expr& expr, Scope* scope) {
  Value left = Eval(expr.a, scope);
  Value holds = Value::Bool(true);
  for (size_t i = 0; i < expr.ops.size() && !left.failed(); ++i) {
    const Value right = Eval(expr.parts[i], scope);
    if (right.failed()) return right;
    holds = Comparison(runtime_, expr.ops[i], left, right);
    if (holds.failed() || !holds.boolean) return holds;
    left = right;
  }
  return left.failed() ? left : holds;
}

Value Interpreter::EvalConcat(const Expr& expr, Scope* scope) {
  std::string text;
  for (const ExprId part : expr.parts) {
    const Value value = Eval(part, scope);
    if (value.failed() || !AppendStr(runtime_, value, &text)) return Value::Failed();
  }
  return runtime_.MakeString(text);
}

Value Interpreter::EvalFilter(const Expr& expr, Scope* scope) {
  const Value input = Eval(expr.a, scope);
  CallArguments arguments;
  if (input.failed() || !EvalArguments(expr, scope, nullptr, &arguments)) return Value::Failed();
  if (expr.builtin < 0) return FailUnknownFilter(runtime_, expr.text);
  return ApplyFilter(runtime_, expr.builtin, input, arguments);
}

Value Interpreter::EvalTest(const Expr& expr, Scope* scope) {
  const Value input = Eval(expr.a, scope);
  CallArguments arguments;
  if (input.failed() || !EvalArguments(expr, scope, nullptr, &arguments)) return Value::Failed();
  if (expr.builtin < 0) return FailUnknownTest(runtime_, expr.text);
  return ApplyTest(runtime_, expr.builtin, input, arguments);
}

bool Interpreter::EvalArguments(const Expr& expr, Scope* scope, const Value* caller,
                                CallArguments* out) {
  if (expr.arguments.empty() && caller == nullptr) return true;
  size_t positional = 0;
  for (const Argument& argument : expr.arguments) {
    if (argument.form > Argument::Form::kKeyword) return EvalSpreads(expr, scope, caller, out);
    positional += argument.form == Argument::Form::kPositional;
  }
  const size_t keywords = expr.arguments.size() - positional + (caller != nullptr ? 1 : 0);
  Value* values = runtime_.Array<Value>(positional);
  Keyword* names = runtime_.Array<Keyword>(keywords);
  if (values == nullptr || names == nullptr) return false;
  size_t value_at = 0, name_at = 0;
  for (const Argument& argument : expr.arguments) {
    const Value value = Eval(argument.value, scope);
    if (value.failed()) return false;
    if (argument.form == Argument::Form::kPositional) {
      values[value_at++] = value;
    } else {
      names[name_at++] = {argument.name, value};
    }
  }
  if (caller != nullptr) names[name_at++] = {"caller", *caller};
  *out = {{values, positional}, {names, keywords}};
  return true;
}

bool Interpreter::EvalSpreads(const Expr& expr, Scope* scope, const Value* caller,
                              CallArguments* out) {
  std::vector<Value> positional;
  std::vector<Keyword> keywords;
  for (const Argument& argument : expr.arguments) {
    const Value value = Eval(argument.value, scope);
    if (value.failed()) return false;
    if (argument.form == Argument::Form::kPositional) {
      positional.push_back(value);
    } else if (argument.form == Argument::Form::kKeyword) {
      keywords.push_back({argument.name, value});
    } else if (argument.form == Argument::Form::kSpread) {
      std::span<const Value> items;
      if (!Elements(runtime_, value, &items)) return false;
      positional.insert(positional.end(), items.begin(), items.end());
    } else {
      if (!value.Is(Kind::kDict)) {
        runtime_.Fail(fmt::format("argument after ** must be a mapping, not {}", TypeName(value)));
        return false;
      }
      for (const Entry& entry : value.dict->all()) {
        if (!entry.key.is_string()) {
          runtime_.Fail("keywords must be strings");
          return false;
        }
        keywords.push_back({entry.key.str(), entry.value});
      }
    }
  }
  if (caller != nullptr) keywords.push_back({"caller", *caller});
  Value* values = runtime_.Array<Value>(positional.size());
  Keyword* names = runtime_.Array<Keyword>(keywords.size());
  if (values == nullptr || names == nullptr) return false;
  std::ranges::copy(positional, values);
  std::ranges::copy(keywords, names);
  *out = {{values, positional.size()}, {names, keywords.size()}};
  return true;
}

Value Interpreter::EvalCall(const Expr& expr, Scope* scope, const Value* caller) {
  const Value callee = Eval(expr.a, scope);
  CallArguments arguments;
  if (callee.failed() || !EvalArguments(expr, scope, caller, &arguments)) return Value::Failed();
  runtime_.set_line(expr.line);
  return Call(callee, arguments);
}

Value Interpreter::Call(const Value& callee, const CallArguments& arguments) {
  if (callee.Is(Kind::kCallable)) {
    if (callee.callable->form == Callable::Form::kMacro) {
      return CallMacro(*callee.callable, arguments);
    }
    return CallBuiltin(runtime_, *callee.callable, arguments, now_);
  }
  if (callee.Is(Kind::kJoiner)) {
    if (!Bound(runtime_, "joiner", arguments, {}).ok()) return Value::Failed();
    return std::exchange(callee.joiner->used, true) ? callee.joiner->separator : Value::String("");
  }
  if (callee.is_undefined()) return FailUndefined(runtime_, callee);
  return runtime_.Fail(fmt::format("'{}' object is not callable", TypeName(callee)));
}

Value Interpreter::CallMacro(const Callable& macro, const CallArguments& arguments) {
  Scope* scope = NewScope(macro.scope);
  if (scope == nullptr || !BindMacro(macro, arguments, scope)) return Value::Failed();
  std::string text;
  std::string* outer = std::exchange(out_, &text);
  const Flow flow = RunBody(macro.signature->body, scope);
  out_ = outer;
  return flow == Flow::kFailed ? Value::Failed() : runtime_.MakeString(text);
}

// As Jinja's Macro.__call__ binds.
bool Interpreter::BindMacro(const Callable& macro, const CallArguments& arguments, Scope* scope) {
  const Signature& signature = *macro.signature;
  std::vector<Keyword> left(arguments.keywords.begin(), arguments.keywords.end());
  const auto take = [&left](std::string_view name, Value* value) {
    const auto it = std::ranges::find(left, name, &Keyword::name);
    if (it == left.end()) return false;
    *value = it->value;
    left.erase(it);
    return true;
  };
  const auto fail = [&](std::string what) {
    runtime_.Fail(fmt::format("macro '{}' {}", signature.name, what));
    return false;
  };
  const auto store = [&](std::string_view name, const Value& value) {
    const auto id = std::ranges::find(template_.names, name) - template_.names.begin();
    return Store(scope, static_cast<NameId>(id), value);
  };
  const size_t count = signature.parameters.size();
  bool has_caller = false;
  for (size_t i = 0; i < count; ++i) {
    const Parameter& parameter = signature.parameters[i];
    Value value;
    has_caller |= parameter.text == "caller";
    if (i < arguments.positional.size()) {
      value = arguments.positional[i];
    } else if (!take(parameter.text, &value)) {
      value = parameter.fallback == kNoId ? Value::Undefined(parameter.text)
                                          : Eval(parameter.fallback, scope);
    }
    if (value.failed() || !Store(scope, parameter.name, value)) return false;
  }
  if (signature.uses_caller && !has_caller) {
    Value caller;
    if (!take("caller", &caller) || caller.is_none()) caller = Value::Undefined("caller");
    if (!store("caller", caller)) return false;
  }
  if (signature.uses_kwargs) {
    std::vector<Entry> entries;
    for (const Keyword& k : left) entries.push_back({Value::String(k.name), k.value});
    const Value kwargs = runtime_.MakeDict(entries);
    if (kwargs.failed() || !store("kwargs", kwargs)) return false;
  } else if (!left.empty()) {
    return fail(fmt::format("takes no keyword argument '{}'", left.front().name));
  }
  const size_t extra =
      arguments.positional.size() > count ? arguments.positional.size() - count : 0;
  if (signature.uses_varargs) {
    const Value varargs = runtime_.MakeList(arguments.positional.last(extra), Kind::kTuple);
    if (varargs.failed() || !store("varargs", varargs)) return false;
  } else if (extra > 0) {
    return fail(fmt::format("takes not more than {} argument(s)", count));
  }
  return true;
}

}  // namespace penstock::tokens::jinja
