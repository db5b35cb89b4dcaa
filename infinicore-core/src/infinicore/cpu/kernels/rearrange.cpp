// rearrange.cpp -- rearrange, cat and embedding: kernels that only move elements.
// They know the size of an element and nothing else about its dtype.
#include <infinicore/operators/cat.h>
#include <infinicore/operators/embedding.h>
#include <infinicore/operators/rearrange.h>

#include "../elementwise.hpp"
#include "../short_copy.hpp"
#include "../stream.hpp"

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

// Copies rows of adjacent bytes that lie at fixed steps, such as some columns of a matrix.
class Rows {
  int64_t bytes_ = 0;  // of a row
  int64_t count_ = 0;
  int64_t step_[2] = {};  // from a row to the next in dst and src, in bytes
  bool whole_;

  template <int64_t bytes> void copy(char *to, const char *from, int64_t rows) const {
    for (int64_t r = 0; r < rows; ++r) std::memcpy(to + r * step_[0], from + r * step_[1], bytes);
  }

 public:
  Rows(const infini_tensor &dst, const infini_tensor &src) {
    const int64_t size = dtype_size(dst.dtype);
    Space<2> space({&dst, &src});
    space.reorder();
    const int last = space.ndim - 1;
    const bool adjacent = last >= 0 && space.strides[0][last] == 1 && space.strides[1][last] == 1;
    bytes_ = (adjacent ? space.pop().extent : 1) * size;
    const Space<2>::Row down = space.pop();
    count_ = down.extent;
    for (int i = 0; i < 2; ++i) step_[i] = down.strides[i] * size;
    whole_ = space.ndim == 0;
  }

  // Do such rows make up both tensors, each beside one of the other in dst?
  bool beside(const Rows &other) const {
    return whole_ && other.whole_ && count_ == other.count_ && step_[0] == other.step_[0];
  }
  int64_t count() const { return count_; }
  int64_t bytes() const { return bytes_; }

  // Rows begin .. end-1; few bytes in moves of their own width, each faster than a call.
  void run(char *dst, const char *src, int64_t begin, int64_t end) const {
    char *to = dst + begin * step_[0];
    const char *from = src + begin * step_[1];
    switch (bytes_) {
      case 1:
        return copy<1>(to, from, end - begin);
      case 2:
        return copy<2>(to, from, end - begin);
      case 4:
        return copy<4>(to, from, end - begin);
      case 8:
        return copy<8>(to, from, end - begin);
      case 16:
        return copy<16>(to, from, end - begin);
      default:
        for (int64_t r = 0; r < end - begin; ++r) copy_bytes(to + r * step_[0], from + r * step_[1], bytes_);
    }
  }
};

// Some rows of each tensor in turn where all consist of rows, so that the lines of out are written once;
// else one copy per tensor into its slice of out.
class Cat {
  static constexpr int64_t kBlockBytes = 16384;  // of out, written by all tensors before the next
  static constexpr int64_t kLongRow = 512;       // bytes from which large copies are better streamed

  struct Part {
    Copy copy;
    Rows rows;
    int64_t offset;  // of the slice in out, in bytes
  };
  std::vector<Part> parts_;
  int64_t row_bytes_ = 0;  // of all parts
  bool by_rows_ = true;

 public:
  explicit Cat(const infini_cat_args &call) {
    const infini_tensor &out = *call.out;
    int64_t at = 0, size = dtype_size(out.dtype);
    for (int64_t i = 0; i < call.tensors->count; ++i) {
      const infini_tensor &tensor = call.tensors->items[i];
      infini_tensor slice = {nullptr, tensor.shape, out.strides, out.ndim, out.dtype};
      parts_.push_back({Copy(slice, tensor), Rows(slice, tensor), at * out.strides[call.dim] * size});
      at += tensor.shape[call.dim];
      const Rows &rows = parts_.back().rows;
      by_rows_ = by_rows_ && rows.count() > 1 && rows.beside(parts_[0].rows);
      row_bytes_ += rows.bytes();
    }
    by_rows_ = by_rows_ && row_bytes_ > 0 && (row_bytes_ < kLongRow || numel(out) * size < kStreamBytes);
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_cat_args &call, void *, infinirtStream_t) const {
    auto slice = [&](size_t i) { return static_cast<char *>(call.out->data) + parts_[i].offset; };
    auto tensor = [&](size_t i) { return static_cast<const char *>(call.tensors->items[i].data); };
    if (!by_rows_) {
      for (size_t i = 0; i < parts_.size(); ++i) parts_[i].copy.run(slice(i), tensor(i));
      return;
    }
    const int64_t block = std::max<int64_t>(kBlockBytes / row_bytes_, 1);
    parallel_for(0, parts_[0].rows.count(), 4 * block, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row += block)
        for (size_t i = 0; i < parts_.size(); ++i)
          parts_[i].rows.run(slice(i), tensor(i), row, std::min(row + block, end));
    });
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
