#include "wire/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <sstream>
#include <unordered_map>
#include <unordered_set>

namespace penstock::wire {
namespace {

constexpr size_t kMaxTreeBytes = 16u << 20;  // scalars after aliases are expanded
constexpr size_t kMaxNodes = 200'000;
constexpr size_t kMaxDepth = 64;

std::string Located(std::string_view file, size_t line, size_t column, std::string_view message) {
  std::string out(file);
  out += ':';
  out += std::to_string(line);
  out += ':';
  out += std::to_string(column);
  out += ": ";
  out += message;
  return out;
}

// How many bytes the UTF-8 sequence at the start of `s` has; 0 when it is not one.
size_t Utf8Length(std::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
  if (first < 0xC2 || first > 0xF4 || s.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = byte(1);
  if (first == 0xE0 && second < 0xA0) return 0;  // overlong
  if (first == 0xED && second > 0x9F) return 0;  // surrogate
  if (first == 0xF0 && second < 0x90) return 0;  // overlong
  if (first == 0xF4 && second > 0x8F) return 0;  // above U+10FFFF
  return length;
}

// The first byte that no YAML text may have, as a complaint. yaml-cpp takes 0x04 for the end of
// the text and guesses other encodings, so this check comes before it.
std::optional<std::string> FindBadByte(std::string_view text, std::string_view file) {
  size_t line = 1;
  size_t line_start = 0;
  for (size_t i = 0; i < text.size();) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    const size_t column = i - line_start + 1;
    if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7F) {
      return Located(file, line, column,
                     "control character " + std::to_string(c) + " is not allowed");
    }
    const size_t length = Utf8Length(text.substr(i));
    if (length == 0) return Located(file, line, column, "the text is not valid UTF-8");
    i += length;
    if (c == '\n') {
      ++line;
      line_start = i;
    }
  }
  return std::nullopt;
}

// Builds the tree from yaml-cpp's events. Complaints are thrown as YAML::ParserException, the only
// way to stop that parser; ParseYaml catches them.
class TreeBuilder : public YAML::EventHandler {
 public:
  YamlNode Take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) {
      throw YAML::ParserException(mark, "more content after the end of the first document");
    }
  }
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark&, const std::string&) override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Complete(mark, anchor, Made(YamlNode::Kind::kNull, mark), Size{1, 0, 0});
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node = Made(YamlNode::Kind::kScalar, mark);
    node.quoted = tag == "!" || tag == "tag:yaml.org,2002:str";
    if (!node.quoted) CheckTag(mark, tag);
    node.scalar = value;
    Complete(mark, anchor, std::move(node), Size{1, value.size(), 0});
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      throw YAML::ParserException(mark, "an alias refers to a node that contains it");
    }
    // Before the copy: the limits must hold before the memory is taken.
    Count(mark, found->second.size);
    CheckDepth(mark, found->second.size.depth);
    Attach(mark, YamlNode(found->second.node), found->second.size);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, YamlNode::Kind::kSequence);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(mark, tag, anchor, YamlNode::Kind::kMap);
  }
  void OnMapEnd() override { Close(); }

 private:
  struct Size {
    size_t nodes = 0;
    size_t bytes = 0;
    size_t depth = 0;  // levels below this node
  };
  struct Frame {
    YamlNode node;
    YAML::Mark mark;
    YAML::anchor_t anchor;
    Size size;
    bool has_key = false;  // of a map: the key is read, its value comes next
    std::unordered_set<std::string> keys;
  };
  struct Anchored {
    YamlNode node;
    Size size;
  };

  static YamlNode Made(YamlNode::Kind kind, const YAML::Mark& mark) {
    YamlNode node;
    node.kind = kind;
    node.line = static_cast<uint32_t>(mark.line + 1);
    node.column = static_cast<uint32_t>(mark.column + 1);
    return node;
  }

  static void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!" || tag == "tag:yaml.org,2002:map" ||
        tag == "tag:yaml.org,2002:seq") {
      return;
    }
    throw YAML::ParserException(mark, "tag '" + tag + "' is not supported");
  }

  void Count(const YAML::Mark& mark, const Size& size) {
    nodes_ += size.nodes;
    bytes_ += size.bytes;
    if (nodes_ > kMaxNodes) {
      throw YAML::ParserException(
          mark, "the document has more than " + std::to_string(kMaxNodes) + " nodes");
    }
    if (bytes_ > kMaxTreeBytes) {
      throw YAML::ParserException(mark, "the document is larger than 16 MiB after its aliases");
    }
  }

  void CheckDepth(const YAML::Mark& mark, size_t below) const {
    if (frames_.size() + below >= kMaxDepth) {
      throw YAML::ParserException(mark,
                                  "nested deeper than " + std::to_string(kMaxDepth) + " levels");
    }
  }

  void Open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
            YamlNode::Kind kind) {
    CheckTag(mark, tag);
    CheckDepth(mark, 0);
    Count(mark, Size{1, 0, 0});
    frames_.push_back(Frame{Made(kind, mark), mark, anchor, Size{1, 0, 0}, false, {}});
  }

  void Close() {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    Remember(frame.mark, frame.anchor, frame.node, frame.size);
    Attach(frame.mark, std::move(frame.node), frame.size);
  }

  void Complete(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode node, const Size& size) {
    Count(mark, size);
    Remember(mark, anchor, node, size);
    Attach(mark, std::move(node), size);
  }

  // Keeps a copy for later aliases; it counts as much as the node itself.
  void Remember(const YAML::Mark& mark, YAML::anchor_t anchor, const YamlNode& node,
                const Size& size) {
    if (anchor == YAML::NullAnchor) return;
    Count(mark, size);
    anchors_.emplace(anchor, Anchored{node, size});
  }

  void Attach(const YAML::Mark& mark, YamlNode node, const Size& size) {
    if (frames_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& parent = frames_.back();
    parent.size.nodes += size.nodes;
    parent.size.bytes += size.bytes;
    parent.size.depth = std::max(parent.size.depth, size.depth + 1);
    if (parent.node.kind == YamlNode::Kind::kSequence) {
      parent.node.items.push_back(std::move(node));
    } else if (parent.has_key) {
      parent.node.entries.back().second = std::move(node);
      parent.has_key = false;
    } else {
      AttachKey(mark, std::move(node), parent);
    }
  }

  static void AttachKey(const YAML::Mark& mark, YamlNode key, Frame& map) {
    if (key.kind != YamlNode::Kind::kScalar) {
      throw YAML::ParserException(mark, "a key must be a text");
    }
    if (key.scalar == "<<" && !key.quoted) {
      throw YAML::ParserException(mark, "merge keys (<<) are not supported");
    }
    if (!map.keys.insert(key.scalar).second) {
      throw YAML::ParserException(mark, "key '" + key.scalar + "' is given twice");
    }
    map.node.entries.emplace_back(std::move(key), YamlNode());
    map.has_key = true;
  }

  YamlNode root_;
  std::vector<Frame> frames_;
  std::unordered_map<YAML::anchor_t, Anchored> anchors_;
  size_t documents_ = 0;
  size_t nodes_ = 0;
  size_t bytes_ = 0;
};

}  // namespace

const YamlNode* YamlNode::Find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name.scalar == key) return &value;
  }
  return nullptr;
}

Result<YamlNode> ParseYaml(std::string_view text, std::string_view file_name) {
  if (text.size() > kMaxYamlBytes) {
    return Fail(Code::kInvalidArgument,
                Located(file_name, 1, 1,
                        "the text has " + std::to_string(text.size()) + " bytes, more than " +
                            std::to_string(kMaxYamlBytes)));
  }
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  if (auto bad = FindBadByte(text, file_name)) {
    return Fail(Code::kInvalidArgument, std::move(*bad));
  }
  TreeBuilder builder;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& e) {
    const bool has_mark = !e.mark.is_null();
    return Fail(Code::kInvalidArgument,
                Located(file_name, has_mark ? static_cast<size_t>(e.mark.line) + 1 : 1,
                        has_mark ? static_cast<size_t>(e.mark.column) + 1 : 1, e.msg));
  }
  return builder.Take();
}

std::string At(std::string_view file_name, const YamlNode& node, std::string_view message) {
  if (node.line == 0) return std::string(file_name) + ": " + std::string(message);
  return Located(file_name, node.line, node.column, message);
}

}  // namespace penstock::wire
