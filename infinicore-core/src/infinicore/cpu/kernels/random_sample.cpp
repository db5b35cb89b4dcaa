// kernels/random_sample.cpp -- random_sample and random_sample_batch: one token drawn from logits.
// No sort of the vocabulary: tokens fall into bins by logit, and only the bin that the draw hits is put in
// order.
#include <infinicore/operators/random_sample.h>
#include <infinicore/operators/random_sample_batch.h>

#include "../kernel.hpp"
#include "../scratch.hpp"
#include "../vec.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

namespace infini::cpu::INFINI_ISA {

namespace {

struct Draw {
  double random_val, topp;
  int64_t topk;
  double temperature;
};

// out[i] = e**x[i] to the last place or two, for x <= 0; the loop vectorises.
void exp_block(const double *x, double *out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    const double y = x[i] > -700.0 ? x[i] : -700.0;
    const double shifted = y * 1.4426950408889634 + 0x1.8p52;  // an integer in the low mantissa bits
    const double whole = shifted - 0x1.8p52;
    const double r = (y - whole * 0x1.62e42fee00000p-1) - whole * 0x1.a39ef35793c76p-33;  // ln 2 in two parts
    double p = 1.0 / 6227020800.0;  // the series of e**r: |r| < 0.35 makes thirteen terms enough
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r * r + r + 1.0;
    const int64_t power = int64_t(uint64_t(bit_cast<int64_t>(shifted)) << 52);
    const double scaled = bit_cast<double>(bit_cast<int64_t>(p) + power);
    out[i] = x[i] > -700.0 ? scaled : 0.0;
  }
}

// The first of the largest; a NaN counts as larger than everything.
template <class C> int64_t first_maximum(const C *x, int64_t n) {
  const C top = row_max(x, n);
  int64_t found = -1;
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] != x[i]) return i;
    if (found < 0 && x[i] == top) found = i;
  }
  return found;
}

// Logits in descending order, equal ones by index, is the order in which probability accumulates.
template <class C> class Tokens {
 public:
  // order has room for n indices. `kept` tokens at most can be drawn.
  Tokens(const C *logits, int64_t n, double temperature, int64_t kept, int32_t *order)
      : logits_(logits), n_(n), temperature_(temperature), kept_(kept), order_(order) {
    top_ = row_max(logits, n);
    if (kept <= n / (4 * stretch)) {
      weigh(false);
      select();
      return;
    }
    double lowest = top_;
    for (int64_t i = 0; i < n; ++i) lowest = logits[i] < lowest ? logits[i] : lowest;
    // Beyond 40 temperatures nothing weighs more than 1e-17 of the maximum: one bin for all of it.
    const double span = std::min(double(top_) - lowest, 40.0 * temperature);
    scale_ = span > 0 ? (bins - 1) / span : 0;
    weigh(true);
  }

  double total() const { return total_; }

  // The share of all probability that the kept tokens hold.
  double share() {
    if (kept_ >= n_) return 1;
    double mass = 0;
    int64_t seen = 0;
    if (selected_) {
      for (; seen < kept_; ++seen) mass += weight(order_[seen]);
      return mass / total_;
    }
    for (int b = 0;; ++b) {
      if (seen + counts_[b] < kept_) {
        seen += counts_[b];
        mass += masses_[b];
        continue;
      }
      sort_bin(b);
      for (int64_t i = 0; seen < kept_; ++i, ++seen) mass += weight(order_[i]);
      return mass / total_;
    }
  }

  // The first token at which the accumulated share reaches threshold, at the latest the last one kept.
  int64_t pick(double threshold) {
    double mass = 0;
    int64_t seen = 0;
    const int64_t last = kept_ - 1;
    if (selected_) {
      while (mass += weight(order_[seen]), mass / total_ < threshold && seen < last) ++seen;
      return order_[seen];
    }
    for (int b = 0; b < bins; ++b) {
      if (counts_[b] == 0) continue;
      if (seen + counts_[b] <= last && (mass + masses_[b]) / total_ < threshold) {
        seen += counts_[b];
        mass += masses_[b];
        continue;
      }
      sort_bin(b);
      for (int64_t i = 0; i < counts_[b]; ++i, ++seen) {
        mass += weight(order_[i]);
        if (mass / total_ >= threshold || seen == last) return order_[i];
      }
    }
    return order_[0];  // unreachable for finite logits: `last` lies in some bin
  }

 private:
  static constexpr int bins = 1024;
  static constexpr int64_t stretch = 32;

  int bin(C logit) const {
    const double place = (double(top_) - double(logit)) * scale_;
    return place < bins - 1 ? int(place) : bins - 1;
  }

  double weight(int64_t i) const { return std::exp((double(logits_[i]) - double(top_)) / temperature_); }

  // Sum the weights, and the number and weight of the tokens in each bin if those are wanted.
  void weigh(bool binned) {
    constexpr int64_t block = 256;
    double scaled[block], weights[block];
    const double inverse = 1 / temperature_;
    for (int64_t i = 0; i < n_; i += block) {
      const int64_t count = std::min(block, n_ - i);
      for (int64_t j = 0; j < count; ++j) scaled[j] = (double(logits_[i + j]) - double(top_)) * inverse;
      exp_block(scaled, weights, count);
      if (!binned) {
        total_ += row_sum(weights, count);
        continue;
      }
      for (int64_t j = 0; j < count; ++j) {
        const int b = bin(logits_[i + j]);
        ++counts_[b];
        masses_[b] += weights[j];
      }
    }
    if (binned)
      for (double mass : masses_) total_ += mass;
  }

  // Order the kept tokens where they are few: the kept-th largest of the maxima of short stretches bounds
  // them from below, and hardly anything else passes that bound.
  void select() {
    C *maxima = static_cast<C *>(scratch<Scratch::panels>(size_t(n_ / stretch + 1) * sizeof(C)));
    int64_t stretches = 0;
    for (int64_t i = 0; i < n_; i += stretch)
      maxima[stretches++] = row_max(logits_ + i, std::min(stretch, n_ - i));
    std::nth_element(maxima, maxima + kept_ - 1, maxima + stretches, std::greater<C>());
    const C bound = maxima[kept_ - 1];
    int64_t candidates = 0;
    for (int64_t i = 0; i < n_; ++i) {
      order_[candidates] = int32_t(i);
      candidates += logits_[i] >= bound;
    }
    std::partial_sort(order_, order_ + kept_, order_ + candidates, before());
    selected_ = true;
  }

  auto before() const {
    return [this](int32_t x, int32_t y) {
      return logits_[x] > logits_[y] || (logits_[x] == logits_[y] && x < y);
    };
  }

  void sort_bin(int b) {
    int64_t count = 0;
    for (int64_t i = 0; i < n_ && count < counts_[b]; ++i)
      if (bin(logits_[i]) == b) order_[count++] = int32_t(i);
    std::sort(order_, order_ + count, before());
  }

  const C *logits_;
  int64_t n_;
  double temperature_, scale_ = 0, total_ = 0;
  int64_t kept_;
  bool selected_ = false;  // the kept tokens stand in order_; otherwise bins are in use
  C top_;
  int32_t *order_;
  int64_t counts_[bins] = {};
  double masses_[bins] = {};
};

