// kernels/flash.cpp -- the attention that flash.hpp declares. Keys come in blocks; a running maximum and sum
// per query row stand for the softmax. A task is a block of queries for heads that share a key-value head.
#include "../flash.hpp"

#include "../indices.hpp"
#include "../matmul.hpp"
#include "../vmath.hpp"

#include <cmath>

namespace infini::cpu::INFINI_ISA {

namespace {

constexpr int64_t key_block = 128;  // keys scored at a time
constexpr int64_t most_rows = 128;  // query rows that share the keys of one block
constexpr int64_t few_rows = 16;    // up to here keys are not worth packing
constexpr int64_t least_run = 16;   // keys that lie together, from which on few rows read them in place
constexpr int64_t most_runs = key_block / least_run + 1;

// Keys or values of one head as rows that are contiguous along the head: in place, or else copied together.
template <class T> class KeyRows {
 public:
  KeyRows(const Flash &call, const Heads &from, const FlashSequence &s, int64_t start, int64_t head,
          int64_t d, T *copy)
      : call_(call), from_(from), table_(s.table), start_(start), head_(head), d_(d), copy_(copy) {}

  // Can rows that lie together be read where they are?
  bool in_place() const { return from_.element == 1 || d_ <= 1; }

  // Rows first .. first+count-1; *ld is their distance.
  const T *get(int64_t first, int64_t count, int64_t *ld) const {
    const bool together = !call_.pages || first % call_.page + count <= call_.page;
    if (together && in_place()) {
      *ld = from_.token;
      return row(first);
    }
    *ld = d_;
    for (int64_t r = 0; r < count;) {
      const int64_t run = call_.pages ? std::min(count - r, call_.page - (first + r) % call_.page) : count;
      const T *rows = row(first + r);
      for (int64_t i = 0; i < run; ++i, ++r)
        copy_elements(rows + i * from_.token, from_.element, copy_ + r * d_, 1, d_);
    }
    return copy_;
  }

 private:
  const T *row(int64_t key) const {
    if (!call_.pages) return from_.at<const T>(0, head_, key) + start_;
    const int64_t page = index_at(*call_.pages, table_ + key / call_.page * call_.pages_step);
    return from_.at<const T>(page, head_, key % call_.page) + start_;
  }

  const Flash &call_;
  const Heads &from_;
  int64_t table_, start_, head_, d_;
  T *copy_;
};

// Keys and values that lie together, as a part of a block.
template <class T> struct Run {
  int64_t first, count;  // of the block
  const T *k, *v;
  int64_t k_row, v_row;
};

// Softmax-weighted sums of values for a few query rows, fed with blocks of keys. One per thread at a time.
template <class T> class Attend {
 public:
  using C = compute_t<T>;

  Attend(int64_t rows, int64_t d, int64_t dv)
      : rows_(rows), d_(d), dv_(dv), wide_(round_up(d, 16)), wide_v_(round_up(dv, 16)) {
    const int64_t numbers = rows * (wide_ + wide_v_ + key_block + 2) + 64;
    memory_ = static_cast<C *>(scratch<Scratch::attention>(
        size_t(numbers) * sizeof(C) + size_t(key_block * (wide_ + wide_v_)) * sizeof(T)));
    q_ = memory_;
    sums_ = q_ + rows * wide_;
    scores_ = sums_ + rows * wide_v_;
    top_ = scores_ + rows * key_block;
    mass_ = top_ + rows;
    copies_ = reinterpret_cast<T *>(memory_ + numbers);
    std::fill(sums_, sums_ + rows * wide_v_, C(0));
    std::fill(top_, top_ + rows, -infinity);
    std::fill(mass_, mass_ + rows, C(0));
  }

  // Room for key_block rows of keys or values that cannot be read in place.
  T *key_copy() const { return copies_; }
  T *value_copy() const { return copies_ + key_block * wide_; }

  void set_query(int64_t row, const T *q, int64_t step, C scale) {
    C *line = q_ + row * wide_;
    to_float(q, step, line, d_);
    for (int64_t i = 0; i < d_; ++i) line[i] *= scale;
  }

  // count <= key_block more keys and values, in one run where the rows are many. seen(row) of them count for
  // a row; adjust(row, scores, seen) may add to their scores. Where it may hide keys, a row whose scores are
  // all -inf has seen nothing yet.
  template <class Seen, class Adjust>
  void feed(int64_t count, const Run<T> *runs, int64_t run_count, bool hides, Seen &&seen, Adjust &&adjust) {
    for (const Run<T> *run = runs; run < runs + run_count; ++run) score(*run);
    for (int64_t r = 0; r < rows_; ++r) {
      C *score = scores_ + r * key_block;
      const int64_t used = std::max<int64_t>(0, std::min(count, seen(r)));
      std::fill(score + used, score + count, C(0));
      if (used == 0) continue;
      adjust(r, score, used);
      const C top = std::max(row_max(score, used), top_[r]);
      if (hides && top == -infinity && all_hidden(score, used)) {
        std::fill(score, score + used, C(0));
        continue;
      }
      for (int64_t i = 0; i < used; ++i) score[i] = vmath::exp(score[i] - top);
      C mass = row_sum(score, used);
      if (top != top_[r] && mass_[r] != 0) {  // what came before was relative to a smaller maximum
        const C shrink = vmath::exp(top_[r] - top);
        mass += mass_[r] * shrink;
        C *sum = sums_ + r * wide_v_;
        for (int64_t i = 0; i < dv_; ++i) sum[i] *= shrink;
      } else {
        mass += mass_[r];
      }
      top_[r] = top;
      mass_[r] = mass;
    }
    for (const Run<T> *run = runs; run < runs + run_count; ++run)
      row_block(rows_, dv_, run->count, scores_ + run->first, key_block, 1, run->v, run->v_row, sums_,
                wide_v_, true);
  }

  // The result of a row: zeros where it saw no key.
  void write(int64_t row, T *out, int64_t step) {
    C *sum = sums_ + row * wide_v_;
    if (mass_[row] == 0) std::fill(sum, sum + dv_, C(0));
    const C scale = mass_[row] == 0 ? C(0) : C(1) / mass_[row];
    for (int64_t i = 0; i < dv_; ++i) sum[i] *= scale;
    from_float(sum, out, step, dv_);
  }

 private:
  static constexpr C infinity = C(__builtin_huge_val());

  // A NaN, which row_max passes over, is to be seen.
  static bool all_hidden(const C *score, int64_t count) {
    return std::all_of(score, score + count, [](C x) { return x == -infinity; });
  }

  // scores = q @ k.T: keys are read in place for few rows, else turned into panels that all rows use.
  void score(const Run<T> &run) {
    constexpr int64_t width = panel_columns<C>;
    C *scores = scores_ + run.first;
    if (rows_ <= few_rows || d_ > panel_depth)
      return dot_block(rows_, run.count, d_, q_, wide_, run.k, run.k_row, scores, key_block);
    C *panels = static_cast<C *>(scratch<Scratch::panels>(size_t(key_block * d_ + 16) * sizeof(C)));
    pack<width>(run.k, run.k_row, 1, run.count, d_, panels);
    for (int64_t j = 0; j < run.count; j += width)
      row_block(rows_, std::min(width, run.count - j), d_, q_, wide_, 1, panels + j * d_, width, scores + j,
                key_block, false);
  }

  int64_t rows_, d_, dv_, wide_, wide_v_;
  C *memory_, *q_, *sums_, *scores_, *top_, *mass_;
  T *copies_;
};

// How the sequences of a call are cut into tasks: `group` heads by `queries` tokens each.
class Tasks {
 public:
  Tasks(const Flash &call, const std::vector<FlashSequence> &sequences)
      : shared_(call.heads / call.kv_heads) {
    int64_t longest = 0;
    for (const FlashSequence &s : sequences) longest = std::max(longest, s.tokens);
    // Heads that share keys read them once, and many rows use each one more often; fewer rows where the
    // threads would have too few tasks.
    const int64_t fewest = longest > 1 ? few_rows : 1;
    for (int64_t rows = most_rows;; rows = (rows + 1) / 2) {
      cut(call, sequences, rows);
      if (count() >= num_threads() || rows / 2 < fewest) break;
    }
  }

