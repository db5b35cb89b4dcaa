// capi/check.cpp -- a small interpreter: reads the programs of capi/checks.py once, and runs them as Python
// would.
#include "check.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace infini::capi {

// ---- values
// ------------------------------------------------------------------------------------------------

Value Value::of(bool value) {
  Value made;
  made.kind = Kind::boolean;
  made.integer = value;
  return made;
}
Value Value::of(int64_t value) {
  Value made;
  made.kind = Kind::integer;
  made.integer = value;
  return made;
}
Value Value::of(double value) {
  Value made;
  made.kind = Kind::real;
  made.real = value;
  return made;
}
Value Value::of(std::string value) {
  Value made;
  made.kind = Kind::text;
  made.text = std::move(value);
  return made;
}
Value Value::of(std::vector<Value> items) {
  Value made;
  made.kind = Kind::tuple;
  made.items = std::move(items);
  return made;
}
Value Value::of(const std::vector<int64_t> &items) {
  std::vector<Value> values;
  for (int64_t item : items) values.push_back(of(item));
  return of(std::move(values));
}
Value Value::spec(const std::vector<int64_t> &shape, const char *dtype) {
  Value made;
  made.kind = Kind::spec;
  made.items = {of(shape), of(std::string(dtype))};
  return made;
}

bool Value::truth() const {
  switch (kind) {
    case Kind::none:
      return false;
    case Kind::boolean:
    case Kind::integer:
      return integer != 0;
    case Kind::real:
      return real != 0;
    case Kind::text:
      return !text.empty();
    case Kind::tuple:
    case Kind::dict:
      return !items.empty();
    case Kind::spec:
      return true;
  }
  return true;
}

double Value::number() const {
  return kind == Kind::real ? real : double(integer);
}

std::vector<int64_t> Value::integers() const {
  std::vector<int64_t> found;
  for (const Value &item : items) found.push_back(item.integer);
  return found;
}

namespace {

using Kind = Value::Kind;

[[noreturn]] void broken(const std::string &what) {
  throw Failure(INFINI_STATUS_INTERNAL_ERROR, "a check of libinfiniop cannot run: " + what);
}

bool is_number(const Value &v) {
  return v.kind == Kind::boolean || v.kind == Kind::integer || v.kind == Kind::real;
}

// As str() and repr() of Python write it.
std::string written(const Value &v, bool quoted) {
  switch (v.kind) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return v.integer ? "True" : "False";
    case Kind::integer:
      return std::to_string(v.integer);
    case Kind::real: {
      if (std::isnan(v.real)) return "nan";
      if (std::isinf(v.real)) return v.real < 0 ? "-inf" : "inf";
      char digits[40];
      const auto end = std::to_chars(digits, digits + sizeof digits, v.real).ptr;
      const std::string text(digits, end);
      return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
    }
    case Kind::text:
      return quoted ? "'" + v.text + "'" : v.text;
    case Kind::tuple: {
      std::string text = "(";
      for (size_t i = 0; i < v.items.size(); ++i) text += (i ? ", " : "") + written(v.items[i], true);
      return text + (v.items.size() == 1 ? ",)" : ")");
    }
    default:
      return "...";
  }
}

int compare(const Value &a, const Value &b);

bool equal(const Value &a, const Value &b) {
  if (is_number(a) && is_number(b))
    return a.kind == Kind::real || b.kind == Kind::real ? a.number() == b.number() : a.integer == b.integer;
  if (a.kind != b.kind || a.items.size() != b.items.size() || a.text != b.text) return false;
  return std::equal(a.items.begin(), a.items.end(), b.items.begin(), equal);
}

// Negative, zero or positive, as a < b, a == b or a > b.
int compare(const Value &a, const Value &b) {
  if (a.kind == Kind::tuple && b.kind == Kind::tuple) {
    for (size_t i = 0; i < std::min(a.items.size(), b.items.size()); ++i)
      if (int order = compare(a.items[i], b.items[i])) return order;
    return a.items.size() < b.items.size() ? -1 : a.items.size() > b.items.size();
  }
  if (a.kind == Kind::text) return a.text.compare(b.text);
  if (a.kind == Kind::real || b.kind == Kind::real)
    return a.number() < b.number() ? -1 : a.number() > b.number();
  return a.integer < b.integer ? -1 : a.integer > b.integer;
}

