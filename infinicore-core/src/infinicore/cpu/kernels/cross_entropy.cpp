// kernels/cross_entropy.cpp -- log(sum(exp(x))) - x[target], per position or reduced.
// Exponentials are of x - max; they are added in blocks of the compute type, and the blocks in f64.
#include <infinicore/operators/cross_entropy.h>

#include "../elementwise.hpp"
#include "../vec.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kBlock = 512;   // classes converted at a time
constexpr int64_t kColumns = 64;  // neighbouring positions computed together
constexpr int64_t kFew = 32;  // classes so few that positions are better computed together, wherever they lie

enum Reduction { kNone = 0, kMean = 1, kSum = 2 };

// The loss of one position with n classes.
template <class T> double row_loss(const T *x, int64_t stride, int64_t n, int64_t target) {
  using C = compute_t<T>;
  alignas(64) C wide[kBlock], exponentials[kBlock];
  auto each_block = [&](auto &&use) {
    for (int64_t at = 0; at < n; at += kBlock) {
      const int64_t some = std::min(kBlock, n - at);
      to_float(x + at * stride, stride, wide, some);
      use(some);
    }
  };
  C top = -std::numeric_limits<C>::infinity();
  each_block([&](int64_t some) { top = std::max(top, row_max(wide, some)); });
  double total = 0;
  each_block([&](int64_t some) {
    for (int64_t i = 0; i < some; ++i) exponentials[i] = vmath::exp(wide[i] - top);
    total += double(row_sum(exponentials, some));
  });
  return std::log(total) - (double(to_float(x[target * stride])) - double(top));
}

// The losses of n positions, `step` apart; classes are `stride` apart.
template <class T> void column_losses(const T *x, int64_t stride, int64_t step, int64_t classes, int64_t n,
                                      const int64_t *targets, double *losses) {
  using C = compute_t<T>;
  alignas(64) C wide[kColumns], top[kColumns];
  alignas(64) double total[kColumns];
  std::fill(top, top + n, -std::numeric_limits<C>::infinity());
  std::fill(total, total + n, 0.0);
  for (int64_t c = 0; c < classes; ++c) {
    to_float(x + c * stride, step, wide, n);
    for (int64_t i = 0; i < n; ++i) top[i] = wide[i] > top[i] ? wide[i] : top[i];
  }
  for (int64_t c = 0; c < classes; ++c) {
    to_float(x + c * stride, step, wide, n);
    for (int64_t i = 0; i < n; ++i) total[i] += double(vmath::exp(wide[i] - top[i]));
  }
  for (int64_t i = 0; i < n; ++i) losses[i] = vmath::log(total[i]);
  for (int64_t i = 0; i < n; ++i)
    losses[i] -= double(to_float(x[targets[i] * stride + i * step])) - double(top[i]);
}

class CrossEntropy {
  int64_t dtype_, target_dtype_, reduction_;
  int64_t classes_, class_stride_;
  Space<3> outer_;  // logits, targets, losses: all positions but the innermost
  Space<3>::Row row_;
  int64_t together_;  // positions computed together

  // Where a target says so, the class; -1 for one that counts nothing; else an error.
  template <class I> int64_t class_of(I target, int64_t ignored) const {
    const bool negative = std::is_signed_v<I> && int64_t(target) < 0;
    const bool fits = negative || uint64_t(target) <= uint64_t(std::numeric_limits<int64_t>::max());
    if (fits && int64_t(target) == ignored) return -1;
    if (negative || uint64_t(target) >= uint64_t(classes_))
      throw Error(INFINI_STATUS_INDEX_OUT_OF_RANGE, "cross_entropy: target holds " + std::to_string(target) +
                                                        ", but logits has n=" + std::to_string(classes_) +
                                                        " classes");
    return int64_t(target);
  }

