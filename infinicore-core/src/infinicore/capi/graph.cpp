// capi/graph.cpp -- records the steps of a stream, and replays them: graphs where the runtime table has none.
#include "graph.hpp"

#include <map>
#include <memory>
#include <vector>

namespace infini::capi {
namespace {

using Steps = std::vector<Step>;

// By stream: what this thread records. A graph and its executable form share the steps.
thread_local std::map<infinirtStream_t, Steps> open_recordings;

using Graph = std::shared_ptr<const Steps>;

}  // namespace

bool recording(infinirtStream_t stream) {
  return !open_recordings.empty() && open_recordings.count(stream) != 0;
}

infiniStatus_t enqueue(infinirtStream_t stream, Step step) {
  if (!recording(stream)) return step(stream);
  open_recordings[stream].push_back(std::move(step));
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t record_begin(infinirtStream_t stream) {
  if (!open_recordings.emplace(stream, Steps()).second)
    return fail(INFINI_STATUS_BAD_PARAM, "infinirtStreamBeginCapture: the stream is being captured already");
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t record_end(infinirtStream_t stream, infinirtGraph_t *out) {
  auto found = open_recordings.find(stream);
  if (found == open_recordings.end())
    return fail(INFINI_STATUS_BAD_PARAM, "infinirtStreamEndCapture: the stream is not being captured");
  *out = new Graph(std::make_shared<const Steps>(std::move(found->second)));
  open_recordings.erase(found);
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t record_instantiate(infinirtGraph_t graph, infinirtGraphExec_t *out) {
  *out = new Graph(*static_cast<const Graph *>(graph));
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t record_launch(infinirtGraphExec_t exec, infinirtStream_t stream) {
  for (const Step &step : **static_cast<const Graph *>(exec))
    if (auto status = step(stream)) return status;
  return INFINI_STATUS_SUCCESS;
}

infiniStatus_t record_destroy(void *graph_or_exec) {
  delete static_cast<Graph *>(graph_or_exec);
  return INFINI_STATUS_SUCCESS;
}

}  // namespace infini::capi