bool ordered(const std::string &op, const Value &a, const Value &b) {
  if (is_number(a) && is_number(b) && (std::isnan(a.number()) || std::isnan(b.number()))) return false;
  const int order = compare(a, b);
  return op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
}

Value arithmetic(const std::string &op, const Value &a, const Value &b) {
  if (op == "+" && a.kind == Kind::tuple) {
    std::vector<Value> joined = a.items;
    joined.insert(joined.end(), b.items.begin(), b.items.end());
    return Value::of(std::move(joined));
  }
  if (op == "+" && a.kind == Kind::text) return Value::of(a.text + b.text);
  if (op == "*" && (a.kind == Kind::tuple || b.kind == Kind::tuple)) {
    const Value &list = a.kind == Kind::tuple ? a : b, &times = a.kind == Kind::tuple ? b : a;
    std::vector<Value> joined;
    for (int64_t i = 0; i < times.integer; ++i)
      joined.insert(joined.end(), list.items.begin(), list.items.end());
    return Value::of(std::move(joined));
  }
  if (!is_number(a) || !is_number(b)) broken("'" + op + "' of what is no number");
  if (op == "/" || op == "**" || a.kind == Kind::real || b.kind == Kind::real) {
    const double x = a.number(), y = b.number();
    if ((op == "/" || op == "//" || op == "%") && y == 0) broken("a division by zero");
    if (op == "**" && a.kind != Kind::real && b.kind != Kind::real && b.integer >= 0) {
      int64_t power = 1;
      for (int64_t i = 0; i < b.integer; ++i) power *= a.integer;
      return Value::of(power);
    }
    if (op == "+") return Value::of(x + y);
    if (op == "-") return Value::of(x - y);
    if (op == "*") return Value::of(x * y);
    if (op == "/") return Value::of(x / y);
    if (op == "//") return Value::of(std::floor(x / y));
    if (op == "%") return Value::of(x - y * std::floor(x / y));
    return Value::of(std::pow(x, y));
  }
  // Unsigned, so that overflow wraps instead of being undefined.
  const int64_t x = a.integer, y = b.integer;
  if (op == "+") return Value::of(int64_t(uint64_t(x) + uint64_t(y)));
  if (op == "-") return Value::of(int64_t(uint64_t(x) - uint64_t(y)));
  if (op == "*") return Value::of(int64_t(uint64_t(x) * uint64_t(y)));
  if (y == 0) broken("a division by zero");
  if (y == -1) return Value::of(op == "%" ? int64_t(0) : int64_t(0 - uint64_t(x)));
  const int64_t quotient = x / y - (x % y != 0 && (x % y < 0) != (y < 0));
  return Value::of(op == "//" ? quotient : x - quotient * y);
}

// ---- programs
// ----------------------------------------------------------------------------------------------

struct Node {
  std::string word;  // of a list its first word; of a leaf the leaf, or a literal's text
  bool leaf = false, literal = false;
  std::vector<Node> parts;
};

class Reader {
  const char *at_;

 public:
  explicit Reader(const char *text) : at_(text) {}

  Node node() {
    skip();
    Node made;
    if (*at_ == '"') {
      made.leaf = made.literal = true;
      for (++at_; *at_ != '"'; ++at_) {
        if (*at_ == '\\') ++at_;
        made.word += at_[-1] == '\\' && *at_ == 'n' ? '\n' : *at_;
      }
      ++at_;
    } else if (*at_ != '(') {
      made.leaf = true;
      while (!std::strchr(" )", *at_)) made.word += *at_++;
    } else {
      ++at_;
      skip();
      while (*at_ != '(' && !std::strchr(" )", *at_)) made.word += *at_++;
      for (skip(); *at_ != ')'; skip()) made.parts.push_back(node());
      ++at_;
    }
    return made;
  }

