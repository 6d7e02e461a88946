// Reads a tokenizer.json. Whatever is not understood is an error: tokens that are nearly right are
// worse than none.
#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <boost/unordered/unordered_flat_map.hpp>
#include <optional>
#include <string>
#include <utility>

#include "core/text.h"
#include "tokens/json_tokenizer.h"
#include "tokens/unicode.h"

namespace penstock::tokens {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

constexpr size_t kMaxTokens = size_t{4} << 20;
constexpr size_t kMaxMerges = size_t{8} << 20;
constexpr size_t kMaxAddedTokens = 65536;
constexpr size_t kMaxAddedTokenBytes = 256;
constexpr int kMaxDepth = 8;
constexpr size_t kMaxSteps = 64;

constexpr std::string_view kMetaspace = "\xe2\x96\x81";

std::unexpected<Error> Wrong(std::string_view where, std::string_view what) {
  std::string message(where);
  message += ": ";
  AppendValidUtf8(what, &message);
  return Fail(Code::kInvalidArgument, std::move(message));
}

// Reads fields of one component; the first that is of another type is kept as the error.
class Fields {
 public:
  Fields(std::string where, object fields) : where_(std::move(where)), fields_(fields) {}

  const std::string& where() const { return where_; }
  const std::optional<Error>& error() const { return error_; }

