// updates.hpp -- apply updates to elements of out that an index chooses along one dimension.
// Each line along it belongs to one thread, which applies the line's updates in order: results are
// repeatable.
#pragma once
#include "elementwise.hpp"
#include "indices.hpp"

#include <algorithm>
#include <vector>

namespace infini::cpu::INFINI_ISA {

class Updates {
 public:
  static constexpr int64_t kPanel = 512;  // neighbouring lines updated together

  Indices indices;
  Space<3> lines;          // out, index, source: every dimension that the updates cover but the indexed one
  Space<3> outer;          // the same without its row
  Space<3>::Row row;       // neighbouring lines
  int64_t count;           // updates of each line
  int64_t extent;          // elements of a line of out
  int64_t step[3];         // from one element of a line to the next: out, index, source
  int64_t panels, groups;  // of the row; of the rows
  bool along;              // is a line what memory holds together, rather than neighbouring lines?

  // each: has every element of source an index of its own (whose shape says what is covered), or every slice?
  Updates(const char *op, const infini_tensor &out, const infini_tensor &index, const infini_tensor &source,
          int64_t dim, bool each, bool pairs = false)
      : indices(op, "index", index, "input", dim, out.shape[dim]), extent(out.shape[dim]) {
    const infini_tensor &covered = each ? index : source;
    const int64_t scale = pairs ? 2 : 1;
    for (int d = 0; d < out.ndim; ++d) {
      int64_t index_step = each ? index.strides[d] : d == dim ? index.strides[0] : 0;
      int64_t steps[3] = {out.strides[d] * scale, index_step, source.strides[d] * scale};
      if (d == dim)
        std::copy(steps, steps + 3, step);
      else
        lines.append(covered.shape[d], steps);
    }
    if (pairs) lines.append(2, {1, 0, 1});
    count = covered.shape[dim];
    lines.reorder();
    outer = lines;
    row = outer.pop();
    groups = outer.numel();
    panels = (row.extent + kPanel - 1) / kPanel;
    auto size = [](int64_t x) { return x < 0 ? -x : x; };
    along = row.extent == 1 || size(step[2]) < size(row.strides[2]);
  }

  bool empty() const { return count == 0 || groups == 0 || row.extent == 0; }

  // Call fn(offsets, n) for every panel of n neighbouring lines, in parallel.
  template <class Fn> void for_each_panel(int64_t work_per_line, Fn &&fn) const {
    const int64_t work = std::max<int64_t>(work_per_line * std::min(row.extent, kPanel), 1);
    parallel_for(0, groups * panels, std::max<int64_t>(kCheap / work, 1), [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t start = task % panels * kPanel, n = std::min(kPanel, row.extent - start);
        outer.for_each(task / panels, task / panels + 1, [&](const int64_t(&at)[3]) {
          int64_t offsets[3];
          for (int i = 0; i < 3; ++i) offsets[i] = at[i] + start * row.strides[i];
          fn(static_cast<const int64_t(&)[3]>(offsets), n);
        });
      }
    });
  }

  // apply(target, update) for every update.
  template <class T, class Apply>
  void run(void *out_data, const void *index, const void *source_data, const Apply &apply) const {
    for_each_panel(count, [&](const int64_t(&at)[3], int64_t n) {
      int64_t buffer[kIndexBlock];
      T *out = static_cast<T *>(out_data) + at[0];
      const T *source = static_cast<const T *>(source_data) + at[2];
      if (along) {
        for (int64_t line = 0; line < n; ++line) {
          T *to = out + line * row.strides[0];
          const T *from = source + line * row.strides[2];
          for (int64_t done = 0, some; done < count; done += some) {
            some = std::min(kIndexBlock, count - done);
            const int64_t *where =
                indices.read(index, at[1] + line * row.strides[1] + done * step[1], step[1], some, buffer);
            for (int64_t i = 0; i < some; ++i) apply(to[where[i] * step[0]], from[(done + i) * step[2]]);
          }
        }
        return;
      }
      for (int64_t k = 0; k < count; ++k) {
        const T *from = source + k * step[2];
        if (row.strides[1] == 0) {  // all lines of the panel are updated at the same place
          T *to = out + *indices.read(index, at[1] + k * step[1], 1, 1, buffer) * step[0];
          if (row.strides[0] == 1 && row.strides[2] == 1) {
            INFINI_INDEPENDENT
            for (int64_t i = 0; i < n; ++i) apply(to[i], from[i]);
          } else {
            for (int64_t i = 0; i < n; ++i) apply(to[i * row.strides[0]], from[i * row.strides[2]]);
          }
        } else {
          const int64_t *where = indices.read(index, at[1] + k * step[1], row.strides[1], n, buffer);
          for (int64_t i = 0; i < n; ++i)
            apply(out[i * row.strides[0] + where[i] * step[0]], from[i * row.strides[2]]);
        }
      }
    });
  }

  // The same for narrow floats, in f32: a line is widened, updated, and rounded once.
  template <class T, class Apply>
  void run_wide(void *out_data, const void *index, const void *source_data, const Apply &apply) const {
    const int64_t grain = std::max<int64_t>(kCheap / (count + extent), 1);
    parallel_for(0, lines.numel(), grain, [&](int64_t begin, int64_t end) {
      std::vector<float> line(static_cast<size_t>(extent));
      int64_t buffer[kIndexBlock];
      lines.for_each(begin, end, [&](const int64_t(&at)[3]) {
        T *out = static_cast<T *>(out_data) + at[0];
        const T *source = static_cast<const T *>(source_data) + at[2];
        to_float(out, step[0], line.data(), extent);
        for (int64_t done = 0, n; done < count; done += n) {
          n = std::min(kIndexBlock, count - done);
          const int64_t *where = indices.read(index, at[1] + done * step[1], step[1], n, buffer);
          for (int64_t i = 0; i < n; ++i)
            apply(line[size_t(where[i])], to_float(source[(done + i) * step[2]]));
        }
        from_float(line.data(), out, step[0], extent);
      });
    });
  }
};

// What is not promoted to int, whose products overflow.
template <class T> using arithmetic_t = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;

}  // namespace infini::cpu::INFINI_ISA