 private:
  void skip() {
    while (*at_ == ' ') ++at_;
  }
};

struct Program {
  Node node;
  std::vector<std::string> parameters;
};

// A list without words, as parameters with a default and targets are, has its first word in `word`.
const Program &program(int number) {
  static std::mutex mutex;
  static auto *read = new std::unordered_map<int, std::unique_ptr<Program>>;
  std::lock_guard guard(mutex);
  auto &slot = (*read)[number];
  if (!slot) {
    slot = std::make_unique<Program>();
    slot->node = Reader(programs[number]).node();
    const Node &list = slot->node.parts.at(0);
    if (!list.word.empty()) slot->parameters.push_back(list.word);
    for (const Node &part : list.parts) slot->parameters.push_back(part.word);
  }
  return *slot;
}

// How a statement ended.
enum class Flow { next, again, done };

class Run {
  Names names_;
  Value result_;

 public:
  Value expression(const Node &node) { return value(node); }

  explicit Run(Names names) : names_(std::move(names)) {}

  Value call(const Program &program) {
    const Node &list = program.node.parts.at(0);
    for (const Node &part : list.parts)
      if (!part.leaf && !names_.count(part.word)) names_[part.word] = value(part.parts.at(0));
    block(program.node.parts, 1);
    return result_;
  }

 private:
  // -- statements --

  Flow block(const std::vector<Node> &statements, size_t from = 0) {
    for (size_t i = from; i < statements.size(); ++i)
      if (Flow flow = statement(statements[i]); flow != Flow::next) return flow;
    return Flow::next;
  }

  Flow statement(const Node &node) {
    const auto &parts = node.parts;
    if (node.word == "=") {
      assign(parts.at(0), value(parts.at(1)));
    } else if (node.word == "if") {
      return statement(value(parts.at(0)).truth() ? parts.at(1) : parts.at(2));
    } else if (node.word == "for") {
      for (const Value &item : items(value(parts.at(1)))) {
        assign(parts.at(0), item);
        if (statement(parts.at(2)) == Flow::done) return Flow::done;
      }
    } else if (node.word == "return") {
      result_ = value(parts.at(0));
      return Flow::done;
    } else if (node.word == "raise") {
      throw Failure(static_cast<infiniStatus_t>(std::stoi(parts.at(0).word)), value(parts.at(1)).text);
    } else if (node.word == "continue") {
      return Flow::again;
    } else if (node.word == "do") {
      for (const Node &part : parts) {
        static const char *const words[] = {"=", "if", "for", "return", "raise", "continue", "do"};
        if (std::find(std::begin(words), std::end(words), part.word) == std::end(words))
          value(part);
        else if (Flow flow = statement(part); flow != Flow::next)
          return flow;
      }
    } else {
      broken("the statement " + node.word);
    }
    return Flow::next;
  }

  void assign(const Node &target, Value given) {
    if (target.leaf) {
      names_[target.word] = std::move(given);
      return;
    }
    // "(a *b c)": the first word is the list's own.
    std::vector<const Node *> targets;
    Node first;
    if (!target.word.empty()) {
      first.leaf = true;
      first.word = target.word;
      targets.push_back(&first);
    }
    for (const Node &part : target.parts) targets.push_back(&part);
    std::vector<Value> values = items(given);
    size_t star = targets.size();
    for (size_t i = 0; i < targets.size(); ++i)
      if (targets[i]->leaf && targets[i]->word[0] == '*') star = i;
    const bool starred = star != targets.size();
    if (values.size() < targets.size() - starred || (!starred && values.size() != targets.size()))
      broken("an assignment of " + std::to_string(values.size()) + " values to " +
             std::to_string(targets.size()) + " names");
    const size_t extra = values.size() - (targets.size() - starred);
    for (size_t i = 0, at = 0; i < targets.size(); ++i) {
      if (i == star) {
        names_[targets[i]->word.substr(1)] =
            Value::of(std::vector<Value>(values.begin() + long(at), values.begin() + long(at + extra)));
        at += extra;
      } else {
        assign(*targets[i], values[at++]);
      }
    }
  }

