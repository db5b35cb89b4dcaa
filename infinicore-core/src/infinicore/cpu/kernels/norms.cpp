// kernels/norms.cpp -- rms_norm, add_rms_norm and layer_norm: rows normalised over the last dimension.
// A row is widened once into a line that stays in the first-level cache; results are rounded once.
#include <infinicore/operators/add_rms_norm.h>
#include <infinicore/operators/layer_norm.h>
#include <infinicore/operators/rms_norm.h>

#include "../kernel.hpp"
#include "../scratch.hpp"
#include "../vec.hpp"

#include <algorithm>
#include <cmath>

namespace infini::cpu::INFINI_ISA {

namespace {

// Rows that are worth a thread's while.
int64_t row_grain(int64_t n) {
  return std::max<int64_t>(1, 16 * 1024 / (n + 1));
}

int64_t last_stride(const infini_tensor *t) {
  return t->strides[t->ndim - 1];
}

template <class C> C sum_of_squares(const C *x, int64_t n) {
  // fold would square its partial results when it joins them, so the squares are summed by hand here.
  constexpr int64_t L = lanes<C>;
  vec<C> part[4] = {};
  int64_t i = 0;
  for (; i + 4 * L <= n; i += 4 * L)
    for (int u = 0; u < 4; ++u) {
      const vec<C> v = load(x + i + u * L);
      part[u] += v * v;
    }
  for (; i < n; i += L) {
    const vec<C> v = load_first(x + i, std::min(L, n - i));
    part[0] += v * v;
  }
  return reduce_add((part[0] + part[1]) + (part[2] + part[3]));
}

// A weight or bias as contiguous numbers of the type that sums of its operand's dtype are kept in.
class Widened {
 public:
  Widened(const infini_tensor *t, int32_t dtype) {
    if (!t) return;
    dispatch_floats("norm weight", t->dtype, [](auto) {});
    const int32_t sums = dtype == INFINI_DTYPE_F64 ? INFINI_DTYPE_F64 : INFINI_DTYPE_F32;
    const int64_t size = sums == INFINI_DTYPE_F64 ? sizeof(double) : sizeof(float);
    as_is_ = t->dtype == sums && (t->strides[0] == 1 || t->shape[0] <= 1);
    bytes_ = as_is_ ? 0 : (t->shape[0] * size + 63) / 64 * 64;
  }

  uint64_t bytes() const { return bytes_; }

  // The numbers: where the tensor has them, else widened into memory of bytes(). NULL for no tensor.
  template <class C> const C *get(const infini_tensor *t, void *memory) const {
    if (!t) return nullptr;
    if (as_is_) return static_cast<const C *>(t->data);
    C *out = static_cast<C *>(memory);
    dispatch_floats("norm weight", t->dtype, [&](auto tag) {
      const auto *data = static_cast<const typename decltype(tag)::type *>(t->data);
      for (int64_t i = 0; i < t->shape[0]; ++i) out[i] = C(to_float(data[i * t->strides[0]]));
    });
    return out;
  }

 private:
  bool as_is_ = true;
  uint64_t bytes_ = 0;
};

}  // namespace

class RMSNorm {
 public:
  explicit RMSNorm(const infini_rms_norm_args &call)
      : dtype_(call.x->dtype),
        n_(call.weight->shape[0]),
        weight_(call.weight, dtype_),
        rows_({call.out, call.x}, -2),
        out_step_(last_stride(call.out)),
        x_step_(last_stride(call.x)) {
    dispatch_floats("rms_norm", dtype_, [](auto) {});
    rows_.merge();
  }

  uint64_t workspace() const { return weight_.bytes(); }

  void execute(const infini_rms_norm_args &call, void *workspace, infinirtStream_t) const {
    dispatch_floats("rms_norm", dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      using C = compute_t<T>;
      const C *weight = weight_.get<C>(call.weight, workspace);
      const T *x = static_cast<const T *>(call.x->data);
      T *out = static_cast<T *>(call.out->data);
      const C epsilon = C(call.epsilon);
      parallel_for(0, rows_.numel(), row_grain(n_), [&](int64_t begin, int64_t end) {
        C *line = static_cast<C *>(scratch<Scratch::operands>(size_t(n_ + 1) * sizeof(C)));
        rows_.for_each(begin, end, [&](const int64_t(&at)[2]) {
          to_float(x + at[1], x_step_, line, n_);
          const C scale = C(1) / std::sqrt(sum_of_squares(line, n_) / C(n_) + epsilon);
          for (int64_t i = 0; i < n_; ++i) line[i] = line[i] * scale * weight[i];
          from_float(line, out + at[0], out_step_, n_);
        });
      });
    });
  }

 private:
  int32_t dtype_;
  int64_t n_;
  Widened weight_;
  Space<2> rows_;  // out, x
  int64_t out_step_, x_step_;
};

