// reduce.hpp -- fold any set of dimensions into one value: what sum, mean, prod, var, amax, all, ... share.
// A Fold says how elements become a total; rows, panels of columns, strides and threads are handled here.
#pragma once
#include "loops.hpp"
#include "vec.hpp"

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace infini::cpu::INFINI_ISA {

constexpr int64_t kRunSteps = 64;      // folds of a lane before it goes to the (wider) total
constexpr int64_t kPanelBytes = 8192;  // elements of a row that belong to outputs folded together
constexpr int64_t kColumnRun = 64;     // rows of them folded before they go to the totals
constexpr int64_t kSegment = 1 << 16;  // elements of one long fold that a thread takes at a time
constexpr int64_t kBlock = 512;        // elements converted at a time
constexpr int64_t kShort = 32;         // a fold so short that its outputs are better folded together
constexpr int64_t kNarrow = 8;         // outputs so few that they are better folded apart
constexpr int64_t kGathered = 1024;    // elements of short rows that are folded together
constexpr int64_t kAbreast = 512;      // elements of rows narrower than kNarrow that lie beside each other

template <class Element> constexpr int64_t kColumns = kPanelBytes / int64_t(sizeof(Element));

// The layouts of input and output, split into what is kept and what is folded.
struct Reduction {
  Space<2> kept;     // input, output
  Space<1> reduced;  // input
  int64_t count;     // elements of one fold
  bool columns;      // are neighbours among the outputs folded together, not one after the other?
  bool narrow;       // are they few, and is every row of them adjacent to the next?

  // No dims means all of them. pairs: elements are pairs of numbers (complex), whose halves fold apart.
  Reduction(const infini_tensor &output, const infini_tensor &input, const infini_int_list &dims,
            bool keepdim, bool pairs = false) {
    const int64_t scale = pairs ? 2 : 1;
    int to = 0;  // dimension of output
    for (int d = 0; d < input.ndim; ++d) {
      bool folded =
          dims.count == 0 || std::find(dims.items, dims.items + dims.count, d) != dims.items + dims.count;
      if (folded)
        reduced.append(input.shape[d], {input.strides[d] * scale});
      else
        kept.append(input.shape[d], {input.strides[d] * scale, output.strides[to] * scale});
      to += !folded || keepdim;
    }
    if (pairs) kept.append(2, {1, 1});
    kept.reorder();
    reduced.reorder();
    count = reduced.numel();
    bool row = reduced.ndim > 0 && reduced.strides[0][reduced.ndim - 1] == 1;
    const int64_t neighbours = kept.ndim > 0 ? kept.shape[kept.ndim - 1] : 0;
    bool adjacent = neighbours > 0 && kept.strides[0][kept.ndim - 1] == 1 && !row;
    columns = neighbours >= kNarrow && (adjacent || count <= kShort);
    narrow = neighbours < kNarrow && adjacent && reduced.ndim == 1 && reduced.strides[0][0] == neighbours &&
             count * neighbours >= 2 * kAbreast;
  }
};

// What a Fold is:
//
//   struct Fold {
//     using Element, Result, Total;    // of the input, of the output, and in between
//     Total none() const;              // of no elements
//     Total row(const Element *x, int64_t stride, int64_t n) const;
//     // Rows begin .. end-1, at most kColumnRun of them, of n <= kColumns<Element> columns, into totals.
//     void columns(const Space<1> &rows, int64_t begin, int64_t end, const Element *x, int64_t stride,
//                  int64_t n, Total *totals) const;
//     Total join(Total a, Total b) const;
//     bool settled(Total total) const;  // can nothing that follows change it?
//     void finish(Total total, int64_t count, Result &out) const;
//   };

// Loops this long gain nothing from inlining, and many types of them would take minutes to compile.
//
// A Fold whose elements become lanes, numbers that fold pairwise in vector registers. Derived adds
//   Lane start() const;                                    // changes nothing that it is folded with
//   template <class V> void fold(V &into, const V &x) const;  // lanes, or vectors of them
//   Total widen(Lane lane) const;                          // a lane, or an element that became one
//   void load(const Element *x, int64_t stride, Lane *out, int64_t n) const;  // where the two differ
template <class Derived, class Element_, class Lane, class Total_> struct LaneFold {
  using Element = Element_;
  using Total = Total_;

  bool settled(Total) const { return false; }

  [[gnu::noinline]] Total row(const Element *x, int64_t stride, int64_t n) const {
    using Source = std::conditional_t<kReads, Element, Lane>;
    if constexpr (kReads)
      if (stride == 1) return contiguous(x, n);
    alignas(64) Source block[kBlock];
    Total total = self().none();
    for (int64_t at = 0; at < n && !self().settled(total); at += kBlock) {
      const int64_t some = std::min(kBlock, n - at);
      const Element *from = x + at * stride;
      if constexpr (kReads)
        for (int64_t i = 0; i < some; ++i) block[i] = from[i * stride];
      else
        self().load(from, stride, block, some);
      total = self().join(total, contiguous(block, some));
    }
    return total;
  }

  [[gnu::noinline]] void columns(const Space<1> &rows, int64_t begin, int64_t end, const Element *x,
                                 int64_t stride, int64_t n, Total *totals) const {
    alignas(64) Lane lanes[kColumns<Element>], wide[kColumns<Element>];
    std::fill(lanes, lanes + n, self().start());
    if constexpr (kConverts) {
      if (stride == 1) {  // four rows at once, since the totals are read and written for each
        const Element *some[4];
        int64_t count = 0;
        rows.for_each(begin, end, [&](const int64_t(&at)[1]) {
          some[count++] = x + at[0];
          if (count == 4) fold_rows<4>(some, lanes, n), count = 0;
        });
        for (int64_t r = 0; r < count; ++r) fold_rows<1>(some + r, lanes, n);
        return into_totals(lanes, n, totals);
      }
    }
    rows.for_each(begin, end, [&](const int64_t(&at)[1]) {
      self().load(x + at[0], stride, wide, n);
      for (int64_t i = 0; i < n; ++i) self().fold(lanes[i], wide[i]);
    });
    into_totals(lanes, n, totals);
  }

 protected:
  static constexpr bool kDirect = std::is_same_v<Element, Lane>;
  static constexpr bool kConverts = std::is_arithmetic_v<Element> && std::is_arithmetic_v<Lane>;
  // Do elements become lanes on their way into a register?
  static constexpr bool kReads =
      kDirect || (std::is_same_v<Lane, double> && std::is_same_v<Element, float>) ||
      (std::is_same_v<Lane, float> && (std::is_same_v<Element, half> || std::is_same_v<Element, bfloat16>));
  using Vector = vec<Lane>;
  using Numbers = decltype(Vector{} == Vector{});  // a register of integers as wide
  static constexpr int64_t kWidth = vector_bytes / sizeof(Lane);

  // Fold some rows of n elements into lanes.
  template <int count>
  [[gnu::noinline]] void fold_rows(const Element *const *rows, Lane *lanes, int64_t n) const {
    const Element *row[count];  // of our own: no store to lanes can seem to change them
    std::copy(rows, rows + count, row);
    int64_t i = 0;
    if constexpr (kDirect) {
      for (; i + kWidth <= n; i += kWidth) {
        Vector total = read(lanes + i);
#pragma GCC unroll 4
        for (int r = 0; r < count; ++r) self().fold(total, read(row[r] + i));
        std::memcpy(lanes + i, &total, sizeof(total));
      }
    }
    for (; i < n; ++i) {
      Lane total = lanes[i];
      for (int r = 0; r < count; ++r) self().fold(total, Lane(row[r][i]));
      lanes[i] = total;
    }
  }

  void into_totals(const Lane *lanes, int64_t n, Total *totals) const {
    for (int64_t i = 0; i < n; ++i) totals[i] = self().join(totals[i], self().widen(lanes[i]));
  }

  // n adjacent elements, or lanes, in four registers at once.
  template <class Source> [[gnu::noinline]] Total contiguous(const Source *x, int64_t n) const {
    constexpr int64_t step = 4 * kWidth, run = kRunSteps * step;
    constexpr int64_t ahead = 1024;  // bytes: what is far away comes in time, whatever pages it is on
    const Vector start = self().start() - Vector{};
    Total total = self().none();
    for (int64_t i = 0; i < n && !self().settled(total);) {
      Vector part[4] = {start, start, start, start};
      const int64_t stop = std::min(n, i + run);
      for (; i + step <= stop; i += step) {
        for (int64_t line = 0; line < step * int64_t(sizeof(Source)); line += 64)
          prefetch(reinterpret_cast<const char *>(x + i) + ahead + line);
        for (int u = 0; u < 4; ++u) self().fold(part[u], read(x + i + u * kWidth));
      }
      for (; i + kWidth <= stop; i += kWidth) self().fold(part[0], read(x + i));
      if (i < stop) self().fold(part[1], rest(x, i, stop, start));
      i = stop;
      self().fold(part[0], part[1]);
      self().fold(part[2], part[3]);
      self().fold(part[0], part[2]);
      total = self().join(total, self().widen(across(part[0])));
    }
    return total;
  }

 private:
  using Number = std::remove_reference_t<decltype(Numbers{}[0])>;

  // A register of lanes from as many elements.
  template <class Source> static Vector read(const Source *x) {
    if constexpr (std::is_same_v<Source, Lane>) {
      Vector lanes;
      std::memcpy(&lanes, x, sizeof(lanes));
      return lanes;
    } else if constexpr (std::is_same_v<Lane, double>) {
      typedef Source Narrow __attribute__((vector_size(kWidth * sizeof(Source))));
      Narrow lanes;
      std::memcpy(&lanes, x, sizeof(lanes));
      return __builtin_convertvector(lanes, Vector);
    } else {
      return cpu::INFINI_ISA::load(x);
    }
  }

  // The last of n elements, from i on: fewer than a register holds, so that `start` fills the other lanes.
  template <class Source> static Vector rest(const Source *x, int64_t i, int64_t n, const Vector &start) {
    if (n < kWidth) {
      Source few[kWidth] = {};
      for (int64_t k = 0; k < n; ++k) few[k] = x[k];
      return before(n) ? read(few) : start;
    }
    return before(kWidth - (n - i)) ? start : read(x + n - kWidth);
  }

  // Which lanes come before lane `end`?
  static Numbers before(int64_t end) {
    return numbers(std::make_integer_sequence<int, kWidth>{}) < Number(end);
  }
  template <int... I> static Numbers numbers(std::integer_sequence<int, I...>) {
    return Numbers{Number(I)...};
  }

  // The lanes of a register folded: halves of it, then halves of these.
  template <int64_t half = kWidth / 2> Lane across(Vector lanes) const {
    if constexpr (half == 0) {
      return lanes[0];
    } else {
      self().fold(lanes, rotated<half>(lanes, std::make_integer_sequence<int, kWidth>{}));
      return across<half / 2>(lanes);
    }
  }
  template <int64_t by, int... I> static Vector rotated(Vector lanes, std::integer_sequence<int, I...>) {
    return __builtin_shufflevector(lanes, lanes, int((I + by) % kWidth)...);
  }

  const Derived &self() const {
    return static_cast<const Derived &>(*this);
  }
};

// A float total, rounded once; an integer as it is.
template <class T, class Total> void round_total(Total total, T &out) {
  if constexpr (std::is_same_v<compute_t<T>, T>)
    out = T(total);
  else
    from_float(round_to_odd(double(total)), out);
}

// n elements, few enough that a call would take longer.
template <class T> inline void copy_short(T *__restrict to, const T *__restrict from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}

// totals[i] becomes join(totals[i], more[i]). (This and the next out of line: vectorised once is enough.)
template <class Fold> [[gnu::noinline]] void join_all(const Fold &fold, typename Fold::Total *totals,
                                                      const typename Fold::Total *more, int64_t n) {
  for (int64_t i = 0; i < n; ++i) totals[i] = fold.join(totals[i], more[i]);
}

// The outputs of n totals, each of `count` elements.
template <class Fold> [[gnu::noinline]] void finish_all(const Fold &fold, const typename Fold::Total *totals,
                                                        int64_t n, int64_t count, typename Fold::Result *out,
                                                        int64_t stride) {
  for (int64_t i = 0; i < n; ++i) fold.finish(totals[i], count, out[i * stride]);
}

// Each output folds a row (or several) of its own.
template <class Fold> void reduce_rows(const Reduction &plan, const Fold &fold,
                                       const typename Fold::Element *in, typename Fold::Result *out) {
  using Element = typename Fold::Element;
  using Total = typename Fold::Total;
  Space<1> outer = plan.reduced;
  const Space<1>::Row row = outer.pop();
  const int64_t each = plan.count, outputs = plan.kept.numel();
  // Elements begin .. end-1 of one fold.
  auto part = [&](const Element *from, int64_t begin, int64_t end) {
    Total total = fold.none();
    if (begin >= end) return total;
    const int64_t first = begin / row.extent, last = (end - 1) / row.extent;
    // Rows much shorter than a block are put together first: each fold has an end that takes time.
    const bool gathers = last > first && row.strides[0] == 1 && row.extent <= kGathered / 4;
    alignas(64) Element block[kGathered];
    int64_t item = first, held = 0;
    outer.for_each(first, last + 1, [&](const int64_t(&at)[1]) {
      int64_t start = item == first ? begin - item * row.extent : 0;
      int64_t stop = item == last ? end - item * row.extent : row.extent;
      ++item;
      if (fold.settled(total)) return;
      const Element *some = from + at[0] + start * row.strides[0];
      int64_t n = stop - start, step = row.strides[0];
      if (gathers) {
        copy_short(block + held, some, n);
        held += n;
        if (held + row.extent <= kGathered && item <= last) return;
        some = block;
        n = held;
        held = 0;
      }
      total = fold.join(total, fold.row(some, step, n));
    });
    return total;
  };
  const int64_t segments = (each + kSegment - 1) / kSegment;
  const bool shared = segments > 1 && outputs < 64;
  const int last = plan.kept.ndim - 1;
  if (!shared && outer.ndim > 0 && last >= 0 && row.extent > kShort &&
      std::abs(plan.kept.strides[0][last]) < std::abs(outer.strides[0][outer.ndim - 1])) {
    // The rows of one output lie further apart than those of its neighbours: go through them in this order.
    constexpr int64_t size = 256;
    const int64_t rows = outer.numel();
    parallel_for(0, outputs, std::max<int64_t>(kSegment / std::max<int64_t>(each, 1), 1),
                 [&](int64_t begin, int64_t end) {
                   Total totals[size];
                   for (int64_t at = begin, n; at < end; at += n) {
                     n = std::min(size, end - at);
                     std::fill(totals, totals + size, fold.none());
                     outer.for_each(0, rows, [&](const int64_t(&from)[1]) {
                       Total *total = totals;
                       plan.kept.for_each(at, at + n, [&](const int64_t(&to)[2]) {
                         if (!fold.settled(*total))
                           *total =
                               fold.join(*total, fold.row(in + from[0] + to[0], row.strides[0], row.extent));
                         ++total;
                       });
                     });
                     const Total *total = totals;
                     plan.kept.for_each(
                         at, at + n, [&](const int64_t(&to)[2]) { fold.finish(*total++, each, out[to[1]]); });
                   }
                 });
    return;
  }
  if (shared) {  // few long folds: share each among the threads
    std::vector<Total> totals(static_cast<size_t>(outputs * segments), fold.none());
    std::vector<const Element *> starts;
    plan.kept.for_each(0, outputs, [&](const int64_t(&at)[2]) { starts.push_back(in + at[0]); });
    parallel_for(0, outputs * segments, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t from = i % segments * kSegment;
        totals[size_t(i)] = part(starts[size_t(i / segments)], from, std::min(from + kSegment, each));
        // The segments that follow are skipped: this one decides their fold.
        if (fold.settled(totals[size_t(i)])) i += std::min(end - i, segments - i % segments) - 1;
      }
    });
    auto next = totals.begin();
    plan.kept.for_each(0, outputs, [&](const int64_t(&at)[2]) {
      Total total = fold.none();
      for (int64_t s = 0; s < segments; ++s) total = fold.join(total, *next++);
      fold.finish(total, each, out[at[1]]);
    });
    return;
  }
  parallel_for(0, outputs, std::max<int64_t>(kSegment / std::max<int64_t>(each, 1), 1),
               [&](int64_t begin, int64_t end) {
                 plan.kept.for_each(begin, end, [&](const int64_t(&at)[2]) {
                   fold.finish(part(in + at[0], 0, each), each, out[at[1]]);
                 });
               });
}