  // The value, unless it is missing or null.
  std::optional<element> Find(std::string_view name) const {
    element value;
    if (fields_[name].get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
    return value;
  }
  std::string Text(std::string_view name, std::string_view otherwise) {
    const auto value = Read<std::string_view>(name, "a text");
    return std::string(value.found ? value.value : otherwise);
  }
  bool Bool(std::string_view name, bool otherwise) {
    const auto value = Read<bool>(name, "true or false");
    return value.found ? value.value : otherwise;
  }
  std::optional<array> Array(std::string_view name) {
    const auto value = Read<array>(name, "a list");
    return value.found ? std::optional(value.value) : std::nullopt;
  }
  std::optional<object> Object(std::string_view name) {
    const auto value = Read<object>(name, "an object");
    return value.found ? std::optional(value.value) : std::nullopt;
  }

 private:
  template <class T>
  struct Found {
    bool found = false;
    T value{};
  };
  template <class T>
  Found<T> Read(std::string_view name, std::string_view type) {
    const std::optional<element> value = Find(name);
    if (!value) return {};
    Found<T> found{.found = true};
    if (value->get(found.value) == simdjson::SUCCESS) return found;
    if (!error_)
      error_ = Error{Code::kInvalidArgument, fmt::format("{}.{} is not {}", where_, name, type)};
    return {};
  }

  std::string where_;
  object fields_;
  std::optional<Error> error_;
};

// A component has its kind in "type".
Result<Fields> Component(const std::string& where, element value) {
  object fields;
  if (value.get(fields) != simdjson::SUCCESS) return Wrong(where, "is not an object");
  return Fields(where, fields);
}

Result<std::variant<std::string, Pattern>> ReadPattern(Fields& fields) {
  const std::optional<object> given = fields.Object("pattern");
  if (!given) return Wrong(fields.where(), "'pattern' is missing or not an object");
  std::string_view text;
  if ((*given)["String"].get(text) == simdjson::SUCCESS) {
    if (text.empty()) return Wrong(fields.where(), "the pattern is empty");
    return std::string(text);
  }
  if ((*given)["Regex"].get(text) != simdjson::SUCCESS) {
    return Wrong(fields.where(), "the pattern has neither 'String' nor 'Regex'");
  }
  auto pattern = Pattern::Make(text);
  if (!pattern) return Wrong(fields.where(), pattern.error().message);
  return *std::move(pattern);
}

// Calls read(where, element) for the component, or for each of a Sequence's, however nested.
template <class Read>
Result<> ForEachComponent(const std::string& where, element value, std::string_view list, int depth,
                          const Read& read) {
  if (depth > kMaxDepth)
    return Wrong(where, fmt::format("Sequences nest deeper than {}", kMaxDepth));
  Result<Fields> fields = Component(where, value);
  if (!fields) return std::unexpected(fields.error());
  const std::string type = fields->Text("type", "");
  if (type != "Sequence") return read(*fields, type);
  const std::optional<array> items = fields->Array(list);
  if (!items) return Wrong(where, fmt::format("the Sequence has no list '{}'", list));
  size_t index = 0;
  for (const element item : *items) {
    auto done = ForEachComponent(fmt::format("{}.{}[{}]", where, list, index++), item, list,
                                 depth + 1, read);
    if (!done) return done;
  }
  return {};
}

// --- normaliser

Result<NormalizerStep> ReadNormalizerStep(Fields& fields, std::string_view type) {
  if (type == "NFC") return UnicodeForm::kNfc;
  if (type == "NFD") return UnicodeForm::kNfd;
  if (type == "NFKC") return UnicodeForm::kNfkc;
  if (type == "NFKD") return UnicodeForm::kNfkd;
  if (type == "Lowercase") return Lowercase{};
  if (type == "Strip")
    return Strip{fields.Bool("strip_left", true), fields.Bool("strip_right", true)};
  if (type == "Prepend") return Prepend{fields.Text("prepend", "")};
  if (type == "Replace") {
    auto pattern = ReadPattern(fields);
    if (!pattern) return std::unexpected(pattern.error());
    return Replace{*std::move(pattern), fields.Text("content", "")};
  }
  return Wrong(fields.where(), fmt::format("the normalizer '{}' is not supported", type));
}

Result<std::vector<NormalizerStep>> ReadNormalizer(std::optional<element> value) {
  std::vector<NormalizerStep> steps;
  if (!value) return steps;
  auto done = ForEachComponent("normalizer", *value, "normalizers", 0,
                               [&](Fields& fields, const std::string& type) -> Result<> {
                                 auto step = ReadNormalizerStep(fields, type);
                                 if (!step) return std::unexpected(step.error());
                                 if (fields.error()) return std::unexpected(*fields.error());
                                 if (steps.size() == kMaxSteps)
                                   return Wrong(fields.where(), "is one step too many");
                                 steps.push_back(*std::move(step));
                                 return {};
                               });
  if (!done) return std::unexpected(done.error());
  return steps;
}

bool ReplacesSpaces(const std::vector<NormalizerStep>& steps) {
  return std::ranges::any_of(steps, [](const NormalizerStep& step) {
    const auto* replace = std::get_if<Replace>(&step);
    const auto* wanted = replace == nullptr ? nullptr : std::get_if<std::string>(&replace->wanted);
    return wanted != nullptr && *wanted == " " && replace->by == kMetaspace;
  });
}

// --- pre-tokeniser

Result<SplitBehavior> ReadBehavior(Fields& fields, std::string_view otherwise) {
  const std::string name = fields.Text("behavior", otherwise);
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return Wrong(fields.where(), fmt::format("the behavior '{}' is not supported", name));
}

Result<PreTokenizerStep> ReadSplit(Fields& fields) {
  Split split;
  const auto behavior = ReadBehavior(fields, "");
  if (!behavior) return std::unexpected(behavior.error());
  split.behavior = *behavior;
  split.invert = fields.Bool("invert", false);
  const std::optional<object> given = fields.Object("pattern");
  std::string_view expression;
  if (given && (*given)["Regex"].get(expression) == simdjson::SUCCESS) {
    if (const auto scanner = ScannerOf(expression)) {
      split.pattern = *scanner;
      return split;
    }
  }
  auto pattern = ReadPattern(fields);
  if (!pattern) return std::unexpected(pattern.error());
  if (auto* text = std::get_if<std::string>(&*pattern)) {
    split.pattern = std::move(*text);
  } else {
    split.pattern = std::get<Pattern>(*std::move(pattern));
  }
  return split;
}

Result<PreTokenizerStep> ReadMetaspace(Fields& fields) {
  Metaspace metaspace;
  metaspace.replacement = fields.Text("replacement", kMetaspace);
  if (metaspace.replacement.empty() ||
      CharAt(metaspace.replacement, 0).size != metaspace.replacement.size()) {
    return Wrong(fields.where(), "'replacement' is not one character");
  }
  metaspace.split = fields.Bool("split", true);
  const std::string scheme = fields.Text("prepend_scheme", "always");
  if (scheme == "never") {
    metaspace.prefix = Metaspace::Prefix::kNever;
  } else if (scheme == "first") {
    metaspace.prefix = Metaspace::Prefix::kFirst;
  } else if (scheme != "always") {
    return Wrong(fields.where(), fmt::format("the prepend_scheme '{}' is not supported", scheme));
  }
  if (!fields.Bool("add_prefix_space", true)) metaspace.prefix = Metaspace::Prefix::kNever;
  return metaspace;
}

// Appends the steps of one component that is no ByteLevel.
Result<> AddPreTokenizer(Fields& fields, std::string_view type,
                         std::vector<PreTokenizerStep>* steps) {
  Result<PreTokenizerStep> step = Split{};
  if (type == "Split") {
    step = ReadSplit(fields);
  } else if (type == "Metaspace") {
    step = ReadMetaspace(fields);
  } else if (type == "Digits") {
    const bool is_individual = fields.Bool("individual_digits", false);
    step = Split{CharMatch{CharMatch::Kind::kNumbers},
                 is_individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous};
  } else if (type == "Punctuation") {
    const auto behavior = ReadBehavior(fields, "Isolated");
    if (!behavior) return std::unexpected(behavior.error());
    step = Split{CharMatch{CharMatch::Kind::kPunctuation}, *behavior};
  } else if (type == "WhitespaceSplit") {
    step = Split{CharMatch{CharMatch::Kind::kSpaces}, SplitBehavior::kRemoved};
  } else {
    return Wrong(fields.where(), fmt::format("the pre_tokenizer '{}' is not supported", type));
  }
  if (!step) return std::unexpected(step.error());
  steps->push_back(*std::move(step));
  return {};
}

struct PreTokenizing {
  std::vector<PreTokenizerStep> steps;
  bool is_byte_level = false;
};

// Digits, then Han and Kana, then the rest, as DeepSeek V3 has them.
void FindDeepSeek(element value, std::vector<PreTokenizerStep>* steps) {
  std::string_view first, second;
  const auto items = value["pretokenizers"];
  if (steps->size() != 3 || items.at(0)["pattern"]["Regex"].get(first) != simdjson::SUCCESS ||
      items.at(1)["pattern"]["Regex"].get(second) != simdjson::SUCCESS) {
    return;
  }
  for (const PreTokenizerStep& step : *steps) {
    const auto* split = std::get_if<Split>(&step);
    if (split == nullptr || split->behavior != SplitBehavior::kIsolated || split->invert) return;
  }
  const auto* third = std::get_if<Scanner>(&std::get<Split>((*steps)[2]).pattern);
  if (third == nullptr || *third != Scanner::kDeepSeek || first != "\\p{N}{1,3}" ||
      second != "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+") {
    return;
  }
  steps->clear();
  steps->emplace_back(DeepSeekSplit{});
}

Result<PreTokenizing> ReadPreTokenizer(std::optional<element> value, bool has_no_spaces) {
  PreTokenizing out;
  if (!value) return out;
  auto done = ForEachComponent(
      "pre_tokenizer", *value, "pretokenizers", 0,
      [&](Fields& fields, const std::string& type) -> Result<> {
        if (out.is_byte_level)
          return Wrong(fields.where(), "a step behind ByteLevel is not supported");
        if (out.steps.size() >= kMaxSteps) return Wrong(fields.where(), "is one step too many");
        if (type == "ByteLevel") {
          out.is_byte_level = true;
          if (fields.Bool("add_prefix_space", true)) out.steps.emplace_back(PrefixSpace{});
          if (fields.Bool("use_regex", true)) out.steps.emplace_back(Split{Scanner::kGpt2});
        } else if (auto added = AddPreTokenizer(fields, type, &out.steps); !added) {
          return added;
        }
        if (fields.error()) return std::unexpected(*fields.error());
        return {};
      });
  if (!done) return std::unexpected(done.error());
  if (has_no_spaces) {  // Gemma 3 splits at spaces that the normaliser has replaced
    std::erase_if(out.steps, [](const PreTokenizerStep& step) {
      const auto* split = std::get_if<Split>(&step);
      const auto* wanted = split == nullptr ? nullptr : std::get_if<std::string>(&split->pattern);
      return wanted != nullptr && *wanted == " ";
    });
  }
  FindDeepSeek(*value, &out.steps);
  return out;
}

// --- model

using Vocabulary = boost::unordered_flat_map<std::string_view, uint32_t>;

Result<> ReadVocabulary(Fields& fields, Vocabulary* vocabulary) {
  const std::optional<object> given = fields.Object("vocab");
  if (!given) return Wrong(fields.where(), "'vocab' is missing or not an object");
  if (given->size() > kMaxTokens) {
    return Wrong(fields.where(), fmt::format("'vocab' has more than {} tokens", kMaxTokens));
  }
  for (const auto& [text, value] : *given) {
    uint64_t id = 0;
    if (value.get(id) != simdjson::SUCCESS || id > Bpe::kMaxId) {
      return Wrong(fields.where(), fmt::format("the id of '{}' is not a number up to {}",
                                               text.substr(0, 64), Bpe::kMaxId));
    }
    vocabulary->insert_or_assign(text, static_cast<uint32_t>(id));
  }
  return {};
}

// "left right", or a pair of texts.
Result<> ReadMerges(Fields& fields,
                    std::vector<std::pair<std::string_view, std::string_view>>* merges) {
  const std::optional<array> given = fields.Array("merges");
  if (!given) return Wrong(fields.where(), "'merges' is missing or not a list");
  for (const element merge : *given) {
    if (merges->size() == kMaxMerges) {
      return Wrong(fields.where(), fmt::format("there are more than {} merges", kMaxMerges));
    }
    std::string_view line, left, right;
    array pair;
    if (merge.get(line) == simdjson::SUCCESS) {
      if (line.starts_with("#version")) continue;
      const size_t space = line.find(' ');
      if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
        return Wrong(fields.where(),
                     fmt::format("the merge '{}' is not two tokens", line.substr(0, 64)));
      }
      left = line.substr(0, space);
      right = line.substr(space + 1);
    } else if (merge.get(pair) != simdjson::SUCCESS || pair.size() != 2 ||
               pair.at(0).get(left) != simdjson::SUCCESS ||
               pair.at(1).get(right) != simdjson::SUCCESS) {
      return Wrong(fields.where(), fmt::format("merge {} is not two tokens", merges->size()));
    }
    if (left.empty() || right.empty()) {
      return Wrong(fields.where(), fmt::format("merge {} has an empty token", merges->size()));
    }
    merges->emplace_back(left, right);
  }
  return {};
}

Result<std::unique_ptr<Bpe>> ReadModel(element value, Bpe::Alphabet alphabet,
                                       Vocabulary* vocabulary) {
  Result<Fields> fields = Component("model", value);
  if (!fields) return std::unexpected(fields.error());
  // Files of old have no type where there was but one.
  const std::string type = fields->Text("type", fields->Find("merges") ? "BPE" : "");
  if (type != "BPE") return Wrong("model", fmt::format("the model '{}' is not supported", type));
  Bpe::Model model;
  model.alphabet = alphabet;
  if (const auto dropout = fields->Find("dropout")) {
    double probability = 0;
    if (dropout->get(probability) != simdjson::SUCCESS || probability != 0) {
      return Wrong("model", "'dropout' is not supported");
    }
  }
  for (const std::string_view name : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string affix = fields->Text(name, "");
    if (!affix.empty()) return Wrong("model", fmt::format("{} '{}' is not supported", name, affix));
  }
  if (fields->Find("unk_token")) model.unknown = fields->Text("unk_token", "");
  model.fuse_unknown = fields->Bool("fuse_unk", false);
  model.byte_fallback = fields->Bool("byte_fallback", false);
  model.ignore_merges = fields->Bool("ignore_merges", false);
  if (auto read = ReadVocabulary(*fields, vocabulary); !read) return std::unexpected(read.error());
  if (auto read = ReadMerges(*fields, &model.merges); !read) return std::unexpected(read.error());
  if (fields->error()) return std::unexpected(*fields->error());
  model.vocabulary.assign(vocabulary->begin(), vocabulary->end());
  auto bpe = Bpe::Make(model);
  if (!bpe) return Wrong("model", bpe.error().message);
  return std::make_unique<Bpe>(*std::move(bpe));
}

// --- added tokens

// A token that the model has keeps the model's id; others get the next ones, as in the reference,
// which reads the ids of the file but does not follow them.
Result<std::vector<AddedToken>> ReadAddedTokens(std::optional<element> value,
                                                const Vocabulary& vocabulary) {
  std::vector<AddedToken> added;
  array items;
  if (!value) return added;
  if (value->get(items) != simdjson::SUCCESS) return Wrong("added_tokens", "is not a list");
  boost::unordered_flat_map<std::string, size_t> places;
  std::optional<uint32_t> largest;
  for (const element item : items) {
    const std::string where = fmt::format("added_tokens[{}]", added.size());
    Result<Fields> fields = Component(where, item);
    if (!fields) return std::unexpected(fields.error());
    AddedToken token;
    token.text = fields->Text("content", "");
    token.is_special = fields->Bool("special", false);
    token.strips_left = fields->Bool("lstrip", false);
    token.strips_right = fields->Bool("rstrip", false);
    token.is_single_word = fields->Bool("single_word", false);
    token.is_normalized = fields->Bool("normalized", true);
    if (fields->error()) return std::unexpected(*fields->error());
    if (token.text.empty()) continue;
    if (token.text.size() > kMaxAddedTokenBytes || added.size() == kMaxAddedTokens) {
      return Wrong(where, fmt::format("there may be {} added tokens of up to {} bytes",
                                      kMaxAddedTokens, kMaxAddedTokenBytes));
    }
    const auto known = vocabulary.find(token.text);
    const auto place = places.find(token.text);
    const auto count = static_cast<uint32_t>(vocabulary.size());
    if (place != places.end()) {
      token.id = added[place->second].id;
      added[place->second] = token;
      continue;
    }
    token.id = known != vocabulary.end()                      ? known->second
               : largest && (*largest >= count || count == 0) ? *largest + 1
                                                              : count;
    largest = std::max(largest.value_or(0), token.id);
    places.emplace(token.text, added.size());
    added.push_back(std::move(token));
  }
  return added;
}

// --- post-processor

Result<> ReadIds(Fields& fields, std::string_view name, std::vector<uint32_t>* ids) {
  const std::optional<object> known = fields.Object("special_tokens");
  object token;
  array list;
  if (!known || (*known)[name].get(token) != simdjson::SUCCESS ||
      token["ids"].get(list) != simdjson::SUCCESS) {
    return Wrong(fields.where(), fmt::format("the token '{}' is not in special_tokens", name));
  }
  for (const element item : list) {
    uint64_t id = 0;
    if (item.get(id) != simdjson::SUCCESS || id > Bpe::kMaxId || ids->size() == kMaxSteps) {
      return Wrong(fields.where(), fmt::format("the ids of '{}' are not up to {} numbers up to {}",
                                               name, kMaxSteps, Bpe::kMaxId));
    }
    ids->push_back(static_cast<uint32_t>(id));
  }
  return {};
}

struct Around {
  std::vector<uint32_t> prefix;
  std::vector<uint32_t> suffix;
};

Result<Around> ReadTemplate(Fields& fields) {
  const std::optional<array> single = fields.Array("single");
  if (!single) return Wrong(fields.where(), "'single' is not a list");
  Around around;
  bool is_behind = false;
  for (const element item : *single) {
    std::string_view name;
    if (item["Sequence"]["id"].get(name) == simdjson::SUCCESS) {
      if (is_behind) return Wrong(fields.where(), "a template with two texts is not supported");
      is_behind = true;
      continue;
    }
    if (item["SpecialToken"]["id"].get(name) != simdjson::SUCCESS) {
      return Wrong(fields.where(), "'single' has what is neither a SpecialToken nor a Sequence");
    }
    auto read = ReadIds(fields, name, is_behind ? &around.suffix : &around.prefix);
    if (!read) return std::unexpected(read.error());
  }
  if (!is_behind) return Wrong(fields.where(), "the template has no text");
  return around;
}

// BertProcessing and RobertaProcessing: "cls" text "sep", each as [text, id].
Result<Around> ReadPair(Fields& fields) {
  Around around;
  for (auto [name, ids] : {std::pair{"cls", &around.prefix}, {"sep", &around.suffix}}) {
    const std::optional<array> pair = fields.Array(name);
    uint64_t id = 0;
    if (!pair || pair->at(1).get(id) != simdjson::SUCCESS || id > Bpe::kMaxId) {
      return Wrong(fields.where(), fmt::format("'{}' is not a token and its id", name));
    }
    ids->push_back(static_cast<uint32_t>(id));
  }
  return around;
}

Result<Around> ReadPostProcessor(std::optional<element> value) {
  Around all;
  if (!value) return all;
  auto done = ForEachComponent(
      "post_processor", *value, "processors", 0,
      [&](Fields& fields, const std::string& type) -> Result<> {
        if (type == "ByteLevel") return {};  // it changes offsets alone
        Result<Around> around = Around{};
        if (type == "TemplateProcessing") {
          around = ReadTemplate(fields);
        } else if (type == "BertProcessing" || type == "RobertaProcessing") {
          around = ReadPair(fields);
        } else {
          return Wrong(fields.where(),
                       fmt::format("the post_processor '{}' is not supported", type));
        }
        if (!around) return std::unexpected(around.error());
        if (fields.error()) return std::unexpected(*fields.error());
        if (all.prefix.size() + all.suffix.size() > kMaxSteps) {
          return Wrong(fields.where(), "adds more tokens than are allowed");
        }
        all.prefix.insert(all.prefix.begin(), around->prefix.begin(), around->prefix.end());
        all.suffix.insert(all.suffix.end(), around->suffix.begin(), around->suffix.end());
        return {};
      });
  if (!done) return std::unexpected(done.error());
  return all;
}

bool HasMetaspace(const std::vector<PreTokenizerStep>& steps) {
  return std::ranges::any_of(steps, [](const PreTokenizerStep& step) {
    const auto* metaspace = std::get_if<Metaspace>(&step);
    return metaspace != nullptr && metaspace->replacement == kMetaspace;
  });
}

}  // namespace

