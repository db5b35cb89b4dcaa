// attention.cpp -- one head of attention with the C++ layer: tensors, operators, and a graph that is
// replayed. Build: c++ -std=c++17 attention.cpp $(pkg-config --cflags --libs infinicore). Run: ./attention
// [device number]
#include <infinicore.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>

using infinicore::Context;
using infinicore::Graph;
using infinicore::Stream;
using infinicore::Tensor;
namespace op = infinicore::op;

int main(int argc, char **argv) try {
  Context::set_device(static_cast<infiniDevice_t>(argc > 1 ? std::atoi(argv[1]) : INFINI_DEVICE_CPU));
  const size_t tokens = 3, width = 4;
  std::vector<float> numbers(tokens * width);
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = float(i) / 8;
  const Tensor q = Tensor::of<float>({tokens, width}, numbers),
               k = Tensor::of<float>({tokens, width}, numbers);
  const Tensor v = Tensor::of<float>({tokens, width}, numbers);
  Tensor scores = Tensor::empty({tokens, tokens}, INFINI_DTYPE_F32);
  Tensor out = Tensor::empty({tokens, width}, INFINI_DTYPE_F32);

  const Stream stream = Stream::create();
  Graph::begin(stream);
  op::gemm(scores, q, k.transpose(0, 1), 1 / std::sqrt(float(width)), 0.0f, stream);
  op::causal_softmax(scores, scores, stream);
  op::gemm(out, scores, v, 1.0f, 0.0f, stream);
  const Graph graph = Graph::end(stream);
  for (int step = 0; step < 2; ++step) graph.launch(stream);
  stream.synchronize();

  const auto values = out.to_host<float>();
  for (size_t i = 0; i < tokens; ++i)
    std::printf("%.6f %.6f %.6f %.6f\n", double(values[4 * i]), double(values[4 * i + 1]),
                double(values[4 * i + 2]), double(values[4 * i + 3]));
  try {
    op::gemm(out, q, k, 1.0f, 0.0f);
  } catch (const infinicore::Error &error) {
    std::printf("%s\n", error.what());
  }
  return 0;
} catch (const std::exception &error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
