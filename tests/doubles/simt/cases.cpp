// simt/cases.cpp -- kernels that are right and kernels that are wrong, for the executor's own tests.
// run_case() returns what the executor said against the kernel, or an empty text.
#include <vector>

#include "dialect.hpp"

namespace infini::cudalike {

void enqueue(Stream, simt::Launch launch) {
  simt::run(launch);
}

namespace {

// Every thread writes, waits, and reads what its neighbour wrote.
template <bool waits> __global__ void neighbour(int *out) {
  INFINI_SHARED(int, shared, 1024);
  shared[threadIdx.x] = int(threadIdx.x);
  if (waits) __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

__global__ void all_lanes(int *out) {
  int sum = int(threadIdx.x);
  for (unsigned mask = warp_width / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  const int below = shuffle_up(int(threadIdx.x), 1), first = shuffle(int(threadIdx.x), 0);
  sync_warp();
  out[threadIdx.x] = sum + 1000000 * (int(threadIdx.x) - below) + 10000000 * int(first == int(threadIdx.x));
}

__global__ void counting(int *out) {
  atomic_add(out, int(threadIdx.x + blockIdx.x + blockIdx.y + blockIdx.z));
  uint32_t seen = 0;
  auto word = reinterpret_cast<uint32_t *>(out + 1);
  while (true) {
    const uint32_t old = atomic_cas(word, seen, seen + 1);
    if (old == seen) break;
    seen = old;
  }
}

__global__ void half_returns(int *out) {
  if (threadIdx.x % 2) return;
  out[threadIdx.x] = 1;
  __syncthreads();  // waits for threads that returned
}

__global__ void two_barriers(int *out) {
  if (threadIdx.x % 2)
    __syncthreads();  // the odd threads
  else
    __syncthreads();  // the even threads
  out[threadIdx.x] = 1;
}

__global__ void missing_lane(int *out) {
  if (threadIdx.x != 3) out[threadIdx.x] = shuffle_xor(int(threadIdx.x), 1);  // waits for lane 3
}

__global__ void two_shuffles(int *out) {
  if (threadIdx.x % 2)
    out[threadIdx.x] = shuffle_xor(int(threadIdx.x), 1);
  else
    out[threadIdx.x] = shuffle_xor(int(threadIdx.x), 2);
}

__global__ void warp_against_block(int *out) {
  if (threadIdx.x < 5)
    __syncthreads();  // waits for the others
  else
    out[threadIdx.x] = shuffle_xor(int(threadIdx.x), 1);
}

__global__ void leftovers(int *out) {
  INFINI_SHARED(int, shared, 4);
  int *dynamic = dynamic_shared<int>();
  if (threadIdx.x == 0) out[blockIdx.x] = shared[2] == -1 && dynamic[3] == -1;
  shared[2] = dynamic[3] = 7;
}

}  // namespace

}  // namespace infini::cudalike

extern "C" {

__attribute__((visibility("default"))) const char *run_case(int which, int order, unsigned grid,
                                                            unsigned block, size_t shared_bytes, int *out) {
  using namespace infini::cudalike;
  static std::string said;
  said.clear();
  void (*const kernels[])(int *) = {neighbour<true>,    neighbour<false>, all_lanes,    counting,
                                    half_returns,       two_barriers,     missing_lane, two_shuffles,
                                    warp_against_block, leftovers};
  simt::set_order(simt::Order(order));
  try {
    launch(kernels[which], dim3(grid, 1, which == 3 ? 2 : 1), dim3(block), shared_bytes, nullptr, out);
  } catch (const simt::Error &error) {
    said = error.what();
  }
  return said.c_str();
}

__attribute__((visibility("default"))) unsigned lanes(void) {
  return infini::cudalike::warp_width;
}
}