  int64_t count() const { return first_.back(); }

  struct Task {
    size_t sequence;
    int64_t kv, head, members, token, tokens;
  };

  Task get(int64_t number, const std::vector<FlashSequence> &sequences) const {
    const size_t at = size_t(std::upper_bound(first_.begin(), first_.end(), number) - first_.begin()) - 1;
    const int64_t length = sequences[at].tokens, blocks = (length + queries_ - 1) / queries_;
    const int64_t rest = number - first_[at], group = rest / blocks;
    const int64_t kv = group / groups_, member = group % groups_ * group_;
    // The last queries see the most keys: begin with them, so that threads finish together.
    const int64_t token = (blocks - 1 - rest % blocks) * queries_;
    return {at,
            kv,
            kv * shared_ + member,
            std::min(group_, shared_ - member),
            token,
            std::min(queries_, length - token)};
  }

 private:
  void cut(const Flash &call, const std::vector<FlashSequence> &sequences, int64_t rows) {
    group_ = std::min(shared_, rows);
    groups_ = (shared_ + group_ - 1) / group_;
    queries_ = std::max<int64_t>(1, rows / group_);
    first_.assign(1, 0);
    for (const FlashSequence &s : sequences)
      first_.push_back(first_.back() + call.kv_heads * groups_ * ((s.tokens + queries_ - 1) / queries_));
  }

