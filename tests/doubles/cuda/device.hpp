// doubles/cuda/device.hpp -- what the libraries of the CUDA double share: streams that work only when they
// must. Nothing runs until somebody waits for it, so whoever forgets to wait reads what is not there, every
// time.
#pragma once
#include <cuda_runtime_api.h>

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>

#pragma GCC visibility push(default)
namespace double_cuda {

constexpr int pending = -1;  // a step cannot go on yet: it is asked again when something has changed

// One thing on a stream. Make is called for each time that it is to happen (graphs replay); what it returns
// is asked until it says something else than `pending`: 0, or the error that the device then has for ever.
using Step = std::function<int()>;
using Make = std::function<Step()>;

extern std::mutex mutex;  // of all of the double
extern std::condition_variable changed;
extern double patience;  // seconds that one waits for others

// All of these with `mutex` held. What a graph's update may not change is which kinds of things it does.
enum class Node { kernel, copy, set, free, event };
cudaError_t enqueue(cudaStream_t stream, Make make, Node kind = Node::kernel);
bool on_device(const void *memory, size_t bytes);  // inside one live allocation
int current_device();
void count(const char *what, int change);  // of live things, which live() reports

// The error that the next call of a function was told to give; 0: none. Any prefix is part of the name.
int injected(const char *function);

}  // namespace double_cuda
#pragma GCC visibility pop
