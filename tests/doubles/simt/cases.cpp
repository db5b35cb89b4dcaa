// simt/cases.cpp -- kernels that are right and kernels that are wrong, for the executor's own tests.
// run_case() returns what the executor said against the kernel, or an empty text.
#include <infinicore/cudalike/layout.hpp>
#include <infinicore/cudalike/reduce.hpp>

#include <map>
#include <string>

#include "dialect.hpp"

// Tests choose how large blocks are.
#undef __global__
#define __global__ __launch_bounds__(simt::max_threads)

namespace infini::cudalike {

void enqueue(Stream, simt::Launch launch) {
  simt::run(launch);
}

namespace {

// Every thread writes, waits, and reads what its neighbour wrote.
template <bool waits> __global__ void neighbour(int *out) {
  INFINI_SHARED(int, shared, 1024);
  shared[threadIdx.x] = int(threadIdx.x);  // its own
  if (waits) __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];  // its neighbour's
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
    out[threadIdx.x] = shuffle_xor(int(threadIdx.x), 1);  // waits for the first five
}

__global__ void partial_warp(int *out) {
  out[threadIdx.x] = shuffle_xor(int(threadIdx.x), 1);  // a lane is missing
}

__global__ void lane_beyond(int *out) {
  out[threadIdx.x] = shuffle(int(threadIdx.x), warp_width);  // no such lane
}

__global__ void leftovers(int *out) {
  INFINI_SHARED(int, shared, 4);
  int *dynamic = dynamic_shared<int>();
  if (threadIdx.x == 0) {
    out[blockIdx.x] = shared[2] == -1 && dynamic[3] == -1;
    shared[2] = dynamic[3] = 7;
  }
}

__global__ void too_much_shared(int *out) {
  INFINI_SHARED(int, half, 6 << 10);
  INFINI_SHARED(int, other_half, (6 << 10) + 4);
  half[threadIdx.x] = other_half[threadIdx.x] = 0;
  out[threadIdx.x] = 1;
}

// ---- pairs of which one races ----------------------------------------------------------------------------

// Neighbours in a warp need sync_warp; a shuffle waits for all lanes, too, but orders no memory.
enum class Wait { sync_warp, shuffle };
template <Wait wait, bool within> __global__ void warp_neighbour(int *out) {
  INFINI_SHARED(int, shared, 1024);
  const unsigned lane = threadIdx.x % warp_width, warp = threadIdx.x - lane;
  shared[threadIdx.x] = int(threadIdx.x);  // a warp writes
  if (wait == Wait::sync_warp)
    sync_warp();
  else
    shuffle(0, 0);
  const unsigned next = within ? warp + (lane + 1) % warp_width : (threadIdx.x + 1) % blockDim.x;
  out[threadIdx.x] = shared[next];  // a warp reads
}

// What a round reads was written in the round before, into the other of two buffers.
template <bool off_by_one> __global__ void double_buffer(int *out) {
  INFINI_SHARED(int, buffers, 2 * 1024);
  int sum = 0;
  buffers[threadIdx.x] = int(threadIdx.x);
  for (unsigned round = 0; round < 4; ++round) {
    __syncthreads();
    const unsigned now = round % 2, next = (round + !off_by_one) % 2;
    sum += buffers[now * 1024 + (threadIdx.x + 1) % blockDim.x];  // this round
    buffers[next * 1024 + threadIdx.x] = sum;                     // next round
  }
  out[threadIdx.x] = sum;
}

template <bool waits> __global__ void tree_sum(int *out) {
  INFINI_SHARED(int, shared, 1024);
  shared[threadIdx.x] = int(threadIdx.x);
  __syncthreads();
  for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];  // a level of the tree
    if (waits) __syncthreads();
  }
  if (threadIdx.x == 0) out[0] = shared[0];
}

// Twice through the same memory: the second barrier keeps who is quick from writing what others still read.
template <bool waits> __global__ void overwritten(int *out) {
  INFINI_SHARED(int, shared, 1);
  int sum = 0;
  for (int round = 0; round < 2; ++round) {
    if (threadIdx.x == 0) shared[0] = round;  // over what others read
    __syncthreads();
    sum += shared[0];  // what is overwritten
    if (waits) __syncthreads();
  }
  out[threadIdx.x] = sum;
}

