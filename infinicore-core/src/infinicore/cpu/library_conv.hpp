// library_conv.hpp -- a convolution cut into pieces for the threads, each of them run by oneDNN.
// Made once per descriptor; where it cannot be made, kernels/conv.cpp does the work.
#pragma once
#include <infinicore/operators/conv.h>

#include <memory>
#include <vector>

#include "onednn.hpp"

namespace infini::cpu {

class LibraryConv {
 public:
  // NULL where oneDNN is absent, or has nothing that suits this convolution and this processor.
  static std::unique_ptr<const LibraryConv> plan(const infini_conv_args &call);

  uint64_t workspace() const { return weight_bytes_ + scratch_bytes_ * tasks_; }

  // False when oneDNN failed: y is then undefined.
  bool run(const infini_conv_args &call, void *workspace) const;

 private:
  struct Free {
    void operator()(infini_onednn_convolution_plan *plan) const { onednn()->free_convolution(plan); }
  };
  using Plan = std::unique_ptr<infini_onednn_convolution_plan, Free>;

  // Reordered weights: those that begin at element `source` of w, at byte `place` of the workspace.
  struct Weights {
    const infini_onednn_convolution_plan *plan;
    int64_t source;
    uint64_t place;
  };
  // One call of the library. Offsets are in elements of x, y and b.
  struct Piece {
    const infini_onednn_convolution_plan *plan;
    size_t weights;
    int64_t x, y, bias;
  };

  struct Cut;

  // Plan one piece, whose weights begin at element w; false where that is not possible.
  bool add(const infini_onednn_convolution &description, int64_t w, Piece piece);

  int64_t element_size_ = 0, tasks_ = 1;
  uint64_t weight_bytes_ = 0, scratch_bytes_ = 0;
  std::vector<std::pair<infini_onednn_convolution, Plan>> plans_;
  std::vector<Weights> weights_;
  std::vector<Piece> pieces_;
};

}  // namespace infini::cpu
