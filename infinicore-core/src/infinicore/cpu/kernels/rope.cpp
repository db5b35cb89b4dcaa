// kernels/rope.cpp -- rotary position embedding: pairs of features turned by an angle that grows with the
// position. The tables' row of a position is widened once and serves all heads of that token.
#include <infinicore/operators/rope.h>

#include "../indices.hpp"
#include "../kernel.hpp"
#include "../scratch.hpp"

#include <algorithm>

namespace infini::cpu::INFINI_ISA {

class Rope {
 public:
  explicit Rope(const infini_rope_args &call) : dtype_(call.x->dtype), adjacent_(call.algo == 0) {
    dispatch_floats("rope", dtype_, [](auto) {});
    dispatch_floats("rope", call.sin_table->dtype, [](auto) {});
    dispatch_ints("rope", call.pos_ids->dtype, [](auto) {});
    if (call.algo != 0 && call.algo != 1)
      throw Error(INFINI_STATUS_BAD_PARAM,
                  "rope: algo is " + std::to_string(call.algo) + ", neither GPT_J (0) nor GPT_NEOX (1)");
    const infini_tensor &x = *call.x, &out = *call.out, &pos = *call.pos_ids;
    const int tokens = x.ndim - 2;
    for (int d = 0; d < tokens;
         ++d) {  // positions may lack leading dimensions: the same for every batch entry
      const int from = d - (tokens - pos.ndim);
      token_.append(x.shape[d], {out.strides[d], x.strides[d], from < 0 ? 0 : pos.strides[from]});
    }
    token_.merge();
    heads_ = x.shape[tokens];
    half_ = x.shape[tokens + 1] / 2;
    for (int i = 0; i < 2; ++i) {
      const infini_tensor &t = i ? x : out;
      head_step_[i] = t.strides[tokens];
      step_[i] = t.strides[tokens + 1];
    }
  }

  uint64_t workspace() const { return 0; }

  void execute(const infini_rope_args &call, void *, infinirtStream_t) const {
    dispatch_floats("rope", dtype_, [&](auto tag) { run<typename decltype(tag)::type>(call); });
  }

 private:
  template <class T> void run(const infini_rope_args &call) const {
    using C = compute_t<T>;
    const T *x = static_cast<const T *>(call.x->data);
    T *out = static_cast<T *>(call.out->data);
    const int64_t grain = std::max<int64_t>(1, 8 * 1024 / (heads_ * half_ + 1));
    check_positions(call);
    parallel_for(0, token_.numel(), grain, [&](int64_t begin, int64_t end) {
      C *sin = static_cast<C *>(scratch<Scratch::operands>(size_t(6 * half_ + 1) * sizeof(C)));
      C *cos = sin + half_, *in = cos + half_, *turned = in + 2 * half_;
      int64_t at_table = -1;
      token_.for_each(begin, end, [&](const int64_t(&at)[3]) {
        const int64_t position = index_at(*call.pos_ids, at[2]);
        if (position != at_table) {
          table_row(*call.sin_table, position, sin);
          table_row(*call.cos_table, position, cos);
          at_table = position;
        }
        for (int64_t h = 0; h < heads_; ++h) {
          to_float(x + at[1] + h * head_step_[1], step_[1], in, 2 * half_);
          if (adjacent_)
            for (int64_t i = 0; i < half_; ++i) {
              turned[2 * i] = in[2 * i] * cos[i] - in[2 * i + 1] * sin[i];
              turned[2 * i + 1] = in[2 * i] * sin[i] + in[2 * i + 1] * cos[i];
            }
          else
            rotate_halves(in, sin, cos, turned);
          from_float(turned, out + at[0] + h * head_step_[0], step_[0], 2 * half_);
        }
      });
    });
  }

  template <class C> void rotate_halves(const C *__restrict in, const C *__restrict sin,
                                        const C *__restrict cos, C *__restrict turned) const {
    for (int64_t i = 0; i < half_; ++i) {
      turned[i] = in[i] * cos[i] - in[half_ + i] * sin[i];
      turned[half_ + i] = in[i] * sin[i] + in[half_ + i] * cos[i];
    }
  }

  // Before anything is written, so that a bad position leaves the output as it was.
  void check_positions(const infini_rope_args &call) const {
    const int64_t rows = std::min(call.sin_table->shape[0], call.cos_table->shape[0]);
    token_.for_each(0, token_.numel(), [&](const int64_t(&at)[3]) {
      const int64_t position = index_at(*call.pos_ids, at[2]);
      if (position < 0 || position >= rows)
        throw Error(INFINI_STATUS_INDEX_OUT_OF_RANGE,
                    "rope: pos_ids holds position " + std::to_string(position) +
                        ", which is out of range for tables of " + std::to_string(rows) + " positions");
    });
  }

  template <class C> void table_row(const infini_tensor &table, int64_t position, C *out) const {
    dispatch_floats("rope", table.dtype, [&](auto tag) {
      using W = typename decltype(tag)::type;
      const W *row = static_cast<const W *>(table.data) + position * table.strides[0];
      for (int64_t i = 0; i < half_; ++i) out[i] = C(to_float(row[i * table.strides[1]]));
    });
  }

  int32_t dtype_;
  bool adjacent_;   // GPT_J: a pair is two neighbours; GPT_NEOX: one of each half
  Space<3> token_;  // out, x, pos_ids
  int64_t heads_, half_, head_step_[2], step_[2];  // of out and x
};

INFINI_CPU_KERNEL(rope, Rope)

}  // namespace infini::cpu::INFINI_ISA
