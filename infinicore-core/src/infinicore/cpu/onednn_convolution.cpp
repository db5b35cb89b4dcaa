// onednn_convolution.cpp -- convolutions by oneDNN, single-threaded: one primitive between copies that bring
// x, w and y into the layouts it is fast with. The pieces of a convolution that threads share are made by
// library_conv.cpp.
#include "onednn_convolution.hpp"

using namespace infini::onednn;

namespace {

using Description = Owned<dnnl_memory_desc_t>;

uint64_t aligned(uint64_t bytes) {
  return (bytes + 63) / 64 * 64;
}

Description strided(int dims, const int64_t *shape, const int64_t *strides, dnnl_data_type_t type) {
  dnnl_memory_desc_t made = nullptr;
  dnnl_memory_desc_create_with_strides(&made, dims, shape, type, strides);
  return Description(made);
}

Description any_layout(int dims, const int64_t *shape, dnnl_data_type_t type) {
  dnnl_memory_desc_t made = nullptr;
  dnnl_memory_desc_create_with_tag(&made, dims, shape, type, dnnl_format_tag_any);
  return Description(made);
}

// A primitive with what executing it takes.
struct Compiled {
  Owned<dnnl_primitive_desc_t> description;
  Owned<dnnl_primitive_t> primitive;
  const_dnnl_memory_desc_t scratch = nullptr;  // owned by the description

  bool compile(dnnl_primitive_desc_t made) {
    description.reset(made);
    dnnl_primitive_t compiled = nullptr;
    if (dnnl_primitive_create(&compiled, made) != dnnl_success) return false;
    primitive.reset(compiled);
    scratch = dnnl_primitive_desc_query_md(made, dnnl_query_scratchpad_md, 0);
    return true;
  }
  uint64_t scratch_bytes() const { return scratch ? aligned(dnnl_memory_desc_get_size(scratch)) : 0; }
};

// An operand as the caller has it and as the convolution wants it, and the copy between the two if they
// differ.
struct Operand {
  Description plain;
  const_dnnl_memory_desc_t wanted = nullptr;  // owned by the convolution's description
  Compiled copy;

  bool copies() const { return bool(copy.primitive); }
  uint64_t bytes() const { return copies() ? aligned(dnnl_memory_desc_get_size(wanted)) : 0; }

  bool prepare(const_dnnl_memory_desc_t layout, bool outwards, const_dnnl_primitive_attr_t attributes) {
    wanted = layout;
    if (dnnl_memory_desc_equal(plain.get(), wanted)) return true;
    dnnl_primitive_desc_t made = nullptr;
    const const_dnnl_memory_desc_t from = outwards ? wanted : plain.get(),
                                   to = outwards ? plain.get() : wanted;
    return dnnl_reorder_primitive_desc_create(&made, from, engine(), to, engine(), attributes) ==
               dnnl_success &&
           copy.compile(made);
  }

  bool run(const_dnnl_memory_desc_t from, const void *source, const_dnnl_memory_desc_t to, void *target,
           void *scratch) const {
    Arguments arguments;
    arguments.bind(DNNL_ARG_FROM, from, source);
    arguments.bind(DNNL_ARG_TO, to, target);
    if (copy.scratch) arguments.bind(DNNL_ARG_SCRATCHPAD, copy.scratch, scratch);
    return arguments.run(copy.primitive.get());
  }
};

// Does the implementation use what makes this processor fast? im2col with a product is what our own kernel
// does without storing the patches.
bool suits_convolution(const_dnnl_primitive_desc_t description, int32_t dtype) {
  const char *name = nullptr;
  dnnl_primitive_desc_query(description, dnnl_query_impl_info_str, 0, &name);
  if (!name || std::string(name).find("gemm") != std::string::npos) return false;
  return suits(name, dtype) ||
         (dtype == INFINI_DTYPE_BF16 && std::string(name).find("avx512_core_bf16") != std::string::npos);
}

struct Plan : infini_onednn_convolution_plan {
  Operand x, w, y;
  Description bias;
  Compiled primitive;