// Fold whole panels of neighbouring outputs row by row.
template <class Fold> void reduce_columns(const Reduction &plan, const Fold &fold,
                                          const typename Fold::Element *in, typename Fold::Result *out) {
  using Total = typename Fold::Total;
  constexpr int64_t most = kColumns<typename Fold::Element>;
  Space<2> outer = plan.kept;
  const Space<2>::Row row = outer.pop();
  // Neighbours that lie apart share lines with other rows: so few of them that these stay in the nearest
  // cache.
  const int64_t apart = std::abs(row.strides[0]) * int64_t(sizeof(typename Fold::Element));
  const int64_t width =
      row.strides[0] == 1 ? most : std::clamp(2 * kPanelBytes / (apart + 1), int64_t(64), most);
  const int64_t groups = outer.numel(), rows = plan.count;
  const int64_t panels = (row.extent + width - 1) / width;
  // Where the panels are too few to go round, each is cut into segments of its rows as well.
  const int64_t tall = std::max<int64_t>(8 * kSegment / std::min(row.extent, width), kColumnRun);
  const int64_t segments = groups * panels < 64 ? std::max<int64_t>((rows + tall - 1) / tall, 1) : 1;
  const int64_t height = segments > 1 ? tall : rows;
  std::vector<Total> partial(segments > 1 ? static_cast<size_t>(groups * panels * segments * width) : 0,
                             fold.none());
  auto store_panel = [&](int64_t offset, int64_t panel, const Total *totals) {
    finish_all(fold, totals, std::min(width, row.extent - panel * width), rows,
               out + offset + panel * width * row.strides[1], row.strides[1]);
  };
  const int64_t work = std::max<int64_t>(height * std::min(row.extent, width), 1);
  parallel_for(0, groups * panels * segments, std::max<int64_t>(kSegment / work, 1),
               [&](int64_t begin, int64_t end) {
                 alignas(64) Total local[most];
                 for (int64_t task = begin; task < end; ++task) {
                   int64_t segment = task % segments, panel = task / segments % panels,
                           group = task / segments / panels;
                   outer.for_each(group, group + 1, [&](const int64_t(&at)[2]) {
                     int64_t n = std::min(width, row.extent - panel * width);
                     Total *totals = segments > 1 ? &partial[size_t(task * width)] : local;
                     std::fill(totals, totals + n, fold.none());
                     const int64_t last = std::min((segment + 1) * height, rows);
                     for (int64_t start = segment * height; start < last; start += kColumnRun)
                       fold.columns(plan.reduced, start, std::min(start + kColumnRun, last),
                                    in + at[0] + panel * width * row.strides[0], row.strides[0], n, totals);
                     if (segments == 1) store_panel(at[1], panel, totals);
                   });
                 }
               });
  if (segments == 1) return;
  int64_t group = 0;
  outer.for_each(0, groups, [&](const int64_t(&at)[2]) {
    for (int64_t panel = 0; panel < panels; ++panel) {
      Total *totals = &partial[size_t((group * panels + panel) * segments * width)];
      for (int64_t s = 1; s < segments; ++s) join_all(fold, totals, totals + s * width, width);
      store_panel(at[1], panel, totals);
    }
    ++group;
  });
}

