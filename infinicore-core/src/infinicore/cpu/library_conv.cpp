// library_conv.cpp -- how a convolution is cut: by images, by rows of the output, or by output channels.
// oneDNN is called single-threaded from inside our pool, as for products.
#include "library_conv.hpp"

#include "thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace infini::cpu {
namespace {

// Multiply-adds from which on compiling for a shape and copying operands is worth it.
constexpr int64_t least_work = 1 << 21;
// Output channels that an implementation has in one register block.
constexpr int64_t channel_block = 16;
// Images of one call: their copies should stay in the caches.
constexpr int64_t most_images = 8;

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

uint64_t aligned(uint64_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// The convolution as the library wants it described; dims is 0 where it cannot be.
infini_onednn_convolution describe(const infini_conv_args &call) {
  const infini_tensor &x = *call.x, &w = *call.w, &y = *call.y;
  infini_onednn_convolution c;
  std::memset(&c, 0, sizeof c);  // compared as bytes: padding counts
  const int dims = x.ndim - 2;
  if (dims < 1 || dims > 3 || w.shape[1] == 0 || (call.b && call.b->strides[0] != 1)) return c;
  c.dtype = x.dtype;
  c.has_bias = call.b != nullptr;
  c.batch = x.shape[0];
  c.groups = x.shape[1] / w.shape[1];
  c.group_inputs = w.shape[1];
  c.group_outputs = c.groups == 0 ? 0 : w.shape[0] / c.groups;
  for (int d = 0; d < dims; ++d) {
    c.x_size[d] = x.shape[2 + d];
    c.y_size[d] = y.shape[2 + d];
    c.kernel[d] = w.shape[2 + d];
    c.strides[d] = call.strides->items[d];
    c.dilations[d] = call.dilations->items[d];
    c.pads[d] = call.pads->items[d];
    c.end_pads[d] =
        (c.y_size[d] - 1) * c.strides[d] + c.dilations[d] * (c.kernel[d] - 1) + 1 - c.x_size[d] - c.pads[d];
  }
  for (int d = 0; d < x.ndim; ++d) {
    c.x_strides[d] = x.strides[d];
    c.y_strides[d] = y.strides[d];
    c.w_strides[d] = w.strides[d];
  }
  c.dims = dims;
  return c;
}

int64_t product(const int64_t *sizes, int count) {
  int64_t all = 1;
  for (int d = 0; d < count; ++d) all *= sizes[d];
  return all;
}

// Is oneDNN the faster way? It copies x and y, where our kernel gathers a patch matrix of work / outputs
// numbers; per multiply-add it takes less. The rates are measured: on x86-64-v4 in f32 (oneDNN 3.2, 1 and 2
// threads) a copied number costs 300 times what a multiply-add saves, a gathered one 130 times. Narrow dtypes
// reach this function only on processors with units for them, which widen nothing and save more.
bool pays(const infini_onednn_convolution &c) {
  const int64_t taps = product(c.kernel, c.dims), pixels = product(c.y_size, c.dims);
  const int64_t work = c.batch * c.groups * c.group_outputs * pixels * c.group_inputs * taps;
  const bool narrow = c.dtype != INFINI_DTYPE_F32;
  if (work < least_work || (c.groups == 1 && taps == 1 && !narrow))
    return false;  // 1x1: no patches to gather
  const double copied = double(c.batch * c.groups) *
                        double(c.group_inputs * product(c.x_size, c.dims) + c.group_outputs * pixels);
  return copied < double(work) * (1.0 / (narrow ? 100 : 300) + 0.43 / double(c.group_outputs));
}

// The rows begin .. end-1 of the output's first spatial dimension, and the rows of x that they look at.
// Returns the first of those.
int64_t take_rows(infini_onednn_convolution &c, int64_t begin, int64_t end) {
  const int64_t reach = c.dilations[0] * (c.kernel[0] - 1) + 1;
  const int64_t first = begin * c.strides[0] - c.pads[0], last = (end - 1) * c.strides[0] - c.pads[0] + reach;
  const int64_t from = std::clamp<int64_t>(first, 0, c.x_size[0] - 1),
                to = std::clamp<int64_t>(last, from + 1, c.x_size[0]);
  c.pads[0] = from - first;
  c.end_pads[0] = last - to;
  c.x_size[0] = to - from;
  c.y_size[0] = end - begin;
  return from;
}

}  // namespace

// Extents of one piece along what is cut.
struct LibraryConv::Cut {
  int64_t images, rows, outputs;

