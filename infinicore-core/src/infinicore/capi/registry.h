/* capi/registry.h -- the registry of backends inside libinfinirt.so, as libinfiniop, libinfiniccl and
 * Python see it: one open() per plug-in and one table of operators per process. Not installed. */
#ifndef INFINICORE_CAPI_REGISTRY_H
#define INFINICORE_CAPI_REGISTRY_H

#include <infinicore/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A backend that was found; lives as long as the process. */
typedef struct infini_entry infini_entry;

/* What Python wants to hear of. Members may be NULL; they are called from any thread, without the GIL. */
typedef struct infini_listener {
  void (*log)(int32_t level, const char *message);
  /* The C API chose a device of `entry` on this thread, behind the back of whoever remembers another one;
   * -1 where that failed and nobody knows which one is active. */
  void (*activated)(const infini_entry *entry, int32_t device);
  /* infini_host.interrupted, for calls of Python's. */
  int32_t (*interrupted)(void);
} infini_listener;

typedef struct infini_registry_api {
  infini_header header;
  const infini_host *host;
  void (*listen)(const infini_listener *listener);
  /* The entry of a plug-in's table, made on first sight; source is where it came from, for messages. One that
   * did not open may be opened again then. NULL where the table cannot be used: host->message() says why. */
  infini_entry *(*adopt)(const infini_backend *table, const char *source);
  /* Open it, unless that was done: every caller gets the result and message of the one open(). */
  infiniStatus_t (*open)(infini_entry *entry, int32_t *device_count);
  /* The kernel that calls planned from now on use, or NULL. */
  const infini_operator *(*find)(const infini_entry *entry, const char *name);
  /* Put another kernel in an operator's place, for C and Python alike; NULL puts the plug-in's own back. */
  infiniStatus_t (*patch)(const char *backend, const char *name, const infini_operator *kernel);
  /* Step i of the plug-in's search for libraries: what, where, result. 0 when there is none. */
  int32_t (*step)(const infini_entry *entry, uint64_t i, const char *words[3]);
  /* The open backend with this infiniDevice_t; NULL with a message otherwise, its status in *status. */
  infini_entry *(*by_device)(int32_t device, infiniStatus_t *status);
  const infini_backend *(*table)(const infini_entry *entry);
  int32_t (*number)(const infini_entry *entry); /* infiniDevice_t, or >= 1000 */
  /* This thread's device, opened and active. */
  infiniStatus_t (*current)(infini_entry **entry, int32_t *device);
  infiniStatus_t (*activate)(infini_entry *entry, int32_t device);
  /* While this thread records `stream` into a graph of ours: keep step(context, stream) for each launch, and
   * call drop(context) when the graph dies; otherwise 0, and the caller does it now. */
  int32_t (*record)(infinirtStream_t stream, infiniStatus_t (*step)(void *context, infinirtStream_t stream),
                    void *context, void (*drop)(void *context));
  int32_t (*recording)(infinirtStream_t stream);
  /* This thread's message if it was stored with `status`, once; "" otherwise. */
  const char *(*take_message)(infiniStatus_t status);
} infini_registry_api;

INFINI_EXPORT const infini_registry_api *infini_registry(void);

#ifdef __cplusplus
}
#endif
#endif /* INFINICORE_CAPI_REGISTRY_H */
