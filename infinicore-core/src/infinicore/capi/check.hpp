// capi/check.hpp -- runs the checks of operator signatures, which capi/checks.py rendered from Python.
#pragma once
#include <infinicore/abi.h>

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace infini::capi {

// What leaves libinfiniop as a status with a message.
struct Failure : std::runtime_error {
  infiniStatus_t status;
  Failure(infiniStatus_t status, const std::string &message) : std::runtime_error(message), status(status) {}
};

// A value of a program: what Python's None, bool, int, float, str, tuple, dict and Spec are.
struct Value {
  enum class Kind { none, boolean, integer, real, text, tuple, dict, spec };
  Kind kind = Kind::none;
  int64_t integer = 0;  // also the bool's
  double real = 0;
  std::string text;
  std::vector<Value> items;  // of a dict: keys and values by turns; of a spec: shape and dtype

  static Value of(bool value);
  static Value of(int64_t value);
  static Value of(double value);
  static Value of(std::string value);
  static Value of(std::vector<Value> items);
  static Value of(const std::vector<int64_t> &items);
  static Value spec(const std::vector<int64_t> &shape, const char *dtype);

  bool is_none() const { return kind == Kind::none; }
  bool truth() const;
  double number() const;
  std::vector<int64_t> integers() const;
};

using Names = std::map<std::string, Value>;

// The names that program `number` takes.
const std::vector<std::string> &parameters(int number);

// Run program `number` with those of `names` that it takes. Throws Failure where the Python function raises.
Value run(int number, const Names &names);

// A default, as programs write values.
Value literal(const char *text);

// As Python's repr() writes it.
std::string written(const Value &value);

// Their texts, by number: generated.
extern const char *const programs[];

}  // namespace infini::capi
