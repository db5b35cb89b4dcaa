// capi/binding.hpp -- operator signatures as tables, and what their symbols stand for in one call.
#pragma once
#include "check.hpp"

#include <array>
#include <optional>

namespace infini::capi {

enum class Role : uint8_t { in, out, inout, scalar };
enum class Kind : uint8_t { tensor, tensors, integer, real, boolean, enumerator, dtype, integers };

// One parameter of a signature; see infinicore.schema.Parameter.
struct Slot {
  const char *name;    // as checks know it
  const char *c_name;  // as C programs know it
  Role role;
  Kind kind;
  bool optional, is_static, is_size;
  char variable;         // of its dtype: 'F'; 0 where the signature lists dtypes
  uint32_t dtypes;       // bit i: infiniDtype_t i is allowed
  const char *dims;      // "*b m k"
  const char *fallback;  // the default, as a program writes it; NULL where there is none
  const char *members;   // values of an enumeration: "0 1"

  bool is_tensor() const { return role != Role::scalar; }
  bool written() const { return role == Role::out || role == Role::inout; }
};

// One argument of a C function.
struct Argument {
  enum Meaning : uint8_t { value, count, dimension, returned, returned_size };
  const char *name;
  int8_t slot;
  Meaning meaning;
  uint8_t width;       // bytes of each element of a list of integers
  const char *symbol;  // the dimension whose size it is
};

struct Operator {
  const char *name;
  uint64_t fingerprint;
  const Slot *slots;
  int slot_count;
  const Argument *create;
  int create_count;
  const Argument *execute;
  int execute_count;
  int canonical, shape, errors, guard;  // programs, or -1
  int counted;                          // the slot whose nonzero elements the outputs have, or -1
  bool has_workspace;
  const char *unsupported;  // why C cannot call it, or ""
};

constexpr int max_slots = 48;

struct Layout {
  std::vector<int64_t> shape, strides;  // in elements
  int dtype = 0;

  int64_t count() const;
  static Layout dense(std::vector<int64_t> shape, int dtype);
};

const char *dtype_name(int dtype);       // "f32", as signatures write it
const char *long_dtype_name(int dtype);  // "float32", as messages do
size_t dtype_bytes(int dtype);
int dtype_of(const std::string &name);  // 0 where there is none
bool overlaps_itself(const Layout &layout);

// What a call gives for one slot.
struct Given {
  std::vector<Layout> tensors;  // one, or those of a list
  bool present = false;         // the tensors' layouts are known
  bool deferred = false;        // they follow from the others, at execute
  std::optional<Value> value;   // of a scalar that is known
};

struct Resolved {
  std::vector<Given> slots;  // complete as far as what is known says
  std::map<std::string, std::vector<int64_t>> symbols;
};

// Check one combination of layouts and values, and infer what follows; see infinicore.unify. Values that are
// not known yet are left out, with the checks that want them. Throws Failure.
Resolved resolve(const Operator &op, std::vector<Given> given);

// A value as its slot holds it.
Value convert(const Operator &op, const Slot &slot, Value value);

// What checks see of a call.
Names names_of(const Operator &op, const std::vector<Given> &slots);

// Whether every name that a check takes is known.
bool can_run(const Operator &op, int program, const Names &names);

}  // namespace infini::capi