template <bool one_writes> __global__ void same_value(int *out) {
  INFINI_SHARED(int, shared, 1);
  if (!one_writes || threadIdx.x == 0) shared[0] = 5;  // everybody
  __syncthreads();
  out[threadIdx.x] = shared[0];
}

template <bool waits> __global__ void counter(int *out) {
  INFINI_SHARED(int, count, 1);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  atomic_add(count, 1);  // counts
  if (waits) __syncthreads();
  out[threadIdx.x] = count[0];  // looks
}

// Bytes of one word are apart.
template <bool own> __global__ void bytes(int *out) {
  INFINI_SHARED(uint8_t, shared, 1024);
  shared[own ? threadIdx.x : threadIdx.x / 2] = uint8_t(threadIdx.x);  // a byte
  __syncthreads();
  out[threadIdx.x] = reinterpret_cast<uint32_t *>(shared)[threadIdx.x / 4] != 0;
}

template <bool waits> __global__ void global_neighbour(int *out) {
  out[threadIdx.x] = int(threadIdx.x);  // global write
  if (waits) __syncthreads();
  const int next = out[(threadIdx.x + 1) % blockDim.x];  // global read
  __syncthreads();
  out[threadIdx.x] = next;
}

template <bool own> __global__ void blocks_meet(int *out) {
  if (threadIdx.x == 0) out[own ? blockIdx.x : 0] = int(blockIdx.x);  // once a block
}

// block_reduce leaves its memory to whoever comes next only after a barrier, which is its own to begin with.
__global__ void reduced_twice(int *out) {
  const int sum = block_sum(int(threadIdx.x)), top = block_max(float(threadIdx.x)) == blockDim.x - 1;
  out[threadIdx.x] = block_sum(sum) * top;
}

// ---- out of bounds ---------------------------------------------------------------------------------------

__global__ void beyond_array(int *out) {
  INFINI_SHARED(int, shared, 20);
  shared[threadIdx.x % 21] = 1;  // one too many
  out[threadIdx.x] = 1;
}

__global__ void beyond_dynamic(int *out) {
  out[threadIdx.x] = dynamic_shared<int>()[16];  // after the last
}

__global__ void before_dynamic(int *out) {
  out[threadIdx.x] = dynamic_shared<int>()[-1];  // before the first
}

int of_the_library;
__global__ void constant_memory(int *) {
  of_the_library = 1;  // of the program
}

__global__ void beyond_allocation(int *out) {
  out[gridDim.x * blockDim.x + 8] = 1;  // after the allocation
}

int *const of_the_host = new int[4];
__global__ void host_memory(int *) {
  of_the_host[threadIdx.x % 4] = 1;  // of the host
}

__global__ void local_memory(int *out) {
  INFINI_SHARED(int *, shared, 1);
  int mine[4] = {};
  if (threadIdx.x == 0) shared[0] = mine;
  __syncthreads();
  out[threadIdx.x] = shared[0][threadIdx.x % 4];  // of another thread
}

struct alignas(16) Four {
  int items[4];
};
__global__ void misaligned_vector(int *out) {
  *reinterpret_cast<Four *>(out + 2) = {};  // from its second half on
}

// Four, of whose addresses at least one is no multiple of 1024.
template <int> void __launch_bounds__(32) one_warp(int *out) {
  out[threadIdx.x] = 1;
}

