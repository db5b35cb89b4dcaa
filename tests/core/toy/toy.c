/* A backend for tests of dispatch: two devices on host memory whose kernels tell what they were given.
 * -DCAPTURE adds graph capture to its runtime table. */
#include <infinicore/operators.h>

#include <infinicore/operators/add.h>
#include <infinicore/operators/gemm.h>
#include <infinicore/operators/sum.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What a test reads and sets through ctypes. */
int created, destroyed, executed, queued, launched;
int fail_create, fail_execute; /* a status to answer, 0: work */
uint64_t want_workspace = 256, got_workspace;
int workspace_aligned;
void *got_stream;
int got_device;
int64_t got_shape[8], got_strides[8], got_ndim; /* of add's `other` */
double got_alpha, got_beta;
int64_t got_dims[8], got_dim_count, planned_dim_count;
int gate_wanted; /* execute waits for `gate` */
volatile int gate;

static const infini_host *host;
static _Thread_local int current;

static infiniStatus_t device_info(int32_t device, infini_device_info *info) {
  snprintf(info->name, sizeof info->name, "Toy %d", device);
  info->memory_bytes = 1ull << 30;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t set_device(int32_t device) {
  current = device;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t synchronize(void) {
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t memory_info(uint64_t *free_bytes, uint64_t *total_bytes) {
  *free_bytes = *total_bytes = 1ull << 30;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t allocate(uint64_t bytes, void **out) {
  *out = aligned_alloc(64, (bytes + 63) / 64 * 64);
  return *out ? INFINI_STATUS_SUCCESS : host->fail(INFINI_STATUS_OUT_OF_MEMORY, "no memory");
}
static infiniStatus_t release(void *memory) {
  free(memory);
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t copy(void *target, const void *source, uint64_t bytes, infinirtMemcpyKind_t kind) {
  (void)kind;
  memmove(target, source, bytes);
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t copy_async(void *target, const void *source, uint64_t bytes, infinirtMemcpyKind_t kind,
                                 infinirtStream_t stream) {
  (void)stream;
  return copy(target, source, bytes, kind);
}
static infiniStatus_t fill(void *target, int32_t value, uint64_t bytes, infinirtStream_t stream) {
  (void)stream;
  memset(target, value, bytes);
  return INFINI_STATUS_SUCCESS;
}

/* Streams and events work at once; an event keeps the time it was recorded at, in milliseconds. */
static infiniStatus_t stream_create(uint32_t flags, infinirtStream_t *out) {
  (void)flags;
  *out = (infinirtStream_t)calloc(1, 8);
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t stream_destroy(infinirtStream_t stream) {
  return release(stream);
}
static infiniStatus_t stream_synchronize(infinirtStream_t stream) {
  (void)stream;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t stream_wait_event(infinirtStream_t stream, infinirtEvent_t event) {
  (void)stream, (void)event;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t event_create(uint32_t flags, infinirtEvent_t *out) {
  (void)flags;
  *out = (infinirtEvent_t)calloc(1, sizeof(double));
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t event_destroy(infinirtEvent_t event) {
  return release(event);
}
static infiniStatus_t event_record(infinirtEvent_t event, infinirtStream_t stream) {
  struct timespec now;
  (void)stream;
  clock_gettime(CLOCK_MONOTONIC, &now);
  *(double *)event = now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
  return INFINI_STATUS_SUCCESS;
}
int event_answer; /* event_query() */
static infiniStatus_t event_query(infinirtEvent_t event) {
  (void)event;
  return (infiniStatus_t)event_answer;
}
static infiniStatus_t event_synchronize(infinirtEvent_t event) {
  (void)event;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t event_elapsed(infinirtEvent_t start, infinirtEvent_t end, float *milliseconds) {
  if (event_answer) return (infiniStatus_t)event_answer;
  *milliseconds = (float)(*(double *)end - *(double *)start);
  return INFINI_STATUS_SUCCESS;
}

/* ---- capture: a list of additions ---- */

typedef struct addition {
  float *out, *input, *other;
  int64_t count;
} addition;
typedef struct recording {
  int count;
  addition calls[64];
} recording;
static recording *capturing;
static void *capture_stream;
int broken_capture, graphs_alive;

#ifdef CAPTURE
static void run_addition(const addition *call) {
  for (int64_t i = 0; i < call->count; ++i) call->out[i] = call->input[i] + call->other[i];
}
static infiniStatus_t capture_begin(infinirtStream_t stream, infinirtStreamCaptureMode_t mode) {
  (void)mode;
  if (!stream) return host->fail(INFINI_STATUS_BAD_PARAM, "the default stream cannot be captured");
  capturing = (recording *)calloc(1, sizeof(recording));
  capture_stream = stream;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t capture_end(infinirtStream_t stream, infinirtGraph_t *out) {
  recording *done = capturing;
  capturing = NULL;
  if (!done || stream != capture_stream)
    return host->fail(INFINI_STATUS_BAD_PARAM, "this stream is not captured");
  if (broken_capture) {
    free(done);
    return host->fail(INFINI_STATUS_INTERNAL_ERROR, "the capture was broken");
  }
  ++graphs_alive;
  *out = (infinirtGraph_t)done;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t graph_destroy(infinirtGraph_t graph) {
  --graphs_alive;
  return release(graph);
}
static infiniStatus_t graph_instantiate(infinirtGraph_t graph, infinirtGraphExec_t *out) {
  recording *exec = (recording *)malloc(sizeof(recording));
  ++graphs_alive;
  *exec = *(recording *)graph;
  *out = (infinirtGraphExec_t)exec;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t graph_launch(infinirtGraphExec_t exec, infinirtStream_t stream) {
  recording *calls = (recording *)exec;
  got_stream = stream;
  ++launched;
  for (int i = 0; i < calls->count; ++i) run_addition(&calls->calls[i]);
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t graph_exec_destroy(infinirtGraphExec_t exec) {
  --graphs_alive;
  return release(exec);
}
#endif

static const infini_runtime runtime = {
    .header = INFINI_HEADER(infini_runtime),
    .device_info = device_info,
    .set_device = set_device,
    .synchronize = synchronize,
    .memory_info = memory_info,
    .malloc_device = allocate,
    .free_device = release,
    .malloc_host = allocate,
    .free_host = release,
    .memcpy_sync = copy,
    .memcpy_async = copy_async,
    .memset_async = fill,
    .stream_create = stream_create,
    .stream_destroy = stream_destroy,
    .stream_synchronize = stream_synchronize,
    .stream_wait_event = stream_wait_event,
    .event_create = event_create,
    .event_destroy = event_destroy,
    .event_record = event_record,
    .event_query = event_query,
    .event_synchronize = event_synchronize,
    .event_elapsed = event_elapsed,
#ifdef CAPTURE
    .capture_begin = capture_begin,
    .capture_end = capture_end,
    .graph_destroy = graph_destroy,
    .graph_instantiate = graph_instantiate,
    .graph_launch = graph_launch,
    .graph_exec_destroy = graph_exec_destroy,
#endif
};

/* ---- kernels ---- */

static infiniStatus_t plan(infini_descriptor *out) {
  if (fail_create) return host->fail((infiniStatus_t)fail_create, "the toy refuses to plan this");
  __atomic_add_fetch(&created, 1, __ATOMIC_RELAXED);
  *out = (infini_descriptor)malloc(1);
  return INFINI_STATUS_SUCCESS;
}
static void forget(infini_descriptor descriptor) {
  __atomic_add_fetch(&destroyed, 1, __ATOMIC_RELAXED);
  free(descriptor);
}
static infiniStatus_t workspace(infini_descriptor descriptor, uint64_t *bytes) {
  (void)descriptor;
  *bytes = want_workspace;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t begin(void *memory, uint64_t bytes, infinirtStream_t stream) {
  __atomic_add_fetch(&executed, 1, __ATOMIC_RELAXED);
  got_workspace = bytes;
  workspace_aligned = bytes == 0 ? memory == NULL : memory && (uintptr_t)memory % 64 == 0;
  if (memory) memset(memory, 0x55, bytes);
  got_stream = stream;
  got_device = current;
  if (gate_wanted)
    for (int waited = 0; !gate; ++waited) {
      struct timespec pause = {0, 1000000};
      if (waited == 5000) return host->fail(INFINI_STATUS_TIMEOUT, "nobody opened the gate");
      nanosleep(&pause, NULL);
    }
  return fail_execute ? host->fail((infiniStatus_t)fail_execute, "the toy fails to execute")
                      : INFINI_STATUS_SUCCESS;
}

static infiniStatus_t add_create(const infini_slot *args, infini_descriptor *out) {
  const infini_add_args *call = (const infini_add_args *)args;
  if (call->out->dtype != INFINI_DTYPE_F32)
    return host->fail(INFINI_STATUS_BAD_TENSOR_DTYPE, "the toy adds float32");
  return plan(out);
}
static float *element(const infini_tensor *tensor, int64_t index) {
  float *data = (float *)tensor->data;
  for (int32_t d = tensor->ndim; d-- > 0; index /= tensor->shape[d])
    data += index % tensor->shape[d] * tensor->strides[d];
  return data;
}
static infiniStatus_t add_execute(infini_descriptor descriptor, void *memory, uint64_t bytes,
                                  const infini_slot *args, infinirtStream_t stream) {
  const infini_add_args *call = (const infini_add_args *)args;
  infiniStatus_t status = begin(memory, bytes, stream);
  int64_t count = 1;
  (void)descriptor;
  if (status) return status;
  got_ndim = call->other->ndim;
  for (int32_t d = 0; d < call->other->ndim; ++d) {
    got_shape[d] = call->other->shape[d];
    got_strides[d] = call->other->strides[d];
  }
  for (int32_t d = 0; d < call->out->ndim; ++d) count *= call->out->shape[d];
  if (capturing && stream == capture_stream) {
    addition one = {(float *)call->out->data, (float *)call->input->data, (float *)call->other->data, count};
    capturing->calls[capturing->count++] = one;
    return INFINI_STATUS_SUCCESS;
  }
  for (int64_t i = 0; i < count; ++i)
    *element(call->out, i) = *element(call->input, i) + *element(call->other, i);
  return INFINI_STATUS_SUCCESS;
}

static infiniStatus_t gemm_create(const infini_slot *args, infini_descriptor *out) {
  (void)args;
  return plan(out);
}
static infiniStatus_t gemm_execute(infini_descriptor descriptor, void *memory, uint64_t bytes,
                                   const infini_slot *args, infinirtStream_t stream) {
  const infini_gemm_args *call = (const infini_gemm_args *)args;
  (void)descriptor;
  got_alpha = call->alpha;
  got_beta = call->beta;
  return begin(memory, bytes, stream);
}

static infiniStatus_t sum_create(const infini_slot *args, infini_descriptor *out) {
  planned_dim_count = ((const infini_sum_args *)args)->dim->count;
  return plan(out);
}
static infiniStatus_t sum_execute(infini_descriptor descriptor, void *memory, uint64_t bytes,
                                  const infini_slot *args, infinirtStream_t stream) {
  const infini_sum_args *call = (const infini_sum_args *)args;
  (void)descriptor;
  got_dim_count = call->dim->count;
  memcpy(got_dims, call->dim->items, (size_t)got_dim_count * sizeof *got_dims);
  return begin(memory, bytes, stream);
}

#define KERNEL(name)                                                            \
  static const infini_operator name##_kernel = {INFINI_HEADER(infini_operator), \
                                                #name,                          \
                                                INFINI_FINGERPRINT_##name,      \
                                                name##_create,                  \
                                                workspace,                      \
                                                name##_execute,                 \
                                                forget};
KERNEL(add)
KERNEL(gemm)
KERNEL(sum)
static const infini_operator *const kernels[] = {&add_kernel, &gemm_kernel, &sum_kernel};

static infiniStatus_t open_devices(const infini_host *given, int32_t *device_count) {
  host = given;
  *device_count = 2;
  return INFINI_STATUS_SUCCESS;
}

static const infini_backend table = {.header = INFINI_HEADER(infini_backend),
                                     .name = "toy",
                                     .vendor = "Tests",
                                     .version = "1.0",
                                     .device_type = -1,
                                     .dlpack_type = 12,
                                     .open = open_devices,
                                     .runtime = &runtime,
                                     .operator_count = 3,
                                     .operators = kernels,
                                     .flags = INFINI_BACKEND_HOST_MEMORY};

INFINI_EXPORT const infini_backend *infinicore_backend(void) {
  return &table;
}

/* The last word of a process: every descriptor that was made has been given back. */
__attribute__((destructor)) static void report(void) {
  if (created) fprintf(stderr, "toy: %d created, %d destroyed\n", created, destroyed);
}
