// topk.cpp -- the k best elements along one dimension, with their indices.
// A line is scanned once against the worst of the k best so far; what passes is collected and thinned out.
#include <infinicore/operators/topk.h>

#include "../elementwise.hpp"
#include "../order.hpp"

#include <vector>

namespace infini::cpu::INFINI_ISA {
namespace {

constexpr int64_t kSegment = 1 << 15;  // elements of a long line that a thread scans at a time
constexpr int64_t kFew = 16;           // of which a heap finds the best faster than partitioning
constexpr int64_t kShort = 64;         // elements of a line whose best are inserted one by one
constexpr int64_t kBlock = 512;        // elements compared with the threshold at once

// The k smallest items of those shown to it (descending items are made upside down).
template <class Item> class Best {
  std::vector<Item> found_;
  int64_t k_, count_ = 0;
  uint64_t threshold_ = ~uint64_t(0);  // no later key above it matters; one that equals it comes too late
  bool full_ = false;

  __attribute__((noinline)) void thin_out() {
    if (count_ <= k_) return;
    if (k_ <= kFew)
      std::partial_sort(found_.begin(), found_.begin() + k_, found_.begin() + count_);
    else
      std::nth_element(found_.begin(), found_.begin() + (k_ - 1), found_.begin() + count_);
    count_ = k_;
    threshold_ = item_key(found_[size_t(k_ - 1)]);
    full_ = true;
  }

 public:
  explicit Best(int64_t k) : found_(static_cast<size_t>(2 * k + kBlock)), k_(k) {}

  void clear() {
    count_ = 0;
    full_ = false;
  }

  void add(Item item) {
    found_[size_t(count_++)] = item;
    if (count_ == int64_t(found_.size())) thin_out();
  }

  // Elements begin .. end-1 of a row.
  template <class T> void scan(const T *row, int64_t stride, int64_t begin, int64_t end, bool largest) {
    using U = order_bits_t<T>;
    const U flip = largest ? U(~U(0)) : U(0);
    U keys[kBlock];
    const int64_t first = std::clamp(4 * k_, kShort, kBlock);  // few: all are kept, for want of a threshold
    for (int64_t at = begin, n; at < end; at += n) {
      n = std::min(full_ ? kBlock : first, end - at);
      const T *from = row + at * stride;
      if (stride == 1)
        for (int64_t i = 0; i < n; ++i) keys[i] = order_bits(from[i]) ^ flip;
      else
        for (int64_t i = 0; i < n; ++i) keys[i] = order_bits(from[i * stride]) ^ flip;
      if (full_) {
        U least = keys[0];
        for (int64_t i = 1; i < n; ++i) least = keys[i] < least ? keys[i] : least;
        if (least >= threshold_) continue;
        if (count_ >= 2 * k_) thin_out();  // there is room for a block, and a lower threshold
        const uint64_t threshold = threshold_;
        Item *next = found_.data() + count_;
        for (int64_t i = 0; i < n; ++i) {  // a branch would be taken as chance will have it
          *next = make_item<Item>(keys[i], at + i);
          next += keys[i] < threshold;
        }
        count_ = next - found_.data();
      } else {
        for (int64_t i = 0; i < n; ++i) add(make_item<Item>(keys[i], at + i));
        thin_out();
      }
    }
  }

  // The k best, in no order. At least as many have been shown.
  Item *finish() {
    thin_out();
    return found_.data();
  }
};

// Out of line: it knows no dtype, and is large.
template <class Item> __attribute__((noinline)) void arrange(Item *items, int64_t k, bool sorted) {
  if (sorted)
    std::sort(items, items + k);
  else
    std::sort(items, items + k, [](Item a, Item b) { return item_index(a) < item_index(b); });
}

struct Wanted {
  int64_t k;
  bool largest, sorted;
};

// Put the k smallest of n items in order before the others: by insertion, since both numbers are small.
template <class Item> void insert_best(const Item *items, int64_t n, int64_t k, Item *best) {
  int64_t held = 0;
  for (int64_t i = 0; i < n; ++i) {
    const Item item = items[i];
    if (held == k && !(item < best[k - 1])) continue;
    int64_t at = held < k ? held++ : k - 1;
    for (; at > 0 && item < best[at - 1]; --at) best[at] = best[at - 1];
    best[at] = item;
  }
}

template <class T, class Item> void best_of_lines(const OrderedLines &lines, const Wanted &wanted,
                                                  const void *input, void *values, void *indices) {
  const int64_t n = lines.extent, k = wanted.k, count = lines.all.numel();
  auto write = [&](Item *items, const int64_t(&at)[3]) {
    arrange(items, k, wanted.sorted);
    lines.write<T>(items, k, at, values, indices, input);
  };
  const int64_t width = std::max(kSegment, 8 * k), segments = (n + width - 1) / width;
  if (segments > 1 && count < num_threads()) {  // few long lines: share each among the threads
    std::vector<Item> candidates(static_cast<size_t>(segments * k));
    lines.all.for_each(0, count, [&](const int64_t(&at)[3]) {
      const T *row = static_cast<const T *>(input) + at[2];
      std::vector<int64_t> found(static_cast<size_t>(segments));
      parallel_for(0, segments, 1, [&](int64_t begin, int64_t end) {
        Best<Item> best(k);
        for (int64_t s = begin; s < end; ++s) {
          const int64_t stop = std::min((s + 1) * width, n);
          best.clear();
          best.scan(row, lines.step[2], s * width, stop, wanted.largest);
          found[size_t(s)] = std::min(k, stop - s * width);
          const Item *items = best.finish();
          std::copy(items, items + found[size_t(s)], candidates.data() + s * k);
        }
      });
      Best<Item> best(k);
      for (int64_t s = 0; s < segments; ++s)
        for (int64_t i = 0; i < found[size_t(s)]; ++i) best.add(candidates[size_t(s * k + i)]);
      write(best.finish(), at);
    });
    return;
  }
  const int64_t grain = std::max<int64_t>(kExpensive / n, 1);
  if (n <= kShort && k <= kFew) {
    parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
      Item items[kShort], best[kFew];
      lines.all.for_each(begin, end, [&](const int64_t(&at)[3]) {
        make_items(static_cast<const T *>(input) + at[2], lines.step[2], 0, n, wanted.largest, items);
        insert_best(items, n, k, best);
        if (!wanted.sorted) arrange(best, k, false);
        lines.write<T>(best, k, at, values, indices, input);
      });
    });
    return;
  }
  parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    Best<Item> best(k);
    lines.all.for_each(begin, end, [&](const int64_t(&at)[3]) {
      best.clear();
      best.scan(static_cast<const T *>(input) + at[2], lines.step[2], 0, n, wanted.largest);
      write(best.finish(), at);
    });
  });
}

class TopK {
  OrderedLines lines_;
  Wanted wanted_;
  void (*run_)(const OrderedLines &, const Wanted &, const void *, void *, void *);

 public:
  explicit TopK(const infini_topk_args &call)
      : lines_(*call.values, *call.indices, *call.input, call.dim),
        wanted_{call.k, call.largest != 0, call.sorted != 0} {
    run_ = dispatch_ordered("topk", call.input->dtype, [&](auto t) {
      using T = typename decltype(t)::type;
      return dispatch_item<T>(lines_.extent, [](auto item) -> decltype(run_) {
        return best_of_lines<T, typename decltype(item)::type>;
      });
    });
  }
  uint64_t workspace() const { return 0; }
  void execute(const infini_topk_args &call, void *, infinirtStream_t) const {
    if (wanted_.k > 0 && lines_.all.numel() > 0)
      run_(lines_, wanted_, call.input->data, call.values->data, call.indices->data);
  }
};

}  // namespace

INFINI_CPU_KERNEL(topk, TopK)

}  // namespace infini::cpu::INFINI_ISA
