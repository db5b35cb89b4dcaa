// kernels/quantization.cpp -- 4-bit weights to floats (AWQ and GPTQ packing), and int8 from and to floats.
// What is rounded to int8 is computed in f64, as the reference does it: a tie must not depend on the device.
#include <infinicore/operators/dequantize_awq.h>
#include <infinicore/operators/dequantize_gptq.h>
#include <infinicore/operators/per_channel_quant_int8.h>
#include <infinicore/operators/per_tensor_dequant_int8.h>
#include <infinicore/operators/per_tensor_quant_int8.h>

#include "../elementwise.hpp"
#include "../kernel.hpp"
#include "../scratch.hpp"
#include "../vec.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

namespace infini::cpu::INFINI_ISA {

namespace {

// Numbers that are worth a thread's while.
constexpr int64_t grain = 16 * 1024;

// ---- 4-bit weights
// -----------------------------------------------------------------------------------------

// Bit positions of eight columns in a word.
constexpr int awq_shifts[8] = {0, 16, 4, 20, 8, 24, 12, 28},
              ordered_shifts[8] = {0, 4, 8, 12, 16, 20, 24, 28};

// out[0 .. 8 * words-1] = the 4-bit numbers, `add` added modulo 16, of words that lie `step` apart.
template <class C>
void unpack(const int32_t *words, int64_t step, int64_t count, const int (&shifts)[8], uint32_t add, C *out) {
  for (int64_t j = 0; j < count; ++j) {
    const uint32_t word = uint32_t(words[j * step]);
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) out[8 * j + c] = C(int32_t(((word >> shifts[c]) + add) & 15));
  }
}

// The part of both formats that is one: rows of `out`, each with zeros and scales of a group.
class GroupedWeights {
 protected:
  GroupedWeights(const char *op, const infini_tensor &out, const infini_tensor &scales,
                 const int (&shifts)[8], uint32_t add)
      : op_(op),
        dtype_(out.dtype),
        k_(out.shape[0]),
        n_(out.shape[1]),
        groups_(scales.shape[0]),
        shifts_(shifts),
        add_(add) {
    dispatch_floats(op, dtype_, [](auto) {});
  }

  // group_of(row) numbers the group of a row; row_codes(row, line) writes its n numbers.
  template <class GroupOf, class RowCodes> void run(const infini_tensor &out, const infini_tensor &scales,
                                                    const infini_tensor &zeros, GroupOf &&group_of,
                                                    RowCodes &&row_codes) const {
    if (k_ * n_ == 0) return;
    dispatch_floats(op_, dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      using C = compute_t<T>;
      const int64_t rows = std::max<int64_t>(1, 2 * grain / n_);
      parallel_for(0, k_, rows, [&](int64_t begin, int64_t end) {
        C *line = static_cast<C *>(scratch<Scratch::operands>(size_t(3 * n_) * sizeof(C)));
        C *zero = line + n_, *scale = zero + n_;
        int64_t current = -1;
        for (int64_t row = begin; row < end; ++row) {
          if (const int64_t group = group_of(row); group != current) {
            current = group;
            unpack(static_cast<const int32_t *>(zeros.data) + group * zeros.strides[0], zeros.strides[1],
                   n_ / 8, shifts_, add_, zero);
            to_float(static_cast<const T *>(scales.data) + group * scales.strides[0], scales.strides[1],
                     scale, n_);
          }
          row_codes(row, line);
          for (int64_t i = 0; i < n_; ++i) line[i] = (line[i] - zero[i]) * scale[i];
          from_float(line, static_cast<T *>(out.data) + row * out.strides[0], out.strides[1], n_);
        }
      });
    });
  }

  const char *op_;
  int32_t dtype_;
  int64_t k_, n_, groups_;
  const int (&shifts_)[8];
  uint32_t add_;
};

class DequantizeAWQ : GroupedWeights {
 public:
  explicit DequantizeAWQ(const infini_dequantize_awq_args &call)
      : GroupedWeights("dequantize_awq", *call.out, *call.scales, awq_shifts, 0) {}

  uint64_t workspace() const { return 0; }

