// sort.cpp -- sort along one dimension, stably, with the index of each element.
// Lines are sorted in parallel; each as keys that carry their index, by radix where it is long.
#include <infinicore/operators/sort.h>

#include "../elementwise.hpp"
#include "../order.hpp"
#include "../scratch.hpp"

#include <memory>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr size_t kKeep = size_t(1) << 25;  // bytes that a thread keeps for its next sort

template <class T, class Item>
void sort_lines(const OrderedLines &lines, bool descending, const void *input, void *values, void *indices) {
  const int64_t n = lines.extent;
  parallel_for(0, lines.all.numel(), std::max<int64_t>(kExpensive / n, 1), [&](int64_t begin, int64_t end) {
    const size_t bytes = 2 * size_t(n) * sizeof(Item);
    std::unique_ptr<char[]> own(bytes > kKeep ? new char[bytes] : nullptr);
    auto items = static_cast<Item *>(own ? own.get() : scratch<Scratch::operands>(bytes));
    lines.all.for_each(begin, end, [&](const int64_t(&at)[3]) {
      make_items(static_cast<const T *>(input) + at[2], lines.step[2], 0, n, descending, items);
      lines.write<T>(sort_items(items, items + n, n, int(sizeof(T))), n, at, values, indices, input);
    });
  });
}

class Sort {
  OrderedLines lines_;
  void (*run_)(const OrderedLines &, bool, const void *, void *, void *);

 public:
  explicit Sort(const infini_sort_args &call) : lines_(*call.values, *call.indices, *call.input, call.dim) {
    run_ = dispatch_ordered("sort", call.input->dtype, [&](auto t) {
      using T = typename decltype(t)::type;
      return dispatch_item<T>(lines_.extent, [](auto item) -> decltype(run_) {
        return sort_lines<T, typename decltype(item)::type>;
      });
    });
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_sort_args &call, void *, infinirtStream_t) const {
    if (lines_.extent > 0 && lines_.all.numel() > 0)
      run_(lines_, call.descending != 0, call.input->data, call.values->data, call.indices->data);
  }
};

}  // namespace

INFINI_CPU_KERNEL(sort, Sort)

}  // namespace infini::cpu::INFINI_ISA
