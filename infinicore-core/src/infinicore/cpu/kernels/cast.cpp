// cast.cpp -- conversion between any two dtypes, by way of the four types that hold them all.
// Each dtype is read into and written from i64, u64, f32 or f64: loops for pairs would be four hundred.
#include <infinicore/operators/cast.h>

#include "../loops.hpp"

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kBlock = 512;

// n elements, contiguous, from or to a buffer of one of the four middle types.
using Convert = void (*)(const void *in, void *out, int64_t n);

// A float to an integer: towards zero. Beyond the range of int64_t, and for NaN, the value is what the
// processor makes of it, as in NumPy; narrower integers take its low bits.
template <class To, class From> inline To truncate(From x) {
  if constexpr (std::is_same_v<To, uint64_t>) {
    constexpr From half_range = From(9223372036854775808.0);
    return x < half_range ? uint64_t(int64_t(x)) : uint64_t(int64_t(x - half_range)) ^ (uint64_t(1) << 63);
  } else if constexpr (sizeof(To) < 4 || std::is_same_v<To, int32_t>) {
    return To(int32_t(x));
  } else {
    return To(int64_t(x));
  }
}

// One value from a middle type to a stored one.
template <class To, class Middle> inline void put(Middle x, To &out) {
  if constexpr (std::is_same_v<To, boolean>) {
    out.value = x != Middle(0);
  } else if constexpr (std::is_integral_v<To>) {
    if constexpr (std::is_integral_v<Middle>)
      out = To(x);
    else
      out = truncate<To>(x);
  } else if constexpr (std::is_same_v<To, float> || std::is_same_v<To, double>) {
    out = To(x);
  } else if constexpr (std::is_same_v<Middle, float>) {
    from_float(x, out);
  } else {  // two roundings that act as one
    from_float(round_to_odd(double(x)), out);
  }
}

template <class From, class Middle> void read(const void *in, void *out, int64_t n) {
  auto source = static_cast<const From *>(in);
  auto target = static_cast<Middle *>(out);
  if constexpr (std::is_same_v<From, boolean>) {
    for (int64_t i = 0; i < n; ++i) target[i] = source[i].value != 0;
  } else if constexpr (std::is_integral_v<From>) {
    for (int64_t i = 0; i < n; ++i) target[i] = source[i];
  } else {
    to_float(source, target, n);
  }
}

template <class To, class Middle> void write(const void *in, void *out, int64_t n) {
  auto source = static_cast<const Middle *>(in);
  auto target = static_cast<To *>(out);
  if constexpr (std::is_same_v<Middle, compute_t<To>> && !std::is_integral_v<To>) {
    from_float(source, target, n);
  } else {
    for (int64_t i = 0; i < n; ++i) put(source[i], target[i]);
  }
}

// A real number to a pair with no imaginary part.
template <class To, class Middle> void write_pair(const void *in, void *out, int64_t n) {
  auto source = static_cast<const Middle *>(in);
  auto target = static_cast<complex<To> *>(out);
  for (int64_t i = 0; i < n; ++i) {
    put(source[i], target[i].re);
    target[i].im = To{};
  }
}

// A pair to whether either part is not zero.
template <class From> void read_truth(const void *in, void *out, int64_t n) {
  auto source = static_cast<const complex<From> *>(in);
  auto target = static_cast<int64_t *>(out);
  for (int64_t i = 0; i < n; ++i) target[i] = load(source[i].re) != 0 || load(source[i].im) != 0;
}

enum Middle { I64, U64, F32, F64 };

Middle middle_of(int64_t dtype) {
  switch (dtype) {
    case INFINI_DTYPE_F8:
    case INFINI_DTYPE_F16:
    case INFINI_DTYPE_BF16:
    case INFINI_DTYPE_F32:
      return F32;
    case INFINI_DTYPE_F64:
      return F64;
    case INFINI_DTYPE_U64:
      return U64;
    default:
      return I64;
  }
}

// fn with the type that stores dtype.
template <class Fn> Convert with_type(int64_t dtype, Fn &&fn) {
  if (dtype == INFINI_DTYPE_BOOL) return fn(tag<boolean>{});
  return dispatch_reals("cast", dtype, fn);
}

Convert reader(int64_t dtype, Middle middle) {
  return with_type(dtype, [&](auto t) -> Convert {
    using T = typename decltype(t)::type;
    if constexpr (std::is_same_v<T, uint64_t>)
      return read<T, uint64_t>;
    else if constexpr (std::is_same_v<T, boolean> || (std::is_integral_v<T> && sizeof(T) <= 2))
      return middle == F32 ? read<T, float> : read<T, int64_t>;
    else if constexpr (std::is_integral_v<T>)
      return read<T, int64_t>;
    else
      return read<T, compute_t<T>>;
  });
}