  // -- expressions --

  static std::vector<Value> items(const Value &v) {
    if (v.kind == Kind::text) {
      std::vector<Value> letters;
      for (char c : v.text) letters.push_back(Value::of(std::string(1, c)));
      return letters;
    }
    if (v.kind != Kind::tuple) broken("a loop over what is no sequence");
    return v.items;
  }

  std::vector<Value> values(const std::vector<Node> &nodes, size_t from = 0) {
    std::vector<Value> found;
    for (size_t i = from; i < nodes.size(); ++i) {
      if (!nodes[i].leaf && nodes[i].word == "*") {
        for (Value &item : items(value(nodes[i].parts.at(0)))) found.push_back(std::move(item));
      } else {
        found.push_back(value(nodes[i]));
      }
    }
    return found;
  }

  static int64_t position(const Value &index, size_t size) {
    const int64_t at = index.integer < 0 ? index.integer + int64_t(size) : index.integer;
    if (at < 0 || at >= int64_t(size)) broken("an index out of range");
    return at;
  }

  static Value contains(const Value &in, const Value &item) {
    if (in.kind == Kind::text) return Value::of(in.text.find(item.text) != std::string::npos);
    return Value::of(std::any_of(in.items.begin(), in.items.end(), [&](auto &v) { return equal(v, item); }));
  }

