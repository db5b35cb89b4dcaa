// capi/binding.cpp -- binds the symbols of a signature as infinicore.unify does for Python, so that the same
// call fails with the same words.
#include "binding.hpp"

#include <algorithm>
#include <cstring>
#include <set>

namespace infini::capi {
namespace {

struct DtypeFacts {
  const char *name, *long_name;
  size_t bytes;
};
const DtypeFacts facts[] = {
    {"invalid", "invalid", 0}, {"byte", "byte", 1},     {"bool", "bool", 1},        {"i8", "int8", 1},
    {"i16", "int16", 2},       {"i32", "int32", 4},     {"i64", "int64", 8},        {"u8", "uint8", 1},
    {"u16", "uint16", 2},      {"u32", "uint32", 4},    {"u64", "uint64", 8},       {"f8", "float8", 1},
    {"f16", "float16", 2},     {"f32", "float32", 4},   {"f64", "float64", 8},      {"c16", "complex16", 2},
    {"c32", "complex32", 4},   {"c64", "complex64", 8}, {"c128", "complex128", 16}, {"bf16", "bfloat16", 2}};

// One word of a shape: "m", "2", "*b", "*b~", "d//2".
struct Dim {
  std::string text, name;
  bool star = false, broadcast = false, is_number = false;
  int64_t number = 0, divisor = 1;

  explicit Dim(const std::string &word) : text(word), name(word) {
    if (name.back() == '~') {
      broadcast = true;
      name.pop_back();
    }
    star = name[0] == '*';
    is_number = name.find_first_not_of("0123456789") == std::string::npos;
    if (is_number) number = std::stoll(name);
    if (const size_t at = name.find("//"); at != std::string::npos) {
      divisor = std::stoll(name.substr(at + 2));
      name.erase(at);
    }
  }
};

std::vector<Dim> dims_of(const Slot &slot) {
  std::vector<Dim> dims;
  std::string word;
  for (const char *c = slot.dims;; ++c) {
    if (*c && *c != ' ') {
      word += *c;
      continue;
    }
    if (!word.empty()) dims.emplace_back(word);
    word.clear();
    if (!*c) return dims;
  }
}

using Sizes = std::vector<int64_t>;

std::string shown(const Sizes &sizes) {
  std::string text = "(";
  for (size_t i = 0; i < sizes.size(); ++i) text += (i ? ", " : "") + std::to_string(sizes[i]);
  return text + (sizes.size() == 1 ? ",)" : ")");
}

std::string shown(const Dim &dim, const Sizes &sizes) {
  return dim.star ? shown(sizes) : std::to_string(sizes.at(0));
}

std::string one_of(uint32_t dtypes) {
  std::string text;
  int count = 0;
  for (int i = 1; i < int(std::size(facts)); ++i)
    if (dtypes >> i & 1) text += (count++ ? ", " : "") + std::string(facts[i].long_name);
  return count > 1 ? "one of " + text : text;
}

bool join(const Sizes &left, const Sizes &right, Sizes &joined) {
  const size_t rank = std::max(left.size(), right.size());
  joined.assign(rank, 1);
  for (size_t i = 0; i < rank; ++i) {
    const int64_t a = i < rank - left.size() ? 1 : left[i - (rank - left.size())];
    const int64_t b = i < rank - right.size() ? 1 : right[i - (rank - right.size())];
    if (a != b && a != 1 && b != 1) return false;
    joined[i] = a == 1 ? b : a;
  }
  return true;
}

class Binding {
  const Operator &op_;
  std::vector<Given> &slots_;
  std::map<std::string, Sizes> symbols_;
  std::map<std::string, std::string> origins_;  // symbol: "a has" or "a and b have"
  std::map<char, int> dtypes_;
  std::map<char, std::string> dtype_origins_;

  struct Pair {
    std::string name;
    Dim dim;
    Sizes sizes;
  };

 public:
  Binding(const Operator &op, std::vector<Given> &slots) : op_(op), slots_(slots) {
    for (int i = 0; i < op.slot_count; ++i)
      if (op.slots[i].is_size && slots[size_t(i)].value)
        symbols_[op.slots[i].name] = {slots[size_t(i)].value->integer};
  }

  std::map<std::string, Sizes> symbols() { return std::move(symbols_); }