  void execute(const infini_dequantize_awq_args &call, void *, infinirtStream_t) const {
    const infini_tensor &words = *call.qweight;
    const int64_t rows = std::max<int64_t>(1, k_ / groups_);
    run(
        *call.out, *call.scales, *call.zeros, [&](int64_t row) { return row / rows; },
        [&](int64_t row, auto *line) {
          unpack(static_cast<const int32_t *>(words.data) + row * words.strides[0], words.strides[1], n_ / 8,
                 shifts_, 0, line);
        });
  }
};

class DequantizeGPTQ : GroupedWeights {
 public:
  explicit DequantizeGPTQ(const infini_dequantize_gptq_args &call)
      : GroupedWeights("dequantize_gptq", *call.out, *call.scales, ordered_shifts, 1) {}

  uint64_t workspace() const { return 0; }

  void execute(const infini_dequantize_gptq_args &call, void *, infinirtStream_t) const {
    const infini_tensor &words = *call.qweight, &groups = *call.g_idx;
    const auto group_of = [&](int64_t row) {
      return int64_t(static_cast<const int32_t *>(groups.data)[row * groups.strides[0]]);
    };
    for (int64_t row = 0; row < k_; ++row)  // all of them first: an error leaves out as it was
      if (group_of(row) < 0 || group_of(row) >= groups_)
        throw Error(INFINI_STATUS_INDEX_OUT_OF_RANGE,
                    "dequantize_gptq: g_idx holds the index " + std::to_string(group_of(row)) +
                        ", out of range for scales with g = " + std::to_string(groups_) + " rows");
    run(*call.out, *call.scales, *call.zeros, group_of, [&](int64_t row, auto *line) {
      const int32_t *from = static_cast<const int32_t *>(words.data) + row / 8 * words.strides[0];
      const int64_t step = words.strides[1];
      const int shift = int(4 * (row % 8));
      if (step == 1)
        for (int64_t i = 0; i < n_; ++i) line[i] = int32_t(uint32_t(from[i]) >> shift & 15);
      else
        for (int64_t i = 0; i < n_; ++i) line[i] = int32_t(uint32_t(from[i * step]) >> shift & 15);
    });
  }
};

// ---- int8
// --------------------------------------------------------------------------------------------------

int8_t to_int8(double rounded) {
  const double low = rounded < -128 ? -128 : rounded, number = low > 127 ? 127 : low;
  return int8_t(int32_t(number == number ? number : 0));  // no number becomes 0
}

// The least and the largest value; what is no number is passed over.
struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();

  template <class C> void extend(const C *x, int64_t n) {
    constexpr C none = std::numeric_limits<C>::infinity();
    C lows[lanes<C>], highs[lanes<C>];
    store(lows, fold(x, n, splat(none), [](vec<C> m, vec<C> v) { return v < m ? v : m; }));
    store(highs, fold(x, n, splat(-none), [](vec<C> m, vec<C> v) { return v > m ? v : m; }));
    for (int64_t i = 0; i < lanes<C>; ++i) extend({double(lows[i]), double(highs[i])});
  }
  void extend(const Range &other) {
    low = std::min(low, other.low);
    high = std::max(high, other.high);
  }
};

// How a range of values maps onto int8: round((x - low) * steps) - offset.
struct Map {
  double low, steps, offset, scale, zero;

  Map(const Range &range, bool symmetric) {
    if (symmetric) {
      const double most = std::max({std::fabs(range.low), std::fabs(range.high), 1e-10});
      *this = {0, 127 / most, 0, most / 127, 0};
    } else {
      const double span = std::max(range.high - range.low, 1e-8), each = 255 / span;
      *this = {range.low, each, 128, span / 255, -128 - range.low * each};
    }
  }
  Map(double low, double steps, double offset, double scale, double zero)
      : low(low), steps(steps), offset(offset), scale(scale), zero(zero) {}

  template <class C> void apply(const C *x, int8_t *out, int64_t step, int64_t n) const {
    const Map map = *this;  // a store of an int8_t might change *this, for all that the compiler knows
    each(x, out, step, n, [map](double v) { return std::rint((v - map.low) * map.steps) - map.offset; });
  }