  Cut(const infini_onednn_convolution &c, int64_t threads)
      : images(c.batch), rows(c.y_size[0]), outputs(c.group_outputs) {
    const int64_t taps = product(c.kernel, c.dims);
    if (c.batch >= 4 * threads) {
      images = std::min(most_images, ceil_div(c.batch, 4 * threads));
    } else if (threads == 1) {
      images = std::min(images, most_images);
    } else if (c.groups == 1 && c.group_outputs >= 2 * channel_block * threads &&
               c.group_outputs * taps > c.batch * product(c.x_size, c.dims)) {
      // More weights than inputs: no thread should reorder them all.
      outputs = ceil_div(ceil_div(c.group_outputs, threads), channel_block) * channel_block;
    } else {
      rows = ceil_div(c.y_size[0], threads);
    }
  }
};

std::unique_ptr<const LibraryConv> LibraryConv::plan(const infini_conv_args &call) {
  const infini_onednn_convolution whole = describe(call);
  if (whole.dims == 0 || !pays(whole) || !onednn()) return nullptr;
  const Cut cut(whole, num_threads());
  std::unique_ptr<LibraryConv> made(new LibraryConv);
  made->element_size_ = whole.dtype == INFINI_DTYPE_F32 ? 4 : 2;
  for (int64_t image = 0; image < whole.batch; image += cut.images)
    for (int64_t row = 0; row < whole.y_size[0]; row += cut.rows)
      for (int64_t output = 0; output < whole.group_outputs; output += cut.outputs) {
        infini_onednn_convolution piece = whole;
        piece.batch = std::min(cut.images, whole.batch - image);
        piece.group_outputs = std::min(cut.outputs, whole.group_outputs - output);
        const int64_t from = take_rows(piece, row, std::min(row + cut.rows, whole.y_size[0]));
        const Piece place{nullptr, 0, image * whole.x_strides[0] + from * whole.x_strides[2],
                          image * whole.y_strides[0] + output * whole.y_strides[1] + row * whole.y_strides[2],
                          output};
        if (!made->add(piece, output * whole.w_strides[0], place)) return nullptr;
      }
  made->tasks_ = std::min<int64_t>(num_threads(), int64_t(made->pieces_.size()));
  return made;
}

bool LibraryConv::add(const infini_onednn_convolution &description, int64_t w, Piece piece) {
  for (const auto &[known, plan] : plans_)
    if (std::memcmp(&known, &description, sizeof known) == 0) piece.plan = plan.get();
  if (!piece.plan) {
    piece.plan = plans_.emplace_back(description, onednn()->plan_convolution(&description)).second.get();
    if (!piece.plan) return false;
    scratch_bytes_ = std::max(scratch_bytes_, aligned(piece.plan->scratch_bytes));
  }
  while (piece.weights < weights_.size() &&
         (weights_[piece.weights].source != w ||
          !onednn()->same_weights(weights_[piece.weights].plan, piece.plan)))
    ++piece.weights;
  if (piece.weights == weights_.size()) {
    weights_.push_back({piece.plan, w, weight_bytes_});
    weight_bytes_ += aligned(piece.plan->weight_bytes);
  }
  pieces_.push_back(piece);
  return true;
}

bool LibraryConv::run(const infini_conv_args &call, void *workspace) const {
  const infini_onednn_api &library = *onednn();
  char *const memory = static_cast<char *>(workspace);
  const auto at = [&](const void *base, int64_t element) {
    return const_cast<char *>(static_cast<const char *>(base)) + element * element_size_;
  };
  std::atomic<bool> good{true};
  // A task has its own scratch and every tasks_-th of what there is to do.
  const auto share = [&](size_t count, auto &&work) {
    parallel_for(0, tasks_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task)
        for (size_t i = size_t(task); i < count && good; i += size_t(tasks_))
          if (!work(i, memory + weight_bytes_ + uint64_t(task) * scratch_bytes_)) good = false;
    });
  };
  if (weight_bytes_ > 0)
    share(weights_.size(), [&](size_t i, void *scratch) {
      const Weights &w = weights_[i];
      return library.reorder_weights(w.plan, at(call.w->data, w.source), memory + w.place, scratch);
    });
  share(pieces_.size(), [&](size_t i, void *scratch) {
    const Piece &piece = pieces_[i];
    const Weights &w = weights_[piece.weights];
    const void *weights = w.plan->weight_bytes > 0 ? memory + w.place : at(call.w->data, w.source);
    return library.convolution(piece.plan, at(call.x->data, piece.x), weights,
                               call.b ? at(call.b->data, piece.bias) : nullptr, at(call.y->data, piece.y),
                               scratch);
  });
  return good;
}

}  // namespace infini::cpu
