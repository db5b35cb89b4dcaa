// fill.cpp -- zeros and ones, of any dtype.
// A block of the value is made once per thread and copied out, streaming when the tensor is large.
#include <infinicore/operators/ones.h>
#include <infinicore/operators/zeros.h>

#include "../loops.hpp"
#include "../stream.hpp"

#include <algorithm>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kBlockBytes = 4096;  // copied out at a time by stores that bypass the caches
constexpr int64_t kLineBytes = 64;     // repeated by plain ones

// Elements of 1, 2, 4, 8 or 16 bytes, set to a value.
class Fill {
  int64_t size_;
  Space<1> outer_;
  Space<1>::Row row_;
  int64_t rows_;

  template <class T> static void strided(char *at, int64_t stride, int64_t n, const char *value) {
    T x;
    std::memcpy(&x, value, sizeof(T));
    auto target = reinterpret_cast<T *>(at);
    for (int64_t i = 0; i < n; ++i) target[i * stride] = x;
  }

  // n elements from `at`; block holds some of them, kBlockBytes to stream, else kLineBytes.
  void segment(char *at, int64_t n, const char *block, bool stream) const {
    if (row_.strides[0] != 1) {
      switch (size_) {
        case 1:
          return strided<uint8_t>(at, row_.strides[0], n, block);
        case 2:
          return strided<uint16_t>(at, row_.strides[0], n, block);
        case 4:
          return strided<uint32_t>(at, row_.strides[0], n, block);
        case 8:
          return strided<uint64_t>(at, row_.strides[0], n, block);
        default:
          return strided<bytes16>(at, row_.strides[0], n, block);
      }
    }
    if (!stream) return repeat(at, block, n * size_);
    for (int64_t left = n * size_, done; left > 0; left -= done, at += done) {
      done = std::min(left, kBlockBytes);
      stream_copy(at, block, done);
    }
  }

 public:
  explicit Fill(const infini_tensor *tensor) : size_(dtype_size(tensor->dtype)), outer_({tensor}) {
    if (size_ == 0) bad_dtype("fill", tensor->dtype, "the dtypes of infinicore.h");
    outer_.reorder();
    row_ = outer_.pop();
    rows_ = outer_.numel();
  }

  void run(void *data, const char (&value)[16]) const {
    const int64_t total = rows_ * row_.extent;
    if (total == 0) return;
    const bool stream = row_.strides[0] == 1 && total * size_ >= kStreamBytes;
    parallel_for(0, total, 4 * kCheap, [&](int64_t begin, int64_t end) {
      alignas(64) char block[kBlockBytes];
      const int64_t used = stream ? kBlockBytes : kLineBytes;
      std::memcpy(block, value, size_t(size_));
      for (int64_t have = size_; have < used; have *= 2) std::memcpy(block + have, block, size_t(have));
      const int64_t first = begin / row_.extent, last = (end - 1) / row_.extent;
      int64_t row = first;
      outer_.for_each(first, last + 1, [&](const int64_t(&at)[1]) {
        int64_t from = row == first ? begin - row * row_.extent : 0;
        int64_t to = row == last ? end - row * row_.extent : row_.extent;
        ++row;
        segment(static_cast<char *>(data) + (at[0] + from * row_.strides[0]) * size_, to - from, block,
                stream);
      });
      if (stream) stream_fence();
    });
  }
};

class Zeros {
  Fill plan_;

 public:
  explicit Zeros(const infini_zeros_args &call) : plan_(call.y) {}
  uint64_t workspace() const { return 0; }
  void execute(const infini_zeros_args &call, void *, infinirtStream_t) const {
    const char zero[16] = {};
    plan_.run(call.y->data, zero);
  }
};

class Ones {
  Fill plan_;
  char one_[16] = {};

  template <class T> void set(T value) { std::memcpy(one_, &value, sizeof(value)); }

  void set_one(int64_t dtype) {
    switch (dtype) {
      case INFINI_DTYPE_F8:
        return set(from_float<float8_e4m3>(1.0f));
      case INFINI_DTYPE_F16:
        return set(from_float<half>(1.0f));
      case INFINI_DTYPE_BF16:
        return set(from_float<bfloat16>(1.0f));
      case INFINI_DTYPE_F32:
        return set(1.0f);
      case INFINI_DTYPE_F64:
        return set(1.0);
      default:
        return set(int64_t(1));  // little-endian: the low bytes serve every width
    }
  }

 public:
  explicit Ones(const infini_ones_args &call) : plan_(call.y) {
    int64_t part = part_dtype(call.y->dtype);
    set_one(part ? part : call.y->dtype);  // the imaginary part stays zero
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_ones_args &call, void *, infinirtStream_t) const {
    plan_.run(call.y->data, one_);
  }
};

}  // namespace

INFINI_CPU_KERNEL(zeros, Zeros)
INFINI_CPU_KERNEL(ones, Ones)

}  // namespace infini::cpu::INFINI_ISA
