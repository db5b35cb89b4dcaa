// cudalike/elementwise.hpp -- a function of each element: 16 bytes at a time where the innermost dimension is
// contiguous and aligned in all tensors, any strides otherwise.
#pragma once
#include <algorithm>

#include "kernel.hpp"
#include "layout.hpp"
#include "types.hpp"

namespace infini::cudalike {

constexpr unsigned elementwise_threads = 256;

// Elements that one thread takes at once: as many as 16 bytes hold of the largest type.
template <class... T> __host__ __device__ constexpr int vector_width() {
  size_t largest = 1;
  for (const size_t size : {sizeof(T)...}) largest = size > largest ? size : largest;
  return int(16 / largest);
}

template <class T, int width> struct alignas(sizeof(T) * width) Vector { T items[width]; };
template <class T> struct Vector<T, 1> { T items[1]; };

template <int width, class T> __device__ inline Vector<T, width> *as_vectors(T *data) {
  return reinterpret_cast<Vector<T, width> *>(data);
}
template <int width, class T> __device__ inline const Vector<T, width> *as_vectors(const T *data) {
  return reinterpret_cast<const Vector<T, width> *>(data);
}

// Write a vector at once. Of single members the compiler sometimes makes single writes; of two words it does
// not.
template <class T, int width> __device__ inline void store_vector(T *data, Vector<T, width> vector) {
  if constexpr (width > 1 && sizeof(vector) == sizeof(bytes16))
    *reinterpret_cast<bytes16 *>(data) = bit_cast<bytes16>(vector);
  else
    *as_vectors<width>(data) = vector;
}

// The numbers of a vector. A bf16 is the upper half of its number: two of them are a word, and take an
// instruction each.
template <class T, int width>
__device__ inline void unpack(Vector<T, width> packed, compute_t<T> (&numbers)[width]) {
  if constexpr (std::is_same_v<T, bfloat16> && width % 2 == 0) {
    uint32_t words[width / 2];
    memcpy(words, &packed, sizeof(words));
    INFINI_UNROLL
    for (int i = 0; i < width / 2; ++i) {
      numbers[2 * i] = bit_cast<float>(words[i] << 16);
      numbers[2 * i + 1] = bit_cast<float>(words[i] & 0xffff0000u);
    }
  } else {
    INFINI_UNROLL
    for (int i = 0; i < width; ++i) numbers[i] = load(packed.items[i]);
  }
}

// `f` gets the values that are computed with; what it returns is stored as an O. The layout counts vectors,
// of which a thread takes several a block apart: neighbouring threads touch neighbouring memory, and the
// reads of all are under way before the first is waited for.

constexpr unsigned strided_items = 4;  // per thread

template <int width, class F, class O, class A> static __global__ void __launch_bounds__(elementwise_threads)
    unary_kernel(F f, O *out, const A *a, Layout<2> layout, uint32_t tail) {
  const uint32_t first = blockIdx.x * (blockDim.x * strided_items) + threadIdx.x;
  Vector<A, width> x[strided_items];
  int64_t at[strided_items][2];
  INFINI_UNROLL
  for (unsigned i = 0; i < strided_items; ++i) {
    if (first + i * blockDim.x >= layout.count) break;
    layout.locate(first + i * blockDim.x, at[i]);
    x[i] = as_vectors<width>(a)[at[i][1]];
  }
  INFINI_UNROLL
  for (unsigned i = 0; i < strided_items; ++i) {
    if (first + i * blockDim.x >= layout.count) break;
    compute_t<A> numbers[width];
    unpack(x[i], numbers);
    Vector<O, width> y;
    INFINI_UNROLL
    for (int j = 0; j < width; ++j) y.items[j] = store_as<O>(f(numbers[j]));
    store_vector(out + at[i][0] * width, y);
  }
  if (blockIdx.x == 0 && threadIdx.x < tail) {
    const int64_t rest = (layout.first[0] + layout.count) * width + threadIdx.x;
    out[rest] = store_as<O>(f(load(a[rest])));
  }
}

template <int width, class F, class O, class A, class B>
static __global__ void __launch_bounds__(elementwise_threads)
    binary_kernel(F f, O *out, const A *a, const B *b, Layout<3> layout, uint32_t tail) {
  const uint32_t first = blockIdx.x * (blockDim.x * strided_items) + threadIdx.x;
  Vector<A, width> x[strided_items];
  Vector<B, width> y[strided_items];
  int64_t at[strided_items][3];
  INFINI_UNROLL
  for (unsigned i = 0; i < strided_items; ++i) {
    if (first + i * blockDim.x >= layout.count) break;
    layout.locate(first + i * blockDim.x, at[i]);
    x[i] = as_vectors<width>(a)[at[i][1]];
    y[i] = as_vectors<width>(b)[at[i][2]];
  }
  INFINI_UNROLL
  for (unsigned i = 0; i < strided_items; ++i) {
    if (first + i * blockDim.x >= layout.count) break;
    compute_t<A> left[width];
    compute_t<B> right[width];
    unpack(x[i], left);
    unpack(y[i], right);
    Vector<O, width> z;
    INFINI_UNROLL
    for (int j = 0; j < width; ++j) z.items[j] = store_as<O>(f(left[j], right[j]));
    store_vector(out + at[i][0] * width, z);
  }
  if (blockIdx.x == 0 && threadIdx.x < tail) {
    const int64_t rest = (layout.first[0] + layout.count) * width + threadIdx.x;
    out[rest] = store_as<O>(f(load(a[rest]), load(b[rest])));
  }
}

template <class F, class O, class A, class B, class C>
static __global__ void __launch_bounds__(elementwise_threads)
    strided_ternary(F f, O *out, const A *a, const B *b, const C *c, Layout<4> layout) {
  const uint32_t first = blockIdx.x * (blockDim.x * strided_items) + threadIdx.x;
  for (unsigned i = 0; i < strided_items; ++i) {
    const uint32_t index = first + i * blockDim.x;
    if (index >= layout.count) return;
    int64_t at[4];
    layout.locate(index, at);
    out[at[0]] = store_as<O>(f(load(a[at[1]]), load(b[at[2]]), load(c[at[3]])));
  }
}

inline dim3 strided_grid(uint32_t count) {
  return blocks(ceil_div(count, elementwise_threads * strided_items));
}

// ---- the host's side ------------------------------------------------------------------------------------

// Call fn(width as a constant, layout, tail) for the parts of a space, in vectors of `width` where it may.
template <int width, int K, class Fn>
void for_parts(const char *op, const Space<K> &space, bool aligned, Fn &&fn) {
  if (width == 1 || !aligned || !space.in_vectors(width)) {
    for (const auto &layout : space.parts(op)) fn(std::integral_constant<int, 1>(), layout, 0u);
    return;
  }
  const auto parts = space.vectors(width).parts(op);
  const auto tail = uint32_t(space.dims.back().size % width);
  for (const auto &layout : parts)
    fn(std::integral_constant<int, width>(), layout, &layout == &parts.back() ? tail : 0u);
}

template <class F, class O, class A>
void run_unary(const char *op, const Space<2> &space, const F &f, void *out, const void *a, Stream stream) {
  constexpr int width = vector_width<O, A>();
  const bool aligned = is_aligned(out, sizeof(O) * width) && is_aligned(a, sizeof(A) * width);
  for_parts<width>(op, space, aligned, [&](auto chosen, const Layout<2> &layout, uint32_t tail) {
    launch(unary_kernel<decltype(chosen)::value, F, O, A>, strided_grid(layout.count),
           dim3(elementwise_threads), 0, stream, f, static_cast<O *>(out), static_cast<const A *>(a), layout,
           tail);
  });
}

template <class F, class O, class A, class B> void run_binary(const char *op, const Space<3> &space,
                                                              const F &f, void *out, const void *a,
                                                              const void *b, Stream stream) {
  constexpr int width = vector_width<O, A, B>();
  const bool aligned = is_aligned(out, sizeof(O) * width) && is_aligned(a, sizeof(A) * width) &&
                       is_aligned(b, sizeof(B) * width);
  for_parts<width>(op, space, aligned, [&](auto chosen, const Layout<3> &layout, uint32_t tail) {
    launch(binary_kernel<decltype(chosen)::value, F, O, A, B>, strided_grid(layout.count),
           dim3(elementwise_threads), 0, stream, f, static_cast<O *>(out), static_cast<const A *>(a),
           static_cast<const B *>(b), layout, tail);
  });
}

template <class F, class O, class A, class B, class C>
void run_ternary(const char *op, const Space<4> &space, const F &f, void *out, const void *a, const void *b,
                 const void *c, Stream stream) {
  for (const auto &layout : space.parts(op))
    launch(strided_ternary<F, O, A, B, C>, strided_grid(layout.count), dim3(elementwise_threads), 0, stream,
           f, static_cast<O *>(out), static_cast<const A *>(a), static_cast<const B *>(b),
           static_cast<const C *>(c), layout);
}

// The kernel classes of most operators: F is the function, made from the call where it has numbers of its
// own; Set the dtypes; Out<T> what is stored.
template <class F, class Args> F function_of(const Args &call) {
  if constexpr (std::is_constructible_v<F, const Args &>)
    return F(call);
  else
    return F{};
}

template <class T> using Same = T;
template <class T> using Truth = boolean;

template <class Args, class F, class Set, template <class> class Out = Same> class Unary {
 public:
  explicit Unary(const Args &call)
      : space_(Space<2>({call.out, call.input}).reorder()),
        run_(dispatch<Set>(F::name, call.input->dtype, [](auto t) -> Run {
          using T = typename decltype(t)::type;
          return run_unary<F, Out<T>, T>;
        })) {}

  uint64_t workspace() const { return 0; }
  void execute(const Args &call, void *, infinirtStream_t stream) const {
    run_(F::name, space_, function_of<F>(call), call.out->data, call.input->data, native(stream));
  }

 private:
  using Run = void (*)(const char *, const Space<2> &, const F &, void *, const void *, Stream);
  Space<2> space_;
  Run run_;
};

template <class Args, class F, class Set, template <class> class Out = Same> class Binary {
 public:
  explicit Binary(const Args &call)
      : space_(Space<3>({call.out, call.input, call.other}).reorder()),
        run_(dispatch<Set>(F::name, call.input->dtype, [](auto t) -> Run {
          using T = typename decltype(t)::type;
          return run_binary<F, Out<T>, T, T>;
        })) {}

  uint64_t workspace() const { return 0; }
  void execute(const Args &call, void *, infinirtStream_t stream) const {
    run_(F::name, space_, function_of<F>(call), call.out->data, call.input->data, call.other->data,
         native(stream));
  }

 private:
  using Run = void (*)(const char *, const Space<3> &, const F &, void *, const void *, const void *, Stream);
  Space<3> space_;
  Run run_;
};

}  // namespace infini::cudalike
