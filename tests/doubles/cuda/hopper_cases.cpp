// doubles/cuda/hopper_cases.cpp -- a kernel that uses Hopper's primitives as it must, and ways of using them
// wrongly, for the tests of simt/hopper.cpp. run_case() returns what the executor said, or an empty text.
#include <infinicore/cudalike/types.hpp>

#include <hopper/primitives.hpp>

namespace infini::cudalike {

void enqueue(Stream, simt::Launch launch) {
  simt::run(launch);
}

}  // namespace infini::cudalike

namespace {

using namespace infini::cuda::hopper;
using T = infini::cudalike::float16;

enum Case {
  right,
  no_wait_for_copies,     // reads what may not be there yet
  no_wait_for_product,    // reads registers that are still being computed
  overwritten_too_early,  // gives a tile back before the product has read it
  weights_changed,        // writes registers that the product still reads
  no_fence,
  too_many_bytes,   // expects more than is copied
  never_begun,      // waits for a barrier that nobody initialised
  one_too_many,     // arrives once more than a phase takes
  other_numbers,    // threads that do not agree for how many they wait
  other_operands,   // threads that do not agree on the product
  wrong_descriptor  // an address where its stride belongs
};

struct Tiles {
  unsigned char q[8192], k[8192], v[8192];  // 64 rows of 64 elements
  uint64_t full, unused;
};

// out = (q k') v, by one warpgroup.
__global__ void __launch_bounds__(128)
    two_products(int which, const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                 const __grid_constant__ TensorMap v, float *out) {
  auto &tiles = *static_cast<Tiles *>(shared_memory());
  if (threadIdx.x == 0) {
    barrier_init(&tiles.full, 1);
    barriers_ready();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    barrier_expect(&tiles.full, which == too_many_bytes ? 32768 : 24576);
    if (which == one_too_many) barrier_arrive(&tiles.full);
    copy_box(tiles.q, &q, &tiles.full, 0, 0, 0, 0, 0);
    copy_box(tiles.k, &k, &tiles.full, 0, 0, 0, 0, 0);
    copy_box(tiles.v, &v, &tiles.full, 0, 0, 0, 0, 0);
  }
  if (which == never_begun) barrier_wait(&tiles.unused, 0);
  if (which == other_numbers) named_sync(1, threadIdx.x < 32 ? 128 : 96);
  if (which != no_wait_for_copies) barrier_wait(&tiles.full, 0);  // for the tiles

  float scores[32], sums[32];
  uint32_t weights[16];
  const uint32_t stride = which == wrong_descriptor ? 1 << 20 : swizzle_atom;
  const uint64_t a = matrix(shared_address(tiles.q), stride), b = matrix(shared_address(tiles.k), stride);
  if (which != no_fence) product_fence();
  for (int step = 0; step < 4; ++step)
    Product<T, 64>::of_shared(scores, advance(a, uint32_t(32 * step)),
                              advance(b, uint32_t(which == other_operands ? threadIdx.x : 32 * step)),
                              step > 0);
  product_commit();
  if (which == overwritten_too_early) {
    __syncthreads();
    if (threadIdx.x == 0) std::memset(tiles.k, 0, sizeof(tiles.k));
    __syncthreads();
  }
  if (which != no_wait_for_product) product_wait<0>();
  for (int i = 0; i < 16; ++i) weights[i] = pack<T>(scores[2 * i], scores[2 * i + 1]);
  product_fence();
  for (int step = 0; step < 4; ++step)
    Product<T, 64>::of_registers(
        sums, weights + 4 * step,
        advance(matrix(shared_address(tiles.v), swizzle_atom), uint32_t(2048 * step)), step > 0);
  product_commit();
  if (which == weights_changed) weights[5] = 0;
  product_wait<0>();
  const int row = int(threadIdx.x) / 32 * 16 + int(threadIdx.x) % 32 / 4, column = int(threadIdx.x) % 4 * 2;
  for (int i = 0; i < 32; ++i) out[(row + i / 2 % 2 * 8) * 64 + column + i / 4 * 8 + i % 2] = sums[i];
}

// A contiguous matrix of 64 x 64.
TensorMap map_of(void *data) {
  simt::hopper::TensorMapImage image{};
  image.magic = simt::hopper::TensorMapImage::magic_value;
  image.rank = 5;
  image.element_bytes = 2;
  image.swizzle_bytes = 128;
  image.address = static_cast<char *>(data);
  for (int d = 0; d < 5; ++d) image.sizes[d] = image.box[d] = 1;
  image.sizes[0] = image.sizes[2] = 63;
  image.box[0] = image.box[2] = 64;
  for (uint64_t &stride : image.strides) stride = 128;
  TensorMap map{};
  std::memcpy(&map, &image, sizeof(image));
  return map;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const char *run_case(int which, void *q, void *k, void *v,
                                                                       float *out) {
  static std::string said;
  said.clear();
  try {
    infini::cudalike::launch(two_products, dim3(1), dim3(128), sizeof(Tiles), nullptr, which, map_of(q),
                             map_of(k), map_of(v), out);
  } catch (const simt::Error &error) {
    said = error.what();
  }
  return said.c_str();
}