  Value value(const Node &node) {
    if (node.leaf) {
      if (!node.literal) broken("the word " + node.word);
      return Value::of(node.word);
    }
    using Handler = Value (*)(Run &, const Node &);
    static const auto *const handlers = new std::unordered_map<std::string, Handler>{
        {"var", [](Run &run, const Node &n) {
           auto found = run.names_.find(n.parts.at(0).word);
           if (found == run.names_.end()) broken("the name " + n.parts.at(0).word);
           return found->second;
         }},
        {"none", [](Run &, const Node &) { return Value(); }},
        {"bool", [](Run &run, const Node &n) {
           const Node &part = n.parts.at(0);
           return Value::of(part.leaf && !part.literal ? part.word != "0" : run.value(part).truth());
         }},
        {"int", [](Run &run, const Node &n) {
           const Node &part = n.parts.at(0);
           if (part.leaf && !part.literal) return Value::of(int64_t(std::stoll(part.word)));
           const Value v = run.value(part);
           return Value::of(v.kind == Kind::real ? int64_t(v.real) : v.integer);
         }},
        {"float", [](Run &run, const Node &n) {
           const Node &part = n.parts.at(0);
           return Value::of(part.leaf && !part.literal ? std::stod(part.word) : run.value(part).number());
         }},
        {"tuple", [](Run &run, const Node &n) {
           // tuple(sequence) and (a, b) are one word: the call has one part, which is a sequence.
           std::vector<Value> found = run.values(n.parts);
           return Value::of(std::move(found));
         }},
        {"to-tuple", [](Run &run, const Node &n) { return Value::of(items(run.value(n.parts.at(0)))); }},
        {"shape", [](Run &run, const Node &n) { return run.value(n.parts.at(0)).items.at(0); }},
        {"ndim", [](Run &run, const Node &n) {
           return Value::of(int64_t(run.value(n.parts.at(0)).items.at(0).items.size()));
         }},
        {"dtype", [](Run &run, const Node &n) { return run.value(n.parts.at(0)).items.at(1); }},
        {"item", [](Run &run, const Node &n) {
           const Value from = run.value(n.parts.at(0)), index = run.value(n.parts.at(1));
           if (from.kind == Kind::dict) return lookup(from.items, index);
           const std::vector<Value> all = items(from);
           return all[size_t(position(index, all.size()))];
         }},
        {"slice", [](Run &run, const Node &n) {
           const Value from = run.value(n.parts.at(0));
           const std::vector<Value> all = items(from);
           const auto end = [&](const Value &v, int64_t otherwise) {
             if (v.is_none()) return otherwise;
             const int64_t size = int64_t(all.size()), at = v.integer < 0 ? v.integer + size : v.integer;
             return std::clamp<int64_t>(at, 0, size);
           };
           const int64_t low = end(run.value(n.parts.at(1)), 0);
           const int64_t high = end(run.value(n.parts.at(2)), int64_t(all.size()));
           std::vector<Value> taken;
           for (int64_t i = low; i < high; ++i) taken.push_back(all[size_t(i)]);
           return Value::of(std::move(taken));
         }},
        {"lookup", [](Run &run, const Node &n) {
           return lookup(run.values(n.parts, 1), run.value(n.parts.at(0)));
         }},
        {"member", [](Run &run, const Node &n) {
           return lookup(run.values(n.parts, 1), run.value(n.parts.at(0)));
         }},
        {"dict", [](Run &run, const Node &n) {
           Value made = Value::of(run.values(n.parts));
           made.kind = Kind::dict;
           return made;
         }},
        {"each", [](Run &run, const Node &n) { return run.each(n, 1); }},
        {"each-pair", [](Run &run, const Node &n) { return run.each(n, 2); }},
        {"not", [](Run &run, const Node &n) { return Value::of(!run.value(n.parts.at(0)).truth()); }},
        {"and", [](Run &run, const Node &n) {
           Value last;
           for (const Node &part : n.parts)
             if (!(last = run.value(part)).truth()) break;
           return last;
         }},
        {"or", [](Run &run, const Node &n) {
           Value last;
           for (const Node &part : n.parts)
             if ((last = run.value(part)).truth()) break;
           return last;
         }},
        {"choose", [](Run &run, const Node &n) {
           return run.value(n.parts.at(run.value(n.parts.at(0)).truth() ? 1 : 2));
         }},
        {"text", [](Run &run, const Node &n) {
           std::string text;
           for (const Node &part : n.parts) text += written(run.value(part), false);
           return Value::of(text);
         }},
        {"repr", [](Run &run, const Node &n) { return Value::of(written(run.value(n.parts.at(0)), true)); }},
        {"call", [](Run &run, const Node &n) {
           const Program &called = program(std::stoi(n.parts.at(0).word));
           Names names;
           std::vector<Value> positional;
           for (size_t i = 1; i < n.parts.size(); ++i) {
             const Node &part = n.parts[i];
             if (!part.leaf && part.word == "named") {
               names[part.parts.at(0).word] = run.value(part.parts.at(1));
             } else if (!part.leaf && part.word == "*") {
               for (Value &v : items(run.value(part.parts.at(0)))) positional.push_back(std::move(v));
             } else {
               positional.push_back(run.value(part));
             }
           }
           for (size_t i = 0; i < positional.size(); ++i)
             names[called.parameters.at(i)] = std::move(positional[i]);
           return Run(std::move(names)).call(called);
         }},
        {"is-kind", [](Run &run, const Node &n) {
           static const char *const names[] = {"none", "bool", "int", "float", "str", "tuple", "dict", "spec"};
           const Value v = run.value(n.parts.at(0));
           for (size_t i = 1; i < n.parts.size(); ++i)
             if (n.parts[i].word == names[int(v.kind)]) return Value::of(true);
           return Value::of(false);
         }},
        {"len", [](Run &run, const Node &n) {
           return Value::of(int64_t(items(run.value(n.parts.at(0))).size()));
         }},
        {"max", [](Run &run, const Node &n) { return run.extreme(n, 1); }},
        {"min", [](Run &run, const Node &n) { return run.extreme(n, -1); }},
        {"sum", [](Run &run, const Node &n) {
           Value total = Value::of(int64_t(0));
           for (const Value &item : items(run.value(n.parts.at(0)))) total = arithmetic("+", total, item);
           return total;
         }},
        {"any", [](Run &run, const Node &n) {
           const auto all = items(run.value(n.parts.at(0)));
           return Value::of(std::any_of(all.begin(), all.end(), [](auto &v) { return v.truth(); }));
         }},
        {"all", [](Run &run, const Node &n) {
           const auto all = items(run.value(n.parts.at(0)));
           return Value::of(std::all_of(all.begin(), all.end(), [](auto &v) { return v.truth(); }));
         }},
        {"range", [](Run &run, const Node &n) {
           const auto ends = run.values(n.parts);
           const int64_t low = ends.size() > 1 ? ends[0].integer : 0;
           const int64_t high = ends.size() > 1 ? ends[1].integer : ends.at(0).integer;
           const int64_t step = ends.size() > 2 ? ends[2].integer : 1;
           std::vector<Value> found;
           for (int64_t i = low; step > 0 ? i < high : i > high; i += step) found.push_back(Value::of(i));
           return Value::of(std::move(found));
         }},
        {"reversed", [](Run &run, const Node &n) {
           auto all = items(run.value(n.parts.at(0)));
           std::reverse(all.begin(), all.end());
           return Value::of(std::move(all));
         }},
        {"zip", [](Run &run, const Node &n) {
           const auto lists = run.values(n.parts);
           std::vector<Value> rows;
           for (size_t i = 0;; ++i) {
             std::vector<Value> row;
             for (const Value &list : lists) {
               if (i >= list.items.size()) return Value::of(std::move(rows));
               row.push_back(list.items[i]);
             }
             rows.push_back(Value::of(std::move(row)));
           }
         }},
        {"enumerate", [](Run &run, const Node &n) {
           std::vector<Value> rows;
           for (const Value &item : items(run.value(n.parts.at(0))))
             rows.push_back(Value::of(std::vector<Value>{Value::of(int64_t(rows.size())), item}));
           return Value::of(std::move(rows));
         }},
        {"sorted", [](Run &run, const Node &n) {
           auto all = items(run.value(n.parts.at(0)));
           std::stable_sort(all.begin(), all.end(), [](auto &a, auto &b) { return compare(a, b) < 0; });
           return Value::of(std::move(all));
         }},
        {"unique", [](Run &run, const Node &n) {
           std::vector<Value> kept;
           for (const Value &item : items(run.value(n.parts.at(0))))
             if (std::none_of(kept.begin(), kept.end(), [&](auto &v) { return equal(v, item); }))
               kept.push_back(item);
           return Value::of(std::move(kept));
         }},
        {"texts", [](Run &run, const Node &n) {
           std::vector<Value> texts;
           for (const Value &item : items(run.value(n.parts.at(0))))
             texts.push_back(Value::of(written(item, false)));
           return Value::of(std::move(texts));
         }},
        {"abs", [](Run &run, const Node &n) {
           Value v = run.value(n.parts.at(0));
           v.integer = std::abs(v.integer);
           v.real = std::abs(v.real);
           return v;
         }},
        {"count", [](Run &run, const Node &n) {
           const auto all = items(run.value(n.parts.at(0)));
           const Value item = run.value(n.parts.at(1));
           return Value::of(
               int64_t(std::count_if(all.begin(), all.end(), [&](auto &v) { return equal(v, item); })));
         }},
        {"index", [](Run &run, const Node &n) {
           const auto all = items(run.value(n.parts.at(0)));
           const Value item = run.value(n.parts.at(1));
           const auto found = std::find_if(all.begin(), all.end(), [&](auto &v) { return equal(v, item); });
           if (found == all.end()) broken("index() of what is not there");
           return Value::of(int64_t(found - all.begin()));
         }},
        {"append", [](Run &run, const Node &n) {
           const Value item = run.value(n.parts.at(1));
           run.names_.at(n.parts.at(0).parts.at(0).word).items.push_back(item);
           return Value();
         }},
        {"startswith", [](Run &run, const Node &n) {
           const std::string text = run.value(n.parts.at(0)).text, start = run.value(n.parts.at(1)).text;
           return Value::of(text.compare(0, start.size(), start) == 0);
         }},
        {"is_integer", [](Run &run, const Node &n) {
           const double number = run.value(n.parts.at(0)).number();
           return Value::of(std::isfinite(number) && number == std::floor(number));
         }},
        {"lower", [](Run &run, const Node &n) {
           std::string text = run.value(n.parts.at(0)).text;
           for (char &c : text) c = char(std::tolower(static_cast<unsigned char>(c)));
           return Value::of(text);
         }},
        {"join", [](Run &run, const Node &n) {
           const std::string between = run.value(n.parts.at(0)).text;
           std::string text;
           bool first = true;
           for (const Value &item : items(run.value(n.parts.at(1)))) {
             text += (first ? "" : between) + item.text;
             first = false;
           }
           return Value::of(text);
         }},
        // operator, argument, axis, what it is an axis of, ndim
        {"canonical_axis", [](Run &run, const Node &n) {
           const auto v = run.values(n.parts);
           const int64_t axis = v.at(2).integer, ndim = v.at(4).integer;
           if (axis < -ndim || axis >= ndim)
             throw Failure(INFINI_STATUS_BAD_PARAM, v[0].text + ": " + v[1].text + "=" +
                                                        std::to_string(axis) + " is out of range for " +
                                                        v[3].text + ", which has ndim=" + std::to_string(ndim));
           return Value::of(axis < 0 ? axis + ndim : axis);
         }},
    };
    if (auto found = handlers->find(node.word); found != handlers->end()) return found->second(*this, node);
    if (node.parts.size() != 2) broken("the word " + node.word);
    const Value a = value(node.parts[0]), b = value(node.parts[1]);
    const std::string &op = node.word;
    if (op == "==") return Value::of(equal(a, b));
    if (op == "!=") return Value::of(!equal(a, b));
    if (op == "is") return Value::of(a.is_none() ? b.is_none() : equal(a, b));
    if (op == "is-not") return Value::of(a.is_none() ? !b.is_none() : !equal(a, b));
    if (op == "in") return contains(b, a);
    if (op == "not-in") return Value::of(!contains(b, a).truth());
    if (op == "<" || op == "<=" || op == ">" || op == ">=") return Value::of(ordered(op, a, b));
    return arithmetic(op, a, b);
  }

