// indices.cpp -- Indices: one vectorised pass that finds any index out of range, and block conversion.
// Only when there is one does a second pass look for the first, in C order, to name it.
#include "../indices.hpp"

#include <atomic>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kGrain = 1 << 15;

// As an unsigned number a negative index is a large one.
template <class I> bool outside(I index, uint64_t extent) {
  return uint64_t(int64_t(index)) >= extent;
}

template <class I> bool any_outside(const I *index, int64_t stride, int64_t n, uint64_t extent) {
  uint64_t found = 0;
  if (stride == 1)
    for (int64_t i = 0; i < n; ++i) found |= outside(index[i], extent);
  else
    for (int64_t i = 0; i < n; ++i) found |= outside(index[i * stride], extent);
  return found != 0;
}

}  // namespace

Indices::Indices(const char *op, const char *name, const infini_tensor &index, const char *of, int64_t dim,
                 int64_t extent)
    : op_(op), name_(name), of_(of), dim_(dim), extent_(extent), dtype_(index.dtype), elements_({&index}) {
  dispatch_ints(op, dtype_, [](auto) {});  // refuse other dtypes now
  outer_ = elements_;
  outer_.reorder();
  row_ = outer_.pop();
}

void Indices::check(const void *data) const {
  const int64_t count = elements_.numel();
  if (count == 0) return;
  dispatch_ints(op_, dtype_, [&](auto t) {
    using I = typename decltype(t)::type;
    auto index = static_cast<const I *>(data);
    std::atomic<bool> wrong{false};
    parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
      for_each_run(outer_, row_, begin, end, [&](const int64_t(&at)[1], int64_t n) {
        if (any_outside(index + at[0], row_.strides[0], n, uint64_t(extent_))) wrong = true;
      });
    });
    if (!wrong) return;
    elements_.for_each(0, count, [&](const int64_t(&at)[1]) {
      I found = index[at[0]];
      if (outside(found, uint64_t(extent_)))
        throw Error(INFINI_STATUS_INDEX_OUT_OF_RANGE,
                    std::string(op_) + ": " + name_ + " holds " + std::to_string(found) + ", but " + of_ +
                        " has shape[" + std::to_string(dim_) + "]=" + std::to_string(extent_));
    });
  });
}

const int64_t *Indices::read(const void *data, int64_t at, int64_t stride, int64_t n, int64_t *buffer) const {
  if (dtype_ == INFINI_DTYPE_I64 && stride == 1) return static_cast<const int64_t *>(data) + at;
  dispatch_ints(op_, dtype_, [&](auto t) {
    auto index = static_cast<const typename decltype(t)::type *>(data) + at;
    if (stride == 1)
      for (int64_t i = 0; i < n; ++i) buffer[i] = int64_t(index[i]);
    else
      for (int64_t i = 0; i < n; ++i) buffer[i] = int64_t(index[i * stride]);
  });
  return buffer;
}

}  // namespace infini::cpu::INFINI_ISA
