// cudalike/norms.hpp -- rms_norm, add_rms_norm, layer_norm and lp_norm: a block per row, each row read once.
#pragma once
#include <infinicore/operators/add_rms_norm.h>
#include <infinicore/operators/layer_norm.h>
#include <infinicore/operators/lp_norm.h>
#include <infinicore/operators/rms_norm.h>

#include "rows.hpp"

namespace infini::cudalike {

// ---- rms_norm, and with the residual addition before it -------------------------------------------------

// residual_out is NULL where nothing is added; rows are laid out as out, residual_out, a, b.
template <class T, class W, int width> static __global__ void __launch_bounds__(most_threads)
    rms_norm_kernel(T *out, T *residual_out, const T *a, const T *b, const W *weight, FloatReader any_weight,
                    Layout<4> layout, int64_t length, Vector<int64_t, 4> strides, compute_t<T> epsilon) {
  using C = compute_t<T>;
  int64_t at[4];
  layout.locate(blockIdx.x, at);
  C items[row_items], others[row_items];
  Piece<width, W> factors;  // where W is not what the weight holds, width is 1 and any_weight is read
  if (width > 1 && in_one_piece(length)) factors.read(weight, 1, length, 0);
  C squares = 0;
  for_pieces(length, false, [&](int64_t base, bool) {
    load_items<width>(a + at[2], strides.items[2], length, base, C(0), items);
    if (residual_out != nullptr) {
      load_items<width>(b + at[3], strides.items[3], length, base, C(0), others);
      for (int i = 0; i < row_items; ++i) items[i] += others[i];
      store_items<width>(residual_out + at[1], strides.items[1], length, base, items);
    }
    for (int i = 0; i < row_items; ++i) squares += items[i] * items[i];
  });
  const C scale = C(1) / math::sqrt(block_sum(squares) / C(length) + epsilon);
  for_pieces(length, true, [&](int64_t base, bool loaded) {
    if (!loaded && residual_out != nullptr)  // a or b may be overwritten by now
      load_items<width>(residual_out + at[1], strides.items[1], length, base, C(0), items);
    else if (!loaded)
      load_items<width>(a + at[2], strides.items[2], length, base, C(0), items);
    if constexpr (width > 1) {
      if (!loaded) factors.read(weight, 1, length, base);
      for (int i = 0; i < row_items; ++i) items[i] *= scale * C(factors[i]);
    } else {
      for (int i = 0; i < row_items; ++i) {
        const int64_t place = item_place<width>(base, i);
        if (place < length) items[i] *= scale * any_weight.get<C>(place);
      }
    }
    store_items<width>(out + at[0], strides.items[0], length, base, items);
  });
}

class RmsNormPlan {
 public:
  RmsNormPlan(const char *op, const infini_tensor *out, const infini_tensor *residual_out,
              const infini_tensor *a, const infini_tensor *b, const infini_tensor *weight, double epsilon)
      : op_(op),
        rows_({out, residual_out != nullptr ? residual_out : out, a, b != nullptr ? b : a}, -1),
        epsilon_(epsilon),
        run_(
            dispatch<Floats>(op, out->dtype, [](auto t) -> Run { return run<typename decltype(t)::type>; })) {
    const int64_t width = 16 / dtype_size(out->dtype);
    vectors_ = rows_.in_vectors(width) && weight->strides[0] == 1 &&
               (weight->dtype == out->dtype || weight->dtype == INFINI_DTYPE_F32);
  }

  void execute(const infini_tensor *out, const infini_tensor *residual_out, const infini_tensor *a,
               const infini_tensor *b, const infini_tensor *weight, Stream stream) const {
    if (!rows_.empty()) run_(*this, out, residual_out, a, b, weight, stream);
  }

 private:
  using Run = void (*)(const RmsNormPlan &, const infini_tensor *, const infini_tensor *,
                       const infini_tensor *, const infini_tensor *, const infini_tensor *, Stream);

