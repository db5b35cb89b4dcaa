// capi/graph.hpp -- graphs for backends that have none of their own: what a stream is given is written down
// and done again at each launch.
#pragma once
#include "registry.hpp"

#include <functional>

namespace infini::capi {

using Step = std::function<infiniStatus_t(infinirtStream_t)>;

// Whether this thread records `stream`.
bool recording(infinirtStream_t stream);

// Do a step on the stream, or write it down while this thread records it.
infiniStatus_t enqueue(infinirtStream_t stream, Step step);

infiniStatus_t record_begin(infinirtStream_t stream);
infiniStatus_t record_end(infinirtStream_t stream, infinirtGraph_t *out);
infiniStatus_t record_instantiate(infinirtGraph_t graph, infinirtGraphExec_t *out);
infiniStatus_t record_launch(infinirtGraphExec_t exec, infinirtStream_t stream);
infiniStatus_t record_destroy(void *graph_or_exec);

}  // namespace infini::capi
