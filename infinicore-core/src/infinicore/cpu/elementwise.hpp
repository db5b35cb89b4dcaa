// elementwise.hpp -- run a loop over contiguous elements on tensors of any layout, in parallel.
// A kernel supplies only that loop; broadcasting, strides, threads and streaming stores are handled here.
#pragma once
#include "kernel.hpp"

namespace infini::cpu::INFINI_ISA {

// Compute n elements: out and in[i] are contiguous; out may be one of the inputs, element for element, and
// overlaps none otherwise. A loop over them is therefore free of dependences: mark it INFINI_INDEPENDENT,
// which spares the run-time overlap test whose scalar branch an in-place call would take.
using Apply = void (*)(const void *context, void *out, const void *const *in, int64_t n);

#if defined(__clang__)
#define INFINI_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INFINI_INDEPENDENT _Pragma("GCC ivdep")
#endif

// What an element costs, as the number of elements worth handing to a thread.
constexpr int64_t kCheap = 16384;     // a few instructions
constexpr int64_t kExpensive = 4096;  // exp and its like

// One operand of a plan: a layout, and the bytes of what counts as an element.
struct Operand {
  const infini_tensor *tensor;
  int64_t size;
};

// out = f(inputs), planned for one layout. Broadcast inputs come with strides of zero.
class Elementwise {
 public:
  // At most three inputs. pairs: the elements are pairs of numbers (complex) of half the size, to be treated
  // alike.
  Elementwise(Apply apply, const void *context, int64_t grain, Operand out, std::initializer_list<Operand> in,
              bool pairs = false);

  void run(void *out, const void *a = nullptr, const void *b = nullptr, const void *c = nullptr) const {
    run_with(context_, out, a, b, c);
  }
  // The same with a context that is this call's own: values that are not known when the plan is made.
  void run_with(const void *context, void *out, const void *a = nullptr, const void *b = nullptr,
                const void *c = nullptr) const;

 private:
  static constexpr int kInputs = 3, kOperands = 1 + kInputs;

  void rows(const void *context, char *const (&data)[kOperands], int64_t begin, int64_t end,
            bool stream) const;
  void blocks(const void *context, char *const (&data)[kOperands], int64_t begin, int64_t end,
              bool stream) const;

  Apply apply_;
  const void *context_;
  int64_t grain_;
  int inputs_;
  int64_t size_[kOperands] = {1, 1, 1, 1};
  Space<kOperands> outer_;  // all dimensions but the innermost
  Space<kOperands>::Row row_;
  int64_t total_;
  bool contiguous_[kOperands];  // over the whole iteration space, in its order
};

// dst = src for elements of one size, with blocked transposition where the innermost dimensions differ.
class Copy {
 public:
  Copy(const infini_tensor &dst, const infini_tensor &src);

  void run(void *dst, const void *src) const;

 private:
  void transpose(char *dst, const char *src) const;

  int64_t size_;
  Elementwise straight_;
  bool transposed_ = false;
  Space<2> outer_;                // all dimensions but the two below
  int64_t rows_, columns_;        // columns are adjacent in dst, rows in src
  int64_t dst_row_, src_column_;  // strides
};

}  // namespace infini::cpu::INFINI_ISA
