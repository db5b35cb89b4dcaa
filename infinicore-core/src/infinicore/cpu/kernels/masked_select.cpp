// masked_select.cpp -- count_nonzero, and the elements that a mask selects, packed in row-major order.
// Selecting counts segment by segment first, so that each thread knows where its elements go.
#include <infinicore/operators/count_nonzero.h>
#include <infinicore/operators/masked_select.h>

#include "../elementwise.hpp"
#include "../order.hpp"
#include "../runs.hpp"

#include <atomic>
#include <vector>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kSegment = 1 << 15;

// Of integers and, without their sign, of floats: -0 is zero.
template <class T> inline bool nonzero(T x) {
  using U = order_bits_t<T>;
  constexpr U sign = std::is_integral_v<T> ? U(0) : U(U(1) << (8 * sizeof(T) - 1));
  return (bit_cast<U>(x) & U(~sign)) != 0;
}

template <class T> int64_t count_nonzero(const T *x, int64_t stride, int64_t n) {
  int64_t total = 0;
  if (stride != 1) {
    for (int64_t i = 0; i < n; ++i) total += nonzero(x[i * stride]);
    return total;
  }
  // Counts as wide as the elements vectorise best; a byte holds 255.
  constexpr int64_t block = sizeof(T) == 1 ? 192 : 4096;
  for (int64_t at = 0; at < n; at += block) {
    const int64_t stop = std::min(at + block, n);
    order_bits_t<T> count = 0;
    for (int64_t i = at; i < stop; ++i) count = order_bits_t<T>(count + nonzero(x[i]));
    total += int64_t(count);
  }
  return total;
}

class CountNonzero {
  Space<1> outer_;
  Space<1>::Row row_;
  int64_t total_;
  int64_t (*count_)(const void *, int64_t, int64_t, int64_t);

 public:
  explicit CountNonzero(const infini_count_nonzero_args &call) : outer_({call.input}) {
    total_ = outer_.numel();
    outer_.reorder();
    row_ = outer_.pop();
    count_ = dispatch_ordered("count_nonzero", call.input->dtype, [](auto t) -> decltype(count_) {
      using T = typename decltype(t)::type;
      return [](const void *data, int64_t at, int64_t stride, int64_t n) {
        return count_nonzero(static_cast<const T *>(data) + at, stride, n);
      };
    });
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_count_nonzero_args &call, void *, infinirtStream_t) const {
    std::atomic<int64_t> total{0};
    parallel_for(0, total_, kSegment, [&](int64_t begin, int64_t end) {
      int64_t mine = 0;
      for_each_run(outer_, row_, begin, end, [&](const int64_t(&at)[1], int64_t n) {
        mine += count_(call.input->data, at[0], row_.strides[0], n);
      });
      total += mine;
    });
    *static_cast<int64_t *>(call.output->data) = total;
  }
};

// Pack the selected ones of n elements; room: how many of them there are, at most. Returns how many were.
template <class T> int64_t pack(const T *x, int64_t stride, const uint8_t *mask, int64_t mask_stride,
                                int64_t n, T *out, int64_t out_stride, int64_t room) {
  int64_t found = 0;
  for (int64_t i = 0; i < n && found < room;) {
    if (mask_stride == 1 && n - i >= 8) {  // none or all of eight, as masks often have it
      uint64_t eight;
      std::memcpy(&eight, mask + i, 8);
      if (eight == 0) {
        i += 8;
        continue;
      }
      if (room - found > 8) {
        for (int64_t stop = i + 8; i < stop; ++i) {
          // Written in any case, kept only where selected: no branch to guess wrong.
          out[found * out_stride] = x[i * stride];
          found += mask[i] != 0;
        }
        continue;
      }
    }
    out[found * out_stride] = x[i * stride];
    found += mask[i * mask_stride] != 0;
    ++i;
  }
  return found;
}

class MaskedSelect {
  Space<2> outer_;  // input and mask, in C order
  Space<2>::Row row_;
  int64_t total_;
  void (MaskedSelect::*run_)(const infini_masked_select_args &) const;

  template <class T> void run(const infini_masked_select_args &call) const {
    auto input = static_cast<const T *>(call.input->data);
    auto mask = static_cast<const uint8_t *>(call.mask->data);
    const int64_t segments = (total_ + kSegment - 1) / kSegment;
    auto runs = [&](int64_t segment, auto &&fn) {
      for_each_run(outer_, row_, segment * kSegment, std::min((segment + 1) * kSegment, total_), fn);
    };
    std::vector<int64_t> starts(static_cast<size_t>(segments) + 1);
    parallel_for(0, segments, 1, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s)
        runs(s, [&](const int64_t(&at)[2], int64_t n) {
          starts[size_t(s) + 1] += count_nonzero(mask + at[1], row_.strides[1], n);
        });
    });
    for (size_t s = 1; s < starts.size(); ++s) starts[s] += starts[s - 1];
    if (starts.back() != call.out->shape[0])
      throw Error(INFINI_STATUS_BAD_TENSOR_SHAPE,
                  "masked_select: out has n=" + std::to_string(call.out->shape[0]) + ", but mask selects " +
                      std::to_string(starts.back()));
    const int64_t step = call.out->strides[0];
    T *out = static_cast<T *>(call.out->data);
    parallel_for(0, segments, 1, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        int64_t to = starts[size_t(s)];
        const int64_t stop = starts[size_t(s) + 1];
        runs(s, [&](const int64_t(&at)[2], int64_t n) {
          to += pack(input + at[0], row_.strides[0], mask + at[1], row_.strides[1], n, out + to * step, step,
                     stop - to);
        });
      }
    });
  }

 public:
  // out is not there yet when C programs create a descriptor: only what is selected says how large it is.
  explicit MaskedSelect(const infini_masked_select_args &call) : outer_({call.input, call.mask}) {
    total_ = outer_.numel();
    outer_.merge();
    row_ = outer_.pop();
    run_ = dispatch_size("masked_select", call.input->dtype,
                         [](auto t) { return &MaskedSelect::run<typename decltype(t)::type>; });
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_masked_select_args &call, void *, infinirtStream_t) const { (this->*run_)(call); }
};

}  // namespace

INFINI_CPU_KERNEL(count_nonzero, CountNonzero)
INFINI_CPU_KERNEL(masked_select, MaskedSelect)

}  // namespace infini::cpu::INFINI_ISA