  bool prepare(const infini_onednn_convolution &c) {
    const dnnl_data_type_t type = data_type(c.dtype);
    if (type == dnnl_data_type_undef || !engine()) return false;
    const int dims = c.dims + 2;
    const bool grouped = c.groups > 1;
    int64_t x_shape[5] = {c.batch, c.groups * c.group_inputs},
            y_shape[5] = {c.batch, c.groups * c.group_outputs};
    int64_t w_shape[6], w_strides[6], dilations[3];
    int at = 0;
    if (grouped) {
      w_shape[at] = c.groups;
      w_strides[at++] = c.w_strides[0] * c.group_outputs;
    }
    w_shape[at] = c.group_outputs;
    w_strides[at++] = c.w_strides[0];
    w_shape[at] = c.group_inputs;
    w_strides[at++] = c.w_strides[1];
    for (int d = 0; d < c.dims; ++d) {
      x_shape[2 + d] = c.x_size[d];
      y_shape[2 + d] = c.y_size[d];
      w_shape[at] = c.kernel[d];
      w_strides[at++] = c.w_strides[2 + d];
      dilations[d] = c.dilations[d] - 1;
    }
    x.plain = strided(dims, x_shape, c.x_strides, type);
    y.plain = strided(dims, y_shape, c.y_strides, type);
    w.plain = strided(at, w_shape, w_strides, type);
    const Description any_x = any_layout(dims, x_shape, type), any_y = any_layout(dims, y_shape, type),
                      any_w = any_layout(at, w_shape, type);
    if (c.has_bias) {
      const int64_t length[1] = {y_shape[1]}, step[1] = {1};
      bias = strided(1, length, step, type);
      if (!bias) return false;
    }
    const Owned<dnnl_primitive_attr_t> attr = attributes();
    if (!attr || !x.plain || !y.plain || !w.plain || !any_x || !any_y || !any_w) return false;
    dnnl_primitive_desc_t made = nullptr;
    if (dnnl_convolution_forward_primitive_desc_create(
            &made, engine(), dnnl_forward_inference, dnnl_convolution_direct, any_x.get(), any_w.get(),
            bias.get(), any_y.get(), c.strides, dilations, c.pads, c.end_pads, attr.get()) != dnnl_success)
      return false;
    Owned<dnnl_primitive_desc_t> description(made);
    if (!suits_convolution(made, c.dtype) || !primitive.compile(description.release()) ||
        !x.prepare(dnnl_primitive_desc_query_md(made, dnnl_query_src_md, 0), false, attr.get()) ||
        !w.prepare(dnnl_primitive_desc_query_md(made, dnnl_query_weights_md, 0), false, attr.get()) ||
        !y.prepare(dnnl_primitive_desc_query_md(made, dnnl_query_dst_md, 0), true, attr.get()))
      return false;
    weight_bytes = w.bytes();
    // x and y in the wanted layouts, then what the primitives want for themselves, one after the other.
    const uint64_t own = std::max(
        {primitive.scratch_bytes(), x.copy.scratch_bytes(), y.copy.scratch_bytes(), w.copy.scratch_bytes()});
    scratch_bytes = x.bytes() + y.bytes() + own;
    return true;
  }

  char *own_scratch(void *scratch) const { return static_cast<char *>(scratch) + x.bytes() + y.bytes(); }

  bool run(const void *from, const void *weights, const void *b, void *to, void *scratch) const {
    char *const x_copy = static_cast<char *>(scratch), *const y_copy = x_copy + x.bytes();
    if (x.copies() && !x.run(x.plain.get(), from, x.wanted, x_copy, own_scratch(scratch))) return false;
    Arguments arguments;
    arguments.bind(DNNL_ARG_SRC, x.wanted, x.copies() ? x_copy : from);
    arguments.bind(DNNL_ARG_WEIGHTS, w.wanted, weights);
    arguments.bind(DNNL_ARG_DST, y.wanted, y.copies() ? y_copy : to);
    if (bias) arguments.bind(DNNL_ARG_BIAS, bias.get(), b);
    if (primitive.scratch) arguments.bind(DNNL_ARG_SCRATCHPAD, primitive.scratch, own_scratch(scratch));
    if (!arguments.run(primitive.primitive.get())) return false;
    return !y.copies() || y.run(y.wanted, y_copy, y.plain.get(), to, own_scratch(scratch));
  }
};

const Plan &state(const infini_onednn_convolution_plan *plan) {
  return *static_cast<const Plan *>(plan);
}

}  // namespace

namespace infini::onednn {

infini_onednn_convolution_plan *plan_convolution(const infini_onednn_convolution *convolution) {
  if (!OneThread::available()) return nullptr;
  const OneThread alone;
  auto made = std::make_unique<Plan>();
  return made->prepare(*convolution) ? made.release() : nullptr;
}

void free_convolution(infini_onednn_convolution_plan *plan) {
  delete static_cast<Plan *>(plan);
}

bool same_weights(const infini_onednn_convolution_plan *a, const infini_onednn_convolution_plan *b) {
  return dnnl_memory_desc_equal(state(a).w.wanted, state(b).w.wanted);
}

bool reorder_weights(const infini_onednn_convolution_plan *plan, const void *w, void *reordered,
                     void *scratch) {
  const OneThread alone;
  const Operand &own = state(plan).w;
  return !own.copies() ||
         own.run(own.plain.get(), w, own.wanted, reordered, state(plan).own_scratch(scratch));
}

bool convolution(const infini_onednn_convolution_plan *plan, const void *x, const void *weights,
                 const void *bias, void *y, void *scratch) {
  const OneThread alone;
  return state(plan).run(x, weights, bias, y, scratch);
}

}  // namespace infini::onednn