  // Inputs first, so that an output is blamed rather than an input.
  void bind_dtypes() {
    for (Role role : {Role::in, Role::inout, Role::out})
      for (int i = 0; i < op_.slot_count; ++i)
        if (op_.slots[i].role == role)
          for_each_tensor(i, [&](const std::string &name, const Layout &layout) {
            bind_dtype(op_.slots[i], name, layout.dtype);
          });
  }

  void bind_inputs() {
    std::vector<Pair> pairs;
    for (Role role : {Role::in, Role::inout})
      for (int i = 0; i < op_.slot_count; ++i) {
        const Slot &slot = op_.slots[i];
        if (slot.role != role) continue;
        const std::set<std::string> local = local_symbols(slot);
        for_each_tensor(i, [&](const std::string &name, const Layout &layout) {
          for (auto &pair : align(slot, name, layout.shape))
            if (!local.count(pair.dim.name)) pairs.push_back(std::move(pair));
        });
      }
    for (const Pair &p : pairs)
      if (!p.dim.broadcast && p.dim.divisor == 1) bind(p);
    std::set<std::string> exact;
    for (const auto &symbol : symbols_) exact.insert(symbol.first);
    for (const Pair &p : pairs)
      if (p.dim.broadcast) bind_broadcast(p, exact.count(p.dim.name) != 0);
    for (const Pair &p : pairs)
      if (p.dim.divisor != 1) bind_quotient(p);
  }

  // Broadcasting inputs get their full shape, with stride 0 where it is another one.
  void expand_inputs() {
    for (int i = 0; i < op_.slot_count; ++i) {
      const Slot &slot = op_.slots[i];
      Given &given = slots_[size_t(i)];
      if (slot.kind != Kind::tensor || !slot.is_tensor() || !given.present) continue;
      const auto dims = dims_of(slot);
      if (std::none_of(dims.begin(), dims.end(), [](auto &d) { return d.broadcast; })) continue;
      Layout &layout = given.tensors[0];
      Sizes full;
      if (!size(slot, full) || full == layout.shape) continue;
      Sizes strides(full.size(), 0);
      const size_t missing = full.size() - layout.shape.size();
      for (size_t k = missing; k < full.size(); ++k)
        if (layout.shape[k - missing] == full[k]) strides[k] = layout.strides[k - missing];
      layout.shape = full;
      layout.strides = strides;
    }
  }

  // Check the outputs that were given, and infer those that follow.
  void settle(const std::vector<std::pair<std::optional<Sizes>, int>> &inferred) {
    size_t out = 0;
    for (int i = 0; i < op_.slot_count; ++i) {
      const Slot &slot = op_.slots[i];
      Given &given = slots_[size_t(i)];
      if (!slot.written()) {
        if (given.deferred) infer(slot, given, std::nullopt, 0);
        continue;
      }
      std::optional<Sizes> shape;
      int dtype = 0;
      if (slot.role == Role::out && !inferred.empty()) std::tie(shape, dtype) = inferred.at(out);
      if (slot.role == Role::out) ++out;
      if (given.deferred) {
        infer(slot, given, shape, dtype);
      } else if (given.present && shape) {
        if (given.tensors[0].shape != *shape)
          throw Failure(INFINI_STATUS_BAD_TENSOR_SHAPE, std::string(op_.name) + ": " + slot.c_name +
                                                            " has shape " + shown(given.tensors[0].shape) +
                                                            ", but it must have shape " + shown(*shape));
      } else if (given.present && slot.role == Role::out) {
        for (const Pair &p : align(slot, slot.c_name, given.tensors[0].shape))
          p.dim.divisor == 1 ? bind(p) : bind_quotient(p);
      }
    }
  }

 private:
  template <class Body> void for_each_tensor(int index, Body &&body) {
    const Slot &slot = op_.slots[index];
    const Given &given = slots_[size_t(index)];
    if (!slot.is_tensor() || !given.present) return;
    for (size_t i = 0; i < given.tensors.size(); ++i)
      body(slot.kind == Kind::tensor ? std::string(slot.c_name)
                                     : std::string(slot.c_name) + "[" + std::to_string(i) + "]",
           given.tensors[i]);
  }

  [[noreturn]] void fail(infiniStatus_t status, const std::string &text) const {
    throw Failure(status, std::string(op_.name) + ": " + text);
  }