  template <class T> static void run(const RmsNormPlan &plan, const infini_tensor *out,
                                     const infini_tensor *residual_out, const infini_tensor *a,
                                     const infini_tensor *b, const infini_tensor *weight, Stream stream) {
    constexpr int width = vector_width<T>();
    bool aligned = plan.vectors_ && is_aligned(weight->data, width * size_t(dtype_size(weight->dtype)));
    for (const infini_tensor *t : {out, residual_out, a, b})
      aligned = aligned && (t == nullptr || is_aligned(t->data, 16));
    const Vector<int64_t, 4> strides = {plan.rows_.strides[0], plan.rows_.strides[1], plan.rows_.strides[2],
                                        plan.rows_.strides[3]};
    auto kernel = !aligned ? rms_norm_kernel<T, T, 1> : rms_norm_kernel<T, T, width>;
    for (const Layout<4> &layout : plan.rows_.parts(plan.op_)) {
      const auto pointers = [&](auto *typed_weight, auto which) {
        launch(which, blocks(layout.count), dim3(row_threads(plan.rows_.length)), 0, stream,
               static_cast<T *>(out->data),
               residual_out != nullptr ? static_cast<T *>(residual_out->data) : static_cast<T *>(nullptr),
               static_cast<const T *>(a->data), static_cast<const T *>((b != nullptr ? b : a)->data),
               typed_weight, floats(weight), layout, plan.rows_.length, strides, compute_t<T>(plan.epsilon_));
      };
      if constexpr (!std::is_same_v<T, float>)
        if (aligned && weight->dtype == INFINI_DTYPE_F32) {
          pointers(static_cast<const float *>(weight->data), rms_norm_kernel<T, float, width>);
          continue;
        }
      pointers(static_cast<const T *>(weight->data), kernel);
    }
  }

  const char *op_;
  Rows<4> rows_;
  double epsilon_;
  bool vectors_;
  Run run_;
};

class RmsNorm {
 public:
  explicit RmsNorm(const infini_rms_norm_args &call)
      : plan_("rms_norm", call.out, nullptr, call.x, nullptr, call.weight, call.epsilon) {}
  uint64_t workspace() const { return 0; }
  void execute(const infini_rms_norm_args &call, void *, infinirtStream_t stream) const {
    plan_.execute(call.out, nullptr, call.x, nullptr, call.weight, native(stream));
  }

 private:
  RmsNormPlan plan_;
};

class AddRmsNorm {
 public:
  explicit AddRmsNorm(const infini_add_rms_norm_args &call)
      : plan_("add_rms_norm", call.out, call.residual_out, call.a, call.b, call.weight, call.epsilon) {}
  uint64_t workspace() const { return 0; }
  void execute(const infini_add_rms_norm_args &call, void *, infinirtStream_t stream) const {
    plan_.execute(call.out, call.residual_out, call.a, call.b, call.weight, native(stream));
  }

