// kernels/gemm.cpp -- the dense products gemm and linear, any strides; the work is in matmul.hpp.
// Layouts are planned once: dimensions merge, so that shared weights are read once however many rows use
// them.
#include <infinicore/operators/gemm.h>
#include <infinicore/operators/linear.h>

#include "../kernel.hpp"
#include "../matmul.hpp"

namespace infini::cpu::INFINI_ISA {

// c = alpha * a @ b + beta * c over a batch.
class Gemm {
 public:
  explicit Gemm(const infini_gemm_args &call)
      : dtype_(call.c->dtype), batch_({call.c, call.a, call.b}, -3), c_(*call.c), a_(*call.a), b_(*call.b) {
    dispatch_floats("gemm", dtype_, [](auto) {});
    m_ = c_.rows;
    batch_.merge();
    const int last = batch_.ndim - 1;
    if (last >= 0 && batch_.strides[2][last] == 0 && batch_.strides[1][last] == m_ * a_.row &&
        batch_.strides[0][last] == m_ * c_.row) {
      m_ *= batch_.shape[last];
      batch_.pop();
    }
    count_ = batch_.numel();
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_gemm_args &call, void *, infinirtStream_t) const {
    if (count_ == 0) return;
    dispatch_floats("gemm", dtype_, [&](auto tag) { run<typename decltype(tag)::type>(call); });
  }

 private:
  struct Matrix {
    int64_t rows, columns, row, column;
    explicit Matrix(const infini_tensor &t)
        : rows(t.shape[t.ndim - 2]),
          columns(t.shape[t.ndim - 1]),
          row(t.strides[t.ndim - 2]),
          column(t.strides[t.ndim - 1]) {}
  };

  template <class T> void run(const infini_gemm_args &call) const {
    using C = compute_t<T>;
    Product<T> whole{m_,
                     c_.columns,
                     call.alpha == 0 ? 0 : a_.columns,  // a and b are not read when they count for nothing
                     static_cast<const T *>(call.a->data),
                     a_.row,
                     a_.column,
                     static_cast<const T *>(call.b->data),
                     b_.row,
                     b_.column,
                     static_cast<T *>(call.c->data),
                     c_.row,
                     c_.column,
                     C(call.alpha),
                     C(call.beta)};
    if (count_ == 1) return multiply(whole);
    auto products = [&](int64_t begin, int64_t end) {
      batch_.for_each(begin, end, [&](const int64_t(&at)[3]) {
        Product<T> one = whole;
        one.c += at[0];
        one.a += at[1];
        one.b += at[2];
        multiply(one);
      });
    };
    const int64_t work = m_ * c_.columns * a_.columns + 1;
    // Many products: a thread takes whole ones. Few and large: each is shared by the threads.
    if (count_ >= 4 * num_threads() || work < 4 * parallel_work)
      parallel_for(0, count_, std::max<int64_t>(1, parallel_work / work), products);
    else
      products(0, count_);
  }

  int32_t dtype_;
  Space<3> batch_;  // c, a, b
  Matrix c_, a_, b_;
  int64_t m_, count_;
};

// out = alpha * input @ weight.T + bias; all leading dimensions are rows of one product.
class Linear {
 public:
  explicit Linear(const infini_linear_args &call)
      : dtype_(call.out->dtype),
        blocks_({call.out, call.input}, -2),
        n_(call.weight->shape[0]),
        k_(call.weight->shape[1]),
        out_column_(call.out->strides[call.out->ndim - 1]),
        input_column_(call.input->strides[call.input->ndim - 1]) {
    dispatch_floats("linear", dtype_, [](auto) {});
    rows_ = blocks_.merge().pop();
    count_ = blocks_.numel();
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_linear_args &call, void *, infinirtStream_t) const {
    if (count_ == 0) return;
    dispatch_floats("linear", dtype_, [&](auto tag) { run<typename decltype(tag)::type>(call); });
  }

 private:
  template <class T> void run(const infini_linear_args &call) const {
    Product<T> whole{rows_.extent,
                     n_,
                     k_,
                     static_cast<const T *>(call.input->data),
                     rows_.strides[1],
                     input_column_,
                     static_cast<const T *>(call.weight->data),
                     call.weight->strides[1],
                     call.weight->strides[0],
                     static_cast<T *>(call.out->data),
                     rows_.strides[0],
                     out_column_,
                     compute_t<T>(call.alpha),
                     0};
    if (call.bias) {
      whole.bias = static_cast<const T *>(call.bias->data);
      whole.bias_col = call.bias->strides[0];
    }
    if (count_ == 1) return multiply(whole);
    blocks_.for_each(0, count_, [&](const int64_t(&at)[2]) {  // rows that no single stride describes
      Product<T> one = whole;
      one.c += at[0];
      one.a += at[1];
      multiply(one);
    });
  }

  int32_t dtype_;
  Space<2> blocks_;  // out, input: what remains outside the rows
  Space<2>::Row rows_;
  int64_t n_, k_, out_column_, input_column_, count_;
};

INFINI_CPU_KERNEL(gemm, Gemm)
INFINI_CPU_KERNEL(linear, Linear)

}  // namespace infini::cpu::INFINI_ISA