class AddRMSNorm {
 public:
  explicit AddRMSNorm(const infini_add_rms_norm_args &call)
      : dtype_(call.a->dtype),
        n_(call.weight->shape[0]),
        weight_(call.weight, dtype_),
        rows_({call.out, call.residual_out, call.a, call.b}, -2),
        steps_{last_stride(call.out), last_stride(call.residual_out), last_stride(call.a),
               last_stride(call.b)} {
    dispatch_floats("add_rms_norm", dtype_, [](auto) {});
    rows_.merge();
  }

  uint64_t workspace() const { return weight_.bytes(); }

  void execute(const infini_add_rms_norm_args &call, void *workspace, infinirtStream_t) const {
    dispatch_floats("add_rms_norm", dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      using C = compute_t<T>;
      const C *weight = weight_.get<C>(call.weight, workspace);
      const T *a = static_cast<const T *>(call.a->data), *b = static_cast<const T *>(call.b->data);
      T *out = static_cast<T *>(call.out->data), *residual = static_cast<T *>(call.residual_out->data);
      const C epsilon = C(call.epsilon);
      parallel_for(0, rows_.numel(), row_grain(n_), [&](int64_t begin, int64_t end) {
        C *line = static_cast<C *>(scratch<Scratch::operands>(size_t(2 * n_ + 1) * sizeof(C))),
          *other = line + n_;
        rows_.for_each(begin, end, [&](const int64_t(&at)[4]) {
          to_float(a + at[2], steps_[2], line, n_);
          to_float(b + at[3], steps_[3], other, n_);
          for (int64_t i = 0; i < n_; ++i) line[i] += other[i];
          from_float(line, residual + at[1], steps_[1], n_);
          const C scale = C(1) / std::sqrt(sum_of_squares(line, n_) / C(n_) + epsilon);
          for (int64_t i = 0; i < n_; ++i) line[i] = line[i] * scale * weight[i];
          from_float(line, out + at[0], steps_[0], n_);
        });
      });
    });
  }

 private:
  int32_t dtype_;
  int64_t n_;
  Widened weight_;
  Space<4> rows_;  // out, residual_out, a, b
  int64_t steps_[4];
};

class LayerNorm {
 public:
  explicit LayerNorm(const infini_layer_norm_args &call)
      : dtype_(call.input->dtype),
        n_(call.weight->shape[0]),
        weight_(call.weight, dtype_),
        bias_(call.bias, dtype_),
        rows_({call.output, call.input_standardization, call.input_std_deviation, call.input},
              call.output->ndim - 1),
        steps_{last_stride(call.output), last_stride(call.input_standardization), last_stride(call.input)} {
    dispatch_floats("layer_norm", dtype_, [](auto) {});
    rows_.merge();
  }

  uint64_t workspace() const { return weight_.bytes() + bias_.bytes(); }

  void execute(const infini_layer_norm_args &call, void *workspace, infinirtStream_t) const {
    dispatch_floats("layer_norm", dtype_, [&](auto tag) {
      using T = typename decltype(tag)::type;
      using C = compute_t<T>;
      const C *weight = weight_.get<C>(call.weight, workspace);
      const C *bias = bias_.get<C>(call.bias, static_cast<char *>(workspace) + weight_.bytes());
      const T *input = static_cast<const T *>(call.input->data);
      T *output = static_cast<T *>(call.output->data);
      T *standard = static_cast<T *>(call.input_standardization->data);
      T *deviation = static_cast<T *>(call.input_std_deviation->data);
      const C epsilon = C(call.eps);
      parallel_for(0, rows_.numel(), row_grain(n_), [&](int64_t begin, int64_t end) {
        C *line = static_cast<C *>(scratch<Scratch::operands>(size_t(n_ + 1) * sizeof(C)));
        rows_.for_each(begin, end, [&](const int64_t(&at)[4]) {
          to_float(input + at[3], steps_[2], line, n_);
          const C mean = row_sum(line, n_) / C(n_);
          for (int64_t i = 0; i < n_; ++i) line[i] -= mean;
          const C scale = C(1) / std::sqrt(sum_of_squares(line, n_) / C(n_) + epsilon);
          from_float(scale, deviation[at[2]]);
          for (int64_t i = 0; i < n_; ++i) line[i] *= scale;
          from_float(line, standard + at[1], steps_[1], n_);
          if (bias)
            for (int64_t i = 0; i < n_; ++i) line[i] = line[i] * weight[i] + bias[i];
          else
            for (int64_t i = 0; i < n_; ++i) line[i] *= weight[i];
          from_float(line, output + at[0], steps_[0], n_);
        });
      });
    });
  }

 private:
  int32_t dtype_;
  int64_t n_;
  Widened weight_, bias_;
  Space<4> rows_;  // output, input_standardization, input_std_deviation, input
  int64_t steps_[3];
};

INFINI_CPU_KERNEL(rms_norm, RMSNorm)
INFINI_CPU_KERNEL(add_rms_norm, AddRMSNorm)
INFINI_CPU_KERNEL(layer_norm, LayerNorm)

}  // namespace infini::cpu::INFINI_ISA
