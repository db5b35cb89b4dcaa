// runs.hpp -- any range of the elements of a Space, as runs of neighbours along its innermost dimension.
// For kernels that share elements, not rows, among threads.
#pragma once
#include "strides.hpp"

namespace infini::cpu::INFINI_ISA {

// Call fn(offsets, n) for the runs along `row`, popped from `outer`, that cover the elements begin .. end-1
// in C order. The space must not be empty.
template <int N, class Fn> void for_each_run(const Space<N> &outer, const typename Space<N>::Row &row,
                                             int64_t begin, int64_t end, Fn &&fn) {
  if (begin >= end) return;
  const int64_t first = begin / row.extent, last = (end - 1) / row.extent;
  int64_t item = first;
  outer.for_each(first, last + 1, [&](const int64_t(&at)[N]) {
    const int64_t start = item == first ? begin - item * row.extent : 0;
    const int64_t stop = item == last ? end - item * row.extent : row.extent;
    ++item;
    int64_t offsets[N];
    for (int i = 0; i < N; ++i) offsets[i] = at[i] + start * row.strides[i];
    fn(static_cast<const int64_t(&)[N]>(offsets), stop - start);
  });
}

}  // namespace infini::cpu::INFINI_ISA
