// cudalike/elementwise.hpp -- a function of each element: 16 bytes at a time where tensors are contiguous and
// aligned, any strides otherwise.
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

// `f` gets the values that are computed with; what it returns is stored as an O.

template <class F, class O, class A>
static __global__ void contiguous_unary(F f, O *out, const A *a, int64_t count) {
  constexpr int width = vector_width<O, A>();
  const int64_t first = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * width;
  if (first + width <= count) {
    const auto x = *reinterpret_cast<const Vector<A, width> *>(a + first);
    Vector<O, width> y;
    for (int i = 0; i < width; ++i) y.items[i] = store_as<O>(f(load(x.items[i])));
    *reinterpret_cast<Vector<O, width> *>(out + first) = y;
  } else {
    for (int64_t i = first; i < count; ++i) out[i] = store_as<O>(f(load(a[i])));
  }
}

template <class F, class O, class A, class B>
static __global__ void contiguous_binary(F f, O *out, const A *a, const B *b, int64_t count) {
  constexpr int width = vector_width<O, A, B>();
  const int64_t first = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * width;
  if (first + width <= count) {
    const auto x = *reinterpret_cast<const Vector<A, width> *>(a + first);
    const auto y = *reinterpret_cast<const Vector<B, width> *>(b + first);
    Vector<O, width> z;
    for (int i = 0; i < width; ++i) z.items[i] = store_as<O>(f(load(x.items[i]), load(y.items[i])));
    *reinterpret_cast<Vector<O, width> *>(out + first) = z;
  } else {
    for (int64_t i = first; i < count; ++i) out[i] = store_as<O>(f(load(a[i]), load(b[i])));
  }
}

// Four elements per thread, a block apart, so that neighbouring threads touch neighbouring elements.
constexpr unsigned strided_items = 4;

template <class F, class O, class A>
static __global__ void strided_unary(F f, O *out, const A *a, Layout<2> layout) {
  const uint32_t first = blockIdx.x * (blockDim.x * strided_items) + threadIdx.x;
  for (unsigned i = 0; i < strided_items; ++i) {
    const uint32_t index = first + i * blockDim.x;
    if (index >= layout.count) return;
    int64_t at[2];
    layout.locate(index, at);
    out[at[0]] = store_as<O>(f(load(a[at[1]])));
  }
}

template <class F, class O, class A, class B>
static __global__ void strided_binary(F f, O *out, const A *a, const B *b, Layout<3> layout) {
  const uint32_t first = blockIdx.x * (blockDim.x * strided_items) + threadIdx.x;
  for (unsigned i = 0; i < strided_items; ++i) {
    const uint32_t index = first + i * blockDim.x;
    if (index >= layout.count) return;
    int64_t at[3];
    layout.locate(index, at);
    out[at[0]] = store_as<O>(f(load(a[at[1]]), load(b[at[2]])));
  }
}

template <class F, class O, class A, class B, class C>
static __global__ void strided_ternary(F f, O *out, const A *a, const B *b, const C *c, Layout<4> layout) {
  const uint32_t first = blockIdx.x * (blockDim.x * strided_items) + threadIdx.x;
  for (unsigned i = 0; i < strided_items; ++i) {
    const uint32_t index = first + i * blockDim.x;
    if (index >= layout.count) return;
    int64_t at[4];
    layout.locate(index, at);
    out[at[0]] = store_as<O>(f(load(a[at[1]]), load(b[at[2]]), load(c[at[3]])));
  }
}

inline bool is_aligned(const void *pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}
inline dim3 strided_grid(uint32_t count) {
  return blocks(ceil_div(count, elementwise_threads * strided_items));
}

// ---- the host's side ------------------------------------------------------------------------------------

template <class F, class O, class A>
void run_unary(const char *op, const Space<2> &space, const F &f, void *out, const void *a, Stream stream) {
  constexpr int width = vector_width<O, A>();
  auto target = static_cast<O *>(out);
  auto x = static_cast<const A *>(a);
  const int64_t count = space.count();
  if (count == 0) return;
  if (space.is_contiguous() && is_aligned(out, sizeof(O) * width) && is_aligned(a, sizeof(A) * width))
    return launch(contiguous_unary<F, O, A>, blocks(ceil_div(count, elementwise_threads * width)),
                  dim3(elementwise_threads), 0, stream, f, target, x, count);
  for (const auto &layout : space.parts(op))
    launch(strided_unary<F, O, A>, strided_grid(layout.count), dim3(elementwise_threads), 0, stream, f,
           target, x, layout);
}

template <class F, class O, class A, class B> void run_binary(const char *op, const Space<3> &space,
                                                              const F &f, void *out, const void *a,
                                                              const void *b, Stream stream) {
  constexpr int width = vector_width<O, A, B>();
  auto target = static_cast<O *>(out);
  auto x = static_cast<const A *>(a);
  auto y = static_cast<const B *>(b);
  const int64_t count = space.count();
  if (count == 0) return;
  if (space.is_contiguous() && is_aligned(out, sizeof(O) * width) && is_aligned(a, sizeof(A) * width) &&
      is_aligned(b, sizeof(B) * width))
    return launch(contiguous_binary<F, O, A, B>, blocks(ceil_div(count, elementwise_threads * width)),
                  dim3(elementwise_threads), 0, stream, f, target, x, y, count);
  for (const auto &layout : space.parts(op))
    launch(strided_binary<F, O, A, B>, strided_grid(layout.count), dim3(elementwise_threads), 0, stream, f,
           target, x, y, layout);
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
