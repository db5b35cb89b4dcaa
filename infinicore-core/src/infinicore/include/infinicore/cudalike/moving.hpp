// cudalike/moving.hpp -- copies between layouts, by the size of an element: what rearranges, concatenates and
// prepares an output for updates.
#pragma once
#include "elementwise.hpp"

namespace infini::cudalike {

struct Identity {
  template <class C> __device__ C operator()(C x) const { return x; }
};

// What moves elements of one size.
using RunCopy = void (*)(const char *op, const Space<2> &, void *out, const void *in, Stream);
inline RunCopy copy_of(const char *op, int32_t dtype) {
  return dispatch<Sizes>(op, dtype, [](auto t) -> RunCopy {
    using T = typename decltype(t)::type;
    return [](const char *name, const Space<2> &space, void *out, const void *in, Stream stream) {
      run_unary<Identity, T, T>(name, space, Identity{}, out, in, stream);
    };
  });
}

}  // namespace infini::cudalike
