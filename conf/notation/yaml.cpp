// SPDX-License-Identifier: GPL-3.0-or-later
// YAML and JSON text to Node: the only file that sees yaml-cpp. Built on its events rather than on its
// nodes, so that places, duplicate keys, tags and the cost of aliases are ours to judge.
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/node/node.h>  // unused, but parser.h only declares it and clang-tidy then sees ours
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <exception>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "conf/notation/node.hpp"
#include "conf/text.hpp"

namespace postern::conf {
namespace {

constexpr size_t most_copied_bytes = 16u << 20;  // by all anchors and aliases together

Place place_of(const YAML::Mark& mark) { return {mark.line + 1, mark.column + 1}; }

/// Ends parsing from within an event.
class Refusal : public std::runtime_error {
 public:
  Refusal(Place where, const std::string& text) : std::runtime_error(text), place(where) {}
  Place place;
};

size_t weight(const Node& node) {
  size_t sum = sizeof(Node) + node.text.size();
  for (const Node& item : node.items) sum += weight(item);
  for (const Entry& entry : node.entries) sum += sizeof(Entry) + entry.key.size() + weight(entry.value);
  return sum;
}

class TreeBuilder : public YAML::EventHandler {
 public:
  Node take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) throw Refusal(place_of(mark), "only one document is allowed");
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Node node;
    node.place = place_of(mark);
    finish(std::move(node), anchor, false);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchored_.find(anchor);
    if (found == anchored_.end()) throw Refusal(place_of(mark), "an alias inside of what it stands for");
    charge(place_of(mark), found->second.weight);
    if (stack_.size() + found->second.depth > deepest_nesting) throw too_deep(mark);
    depth_below_ = found->second.depth;
    finish(found->second.node, 0, false);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node;
    node.place = place_of(mark);
    const bool null = tag == core("null");
    check_tag(mark, tag, {"?", "!", core("str"), core("int"), core("bool"), core("float"), core("null")});
    node.kind = null ? Node::Kind::null : Node::Kind::scalar;
    if (!null) node.text = value;
    finish(std::move(node), anchor, tag == "?" && value == "<<");
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    check_tag(mark, tag, {"?", "!", core("seq")});
    open(mark, Node::Kind::list, anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    check_tag(mark, tag, {"?", "!", core("map")});
    open(mark, Node::Kind::table, anchor);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    Node node;
    YAML::anchor_t anchor = 0;
    size_t depth = 0;                // of what is inside
    std::optional<std::string> key;  // read, its value still to come
    Place key_place;
    bool merge = false;  // the key is "<<"
    std::set<std::string, std::less<>> keys;
    std::optional<Node> merged;  // the value of "<<"
  };
  struct Anchored {
    Node node;
    size_t weight = 0;
    size_t depth = 0;
  };

  static std::string core(std::string_view type) { return "tag:yaml.org,2002:" + std::string(type); }

  static Refusal too_deep(const YAML::Mark& mark) {
    return {place_of(mark), "tables and lists are nested too deeply"};
  }

  static void check_tag(const YAML::Mark& mark, const std::string& tag,
                        const std::vector<std::string>& allowed) {
    if (tag.empty() || std::find(allowed.begin(), allowed.end(), tag) != allowed.end()) return;
    throw Refusal(place_of(mark), "the tag " + quoted(tag) + " is not supported here");
  }

  /// Anchors and aliases copy; a small file must not become a large tree.
  void charge(Place place, size_t bytes) {
    copied_bytes_ += bytes;
    if (copied_bytes_ > most_copied_bytes) throw Refusal(place, "aliases expand to too much");
  }

  void open(const YAML::Mark& mark, Node::Kind kind, YAML::anchor_t anchor) {
    if (!stack_.empty() && stack_.back().node.kind == Node::Kind::table && !stack_.back().key) {
      throw Refusal(place_of(mark), "a key must be plain text");
    }
    if (stack_.size() >= deepest_nesting) throw too_deep(mark);
    Frame frame;
    frame.node.kind = kind;
    frame.node.place = place_of(mark);
    frame.anchor = anchor;
    stack_.push_back(std::move(frame));
  }

  void close() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    if (frame.merged) merge(frame);
    depth_below_ = frame.depth + 1;
    finish(std::move(frame.node), frame.anchor, false);
  }

  /// A whole value: of the document, of a list, or the key or value of a table.
  void finish(Node node, YAML::anchor_t anchor, bool merge_word) {
    const size_t depth = std::exchange(depth_below_, size_t{0});
    if (anchor != 0) {
      const size_t bytes = weight(node);
      charge(node.place, bytes);
      anchored_[anchor] = Anchored{node, bytes, depth};
    }
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& frame = stack_.back();
    frame.depth = std::max(frame.depth, depth);
    if (frame.node.kind == Node::Kind::list) {
      frame.node.items.push_back(std::move(node));
    } else if (!frame.key) {
      take_key(frame, std::move(node), merge_word);
    } else {
      if (frame.merge) {
        frame.merged = std::move(node);
      } else {
        frame.node.entries.push_back(Entry{std::move(*frame.key), frame.key_place, std::move(node)});
      }
      frame.key.reset();
    }
  }

  static void take_key(Frame& frame, Node node, bool merge_word) {
    if (node.kind != Node::Kind::scalar) throw Refusal(node.place, "a key must be plain text");
    if (!frame.keys.insert(node.text).second) {
      throw Refusal(node.place, "the key " + quoted(node.text) + " is there twice");
    }
    frame.key_place = node.place;
    frame.key = std::move(node.text);
    frame.merge = merge_word;
  }

  /// "<<": what the table says itself wins, then the sources in their order.
  static void merge(Frame& frame) {
    Node& value = *frame.merged;
    std::vector<Node> sources;
    if (value.kind == Node::Kind::list) {
      sources = std::move(value.items);
    } else {
      sources.push_back(std::move(value));
    }
    for (Node& source : sources) {
      if (source.kind != Node::Kind::table) throw Refusal(source.place, "only tables can be merged");
      for (Entry& entry : source.entries) {
        if (frame.keys.insert(entry.key).second) frame.node.entries.push_back(std::move(entry));
      }
    }
  }

  Node root_;
  int documents_ = 0;
  std::vector<Frame> stack_;
  std::map<YAML::anchor_t, Anchored> anchored_;
  size_t copied_bytes_ = 0;
  size_t depth_below_ = 0;  // levels within the value that was just closed
};

}  // namespace

Tree parse_yaml(std::string_view text) {
  const auto refuse = [](Place place, const char* why) {
    return tl::unexpected(SyntaxError{place, std::string(why)});
  };
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder;
    while (parser.HandleNextDocument(builder)) {
    }
    Node root = builder.take_root();
    if (root.kind == Node::Kind::null) root.kind = Node::Kind::table;  // an empty file
    if (root.place.line == 0) root.place = {1, 1};
    return root;
  } catch (const Refusal& problem) {
    return refuse(problem.place, problem.what());
  } catch (const YAML::Exception& problem) {
    return refuse(place_of(problem.mark), problem.msg.c_str());
  } catch (const std::exception& problem) {
    return refuse({1, 1}, problem.what());
  }
}

}  // namespace postern::conf