 private:
  RmsNormPlan plan_;
};

// ---- layer_norm -----------------------------------------------------------------------------------------

template <class T, int width> static __global__ void __launch_bounds__(most_threads)
    layer_norm_kernel(T *out, T *standard, T *deviation, const T *in, const T *weight, const T *bias,
                      Layout<4> layout, int64_t length, Vector<int64_t, 4> strides,
                      Vector<int64_t, 2> shared_strides, compute_t<T> epsilon) {
  using C = compute_t<T>;
  int64_t at[4];
  layout.locate(blockIdx.x, at);
  C items[row_items];
  const auto read = [&](int64_t base) {
    load_items<width>(in + at[3], strides.items[3], length, base, C(0), items);
  };
  Piece<width, T> factors, shifts;
  const auto read_shared = [&](int64_t base) {
    factors.read(weight, shared_strides.items[0], length, base);
    if (bias != nullptr) shifts.read(bias, shared_strides.items[1], length, base);
  };
  if (in_one_piece(length)) read_shared(0);
  C sum = 0;
  for_pieces(length, false, [&](int64_t base, bool) {
    read(base);
    for (int i = 0; i < row_items; ++i) sum += items[i];
  });
  const C mean = block_sum(sum) / C(length);
  C squares = 0;
  for_pieces(length, true, [&](int64_t base, bool loaded) {
    if (!loaded) read(base);
    for (int i = 0; i < row_items; ++i)
      if (item_place<width>(base, i) < length) squares += (items[i] - mean) * (items[i] - mean);
  });
  const C scale = C(1) / math::sqrt(block_sum(squares) / C(length) + epsilon);
  if (threadIdx.x == 0) deviation[at[2]] = store<T>(scale);
  for_pieces(length, true, [&](int64_t base, bool loaded) {
    if (!loaded) {
      read(base);
      read_shared(base);
    }
    for (int i = 0; i < row_items; ++i) items[i] = (items[i] - mean) * scale;
    store_items<width>(standard + at[1], strides.items[1], length, base, items);
    for (int i = 0; i < row_items; ++i) {
      items[i] *= factors[i];
      if (bias != nullptr) items[i] += shifts[i];
    }
    store_items<width>(out + at[0], strides.items[0], length, base, items);
  });
}

class LayerNorm {
 public:
  explicit LayerNorm(const infini_layer_norm_args &call)
      : rows_(tensors(call, view_), -1),
        epsilon_(call.eps),
        run_(dispatch<Floats>("layer_norm", call.output->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {}

  uint64_t workspace() const { return 0; }
  void execute(const infini_layer_norm_args &call, void *, infinirtStream_t stream) const {
    run_(*this, call, native(stream));  // rows of no elements have a deviation, too: NaN
  }

 private:
  using Run = void (*)(const LayerNorm &, const infini_layer_norm_args &, Stream);

  // The deviation has no last axis: give it one of stride 0.
  struct View {
    std::vector<int64_t> strides;
    infini_tensor tensor;
  };
  static std::array<const infini_tensor *, 4> tensors(const infini_layer_norm_args &call, View &view) {
    const infini_tensor &deviation = *call.input_std_deviation;
    view.strides.assign(deviation.strides, deviation.strides + deviation.ndim);
    view.strides.push_back(0);
    view.tensor = deviation;
    view.tensor.ndim += 1;
    view.tensor.shape = call.output->shape;
    view.tensor.strides = view.strides.data();
    return {call.output, call.input_standardization, &view.tensor, call.input};
  }

  template <class T>
  static void run(const LayerNorm &plan, const infini_layer_norm_args &call, Stream stream) {
    constexpr int width = vector_width<T>();
    const Rows<4> &rows = plan.rows_;
    bool vectors = rows.length % width == 0;
    for (const int k : {0, 1, 3}) vectors = vectors && rows.strides[k] == 1;
    const int64_t weight_stride = call.weight->strides[0],
                  bias_stride = call.bias != nullptr ? call.bias->strides[0] : 1;
    vectors = vectors && weight_stride == 1 && bias_stride == 1 && is_aligned(call.weight->data, 16) &&
              (call.bias == nullptr || is_aligned(call.bias->data, 16));
    for (const infini_tensor *t : {call.output, call.input_standardization, call.input}) {
      vectors = vectors && is_aligned(t->data, 16);
      for (int32_t d = 0; d + 1 < t->ndim; ++d) vectors = vectors && t->strides[d] % width == 0;
    }
    for (const Layout<4> &layout : rows.parts("layer_norm"))
      launch(vectors ? layer_norm_kernel<T, width> : layer_norm_kernel<T, 1>, blocks(layout.count),
             dim3(row_threads(rows.length)), 0, stream, static_cast<T *>(call.output->data),
             static_cast<T *>(call.input_standardization->data),
             static_cast<T *>(call.input_std_deviation->data), static_cast<const T *>(call.input->data),
             static_cast<const T *>(call.weight->data),
             call.bias != nullptr ? static_cast<const T *>(call.bias->data) : static_cast<const T *>(nullptr),
             layout, rows.length,
             Vector<int64_t, 4>{rows.strides[0], rows.strides[1], rows.strides[2], rows.strides[3]},
             Vector<int64_t, 2>{weight_stride, bias_stride}, compute_t<T>(plan.epsilon_));
  }

  View view_;  // only while rows_ is made; before it
  Rows<4> rows_;
  double epsilon_;
  Run run_;
};

// ---- lp_norm --------------------------------------------------------------------------------------------

template <class T> __global__ void __launch_bounds__(most_threads)
    lp_norm_kernel(T *out, const T *in, Layout<2> layout, int64_t length, int64_t out_stride,
                   int64_t in_stride, int p, compute_t<T> epsilon) {
  using C = compute_t<T>;
  int64_t at[2];
  layout.locate(blockIdx.x, at);
  C items[row_items];
  // Powers of numbers divided by the largest, so that they neither overflow nor vanish.
  C largest = 0;
  for_pieces(length, false, [&](int64_t base, bool) {
    load_items<1>(in + at[1], in_stride, length, base, C(0), items);
    for (int i = 0; i < row_items; ++i) largest = MaxOf<C>{}.merge(largest, math::abs(items[i]));
  });
  largest = block_max(largest);
  const C unit = largest > C(0) && largest < math::infinity<C>() ? largest : C(1);
  C sum = 0;
  for_pieces(length, true, [&](int64_t base, bool loaded) {
    if (!loaded) load_items<1>(in + at[1], in_stride, length, base, C(0), items);
    for (int i = 0; i < row_items; ++i) {
      const C x = math::abs(items[i]) / unit;
      sum += p == 1 ? x : p == 2 ? x * x : math::pow(x, C(p));
    }
  });
  sum = block_sum(sum);
  C norm = unit * (p == 1 ? sum : p == 2 ? math::sqrt(sum) : math::pow(sum, C(1) / C(p)));
  norm = norm < epsilon ? epsilon : norm;
  for_pieces(length, true, [&](int64_t base, bool loaded) {
    if (!loaded) load_items<1>(in + at[1], in_stride, length, base, C(0), items);
    for (int i = 0; i < row_items; ++i) items[i] /= norm;
    store_items<1>(out + at[0], out_stride, length, base, items);
  });
}

class LpNorm {
 public:
  explicit LpNorm(const infini_lp_norm_args &call)
      : rows_({call.out, call.input}, call.axis),
        run_(dispatch<Floats>("lp_norm", call.out->dtype,
                              [](auto t) -> Run { return run<typename decltype(t)::type>; })) {}

  uint64_t workspace() const { return 0; }
  void execute(const infini_lp_norm_args &call, void *, infinirtStream_t stream) const {
    if (!rows_.empty()) run_(rows_, call, native(stream));
  }

 private:
  using Run = void (*)(const Rows<2> &, const infini_lp_norm_args &, Stream);
  template <class T> static void run(const Rows<2> &rows, const infini_lp_norm_args &call, Stream stream) {
    for (const Layout<2> &layout : rows.parts("lp_norm"))
      launch(lp_norm_kernel<T>, blocks(layout.count), dim3(row_threads(rows.length)), 0, stream,
             static_cast<T *>(call.out->data), static_cast<const T *>(call.input->data), layout, rows.length,
             rows.strides[0], rows.strides[1], int(call.p), compute_t<T>(call.eps));
  }
  Rows<2> rows_;
  Run run_;
};

INFINI_CUDALIKE_KERNEL(rms_norm, RmsNorm)
INFINI_CUDALIKE_KERNEL(add_rms_norm, AddRmsNorm)
INFINI_CUDALIKE_KERNEL(layer_norm, LayerNorm)
INFINI_CUDALIKE_KERNEL(lp_norm, LpNorm)

}  // namespace infini::cudalike
