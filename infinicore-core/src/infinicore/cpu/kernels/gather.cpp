// gather.cpp -- gather and index_select: out[p] = input[p with index[p] in place of its coordinate in dim].
// To index_select the index is one that does not change along the other dimensions: whole rows are copied.
#include <infinicore/operators/gather.h>
#include <infinicore/operators/index_select.h>

#include "../elementwise.hpp"
#include "../indices.hpp"
#include "../short_copy.hpp"

#include <algorithm>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kShortRow = 4096;

class Picked {
  Indices indices_;
  Space<3> outer_;  // out, index and input, whose stride in dim is the index's to apply
  Space<3>::Row row_;
  Space<3> planes_;      // outer_ without its innermost dimension
  Space<3>::Row lines_;  // that dimension
  int64_t total_, step_;
  void (Picked::*run_)(void *, const void *, const void *) const;

  // n elements that one index chose
  template <class T> void copy(T *to, const T *from, int64_t n) const {
    const int64_t to_step = row_.strides[0], from_step = row_.strides[2];
    const int64_t bytes = n * int64_t(sizeof(T));
    if (to_step == 1 && from_step == 1)
      copy_bytes(reinterpret_cast<char *>(to), reinterpret_cast<const char *>(from), bytes);
    else
      for (int64_t i = 0; i < n; ++i) to[i * to_step] = from[i * from_step];
  }

  // n elements that an index each chose. (What is written is none of what is read, which a byte might be.)
  template <class T> static void pick(T *__restrict to, int64_t to_step, const T *__restrict from,
                                      int64_t from_step, const int64_t *__restrict where, int64_t step,
                                      int64_t n) {
    for (int64_t i = 0; i < n; ++i) to[i * to_step] = from[i * from_step + where[i] * step];
  }

  // Many short rows with one index each: those of many are read at once.
  template <class T> void run_rows(void *out, const void *index, const void *input) const {
    const int64_t grain = std::max<int64_t>(kCheap / row_.extent, 1);
    parallel_for(0, total_ / row_.extent, grain, [&](int64_t begin, int64_t end) {
      int64_t buffer[kIndexBlock];
      for_each_run(planes_, lines_, begin, end, [&](const int64_t(&at)[3], int64_t n) {
        T *to = static_cast<T *>(out) + at[0];
        const T *from = static_cast<const T *>(input) + at[2];
        for (int64_t done = 0, count; done < n; done += count) {
          count = std::min(kIndexBlock, n - done);
          const int64_t *where =
              indices_.read(index, at[1] + done * lines_.strides[1], lines_.strides[1], count, buffer);
          for (int64_t i = 0; i < count; ++i)
            copy(to + (done + i) * lines_.strides[0],
                 from + (done + i) * lines_.strides[2] + where[i] * step_, row_.extent);
        }
      });
    });
  }

  template <class T> void run(void *out, const void *index, const void *input) const {
    if (row_.strides[1] == 0 && row_.extent <= kShortRow) return run_rows<T>(out, index, input);
    parallel_for(0, total_, kCheap, [&](int64_t begin, int64_t end) {
      int64_t buffer[kIndexBlock];
      for_each_run(outer_, row_, begin, end, [&](const int64_t(&at)[3], int64_t n) {
        T *to = static_cast<T *>(out) + at[0];
        const T *from = static_cast<const T *>(input) + at[2];
        const int64_t to_step = row_.strides[0], from_step = row_.strides[2];
        if (row_.strides[1] == 0)  // one index for the whole run
          return copy(to, from + *indices_.read(index, at[1], 1, 1, buffer) * step_, n);
        for (int64_t done = 0, count; done < n; done += count) {
          count = std::min(kIndexBlock, n - done);
          const int64_t *where =
              indices_.read(index, at[1] + done * row_.strides[1], row_.strides[1], count, buffer);
          pick(to + done * to_step, to_step, from + done * from_step, from_step, where, step_, count);
        }
      });
    });
  }

 public:
  // each: does every element of out have an index of its own, or every slice of it?
  Picked(const char *op, const infini_tensor &out, const infini_tensor &input, const infini_tensor &index,
         int64_t dim, bool each)
      : indices_(op, "index", index, "input", dim, input.shape[dim]), step_(input.strides[dim]) {
    for (int d = 0; d < out.ndim; ++d) {
      int64_t index_step = each ? index.strides[d] : d == dim ? index.strides[0] : 0;
      outer_.append(out.shape[d], {out.strides[d], index_step, d == dim ? 0 : input.strides[d]});
    }
    total_ = outer_.numel();
    outer_.reorder();
    row_ = outer_.pop();
    planes_ = outer_;
    lines_ = planes_.pop();
    run_ = dispatch_size(op, out.dtype, [](auto t) { return &Picked::run<typename decltype(t)::type>; });
  }

  void execute(void *out, const void *input, const void *index) const {
    indices_.check(index);
    if (total_ > 0) (this->*run_)(out, index, input);
  }
};

template <class Args, bool each> class PickKernel {
  Picked plan_;

 public:
  explicit PickKernel(const Args &call)
      : plan_(each ? "gather" : "index_select", *call.out, *call.input, *call.index, call.dim, each) {}
  uint64_t workspace() const { return 0; }
  void execute(const Args &call, void *, infinirtStream_t) const {
    plan_.execute(call.out->data, call.input->data, call.index->data);
  }
};

using Gather = PickKernel<infini_gather_args, true>;
using IndexSelect = PickKernel<infini_index_select_args, false>;

}  // namespace

INFINI_CPU_KERNEL(gather, Gather)
INFINI_CPU_KERNEL(index_select, IndexSelect)

}  // namespace infini::cpu::INFINI_ISA