// Fold adjacent rows of a few outputs: as many rows as fill a panel count as one, whose totals then fold.
template <class Fold> void reduce_narrow(const Reduction &plan, const Fold &fold,
                                         const typename Fold::Element *in, typename Fold::Result *out) {
  using Total = typename Fold::Total;
  Space<2> outer = plan.kept;
  const Space<2>::Row row = outer.pop();
  const int64_t width = row.extent, abreast = kAbreast / width, panel = abreast * width, rows = plan.count;
  const int64_t tall = std::max<int64_t>(8 * kSegment / panel, 1) * abreast;  // rows of one segment
  const int64_t groups = outer.numel(), segments = (rows + tall - 1) / tall;
  std::vector<Total> partial(static_cast<size_t>(groups * segments * width), fold.none());
  parallel_for(0, groups * segments, 1, [&](int64_t begin, int64_t end) {
    alignas(64) Total totals[kAbreast];
    for (int64_t task = begin; task < end; ++task) {
      outer.for_each(task / segments, task / segments + 1, [&](const int64_t(&at)[2]) {
        const int64_t from = task % segments * tall, count = std::min(tall, rows - from);
        const typename Fold::Element *x = in + at[0] + from * width;
        Space<1> panels;
        panels.append(count / abreast, {panel});
        std::fill(totals, totals + kAbreast, fold.none());
        for (int64_t start = 0; start < count / abreast; start += kColumnRun)
          fold.columns(panels, start, std::min(start + kColumnRun, count / abreast), x, 1, panel, totals);
        Space<1> rest;
        rest.append(1, {panel});
        if (const int64_t left = count % abreast * width)
          fold.columns(rest, 0, 1, x + count / abreast * panel, 1, left, totals);
        Total *mine = &partial[size_t(task * width)];
        for (int64_t i = 0; i < panel; i += width) join_all(fold, mine, totals + i, width);
      });
    }
  });
  int64_t group = 0;
  outer.for_each(0, groups, [&](const int64_t(&at)[2]) {
    Total *mine = &partial[size_t(group++ * segments * width)];
    for (int64_t s = 1; s < segments; ++s) join_all(fold, mine, mine + s * width, width);
    finish_all(fold, mine, width, rows, out + at[1], row.strides[1]);
  });
}

