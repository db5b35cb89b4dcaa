// infinicore_cuda/libraries.hpp -- NVIDIA's libraries, looked for when they are first asked for.
// Found where the package cuda-pathfinder finds them, which C programs do not have, and at last in usual
// folders.
#pragma once
#include <infinicore/library.hpp>

namespace infini::cuda {

const Library &driver();  // its absence means that there is no driver
const Library &nvml();    // comes with the driver

// Both search anew at each call: what was missing may have been installed since.
Library cublaslt();
Library nccl();

}  // namespace infini::cuda