  // out[i * step] = fn(x[i]) as int8
  template <class C, class Fn> static void each(const C *x, int8_t *out, int64_t step, int64_t n, Fn &&fn) {
    if (step == 1) {
      INFINI_INDEPENDENT
      for (int64_t i = 0; i < n; ++i) out[i] = to_int8(fn(double(x[i])));
    } else {
      for (int64_t i = 0; i < n; ++i) out[i * step] = to_int8(fn(double(x[i])));
    }
  }
};

// A row of x as numbers that can be compared and widened: itself, or a copy in scratch.
template <class T> const compute_t<T> *numbers(const T *x, int64_t step, int64_t n) {
  if constexpr (std::is_same_v<T, compute_t<T>>)
    if (step == 1) return x;
  auto *line = static_cast<compute_t<T> *>(scratch<Scratch::operands>(size_t(n + 1) * sizeof(compute_t<T>)));
  to_float(x, step, line, n);
  return line;
}

class PerChannelQuantI8 {
 public:
  explicit PerChannelQuantI8(const infini_per_channel_quant_int8_args &call)
      : dtype_(call.x->dtype),
        symmetric_(call.symmetric),
        n_(call.x->shape[call.x->ndim - 1]),
        packed_step_(call.x_packed->strides[call.x->ndim - 1]),
        x_step_(call.x->strides[call.x->ndim - 1]),
        rows_({call.x_packed, call.x, call.x_scale, call.x_zero}, -2) {
    dispatch_floats("per_channel_quant_int8", dtype_, [](auto) {});
    rows_.merge();
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_per_channel_quant_int8_args &call, void *, infinirtStream_t) const {
    auto *packed = static_cast<int8_t *>(call.x_packed->data);
    auto *scale = static_cast<float *>(call.x_scale->data), *zero = static_cast<float *>(call.x_zero->data);
    dispatch_floats("per_channel_quant_int8", dtype_, [&](auto tag) {
      const auto *x = static_cast<const typename decltype(tag)::type *>(call.x->data);
      parallel_for(0, rows_.numel(), std::max<int64_t>(1, grain / n_), [&](int64_t begin, int64_t end) {
        rows_.for_each(begin, end, [&](const int64_t(&at)[4]) {
          const auto *line = numbers(x + at[1], x_step_, n_);
          Range range;
          range.extend(line, n_);
          const Map map(range, symmetric_);
          map.apply(line, packed + at[0], packed_step_, n_);
          scale[at[2]] = float(map.scale);
          zero[at[3]] = float(map.zero);
        });
      });
    });
  }

 private:
  int32_t dtype_;
  bool symmetric_;
  int64_t n_, packed_step_, x_step_;
  Space<4> rows_;  // x_packed, x, x_scale, x_zero
};

// Two tensors of one shape in pieces of a bounded length, shared by the threads.
class Pieces {
 public:
  Pieces(const infini_tensor *a, const infini_tensor *b) : rows_({a, b}) { row_ = rows_.reorder().pop(); }

  // fn(offset in a, stride, offset in b, stride, length); `local()` makes what a thread keeps for itself,
  // which fn gets last and `done` takes at its end.
  template <class Local, class Fn, class Done> void run(Local &&local, Fn &&fn, Done &&done) const {
    constexpr int64_t longest = 4096;
    const int64_t per_row = (row_.extent + longest - 1) / longest, count = rows_.numel() * per_row;
    const int64_t least = std::max<int64_t>(1, grain / std::min(longest, row_.extent + 1));
    parallel_for(0, count, least, [&](int64_t begin, int64_t end) {
      auto own = local();
      for (int64_t at = begin; at < end;) {
        const int64_t line = at / per_row, last = std::min(end, (line + 1) * per_row);
        rows_.for_each(line, line + 1, [&](const int64_t(&offset)[2]) {
          for (; at < last; ++at) {
            const int64_t first = at % per_row * longest;
            fn(offset[0] + first * row_.strides[0], row_.strides[0], offset[1] + first * row_.strides[1],
               row_.strides[1], std::min(longest, row_.extent - first), own);
          }
        });
      }
      done(own);
    });
  }

  template <class Fn> void run(Fn &&fn) const {
    run([] { return 0; },
        [&](int64_t a, int64_t as, int64_t b, int64_t bs, int64_t n, int) { fn(a, as, b, bs, n); },
        [](int) {});
  }