template <class Fold> void reduce(const Reduction &plan, const Fold &fold, const void *in, void *out) {
  if (plan.kept.numel() == 0) return;
  auto run = plan.columns ? reduce_columns<Fold> : plan.narrow ? reduce_narrow<Fold> : reduce_rows<Fold>;
  run(plan, fold, static_cast<const typename Fold::Element *>(in), static_cast<typename Fold::Result *>(out));
}

// A kernel of one input whose fold has no parameters. Family says
//   static constexpr const char *name; static constexpr bool pairs;  // do halves of complex numbers fold
//   apart? template <class T> using Fold = ...; template <class Fn> static void dispatch(int64_t dtype, Fn
//   &&fn);
template <class Args, class Family> class ReductionKernel {
  int64_t part_, dtype_;
  Reduction plan_;

 public:
  explicit ReductionKernel(const Args &call)
      : part_(Family::pairs ? part_dtype(call.input->dtype) : 0),
        dtype_(part_ ? part_ : call.input->dtype),
        plan_(*call.output, *call.input, *call.dim, call.keepdim != 0, part_ != 0) {
    Family::dispatch(dtype_, [](auto) {});  // refuse other dtypes now
  }
  uint64_t workspace() const { return 0; }
  void execute(const Args &call, void *, infinirtStream_t) const {
    Family::dispatch(dtype_, [&](auto t) {
      using T = typename decltype(t)::type;
      reduce(plan_, typename Family::template Fold<T>{}, call.input->data, call.output->data);
    });
  }
};

}  // namespace infini::cpu::INFINI_ISA
