// rearrange.cpp -- rearrange, cat and embedding: kernels that only move elements.
// They know the size of an element and nothing else about its dtype.
#include <infinicore/operators/cat.h>
#include <infinicore/operators/embedding.h>
#include <infinicore/operators/rearrange.h>

#include "../elementwise.hpp"

#include <algorithm>
#include <vector>

namespace infini::cpu::INFINI_ISA {
namespace {

class Rearrange {
  Copy plan_;

 public:
  explicit Rearrange(const infini_rearrange_args &call) : plan_(*call.dst, *call.src) {}
  uint64_t workspace() const { return 0; }
  void execute(const infini_rearrange_args &call, void *, infinirtStream_t) const {
    plan_.run(call.dst->data, call.src->data);
  }
};

// One copy per tensor into its slice of out.
class Cat {
  struct Part {
    Copy copy;
    int64_t offset;  // of the slice in out, in bytes
  };
  std::vector<Part> parts_;

 public:
  explicit Cat(const infini_cat_args &call) {
    const infini_tensor &out = *call.out;
    int64_t at = 0, size = dtype_size(out.dtype);
    for (int64_t i = 0; i < call.tensors->count; ++i) {
      const infini_tensor &tensor = call.tensors->items[i];
      infini_tensor slice = {nullptr, tensor.shape, out.strides, out.ndim, out.dtype};
      parts_.push_back({Copy(slice, tensor), at * out.strides[call.dim] * size});
      at += tensor.shape[call.dim];
    }
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_cat_args &call, void *, infinirtStream_t) const {
    for (size_t i = 0; i < parts_.size(); ++i)
      parts_[i].copy.run(static_cast<char *>(call.out->data) + parts_[i].offset, call.tensors->items[i].data);
  }
};

// out[s, :] = weight[input[s], :]
class Embedding {
  int64_t size_, width_, vocabulary_;
  int64_t weight_row_, weight_column_, out_column_;
  Space<2> tokens_;  // strides of out (without its last dimension) and of input
  int64_t count_;
  int64_t index_dtype_;

  template <class T> void move(char *to, const char *from) const {
    auto target = reinterpret_cast<T *>(to);
    auto source = reinterpret_cast<const T *>(from);
    for (int64_t i = 0; i < width_; ++i) target[i * out_column_] = source[i * weight_column_];
  }

  void row(char *to, const char *from) const {
    if (out_column_ == 1 && weight_column_ == 1) {
      std::memcpy(to, from, size_t(width_ * size_));
      return;
    }
    switch (size_) {
      case 1:
        return move<uint8_t>(to, from);
      case 2:
        return move<uint16_t>(to, from);
      case 4:
        return move<uint32_t>(to, from);
      case 8:
        return move<uint64_t>(to, from);
      default:
        return move<bytes16>(to, from);
    }
  }

  // The index as a row of weight, or an error that names both.
  template <class I> int64_t checked(I index) const {
    bool negative = std::is_signed_v<I> && int64_t(index) < 0;
    if (negative || uint64_t(index) >= uint64_t(vocabulary_))
      throw Error(INFINI_STATUS_INDEX_OUT_OF_RANGE,
                  "embedding: input holds the index " + std::to_string(index) +
                      ", out of range for weight with v = " + std::to_string(vocabulary_) + " rows");
    return int64_t(index);
  }

 public:
  explicit Embedding(const infini_embedding_args &call) {
    const infini_tensor &out = *call.out, &weight = *call.weight;
    size_ = dtype_size(out.dtype);
    vocabulary_ = weight.shape[0];
    width_ = weight.shape[1];
    weight_row_ = weight.strides[0];
    weight_column_ = weight.strides[1];
    out_column_ = out.strides[out.ndim - 1];
    if (width_ == 1) weight_column_ = out_column_ = 1;
    tokens_ = Space<2>({call.out, call.input}, out.ndim - 1).merge();
    count_ = tokens_.numel();
    index_dtype_ = call.input->dtype;
    dispatch_ints("embedding", index_dtype_, [](auto) {});  // refuse other dtypes now
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_embedding_args &call, void *, infinirtStream_t) const {
    auto out = static_cast<char *>(call.out->data);
    auto weight = static_cast<const char *>(call.weight->data);
    dispatch_ints("embedding", index_dtype_, [&](auto t) {
      auto index = static_cast<const typename decltype(t)::type *>(call.input->data);
      // All indices first: an error leaves out as it was.
      tokens_.for_each(0, count_, [&](const int64_t(&at)[2]) { checked(index[at[1]]); });
      if (width_ == 0) return;
      parallel_for(0, count_, std::max<int64_t>(kCheap / width_, 1), [&](int64_t begin, int64_t end) {
        tokens_.for_each(begin, end, [&](const int64_t(&at)[2]) {
          row(out + at[0] * size_, weight + int64_t(index[at[1]]) * weight_row_ * size_);
        });
      });
    });
  }
};

}  // namespace

INFINI_CPU_KERNEL(rearrange, Rearrange)
INFINI_CPU_KERNEL(cat, Cat)
INFINI_CPU_KERNEL(embedding, Embedding)

}  // namespace infini::cpu::INFINI_ISA
