// infinicore_cuda/hopper/primitives.hpp -- what Hopper (sm_90a) has beyond CUDA C++, a function each:
// barriers that count bytes, copies of boxes of a tensor, products of a warpgroup. Chapters are those of the
// PTX ISA.
#pragma once
#include <infinicore/cudalike/types.hpp>

namespace infini::cuda::hopper {

// CUtensorMap: where a tensor of up to five dimensions lies and which box of it one copy takes.
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

constexpr int warpgroup = 128;      // threads, of four warps; the first warp's number is a multiple of four
constexpr int swizzle_bytes = 128;  // a row of a box: the 16-byte pieces of eight rows change places
constexpr int swizzle_atom = 1024;  // after which the pattern begins anew

// Operands of a product in shared memory ("Matrix Descriptor Format", "Shared Memory Matrix Layout"), with
// swizzled rows of 128 bytes. `stride` is from eight rows to the next eight; `leading`, which only rows along
// M or N have, from 128 bytes of a row to the next 128.
__device__ inline uint64_t matrix(uint32_t address, uint32_t stride, uint32_t leading = 16) {
  constexpr uint64_t swizzle_128 = 1;
  return swizzle_128 << 62 | uint64_t(stride >> 4) << 32 | uint64_t(leading >> 4) << 16 |
         (address & 0x3ffff) >> 4;
}
// The same operand, `bytes` further.
__device__ inline uint64_t advance(uint64_t matrix, uint32_t bytes) {
  return matrix + (bytes >> 4);
}

}  // namespace infini::cuda::hopper

#if defined(INFINI_HOPPER)  // a double's own text of what follows
#include INFINI_HOPPER
#else

#define INFINI_UNROLL _Pragma("unroll")
#define INFINI_LOOP _Pragma("unroll 1")

namespace infini::cuda::hopper {

__device__ inline uint32_t shared_address(const void *shared) {
  return uint32_t(__cvta_generic_to_shared(shared));
}

// The memory whose size was given at launch, where a swizzle begins.
__device__ inline void *shared_memory() {
  extern __shared__ __align__(1024) unsigned char infini_hopper_shared[];
  return infini_hopper_shared;
}

// Let a kernel have this much dynamic shared memory, on the current device.
template <class... P> void allow_shared(void (*kernel)(P...), size_t bytes) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
  if (error != cudaSuccess)
    throw Error(INFINI_STATUS_INTERNAL_ERROR,
                std::to_string(bytes) + " bytes of shared memory for a kernel: " + cudaGetErrorString(error));
}

// A warpgroup keeps so many registers per thread and gives its block the others, or takes more of those
// ("setmaxnreg"). Multiples of 8; the kernel's launch bounds say how many it begins with.
template <int count> __device__ inline void keep_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count> __device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

// ---- barriers in shared memory ("mbarrier") --------------------------------------------------------------

