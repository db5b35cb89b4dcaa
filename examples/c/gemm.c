/* gemm.c -- a matrix product through the C API: handle, tensor descriptors, and an operator's four calls.
 * Build: cc gemm.c $(pkg-config --cflags --libs infinicore), see docs/c_api.md. Run: ./gemm [device number]
 */
#include <infiniop.h>
#include <infinirt.h>

#include <stdio.h>
#include <stdlib.h>

static void check(infiniStatus_t status, const char *what) {
  if (status == INFINI_STATUS_SUCCESS) return;
  fprintf(stderr, "%s: %s (status %d)\n", what, infiniGetLastError(), (int)status);
  exit(1);
}
#define CHECK(call) check(call, #call)

int main(int argc, char **argv) {
  const infiniDevice_t device = (infiniDevice_t)(argc > 1 ? atoi(argv[1]) : INFINI_DEVICE_CPU);
  CHECK(infinirtInit());
  CHECK(infinirtSetDevice(device, 0));

  infiniopHandle_t handle;
  CHECK(infiniopCreateHandle(&handle));
  const size_t a_shape[] = {2, 3}, b_shape[] = {3, 2}, c_shape[] = {2, 2};
  infiniopTensorDescriptor_t a_desc, b_desc, c_desc;
  CHECK(infiniopCreateTensorDescriptor(&a_desc, 2, a_shape, NULL, INFINI_DTYPE_F32));
  CHECK(infiniopCreateTensorDescriptor(&b_desc, 2, b_shape, NULL, INFINI_DTYPE_F32));
  CHECK(infiniopCreateTensorDescriptor(&c_desc, 2, c_shape, NULL, INFINI_DTYPE_F32));
  infiniopGemmDescriptor_t gemm;
  CHECK(infiniopCreateGemmDescriptor(handle, &gemm, c_desc, a_desc, b_desc));
  size_t bytes;
  CHECK(infiniopGetGemmWorkspaceSize(gemm, &bytes));

  const float a_host[] = {1, 2, 3, 4, 5, 6}, b_host[] = {1, 0, 0, 1, 1, 1};
  float c_host[4];
  void *a, *b, *c, *workspace;
  infinirtStream_t stream;
  CHECK(infinirtStreamCreate(&stream));
  CHECK(infinirtMalloc(&a, sizeof a_host));
  CHECK(infinirtMalloc(&b, sizeof b_host));
  CHECK(infinirtMalloc(&c, sizeof c_host));
  CHECK(infinirtMalloc(&workspace, bytes));
  CHECK(infinirtMemcpyAsync(a, a_host, sizeof a_host, INFINIRT_MEMCPY_H2D, stream));
  CHECK(infinirtMemcpyAsync(b, b_host, sizeof b_host, INFINIRT_MEMCPY_H2D, stream));
  CHECK(infinirtMemsetAsync(c, 0, sizeof c_host, stream));
  CHECK(infiniopGemm(gemm, workspace, bytes, c, a, b, 1.0f, 0.0f, stream));
  CHECK(infinirtMemcpyAsync(c_host, c, sizeof c_host, INFINIRT_MEMCPY_D2H, stream));
  CHECK(infinirtStreamSynchronize(stream));
  printf("%g %g\n%g %g\n", c_host[0], c_host[1], c_host[2], c_host[3]);

  /* What is wrong with a call, the library says. */
  infiniopGemmDescriptor_t wrong;
  if (infiniopCreateGemmDescriptor(handle, &wrong, c_desc, a_desc, a_desc) != INFINI_STATUS_SUCCESS)
    printf("%s\n", infiniGetLastError());

  CHECK(infinirtFree(workspace));
  CHECK(infinirtFree(c));
  CHECK(infinirtFree(b));
  CHECK(infinirtFree(a));
  CHECK(infinirtStreamDestroy(stream));
  CHECK(infiniopDestroyGemmDescriptor(gemm));
  CHECK(infiniopDestroyTensorDescriptor(c_desc));
  CHECK(infiniopDestroyTensorDescriptor(b_desc));
  CHECK(infiniopDestroyTensorDescriptor(a_desc));
  CHECK(infiniopDestroyHandle(handle));
  return 0;
}
