// infinicore_cuda/libraries.cpp -- names of NVIDIA's libraries, and where they lie that no loader path names.
// tests/doubles/cuda/test_libraries.py compares what is found with what cuda-pathfinder finds.
#include "libraries.hpp"

namespace infini::cuda {

namespace {

const std::vector<std::string> &driver_folders() {
  static const std::vector<std::string> folders = {"/usr/lib/wsl/lib", "/usr/local/nvidia/lib64"};
  return folders;
}

// `product` first: the folders of a library that may be installed apart from the toolkit.
std::vector<std::string> toolkit_folders(std::vector<std::string> product = {}) {
  for (std::string &folder : environment_folders({"CUDA_PATH", "CUDA_HOME"}, {"/lib64", "/lib"}))
    product.push_back(std::move(folder));
  for (const char *usual : {"/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib",
                            "/usr/local/cuda/targets/sbsa-linux/lib"})
    product.emplace_back(usual);
  return product;
}

}  // namespace

const Library &driver() {
  static const Library library({"libcuda.so.1"}, {}, driver_folders());
  return library;
}

const Library &nvml() {
  static const Library library({"libnvidia-ml.so.1"}, {}, driver_folders());
  return library;
}

Library cublaslt() {
  return {{"libcublasLt.so.13", "libcublasLt.so.12"},
          {"nvidia/cu13/lib", "nvidia/cublas/lib"},
          toolkit_folders(),
          "pip install infinicore-cuda[cu13]"};
}

Library nccl() {
  return {{"libnccl.so.2"},
          {"nvidia/nccl/lib"},
          toolkit_folders(environment_folders({"NCCL_HOME"}, {"/lib", "/lib64", "/build/lib"})),
          "pip install infinicore-cuda[cu13]"};
}

}  // namespace infini::cuda