// A phase ends when `arrivals` came and all bytes that were expected have been copied; phases alternate
// between parity 0 and 1.
__device__ inline void barrier_init(uint64_t *barrier, unsigned arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals));
}
// By the thread that initialised them, before the __syncthreads() that shows them to the others: copies see
// shared memory through another proxy than loads and stores.
__device__ inline void barriers_ready() {
  asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory");
}
__device__ inline void barrier_arrive(uint64_t *barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrive, and make the phase wait for so many bytes.
__device__ inline void barrier_expect(uint64_t *barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}
// Until the phase of this parity has ended; of a new barrier, that of parity 1 has.
__device__ inline void barrier_wait(uint64_t *barrier, unsigned parity) {
  asm volatile(
      "{\n\t.reg .pred done;\n"
      "again:\n\tmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n\t@!done bra again;\n\t}" ::"r"(
          shared_address(barrier)),
      "r"(parity)
      : "memory");
}

// ---- copies ("cp.async.bulk.tensor") ---------------------------------------------------------------------

// The box of a five-dimensional tensor that begins at these coordinates, zeros where it leaves the tensor.
// Its bytes count for the barrier.
__device__ inline void copy_box(void *shared, const TensorMap *map, uint64_t *barrier, int c0, int c1, int c2,
                                int c3, int c4) {
  asm volatile(
      "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4, %5, %6, %7}], [%2];" ::"r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4)
      : "memory");
}
__device__ inline void prefetch_map(const TensorMap *map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
// What this thread stored to shared memory is what products read, after the next barrier.
__device__ inline void publish_stores() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// ---- barriers by number ("bar") --------------------------------------------------------------------------

// `threads` come: those that wait and those that only arrive. Number 0 is __syncthreads().
__device__ inline void named_sync(int number, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
__device__ inline void named_arrive(int number, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// ---- products ("Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions") -------------------

// Before the first product, and before one whose registers were written since the last.
__device__ inline void product_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void product_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most `pending` of the groups that were committed are under way.
template <int pending> __device__ inline void product_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
// Keeps the compiler from moving uses of registers across the products that work on them.
template <class R, int count> __device__ inline void hold(R (&registers)[count]) {
  INFINI_UNROLL
  for (int i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<R, float>)
      asm volatile("" : "+f"(registers[i])::"memory");
    else
      asm volatile("" : "+r"(registers[i])::"memory");
  }
}

// D = A B, or D += A B where `add`, of 64 x 16 and 16 x n elements of T, in f32. Thread t of the warpgroup
// has, in d[4 j + 2 r + c], row 16 (t / 32) + t % 32 / 4 + 8 r, column 8 j + 2 (t % 4) + c.
template <class T, int n> struct Product;

#define INFINI_REGISTERS_32                                                                              \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define INFINI_REGISTERS_64                                                                                \
  INFINI_REGISTERS_32                                                                                      \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, " \
  "%52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define INFINI_BIND_8(d, i)                                                                   \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define INFINI_BIND_32(d) INFINI_BIND_8(d, 0), INFINI_BIND_8(d, 8), INFINI_BIND_8(d, 16), INFINI_BIND_8(d, 24)
#define INFINI_BIND_64(d) \
  INFINI_BIND_32(d), INFINI_BIND_8(d, 32), INFINI_BIND_8(d, 40), INFINI_BIND_8(d, 48), INFINI_BIND_8(d, 56)

// i0 ...: numbers of the operands after the registers of D.
#define INFINI_PRODUCT(T, type, n, count, i0, i1, i2, i3, i4, i5)                                        \
  template <> struct Product<cudalike::T, n> {                                                           \
    /* A and B in shared memory, both with rows along K. */                                              \
    static __device__ void of_shared(float (&d)[count], uint64_t a, uint64_t b, bool add) {              \
      asm volatile("{\n\t.reg .pred add;\n\tsetp.ne.b32 add, %" #i2                                      \
                   ", 0;\n\t"                                                                            \
                   "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type                       \
                   " {" INFINI_REGISTERS_##count "}, %" #i0 ", %" #i1 ", add, 1, 1, 0, 0;\n\t}"          \
                   : INFINI_BIND_##count(d)                                                              \
                   : "l"(a), "l"(b), "r"(int(add)));                                                     \
    }                                                                                                    \
    /* A in registers, laid out as D with two elements in one; B in shared memory, with rows along N. */ \
    static __device__ void of_registers(float (&d)[count], const uint32_t *a, uint64_t b, bool add) {    \
      asm volatile("{\n\t.reg .pred add;\n\tsetp.ne.b32 add, %" #i5                                      \
                   ", 0;\n\t"                                                                            \
                   "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type                       \
                   " {" INFINI_REGISTERS_##count "}, {%" #i0 ", %" #i1 ", %" #i2 ", %" #i3 "}, %" #i4    \
                                                 ", add, 1, 1, 1;\n\t}"                                  \
                   : INFINI_BIND_##count(d)                                                              \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(add)));                 \
    }                                                                                                    \
  };
INFINI_PRODUCT(bfloat16, "bf16", 64, 32, 32, 33, 34, 35, 36, 37)
INFINI_PRODUCT(bfloat16, "bf16", 128, 64, 64, 65, 66, 67, 68, 69)
INFINI_PRODUCT(float16, "f16", 64, 32, 32, 33, 34, 35, 36, 37)
INFINI_PRODUCT(float16, "f16", 128, 64, 64, 65, 66, 67, 68, 69)
#undef INFINI_PRODUCT
#undef INFINI_BIND_64
#undef INFINI_BIND_32
#undef INFINI_BIND_8
#undef INFINI_REGISTERS_64
#undef INFINI_REGISTERS_32

// ---- arithmetic ------------------------------------------------------------------------------------------

// 2 ** x, to two units in the last place ("ex2.approx"); 0 for -infinity.
__device__ inline float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Two elements of T, `low` in the lower half ("cvt" takes it last).
template <class T> __device__ inline uint32_t pack(float low, float high) {
  uint32_t both;
  if constexpr (std::is_same_v<T, cudalike::bfloat16>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

}  // namespace infini::cuda::hopper
#endif