  static Value lookup(const std::vector<Value> &pairs, const Value &key) {
    for (size_t i = 0; i + 1 < pairs.size(); i += 2)
      if (equal(pairs[i], key)) return pairs[i + 1];
    broken("a key that is not there");
  }

  Value extreme(const Node &node, int sign) {
    std::vector<Value> all = values(node.parts);
    if (all.size() == 1) all = items(all[0]);
    if (all.empty()) broken("the " + node.word + "() of nothing");
    Value best = all[0];
    for (const Value &item : all)
      if (compare(item, best) * sign > 0) best = item;
    return best;
  }

  // A comprehension: what is made, the target, the source, the condition.
  Value each(const Node &node, size_t made) {
    const auto &parts = node.parts;
    std::vector<Value> found;
    for (const Value &item : items(value(parts.at(made + 1)))) {
      assign(parts.at(made), item);
      if (!value(parts.at(made + 2)).truth()) continue;
      for (size_t i = 0; i < made; ++i) found.push_back(value(parts.at(i)));
    }
    Value all = Value::of(std::move(found));
    if (made == 2) all.kind = Kind::dict;
    return all;
  }
};

}  // namespace

Value literal(const char *text) {
  return Run({}).expression(Reader(text).node());
}

std::string written(const Value &value) {
  return written(value, true);
}

const std::vector<std::string> &parameters(int number) {
  return program(number).parameters;
}

Value run(int number, const Names &names) {
  const Program &called = program(number);
  Names taken;
  for (const std::string &name : called.parameters)
    if (auto found = names.find(name); found != names.end()) taken.insert(*found);
  return Run(std::move(taken)).call(called);
}

}  // namespace infini::capi