Convert writer(int64_t dtype, Middle middle) {
  return with_type(dtype, [&](auto t) -> Convert {
    using T = typename decltype(t)::type;
    switch (middle) {
      case I64:
        return write<T, int64_t>;
      case U64:
        return write<T, uint64_t>;
      case F32:
        return write<T, float>;
      default:
        return write<T, double>;
    }
  });
}

template <class To> Convert pair_writer(Middle middle) {
  switch (middle) {
    case I64:
      return write_pair<To, int64_t>;
    case U64:
      return write_pair<To, uint64_t>;
    case F32:
      return write_pair<To, float>;
    default:
      return write_pair<To, double>;
  }
}

Convert pair_writer(int64_t part, Middle middle) {
  switch (part) {
    case INFINI_DTYPE_F8:
      return pair_writer<float8_e4m3>(middle);
    case INFINI_DTYPE_F16:
      return pair_writer<half>(middle);
    case INFINI_DTYPE_F32:
      return pair_writer<float>(middle);
    default:
      return pair_writer<double>(middle);
  }
}

Convert truth_reader(int64_t part) {
  switch (part) {
    case INFINI_DTYPE_F8:
      return read_truth<float8_e4m3>;
    case INFINI_DTYPE_F16:
      return read_truth<half>;
    case INFINI_DTYPE_F32:
      return read_truth<float>;
    default:
      return read_truth<double>;
  }
}

// The conversion of one pair of dtypes: NULL where the stored type is the middle one already.
struct Steps {
  Convert read = nullptr, write = nullptr;
  int64_t in_size = 1, out_size = 1;
  bool pairs = false;  // complex to complex: twice as many reals

  Steps(int64_t from, int64_t to) {
    int64_t from_part = part_dtype(from), to_part = part_dtype(to);
    Middle middle = middle_of(from_part ? from_part : from);
    if (from_part && to == INFINI_DTYPE_BOOL) {
      in_size = dtype_size(from);
      out_size = 1;
      read = truth_reader(from_part);
      write = writer(to, I64);
      return;
    }
    // Otherwise the imaginary part is dropped, or converted like the real one.
    pairs = from_part && to_part;
    int64_t source = from_part ? from_part : from, target = pairs ? to_part : to;
    in_size = dtype_size(source);
    out_size = dtype_size(target);
    const Middle wanted = middle_of(to_part ? to_part : to);
    if (middle == I64 && in_size <= 2 && (wanted == F32 || wanted == F64)) middle = F32;  // holds them all
    bool reads_itself = source == INFINI_DTYPE_I64 || source == INFINI_DTYPE_U64 ||
                        source == INFINI_DTYPE_F32 || source == INFINI_DTYPE_F64;
    read = reads_itself ? nullptr : reader(source, middle);
    bool writes_itself =
        (target == INFINI_DTYPE_I64 && middle == I64) || (target == INFINI_DTYPE_U64 && middle == U64) ||
        (target == INFINI_DTYPE_F32 && middle == F32) || (target == INFINI_DTYPE_F64 && middle == F64);
    if (to_part && !from_part)
      write = pair_writer(to_part, middle);
    else
      write = writes_itself && read != nullptr ? nullptr : writer(target, middle);
  }
};

void convert(const void *context, void *out, const void *const *in, int64_t n) {
  const Steps &steps = *static_cast<const Steps *>(context);
  auto source = static_cast<const char *>(in[0]);
  auto target = static_cast<char *>(out);
  if (steps.read == nullptr && in[0] != out) return steps.write(source, target, n);
  if (steps.write == nullptr && in[0] != out) return steps.read(source, target, n);
  alignas(64) char middle[kBlock * 8];
  for (int64_t at = 0; at < n; at += kBlock) {
    int64_t count = n - at < kBlock ? n - at : kBlock;
    const void *from = source + at * steps.in_size;
    void *to = target + at * steps.out_size;
    if (steps.read)
      steps.read(from, middle, count);
    else
      std::memcpy(middle, from, size_t(count * steps.in_size));
    if (steps.write)
      steps.write(middle, to, count);
    else
      std::memcpy(to, middle, size_t(count * steps.out_size));
  }
}

class Cast {
  Steps steps_;
  Elementwise plan_;

 public:
  explicit Cast(const infini_cast_args &call)
      : steps_(call.input->dtype, call.out->dtype),
        plan_(convert, &steps_, kCheap, {call.out, steps_.out_size}, {{call.input, steps_.in_size}},
              steps_.pairs) {}
  Cast(const Cast &) = delete;  // plan_ points at steps_

  uint64_t workspace() const { return 0; }
  void execute(const infini_cast_args &call, void *, infinirtStream_t) const {
    plan_.run(call.out->data, call.input->data);
  }
};

}  // namespace

INFINI_CPU_KERNEL(cast, Cast)

}  // namespace infini::cpu::INFINI_ISA
