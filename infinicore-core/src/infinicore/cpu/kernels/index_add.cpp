// index_add.cpp -- a copy of input to whose slices along one dimension scaled slices of source are added.
// Terms of one element are added in the order of the index; narrow floats in f32, rounded once.
#include <infinicore/operators/index_add.h>

#include "../loops.hpp"
#include "../updates.hpp"

#include <vector>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kShort = 16;  // elements of a slice so short that a call for each takes longer than it

template <class T> struct AddScaled {
  arithmetic_t<T> alpha;
  void operator()(T &target, T update) const {
    target = T(arithmetic_t<T>(target) + alpha * arithmetic_t<T>(update));
  }
};

// Which updates go to each slice of out: `order` lists them slice by slice, slice t's from starts[t] on.
struct Grouped {
  std::vector<int64_t> starts, order;

  Grouped(const Updates &plan, const void *index)
      : starts(static_cast<size_t>(plan.extent) + 1), order(static_cast<size_t>(plan.count)) {
    std::vector<int64_t> buffer(static_cast<size_t>(plan.count));
    const int64_t *where = plan.indices.read(index, 0, plan.step[1], plan.count, buffer.data());
    for (int64_t k = 0; k < plan.count; ++k) ++starts[size_t(where[k]) + 1];
    for (size_t t = 1; t < starts.size(); ++t) starts[t] += starts[t - 1];
    std::vector<int64_t> next(starts);
    for (int64_t k = 0; k < plan.count; ++k) order[size_t(next[size_t(where[k])]++)] = k;
  }
};

// Short slices, most of them updated: a thread widens a range of them, adds the updates that go there, and
// rounds.
template <class T> void add_to_short(const Updates &plan, void *out_data, const void *index,
                                     const void *source_data, float alpha) {
  const int64_t width = plan.row.extent;
  const int64_t share = (plan.extent + num_threads() - 1) / num_threads();  // each looks at all updates
  parallel_for(0, plan.extent, std::max(share, kCheap / width), [&](int64_t begin, int64_t end) {
    const bool together = plan.row.strides[0] == 1 && plan.step[0] == width;
    const int64_t pieces = together ? 1 : end - begin, size = (end - begin) * width / pieces;
    T *out = static_cast<T *>(out_data) + begin * plan.step[0];
    std::vector<float> sums(static_cast<size_t>(pieces * size));
    for (int64_t i = 0; i < pieces; ++i)
      to_float(out + i * plan.step[0], plan.row.strides[0], sums.data() + i * size, size);
    int64_t buffer[kIndexBlock];
    for (int64_t done = 0, some; done < plan.count; done += some) {
      some = std::min(kIndexBlock, plan.count - done);
      const int64_t *where = plan.indices.read(index, done * plan.step[1], plan.step[1], some, buffer);
      for (int64_t k = 0; k < some; ++k) {
        if (where[k] < begin || where[k] >= end) continue;
        const T *source = static_cast<const T *>(source_data) + (done + k) * plan.step[2];
        float *sum = sums.data() + (where[k] - begin) * width;
        for (int64_t i = 0; i < width; ++i) sum[i] += alpha * to_float(source[i * plan.row.strides[2]]);
      }
    }
    for (int64_t i = 0; i < pieces; ++i)
      from_float(sums.data() + i * size, out + i * plan.step[0], plan.row.strides[0], size);
  });
}

// Of neighbouring lines, slice by slice: the sum of each element is complete before it is rounded.
template <class T>
void add_wide(const Updates &plan, void *out_data, const void *index, const void *source_data, double scale) {
  const float alpha = float(scale);
  if (plan.along) return plan.run_wide<T>(out_data, index, source_data, AddScaled<float>{alpha});
  if (plan.groups == 1 && plan.row.extent <= kShort && plan.count >= plan.extent / 4)
    return add_to_short<T>(plan, out_data, index, source_data, alpha);
  const Grouped grouped(plan, index);
  auto add = [&](const int64_t(&at)[3], int64_t lines, int64_t begin, int64_t end) {
    alignas(64) float sum[Updates::kPanel], term[Updates::kPanel];
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = grouped.starts[size_t(t)], last = grouped.starts[size_t(t) + 1];
      if (first == last) continue;
      T *out = static_cast<T *>(out_data) + at[0] + t * plan.step[0];
      to_float(out, plan.row.strides[0], sum, lines);
      for (int64_t k = first; k < last; ++k) {
        const T *source =
            static_cast<const T *>(source_data) + at[2] + grouped.order[size_t(k)] * plan.step[2];
        to_float(source, plan.row.strides[2], term, lines);
        for (int64_t i = 0; i < lines; ++i) sum[i] += alpha * term[i];
      }
      from_float(sum, out, plan.row.strides[0], lines);
    }
  };
  if (plan.groups * plan.panels >= 2 * num_threads()) {
    plan.for_each_panel(plan.count, [&](const int64_t(&at)[3], int64_t n) { add(at, n, 0, plan.extent); });
    return;
  }
  // Few lines: share the slices among the threads instead. (The inner loop is the one that finds them free.)
  const int64_t grain = std::max<int64_t>(kCheap * plan.extent / (plan.count * plan.row.extent + 1), 64);
  parallel_for(0, plan.extent, grain, [&](int64_t begin, int64_t end) {
    plan.for_each_panel(0, [&](const int64_t(&at)[3], int64_t n) { add(at, n, begin, end); });
  });
}

template <class T>
void add_direct(const Updates &plan, void *out, const void *index, const void *source, double scale) {
  if constexpr (std::is_integral_v<T>)
    plan.run<T>(out, index, source, AddScaled<T>{uint64_t(int64_t(scale))});
  else
    plan.run<T>(out, index, source, AddScaled<T>{T(scale)});
}

class IndexAdd {
  int64_t part_;
  Copy copy_;
  Updates plan_;
  void (*run_)(const Updates &, void *, const void *, const void *, double);

 public:
  explicit IndexAdd(const infini_index_add_args &call)
      : part_(part_dtype(call.out->dtype)),
        copy_(*call.out, *call.input),
        plan_("index_add", *call.out, *call.index, *call.source, call.dim, false, part_ != 0) {
    using Run = void (*)(const Updates &, void *, const void *, const void *, double);
    run_ = dispatch_modular("index_add", part_ ? part_ : call.out->dtype, [](auto t) -> Run {
      using T = typename decltype(t)::type;
      if constexpr (std::is_same_v<T, compute_t<T>>)
        return add_direct<T>;
      else
        return add_wide<T>;
    });
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_index_add_args &call, void *, infinirtStream_t) const {
    plan_.indices.check(call.index->data);
    if (call.out->data != call.input->data) copy_.run(call.out->data, call.input->data);
    if (!plan_.empty()) run_(plan_, call.out->data, call.index->data, call.source->data, call.alpha);
  }
};

}  // namespace

INFINI_CPU_KERNEL(index_add, IndexAdd)

}  // namespace infini::cpu::INFINI_ISA
