// A parsed template: nodes in two arrays that name each other by number, and texts that lie in the
// template.
//
// THREADS: constant once parsed; any number of renders read one at a time or together.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokens/jinja_value.h"

namespace penstock::tokens::jinja {

using ExprId = uint32_t;
using BodyId = uint32_t;
using NameId = uint32_t;
constexpr uint32_t kNoId = UINT32_MAX;

enum class ExprKind : uint8_t {
  kConstant,   // constant
  kName,       // name
  kList,       // parts
  kTuple,      // parts
  kDict,       // parts: key, value, ...
  kAttribute,  // a.text
  kItem,       // a[b]
  kSlice,      // a[b:c:d]
  kCall,       // a(arguments)
  kFilter,     // a | text(arguments)
  kTest,       // a is text(arguments)
  kAnd,        // a, b
  kOr,
  kNot,
  kNegative,
  kPositive,
  kBinary,       // a op b
  kCompare,      // a, then parts with ops
  kConcat,       // parts
  kChoice,       // b if a else c
  kPlaceholder,  // what a filter block captured
};

enum class Operator : uint8_t {
  kAdd,
  kSubtract,
  kMultiply,
  kDivide,
  kFloorDivide,
  kModulo,
  kPower,
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn,
};

struct Argument {
  enum class Form : uint8_t { kPositional, kKeyword, kSpread, kKeywordSpread };
  Form form = Form::kPositional;
  std::string_view name;  // of a keyword
  ExprId value = kNoId;
};

struct Expr {
  ExprKind kind;
  Operator op = Operator::kAdd;
  int16_t builtin = -1;  // kFilter, kTest: which one; -1 when there is none of that name
  int32_t depth = 1;
  uint32_t line = 0;
  ExprId a = kNoId;
  ExprId b = kNoId;
  ExprId c = kNoId;
  ExprId d = kNoId;
  NameId name = kNoId;
  std::string_view text;
  Value constant;
  std::vector<ExprId> parts;
  std::vector<Operator> ops;
  std::vector<Argument> arguments;
};

// What `for`, `set` and `with` assign to: one name, an attribute of a namespace, or several
// targets.
struct Target {
  enum class Form : uint8_t { kName, kAttribute, kTuple };
  Form form = Form::kName;
  NameId name = kNoId;
  std::string_view attribute;
  std::vector<Target> parts;
};

struct Parameter {
  NameId name = kNoId;
  std::string_view text;
  ExprId fallback = kNoId;
};

struct Signature {
  std::string_view name;
  std::vector<Parameter> parameters;
  BodyId body = kNoId;
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
};

enum class StatementKind : uint8_t {
  kText,         // text
  kPrint,        // expr
  kIf,           // branches, body: else
  kFor,          // target, expr, test, body, other: else
  kSet,          // target, expr
  kSetBlock,     // target, body; expr: a filter over kPlaceholder
  kWith,         // assignments, body
  kMacro,        // signature
  kCallBlock,    // expr: the call; signature: the caller
  kFilterBlock,  // expr: a filter over kPlaceholder; body
  kScope,        // body (the `generation` tag)
  kBreak,
  kContinue,
};

struct Statement {
  StatementKind kind;
  uint32_t line = 0;
  bool uses_loop = false;  // kFor: the body names `loop`
  std::string_view text;
  ExprId expr = kNoId;
  ExprId test = kNoId;
  BodyId body = kNoId;
  BodyId other = kNoId;
  Target target;
  std::vector<std::pair<ExprId, BodyId>> branches;
  std::vector<std::pair<Target, ExprId>> assignments;
  uint32_t signature = kNoId;
};

struct Template {
  std::vector<Expr> exprs;
  std::vector<std::vector<Statement>> bodies;
  std::vector<Signature> signatures;
  std::vector<std::string_view> names;  // by NameId
  std::deque<std::string> texts;        // what the nodes view
  BodyId root = kNoId;
  bool has_generation = false;  // the tag, which is transformers' own
};

}  // namespace penstock::tokens::jinja