  void bind_dtype(const Slot &slot, const std::string &name, int dtype) {
    const std::string got = facts[dtype].long_name;
    const bool allowed = slot.dtypes >> dtype & 1;
    if (slot.variable == 0) {
      if (!allowed)
        fail(INFINI_STATUS_BAD_TENSOR_DTYPE,
             name + " has dtype " + got + ", but must be " + one_of(slot.dtypes));
      return;
    }
    const std::string letter(1, slot.variable);
    if (!allowed)
      fail(INFINI_STATUS_BAD_TENSOR_DTYPE,
           name + " has " + letter + "=" + got + ", but it must be " + one_of(slot.dtypes));
    const int bound = dtypes_.emplace(slot.variable, dtype).first->second;
    const std::string &other = dtype_origins_.emplace(slot.variable, name + " has").first->second;
    if (bound != dtype)
      fail(INFINI_STATUS_BAD_TENSOR_DTYPE, name + " has " + letter + "=" + got + ", but " + other + " " +
                                               letter + "=" + facts[bound].long_name);
  }

  // Symbols that belong to each item of a list alone.
  std::set<std::string> local_symbols(const Slot &list) const {
    std::set<std::string> mine;
    if (list.kind != Kind::tensors) return mine;
    for (const Dim &dim : dims_of(list)) mine.insert(dim.name);
    for (int i = 0; i < op_.slot_count; ++i)
      if (op_.slots[i].is_tensor() && &op_.slots[i] != &list)
        for (const Dim &dim : dims_of(op_.slots[i])) mine.erase(dim.name);
    return mine;
  }

  // Each dim with the size, or for a starred one the sizes, that it covers.
  std::vector<Pair> align(const Slot &slot, const std::string &name, const Sizes &shape) const {
    const auto dims = dims_of(slot);
    const size_t star =
        size_t(std::find_if(dims.begin(), dims.end(), [](auto &d) { return d.star; }) - dims.begin());
    const bool starred = star != dims.size();
    const size_t fixed = dims.size() - starred;
    if (shape.size() < fixed || (!starred && shape.size() != fixed))
      fail(INFINI_STATUS_BAD_TENSOR_SHAPE, name + " has ndim=" + std::to_string(shape.size()) + ", but [" +
                                               slot.dims + "] needs " + (starred ? "at least " : "") +
                                               std::to_string(fixed));
    std::vector<Pair> pairs;
    size_t at = 0;
    for (size_t i = 0; i < dims.size(); ++i) {
      const size_t covers = dims[i].star ? shape.size() - fixed : 1;
      pairs.push_back({name, dims[i], Sizes(shape.begin() + long(at), shape.begin() + long(at + covers))});
      at += covers;
    }
    return pairs;
  }

  void bind(const Pair &p) {
    if (p.dim.is_number) {
      if (p.sizes[0] != p.dim.number)
        fail(INFINI_STATUS_BAD_TENSOR_SHAPE, p.name + " has a size of " + std::to_string(p.sizes[0]) +
                                                 ", but it must be " + std::to_string(p.dim.number));
      return;
    }
    const Sizes &bound = symbols_.emplace(p.dim.name, p.sizes).first->second;
    if (bound != p.sizes) mismatch(p, bound);
    origins_.emplace(p.dim.name, p.name + " has");
  }

  void bind_broadcast(const Pair &p, bool exact) {
    auto [found, made] = symbols_.emplace(p.dim.name, p.sizes);
    std::string &origin = origins_[p.dim.name];
    if (made) {
      origin = p.name + " has";
      return;
    }
    Sizes joined;
    if (!join(found->second, p.sizes, joined) || (exact && joined != found->second))
      mismatch(p, found->second);
    if (joined != found->second)  // the result is this argument's, or takes all of them
      origin = joined == p.sizes ? p.name + " has"
                                 : origin.substr(0, origin.rfind(' ')) + " and " + p.name + " have";
    found->second = joined;
  }

  void bind_quotient(const Pair &p) {
    const int64_t whole = p.sizes[0] * p.dim.divisor;
    const Sizes &bound = symbols_.emplace(p.dim.name, Sizes{whole}).first->second;
    const std::string &other = origins_.emplace(p.dim.name, p.name + " has").first->second;
    if (bound[0] != whole)
      fail(INFINI_STATUS_BAD_TENSOR_SHAPE, p.name + " has " + p.dim.text + "=" + std::to_string(p.sizes[0]) +
                                               ", but " + other + " " + p.dim.name + "=" +
                                               std::to_string(bound[0]));
  }

