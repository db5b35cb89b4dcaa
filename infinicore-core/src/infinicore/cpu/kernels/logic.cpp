// logic.cpp -- logical_and, logical_or, logical_xor and logical_not of any dtypes, which may differ.
// Operands become bytes of 0 or 1 first: any bit but the sign of a float says that a number is not zero.
#include <infinicore/operators/logical_and.h>
#include <infinicore/operators/logical_not.h>
#include <infinicore/operators/logical_or.h>
#include <infinicore/operators/logical_xor.h>

#include "../loops.hpp"

#include <algorithm>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kBlock = 1024;        // elements that are turned into bytes at a time
constexpr int64_t kGrain = 4 * kCheap;  // bytes take less than numbers do

template <class U> void test(uint64_t bits, const void *in, uint8_t *__restrict out, int64_t n) {
  auto a = static_cast<const U *>(in);
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<U, bytes16>)
      out[i] = ((a[i].lo | a[i].hi) & bits) != 0;
    else
      out[i] = (a[i] & U(bits)) != 0;
  }
}

// Which bits of an element make it true, and the loop that looks at them.
struct Truth {
  void (*loop)(uint64_t bits, const void *in, uint8_t *__restrict out, int64_t n);
  uint64_t bits;
  int64_t size;

  explicit Truth(int64_t dtype) : bits(~sign_bits(dtype)), size(dtype_size(dtype)) {
    loop =
        dispatch_size("logical operators", dtype, [](auto t) { return &test<typename decltype(t)::type>; });
  }

  // The signs of floats and of complex numbers' parts, in each place where an element of 64 bits may have
  // one.
  static uint64_t sign_bits(int64_t dtype) {
    switch (part_dtype(dtype) ? part_dtype(dtype) : dtype) {
      case INFINI_DTYPE_F8:
        return 0x8080808080808080u;
      case INFINI_DTYPE_F16:
      case INFINI_DTYPE_BF16:
        return 0x8000800080008000u;
      case INFINI_DTYPE_F32:
        return 0x8000000080000000u;
      case INFINI_DTYPE_F64:
        return 0x8000000000000000u;
      default:
        return 0;
    }
  }

  bool is_byte() const { return size == 1 && bits == ~uint64_t(0); }

  void operator()(const void *in, int64_t from, uint8_t *out, int64_t n) const {
    loop(bits, static_cast<const char *>(in) + from * size, out, n);
  }
};

struct And {
  uint8_t operator()(uint8_t a, uint8_t b) const { return a & b; }
};
struct Or {
  uint8_t operator()(uint8_t a, uint8_t b) const { return a | b; }
};
struct Xor {
  uint8_t operator()(uint8_t a, uint8_t b) const { return a ^ b; }
};

template <class F> void combine(const void *context, void *out, const void *const *in, int64_t n) {
  auto truth = static_cast<const Truth *>(context);
  auto target = static_cast<uint8_t *>(out);
  const F f{};
  alignas(64) uint8_t a[kBlock], b[kBlock];
  for (int64_t at = 0; at < n; at += kBlock) {
    const int64_t count = std::min(kBlock, n - at);
    truth[0](in[0], at, a, count);
    truth[1](in[1], at, b, count);
    for (int64_t i = 0; i < count; ++i) target[at + i] = f(a[i], b[i]);
  }
}

// The same for two operands of one byte to which every bit counts, booleans above all: no detour.
template <class F> void combine_bytes(const void *, void *out, const void *const *in, int64_t n) {
  auto target = static_cast<uint8_t *>(out);
  auto a = static_cast<const uint8_t *>(in[0]), b = static_cast<const uint8_t *>(in[1]);
  const F f{};
  INFINI_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) target[i] = f(a[i] != 0, b[i] != 0);
}

void negate(const void *context, void *out, const void *const *in, int64_t n) {
  auto &truth = *static_cast<const Truth *>(context);
  auto target = static_cast<uint8_t *>(out);
  alignas(64) uint8_t a[kBlock];
  for (int64_t at = 0; at < n; at += kBlock) {
    const int64_t count = std::min(kBlock, n - at);
    truth(in[0], at, a, count);
    for (int64_t i = 0; i < count; ++i) target[at + i] = a[i] ^ 1;
  }
}

template <class Args, class F> class Binary {
  Truth truth_[2];
  Elementwise plan_;

 public:
  explicit Binary(const Args &call)
      : truth_{Truth(call.input->dtype), Truth(call.other->dtype)},
        plan_(truth_[0].is_byte() && truth_[1].is_byte() ? combine_bytes<F> : combine<F>, truth_, kGrain,
              {call.out, 1}, {{call.input, truth_[0].size}, {call.other, truth_[1].size}}) {}
  Binary(const Binary &) = delete;  // plan_ points at truth_

  uint64_t workspace() const { return 0; }
  void execute(const Args &call, void *, infinirtStream_t) const {
    plan_.run(call.out->data, call.input->data, call.other->data);
  }
};

class Not {
  Truth truth_;
  Elementwise plan_;

 public:
  explicit Not(const infini_logical_not_args &call)
      : truth_(call.input->dtype),
        plan_(negate, &truth_, kGrain, {call.out, 1}, {{call.input, truth_.size}}) {}
  Not(const Not &) = delete;  // plan_ points at truth_

  uint64_t workspace() const { return 0; }
  void execute(const infini_logical_not_args &call, void *, infinirtStream_t) const {
    plan_.run(call.out->data, call.input->data);
  }
};

using LogicalAnd = Binary<infini_logical_and_args, And>;
using LogicalOr = Binary<infini_logical_or_args, Or>;
using LogicalXor = Binary<infini_logical_xor_args, Xor>;

}  // namespace

INFINI_CPU_KERNEL(logical_and, LogicalAnd)
INFINI_CPU_KERNEL(logical_or, LogicalOr)
INFINI_CPU_KERNEL(logical_xor, LogicalXor)
INFINI_CPU_KERNEL(logical_not, Not)

}  // namespace infini::cpu::INFINI_ISA