  // fn(offsets of the first, number of the first, how many) for runs of positions, in parallel.
  template <class Fn> void each_run(Fn &&fn) const {
    const int64_t runs = (row_.extent + together_ - 1) / together_;
    parallel_for(0, outer_.numel() * runs, std::max<int64_t>(kExpensive / (classes_ * together_), 1),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t task = begin; task < end; ++task)
                     outer_.for_each(task / runs, task / runs + 1, [&](const int64_t(&at)[3]) {
                       const int64_t start = task % runs * together_;
                       int64_t first[3];
                       for (int i = 0; i < 3; ++i) first[i] = at[i] + start * row_.strides[i];
                       fn(first, task / runs * row_.extent + start, std::min(together_, row_.extent - start));
                     });
                 });
  }

  // The class of each position. All of them before any loss: an error leaves y as it was.
  std::vector<int64_t> read_targets(const infini_cross_entropy_args &call) const {
    std::vector<int64_t> classes;
    classes.reserve(static_cast<size_t>(outer_.numel() * row_.extent));
    dispatch_ints("cross_entropy", target_dtype_, [&](auto t) {
      auto target = static_cast<const typename decltype(t)::type *>(call.target->data);
      outer_.for_each(0, outer_.numel(), [&](const int64_t(&at)[3]) {
        for (int64_t i = 0; i < row_.extent; ++i)
          classes.push_back(class_of(target[at[1] + i * row_.strides[1]], call.ignore_index));
      });
    });
    return classes;
  }

  template <class T>
  void run(const infini_cross_entropy_args &call, const std::vector<int64_t> &classes) const {
    auto x = static_cast<const T *>(call.x->data);
    auto y = static_cast<T *>(call.y->data);
    auto weight = call.weight ? static_cast<const T *>(call.weight->data) : nullptr;
    const int64_t weight_stride = weight ? call.weight->strides[0] : 0;
    std::vector<double> losses(reduction_ == kNone ? 0 : classes.size());
    auto scale_of = [&](int64_t number) {
      if (number < 0) return 0.0;
      return weight ? double(to_float(weight[number * weight_stride])) : 1.0;
    };
    each_run([&](const int64_t(&at)[3], int64_t number, int64_t n) {
      double found[kColumns];
      int64_t chosen[kColumns];
      for (int64_t i = 0; i < n; ++i) chosen[i] = std::max<int64_t>(classes[size_t(number + i)], 0);
      if (together_ > 1)
        column_losses(x + at[0], class_stride_, row_.strides[0], classes_, n, chosen, found);
      else
        found[0] = classes[size_t(number)] < 0 ? 0 : row_loss(x + at[0], class_stride_, classes_, chosen[0]);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t own = classes[size_t(number + i)];
        const double loss = own < 0 ? 0 : found[i] * scale_of(own);
        if (reduction_ == kNone)
          y[at[2] + i * row_.strides[2]] = from_float<T>(compute_t<T>(loss));
        else
          losses[size_t(number + i)] = loss;
      }
    });
    if (reduction_ == kNone) return;
    double total = 0, scale = 0;
    for (double loss : losses) total += loss;
    for (int64_t number : classes) scale += scale_of(number);
    *y = from_float<T>(compute_t<T>(reduction_ == kMean ? total / scale : total));
  }

 public:
  explicit CrossEntropy(const infini_cross_entropy_args &call)
      : dtype_(call.x->dtype), target_dtype_(call.target->dtype), reduction_(call.reduction) {
    dispatch_floats("cross_entropy", dtype_, [](auto) {});
    dispatch_ints("cross_entropy", target_dtype_, [](auto) {});
    const infini_tensor &x = *call.x, &y = *call.y, &target = *call.target;
    // The second dimension counts classes where the others are those of target, else the last.
    int axis = x.ndim > 1 ? 1 : 0;
    for (int d = axis; d < target.ndim; ++d)
      if (target.shape[d] != x.shape[d + 1]) axis = x.ndim - 1;
    classes_ = x.shape[axis];
    class_stride_ = x.strides[axis];
    for (int d = 0; d < target.ndim; ++d)
      outer_.append(target.shape[d], {x.strides[d < axis ? d : d + 1], target.strides[d],
                                      reduction_ == kNone ? y.strides[d] : 0});
    outer_.reorder();
    row_ = outer_.pop();
    const bool columns = row_.strides[0] == 1 && class_stride_ != 1;
    together_ = row_.extent > 1 && (columns || classes_ <= kFew) ? kColumns : 1;
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_cross_entropy_args &call, void *, infinirtStream_t) const {
    const std::vector<int64_t> classes = read_targets(call);
    dispatch_floats("cross_entropy", dtype_, [&](auto t) { run<typename decltype(t)::type>(call, classes); });
  }
};

}  // namespace

INFINI_CPU_KERNEL(cross_entropy, CrossEntropy)

}  // namespace infini::cpu::INFINI_ISA