  [[noreturn]] void mismatch(const Pair &p, const Sizes &bound) {
    auto found = origins_.find(p.dim.name);
    const std::string other = found == origins_.end() ? "the call says" : found->second;
    fail(INFINI_STATUS_BAD_TENSOR_SHAPE, p.name + " has " + p.dim.name + "=" + shown(p.dim, p.sizes) +
                                             ", but " + other + " " + p.dim.name + "=" + shown(p.dim, bound));
  }

  // The shape that the symbols give a slot; false while one of them is not known.
  bool size(const Slot &slot, Sizes &shape) const {
    shape.clear();
    for (const Dim &dim : dims_of(slot)) {
      if (dim.is_number) {
        shape.push_back(dim.number);
        continue;
      }
      auto found = symbols_.find(dim.name);
      if (found == symbols_.end()) return false;
      if (dim.star) {
        shape.insert(shape.end(), found->second.begin(), found->second.end());
        continue;
      }
      const int64_t whole = found->second[0];
      if (whole % dim.divisor) {
        auto origin = origins_.find(dim.name);
        fail(INFINI_STATUS_BAD_TENSOR_SHAPE, (origin == origins_.end() ? "the call says" : origin->second) +
                                                 " " + dim.name + "=" + std::to_string(whole) +
                                                 ", no multiple of " + std::to_string(dim.divisor));
      }
      shape.push_back(whole / dim.divisor);
    }
    return true;
  }