  int64_t shared_, group_ = 1, groups_ = 1, queries_ = 1;
  std::vector<int64_t> first_;  // the number of each sequence's first task, and of all
};

template <class C> void add_mask(const Flash &call, int64_t offset, C *score, int64_t count) {
  const int64_t step = call.mask.element;
  if (call.mask_dtype == INFINI_DTYPE_BOOL) {
    const uint8_t *mask = static_cast<const uint8_t *>(call.mask.data) + offset;
    for (int64_t i = 0; i < count; ++i) score[i] = mask[i * step] ? score[i] : -C(__builtin_huge_val());
    return;
  }
  dispatch_floats("mask", call.mask_dtype, [&](auto tag) {
    using M = typename decltype(tag)::type;
    const M *mask = static_cast<const M *>(call.mask.data) + offset;
    for (int64_t i = 0; i < count; ++i) score[i] += C(to_float(mask[i * step]));
  });
}

template <class T> void run_task(const Flash &call, const FlashSequence &s, const Tasks::Task &task) {
  using C = compute_t<T>;
  const int64_t count = task.members * task.tokens;
  Attend<T> rows(count, call.d, call.dv);
  const auto head_of = [&](int64_t row) { return task.head + row / task.tokens; };
  const auto token_of = [&](int64_t row) { return task.token + row % task.tokens; };
  for (int64_t r = 0; r < count; ++r)
    rows.set_query(r, call.q.at<const T>(0, head_of(r), token_of(r)) + s.q, call.q.element, C(call.scale));
  const KeyRows<T> k(call, call.k, s, s.k, task.kv, call.d, rows.key_copy());
  const KeyRows<T> v(call, call.v, s, s.v, task.kv, call.dv, rows.value_copy());
  const int64_t reach = call.causal ? s.diagonal : s.keys;
  const int64_t visible = std::min(s.keys, task.token + task.tokens + reach);
  // Rows that are copied together share a buffer: only what is read in place may come in several runs.
  const bool in_runs =
      call.pages && call.page >= least_run && count <= few_rows && k.in_place() && v.in_place();
  for (int64_t key = 0; key < visible; key += key_block) {
    const int64_t some = std::min(key_block, visible - key);
    Run<T> runs[most_runs];
    int64_t run_count = 0;
    for (int64_t at = 0; at < some; ++run_count) {
      Run<T> &run = runs[run_count];
      run.first = at;
      run.count = in_runs ? std::min(some - at, call.page - (key + at) % call.page) : some;
      run.k = k.get(key + at, run.count, &run.k_row);
      run.v = v.get(key + at, run.count, &run.v_row);
      at += run.count;
    }
    rows.feed(
        some, runs, run_count, call.mask.data != nullptr,
        [&](int64_t r) { return token_of(r) + reach + 1 - key; },
        [&](int64_t r, C *score, int64_t used) {
          if (call.slopes) {
            const float slope =
                static_cast<const float *>(call.slopes->data)[head_of(r) * call.slopes->strides[0]];
            const int64_t own = token_of(r) + s.diagonal - key;
            for (int64_t i = 0; i < used; ++i) score[i] -= C(slope) * std::abs(C(own - i));
          }
          if (call.mask.data)
            add_mask(call,
                     s.mask + head_of(r) * call.mask.head + token_of(r) * call.mask.token +
                         key * call.mask.element,
                     score, used);
        });
  }
  for (int64_t r = 0; r < count; ++r)
    rows.write(r, call.out.at<T>(0, head_of(r), token_of(r)) + s.out, call.out.element);
}

}  // namespace

void flash_attention(const Flash &call, const std::vector<FlashSequence> &sequences) {
  if (call.heads == 0 || call.dv == 0 || sequences.empty()) return;
  const Tasks tasks(call, sequences);
  double work = 0;
  for (const FlashSequence &s : sequences)
    work += double(s.tokens) * double(s.keys) * double(call.d + call.dv);
  work *= double(call.heads) / double(std::max<int64_t>(1, tasks.count()));
  const int64_t grain = std::max<int64_t>(1, int64_t(double(parallel_work) / (work + 1)));
  dispatch_floats("attention", call.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    parallel_for(0, tasks.count(), grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Tasks::Task task = tasks.get(i, sequences);
        run_task<T>(call, sequences[task.sequence], task);
      }
    });
  });
}

}  // namespace infini::cpu::INFINI_ISA