const std::map<std::string, void (*)(int *)> kernels = {
    {"neighbour", neighbour<true>},
    {"no_barrier", neighbour<false>},
    {"all_lanes", all_lanes},
    {"counting", counting},
    {"half_returns", half_returns},
    {"two_barriers", two_barriers},
    {"missing_lane", missing_lane},
    {"two_shuffles", two_shuffles},
    {"warp_against_block", warp_against_block},
    {"partial_warp", partial_warp},
    {"lane_beyond", lane_beyond},
    {"leftovers", leftovers},
    {"too_much_shared", too_much_shared},
    {"warp_neighbour", warp_neighbour<Wait::sync_warp, true>},
    {"warp_neighbour_after_shuffle", warp_neighbour<Wait::shuffle, true>},
    {"other_warp", warp_neighbour<Wait::sync_warp, false>},
    {"double_buffer", double_buffer<false>},
    {"double_buffer_off_by_one", double_buffer<true>},
    {"tree_sum", tree_sum<true>},
    {"tree_sum_without_barrier", tree_sum<false>},
    {"overwritten", overwritten<true>},
    {"overwritten_too_early", overwritten<false>},
    {"one_writes", same_value<true>},
    {"all_write", same_value<false>},
    {"counter", counter<true>},
    {"counter_read_too_early", counter<false>},
    {"bytes", bytes<true>},
    {"bytes_of_others", bytes<false>},
    {"global_neighbour", global_neighbour<true>},
    {"global_neighbour_without_barrier", global_neighbour<false>},
    {"blocks_apart", blocks_meet<true>},
    {"blocks_meet", blocks_meet<false>},
    {"reduced_twice", reduced_twice},
    {"beyond_array", beyond_array},
    {"beyond_dynamic", beyond_dynamic},
    {"before_dynamic", before_dynamic},
    {"constant_memory", constant_memory},
    {"beyond_allocation", beyond_allocation},
    {"host_memory", host_memory},
    {"local_memory", local_memory},
    {"misaligned_vector", misaligned_vector},
    {"one_warp_0", one_warp<0>},
    {"one_warp_1", one_warp<1>},
    {"one_warp_2", one_warp<2>},
    {"one_warp_3", one_warp<3>},
};

// What the running case may write.
simt::Range allocation;

}  // namespace

}  // namespace infini::cudalike

extern "C" {

// `out` has `bytes`, and an inaccessible part of the device's memory after it.
__attribute__((visibility("default"))) const char *run_case(const char *name, int order, unsigned grid,
                                                            unsigned depth, unsigned block,
                                                            size_t shared_bytes, int *out, size_t bytes) {
  using namespace infini::cudalike;
  static std::string said;
  said.clear();
  const auto begin = reinterpret_cast<uintptr_t>(out);
  allocation = {begin, begin + bytes, simt::Owner::device};
  simt::set_device_memory([](uintptr_t address) {
    const simt::Range &all = allocation;
    if (address >= all.begin && address < all.end) return all;
    if (address >= all.end && address < all.end + 64)
      return simt::Range{all.end, all.end + 64, simt::Owner::nobody};
    return simt::Range{address, address + 1, simt::Owner::host};
  });
  simt::set_order(simt::Order(order));
  try {
    launch(kernels.at(name), dim3(grid, 1, depth), dim3(block), shared_bytes, nullptr, out);
  } catch (const simt::Error &error) {
    said = error.what();
  }
  return said.c_str();
}

// Cut a space of C order into what 31 bits count: of each part how many elements, and where its first and its
// last lie. Returns the number of parts.
__attribute__((visibility("default"))) int cut(const int64_t *shape, int ndim, int64_t (*parts)[3]) {
  using namespace infini::cudalike;
  Space<1> space;
  int64_t stride = 1;
  for (int d = ndim; d-- > 0; stride *= shape[d]) space.dims.insert(space.dims.begin(), {shape[d], {stride}});
  int count = 0;
  for (const Layout<1> &part : space.parts("cut")) {
    int64_t first[1], last[1];
    part.locate(0, first);
    part.locate(part.count - 1, last);
    const int64_t found[3] = {part.count, first[0], last[0]};
    std::memcpy(parts[count++], found, sizeof(found));
  }
  return count;
}

// The parts of `count` elements that blocks take in chunks, their beginnings and ends one after the other.
__attribute__((visibility("default"))) void stretches(uint32_t count, uint32_t chunk, uint32_t blocks,
                                                      uint32_t *bounds) {
  for (uint32_t block = 0; block < blocks; ++block) {
    const auto part = infini::cudalike::stretch(block, chunk, count);
    bounds[2 * block] = part.begin;
    bounds[2 * block + 1] = part.end;
  }
}

__attribute__((visibility("default"))) unsigned lanes(void) {
  return infini::cudalike::warp_width;
}
}