  void infer(const Slot &slot, Given &given, const std::optional<Sizes> &shape, int dtype) {
    Sizes sizes;
    if (shape)
      sizes = *shape;
    else if (!size(slot, sizes))
      return;
    const bool single = (slot.dtypes & (slot.dtypes - 1)) == 0;
    if (slot.variable == 0 && single) {
      for (dtype = 0; !(slot.dtypes >> dtype & 1);) ++dtype;
    } else if (auto found = dtypes_.find(slot.variable); found != dtypes_.end()) {
      dtype = found->second;
    }
    if (dtype == 0) {
      // Where C cannot say which of several dtypes, the first that the signature lists.
      for (dtype = 1; !(slot.dtypes >> dtype & 1);) ++dtype;
    }
    given.tensors = {Layout::dense(std::move(sizes), dtype)};
    given.present = true;
  }
};

}  // namespace

int64_t Layout::count() const {
  int64_t total = 1;
  for (int64_t size : shape) total *= size;
  return total;
}

Layout Layout::dense(std::vector<int64_t> shape, int dtype) {
  Layout made;
  made.strides.resize(shape.size());
  int64_t step = 1;
  for (size_t i = shape.size(); i-- > 0; step *= std::max<int64_t>(shape[i], 1)) made.strides[i] = step;
  made.shape = std::move(shape);
  made.dtype = dtype;
  return made;
}

const char *dtype_name(int dtype) {
  return facts[dtype].name;
}
const char *long_dtype_name(int dtype) {
  return facts[dtype].long_name;
}
size_t dtype_bytes(int dtype) {
  return facts[dtype].bytes;
}

int dtype_of(const std::string &name) {
  for (int i = 1; i < int(std::size(facts)); ++i)
    if (name == facts[i].name) return i;
  return 0;
}

bool overlaps_itself(const Layout &layout) {
  std::vector<std::pair<int64_t, int64_t>> dims;  // stride, size
  for (size_t i = 0; i < layout.shape.size(); ++i)
    if (layout.shape[i] == 0)
      return false;
    else if (layout.shape[i] > 1)
      dims.emplace_back(std::abs(layout.strides[i]), layout.shape[i]);
  std::sort(dims.begin(), dims.end());
  if (!dims.empty() && dims[0].first == 0) return true;
  // Usual layouts: each stride clears all that the smaller ones reach.
  int64_t extent = 1;
  bool clear = true;
  for (const auto &[stride, size] : dims) {
    clear = clear && stride >= extent;
    extent += stride * (size - 1);
  }
  if (clear) return false;
  // Interleaved ones: mark every element.
  std::vector<bool> seen(size_t(extent), false);
  std::vector<int64_t> index(dims.size(), 0);
  int64_t offset = 0;
  for (;;) {
    if (seen[size_t(offset)]) return true;
    seen[size_t(offset)] = true;
    size_t i = 0;
    for (; i < dims.size(); ++i) {
      offset += dims[i].first;
      if (++index[i] < dims[i].second) break;
      offset -= dims[i].first * dims[i].second;
      index[i] = 0;
    }
    if (i == dims.size()) return false;
  }
}

Value convert(const Operator &op, const Slot &slot, Value value) {
  switch (slot.kind) {
    case Kind::real:
      return Value::of(value.number());
    case Kind::boolean:
      return Value::of(value.truth());
    case Kind::enumerator: {
      const std::string members = std::string(" ") + slot.members + " ";
      const std::string number = std::to_string(value.integer);
      if (members.find(" " + number + " ") == std::string::npos)
        throw Failure(INFINI_STATUS_BAD_PARAM, std::string(op.name) + ": " + slot.c_name + "=" + number +
                                                   ", but it must be one of " + slot.members);
      return Value::of(value.integer);
    }
    case Kind::dtype: {
      if (value.kind == Value::Kind::text) return value;
      if (value.integer < 1 || value.integer >= int64_t(std::size(facts)))
        throw Failure(INFINI_STATUS_BAD_TENSOR_DTYPE, std::string(op.name) + ": " + slot.c_name + "=" +
                                                          std::to_string(value.integer) + " is no dtype");
      return Value::of(std::string(facts[value.integer].name));
    }
    case Kind::integers:
      return value;
    default:
      return Value::of(value.integer);
  }
}

Names names_of(const Operator &op, const std::vector<Given> &slots) {
  Names names;
  for (int i = 0; i < op.slot_count; ++i) {
    const Slot &slot = op.slots[i];
    const Given &given = slots[size_t(i)];
    if (!slot.is_tensor()) {
      if (given.value) names[slot.name] = *given.value;
      continue;
    }
    if (given.deferred && !given.present) continue;
    std::vector<Value> specs;
    for (const Layout &layout : given.tensors)
      specs.push_back(Value::spec(layout.shape, facts[layout.dtype].name));
    if (slot.kind == Kind::tensors)
      names[slot.name] = Value::of(std::move(specs));
    else
      names[slot.name] = given.present ? specs.at(0) : Value();
  }
  return names;
}

bool can_run(const Operator &, int program, const Names &names) {
  if (program < 0) return false;
  for (const std::string &name : parameters(program))
    if (!names.count(name)) return false;
  return true;
}

Resolved resolve(const Operator &op, std::vector<Given> slots) {
  for (int i = 0; i < op.slot_count; ++i) {
    const Slot &slot = op.slots[i];
    Given &given = slots[size_t(i)];
    if (slot.kind == Kind::tensors && given.present && given.tensors.empty())
      throw Failure(INFINI_STATUS_BAD_PARAM,
                    std::string(op.name) + ": " + slot.c_name + " has 0 tensors, but must have at least 1");
  }
  if (Names names = names_of(op, slots); can_run(op, op.canonical, names)) {
    const Value changed = run(op.canonical, names);
    for (size_t k = 0; k + 1 < changed.items.size(); k += 2)
      for (int i = 0; i < op.slot_count; ++i)
        if (changed.items[k].text == op.slots[i].name) slots[size_t(i)].value = changed.items[k + 1];
  }
  for (int i = 0; i < op.slot_count; ++i)
    if (!op.slots[i].is_tensor() && slots[size_t(i)].value)
      slots[size_t(i)].value = convert(op, op.slots[i], *slots[size_t(i)].value);
  Binding binding(op, slots);
  binding.bind_dtypes();
  binding.bind_inputs();
  Names names = names_of(op, slots);
  if (can_run(op, op.errors, names)) run(op.errors, names);
  binding.expand_inputs();
  std::vector<std::pair<std::optional<Sizes>, int>> inferred;
  if (names = names_of(op, slots); can_run(op, op.shape, names)) {
    for (const Value &out : run(op.shape, names).items) {
      const Value &shape = out.items.at(0), &dtype = out.items.at(1);
      inferred.emplace_back(shape.is_none() ? std::nullopt : std::optional<Sizes>(shape.integers()),
                            dtype.is_none() ? 0 : dtype_of(dtype.text));
    }
  }
  binding.settle(inferred);
  return {std::move(slots), binding.symbols()};
}

}  // namespace infini::capi