 private:
  Space<2> rows_;
  Space<2>::Row row_;
};

class PerTensorQuantI8 {
 public:
  explicit PerTensorQuantI8(const infini_per_tensor_quant_int8_args &call)
      : dtype_(call.x->dtype), symmetric_(call.symmetric), pieces_(call.x_packed, call.x) {
    dispatch_floats("per_tensor_quant_int8", dtype_, [](auto) {});
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_per_tensor_quant_int8_args &call, void *, infinirtStream_t) const {
    dispatch_floats("per_tensor_quant_int8", dtype_, [&](auto tag) {
      run(static_cast<const typename decltype(tag)::type *>(call.x->data), call);
    });
  }

 private:
  template <class T> void run(const T *x, const infini_per_tensor_quant_int8_args &call) const {
    auto *packed = static_cast<int8_t *>(call.x_packed->data);
    float &scale = *static_cast<float *>(call.x_scale->data),
          &zero = *static_cast<float *>(call.x_zero->data);
    if (call.is_static) {
      const double unit = scale, shift = symmetric_ ? 0 : double(zero);
      pieces_.run([&](int64_t to, int64_t step, int64_t from, int64_t x_step, int64_t n) {
        const auto *line = numbers(x + from, x_step, n);
        // A division: a product and a sum might become one operation, which rounds differently.
        Map::each(line, packed + to, step, n, [=](double v) { return std::rint(v / unit + shift); });
      });
      return;
    }
    Range range;
    std::mutex lock;
    pieces_.run([] { return Range(); },
                [&](int64_t, int64_t, int64_t from, int64_t step, int64_t n, Range &own) {
                  own.extend(numbers(x + from, step, n), n);
                },
                [&](const Range &own) {
                  std::lock_guard<std::mutex> hold(lock);
                  range.extend(own);
                });
    const Map map(range, symmetric_);
    pieces_.run([&](int64_t to, int64_t step, int64_t from, int64_t x_step, int64_t n) {
      map.apply(numbers(x + from, x_step, n), packed + to, step, n);
    });
    scale = float(map.scale);
    zero = float(map.zero);
  }

  int32_t dtype_;
  bool symmetric_;
  Pieces pieces_;
};

class PerTensorDequantI8 {
 public:
  explicit PerTensorDequantI8(const infini_per_tensor_dequant_int8_args &call)
      : dtype_(call.x->dtype), pieces_(call.x, call.x_packed) {
    dispatch_floats("per_tensor_dequant_int8", dtype_, [](auto) {});
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_per_tensor_dequant_int8_args &call, void *, infinirtStream_t) const {
    const auto *packed = static_cast<const int8_t *>(call.x_packed->data);
    const double scale = *static_cast<const float *>(call.x_scale->data),
                 zero = call.x_zero ? *static_cast<const float *>(call.x_zero->data) : 0;
    dispatch_floats("per_tensor_dequant_int8", dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      using C = compute_t<T>;
      auto *x = static_cast<T *>(call.x->data);
      pieces_.run([&](int64_t to, int64_t step, int64_t from, int64_t packed_step, int64_t n) {
        C *line = static_cast<C *>(scratch<Scratch::operands>(size_t(n + 1) * sizeof(C)));
        const int8_t *codes = packed + from;
        if (packed_step == 1)
          for (int64_t i = 0; i < n; ++i) line[i] = C((codes[i] - zero) * scale);
        else
          for (int64_t i = 0; i < n; ++i) line[i] = C((codes[i * packed_step] - zero) * scale);
        from_float(line, x + to, step, n);
      });
    });
  }

 private:
  int32_t dtype_;
  Pieces pieces_;
};

}  // namespace

INFINI_CPU_KERNEL(dequantize_awq, DequantizeAWQ)
INFINI_CPU_KERNEL(dequantize_gptq, DequantizeGPTQ)
INFINI_CPU_KERNEL(per_channel_quant_int8, PerChannelQuantI8)
INFINI_CPU_KERNEL(per_tensor_quant_int8, PerTensorQuantI8)
INFINI_CPU_KERNEL(per_tensor_dequant_int8, PerTensorDequantI8)

}  // namespace infini::cpu::INFINI_ISA
