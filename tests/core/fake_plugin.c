/* A backend plug-in for tests: one or more devices that do nothing, whose tables and answers can be bent
 * with -D so that core meets every defect it must explain. */
#include <infinicore/abi.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef NAME
#define NAME "fake"
#endif
#ifndef MAJOR
#define MAJOR INFINI_ABI_MAJOR
#endif
#ifndef RUNTIME_MAJOR
#define RUNTIME_MAJOR MAJOR
#endif
#ifndef MINOR
#define MINOR INFINI_ABI_MINOR
#endif
#ifndef BACKEND_BYTES
#define BACKEND_BYTES sizeof(infini_backend)
#endif
#ifndef RUNTIME_BYTES
#define RUNTIME_BYTES sizeof(infini_runtime)
#endif
#ifndef DEVICE_TYPE
#define DEVICE_TYPE (-1)
#endif
#ifndef DEVICES
#define DEVICES 2
#endif
#ifndef FLAGS
#define FLAGS 0
#endif
#ifndef ADD_FINGERPRINT
#define ADD_FINGERPRINT 0
#endif
#ifndef OPEN_BODY /* what open() does first */
#define OPEN_BODY
#endif

/* What a test reads and sets through ctypes. */
int opened = 0, chosen = -1, set_device_calls = 0;
int32_t next_status = 0;         /* synchronize() answers this */
const char *next_message = NULL; /* and stores this, unless it is NULL */
int sleep_ms = 0;

static const infini_host *host;

/* Entry points for tests that need a host service outside a call. */
void call_log(int32_t level, const char *message) {
  host->log(level, message);
}
int32_t call_fail(int32_t code, const char *message) {
  return host->fail((infiniStatus_t)code, message);
}
const void *call_backend(const char *name) {
  return host->backend(name);
}

static void pause_ms(int milliseconds) {
  struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
  nanosleep(&pause, NULL);
}

static infiniStatus_t device_info(int32_t device, infini_device_info *info) {
#ifdef SICK
  if (device == SICK) return host->fail(INFINI_STATUS_INTERNAL_ERROR, "fell off the bus");
#endif
  snprintf(info->name, sizeof info->name, "Fake %d", device);
  memset(info->architecture, 'x', sizeof info->architecture); /* fills the field: no terminating zero */
  info->memory_bytes = 1ull << 30;
  info->compute_units = 4;
  info->warp_width = 32;
  return INFINI_STATUS_SUCCESS;
}
static _Thread_local int current = -1;
static infiniStatus_t set_device(int32_t device) {
  __atomic_add_fetch(&set_device_calls, 1, __ATOMIC_RELAXED);
  chosen = current = device;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t synchronize(void) {
  pause_ms(sleep_ms);
  if (next_message) host->fail((infiniStatus_t)next_status, next_message);
  return (infiniStatus_t)next_status;
}
static infiniStatus_t memory_info(uint64_t *free_bytes, uint64_t *total_bytes) {
  *free_bytes = 1ull << 29;
  *total_bytes = (1ull << 30) + current; /* tells which device was current on the calling thread */
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
static infiniStatus_t create(uint32_t flags, void **out) {
  (void)flags;
  *out = malloc(1);
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t on_one(void *handle) {
  (void)handle;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t on_two(void *left, void *right) {
  (void)left, (void)right;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t elapsed(infinirtEvent_t start, infinirtEvent_t end, float *milliseconds) {
  (void)start, (void)end;
  *milliseconds = 0;
  return INFINI_STATUS_SUCCESS;
}

static infini_runtime runtime = {
    .header = {RUNTIME_BYTES, RUNTIME_MAJOR, MINOR},
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
    .stream_create = create,
    .stream_destroy = release,
    .stream_synchronize = on_one,
    .stream_wait_event = on_two,
    .event_create = create,
    .event_destroy = release,
    .event_record = on_two,
    .event_query = on_one,
    .event_synchronize = on_one,
    .event_elapsed = elapsed,
};

static infiniStatus_t op_create(const infini_slot *args, infini_descriptor *out) {
  (void)args;
  *out = NULL;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t op_workspace(infini_descriptor descriptor, uint64_t *bytes) {
  (void)descriptor;
  *bytes = 0;
  return INFINI_STATUS_SUCCESS;
}
static infiniStatus_t op_execute(infini_descriptor descriptor, void *workspace, uint64_t bytes,
                                 const infini_slot *args, infinirtStream_t stream) {
  (void)descriptor, (void)workspace, (void)bytes, (void)args, (void)stream;
  return INFINI_STATUS_SUCCESS;
}
static void op_destroy(infini_descriptor descriptor) {
  (void)descriptor;
}

static infini_operator add = {
    INFINI_HEADER(infini_operator), "add", ADD_FINGERPRINT, op_create, op_workspace, op_execute, op_destroy};
static const infini_operator frobnicate = {
    INFINI_HEADER(infini_operator), "frobnicate", 7, op_create, op_workspace, op_execute, op_destroy};
static const infini_operator *const operators[] = {&add, &frobnicate};

static infiniStatus_t open_devices(const infini_host *given, int32_t *device_count) {
  host = given;
  ++opened;
  OPEN_BODY
  *device_count = DEVICES;
  return INFINI_STATUS_SUCCESS;
}

/* A newer plug-in has members that this core has never heard of. */
static struct {
  infini_backend known;
  void *unknown[4];
} table = {.known = {.header = {BACKEND_BYTES, MAJOR, MINOR},
                     .name = NAME,
                     .vendor = "Tests",
                     .version = "1.2",
                     .device_type = DEVICE_TYPE,
                     .dlpack_type = 12,
                     .open = open_devices,
                     .runtime = &runtime,
                     .operator_count = 2,
                     .operators = operators,
                     .flags = FLAGS}};

INFINI_EXPORT const infini_backend *infinicore_backend(void) {
#ifdef PREPARE /* last changes to the tables */
  PREPARE
#endif
  return &table.known;
}