Result<TokenizerParts> ReadTokenizerJson(std::string_view json) {
  if (json.size() > Tokenizer::kMaxFileBytes) {
    return Wrong("tokenizer.json", fmt::format("is above {} bytes", Tokenizer::kMaxFileBytes));
  }
  simdjson::dom::parser parser;
  element root;
  if (const auto error = parser.parse(json.data(), json.size()).get(root)) {
    return Wrong("tokenizer.json", simdjson::error_message(error));
  }
  object fields;
  if (root.get(fields) != simdjson::SUCCESS) return Wrong("tokenizer.json", "is not an object");
  const Fields top("tokenizer.json", fields);
  if (!top.Find("model")) return Wrong("tokenizer.json", "'model' is missing");

  TokenizerParts parts;
  auto normalizer = ReadNormalizer(top.Find("normalizer"));
  if (!normalizer) return std::unexpected(normalizer.error());
  const bool has_no_spaces = ReplacesSpaces(*normalizer);
  auto pre_tokenizer = ReadPreTokenizer(top.Find("pre_tokenizer"), has_no_spaces);
  if (!pre_tokenizer) return std::unexpected(pre_tokenizer.error());
  const bool is_byte_level = pre_tokenizer->is_byte_level;
  if (has_no_spaces || HasMetaspace(pre_tokenizer->steps)) parts.space = 0x2581;
  Vocabulary vocabulary;
  auto bpe = ReadModel(*top.Find("model"),
                       is_byte_level ? Bpe::Alphabet::kBytes : Bpe::Alphabet::kChars, &vocabulary);
  if (!bpe) return std::unexpected(bpe.error());
  auto added = ReadAddedTokens(top.Find("added_tokens"), vocabulary);
  if (!added) return std::unexpected(added.error());
  auto around = ReadPostProcessor(top.Find("post_processor"));
  if (!around) return std::unexpected(around.error());

  parts.normalizer = Normalizer(*std::move(normalizer));
  parts.pre_tokenizer = PreTokenizer(std::move(pre_tokenizer->steps));
  parts.bpe = *std::move(bpe);
  parts.added = *std::move(added);
  parts.prefix = std::move(around->prefix);
  parts.suffix = std::move(around->suffix);
  return parts;
}

}  // namespace penstock::tokens