template <class T> int64_t sample(const char *op, const T *probs, int64_t step, int64_t n, const Draw &draw) {
  using C = compute_t<T>;
  if (n == 0)
    throw Error(INFINI_STATUS_BAD_TENSOR_SHAPE, std::string(op) + ": probs has n = 0 tokens to draw from");
  C *logits = static_cast<C *>(scratch<Scratch::operands>(size_t(n) * (sizeof(C) + sizeof(int32_t)) + 64));
  to_float(probs, step, logits, n);
  if (draw.topp == 0 || draw.topk == 1 || draw.temperature == 0) return first_maximum(logits, n);
  if (draw.temperature < 0)
    throw Error(INFINI_STATUS_BAD_PARAM,
                std::string(op) + ": temperature is " + std::to_string(draw.temperature) + ", less than 0");
  const int64_t kept = draw.topk <= 0 ? n : std::min(draw.topk, n);
  Tokens<C> tokens(logits, n, draw.temperature, kept, reinterpret_cast<int32_t *>(logits + n));
  // A NaN or an infinity among the logits leaves no distribution to draw from.
  if (!(tokens.total() > 0) || std::isinf(tokens.total())) return first_maximum(logits, n);
  return tokens.pick(draw.random_val * std::min(tokens.share(), draw.topp));
}

void write(const infini_tensor &result, int64_t offset, int64_t value) {
  dispatch_ints("random_sample", result.dtype, [&](auto tag) {
    using I = typename decltype(tag)::type;
    static_cast<I *>(result.data)[offset] = I(value);
  });
}

}  // namespace

class RandomSample {
 public:
  explicit RandomSample(const infini_random_sample_args &call) {
    dispatch_floats("random_sample", call.probs->dtype, [](auto) {});
    dispatch_ints("random_sample", call.result->dtype, [](auto) {});
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_random_sample_args &call, void *, infinirtStream_t) const {
    const infini_tensor &probs = *call.probs;
    const int64_t token = dispatch_floats("random_sample", probs.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      return sample("random_sample", static_cast<const T *>(probs.data), probs.strides[0], probs.shape[0],
                    {call.random_val, call.topp, call.topk, call.temperature});
    });
    write(*call.result, 0, token);
  }
};

class RandomSampleBatch {
 public:
  explicit RandomSampleBatch(const infini_random_sample_batch_args &call) {
    dispatch_floats("random_sample_batch", call.probs->dtype, [](auto) {});
    dispatch_ints("random_sample_batch", call.result->dtype, [](auto) {});
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_random_sample_batch_args &call, void *, infinirtStream_t) const {
    const infini_tensor &probs = *call.probs;
    dispatch_floats("random_sample_batch", probs.dtype, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const int64_t n = probs.shape[1];
      parallel_for(0, probs.shape[0], std::max<int64_t>(1, 4096 / (n + 1)), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row)
          write(*call.result, row * call.result->strides[0],
                sample("random_sample_batch", static_cast<const T *>(probs.data) + row * probs.strides[0],
                       probs.strides[1], n,
                       {at<float>(call.random_val, row), at<float>(call.topp, row),
                        at<int32_t>(call.topk, row), at<float>(call.temperature, row)}));
      });
    });
  }

 private:
  template <class V> static V at(const infini_tensor *t, int64_t row) {
    return static_cast<const V *>(t->data)[row * t->strides[0]];
  }
};

INFINI_CPU_KERNEL(random_sample, RandomSample)
INFINI_CPU_KERNEL(random_sample_batch, RandomSampleBatch)

}  // namespace infini::cpu::INFINI_ISA
