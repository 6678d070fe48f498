// Squash, y = x / (1 + |x|), for TensorRT 8.6 in float and half: the operator of tests/support/plugins, on a GPU.
//
//   nvcc -O2 -shared -Xcompiler -fPIC -o libsquash_trt.so squash.cu
#include <cuda_fp16.h>

#include "tensorrt_8_6.h"

using namespace nvinfer1;

namespace {
template <typename Number>
__global__ void squash(Number const* x, Number* y, int64_t count) {
  for (int64_t place = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; place < count;
       place += int64_t{gridDim.x} * blockDim.x) {
    float const value = static_cast<float>(x[place]);
    y[place] = static_cast<Number>(value / (1.0f + fabsf(value)));
  }
}

template <typename Number>
void launch(void const* x, void* y, int64_t count, cudaStream_t stream) {
  constexpr int kThreads = 256;
  int const blocks = static_cast<int>(count / kThreads + 1 < 4096 ? count / kThreads + 1 : 4096);
  squash<Number><<<blocks, kThreads, 0, stream>>>(static_cast<Number const*>(x), static_cast<Number*>(y), count);
}

class Squash final : public IPluginV2DynamicExt {
 public:
  using IPluginV2DynamicExt::configurePlugin;
  using IPluginV2DynamicExt::enqueue;
  using IPluginV2DynamicExt::getOutputDimensions;
  using IPluginV2DynamicExt::getWorkspaceSize;

  char const* getPluginType() const noexcept override { return "Squash"; }
  char const* getPluginVersion() const noexcept override { return "1"; }
  int32_t getNbOutputs() const noexcept override { return 1; }
  int32_t initialize() noexcept override { return 0; }
  void terminate() noexcept override {}
  size_t getSerializationSize() const noexcept override { return 0; }
  void serialize(void*) const noexcept override {}
  void destroy() noexcept override { delete this; }
  IPluginV2DynamicExt* clone() const noexcept override { return new Squash; }
  void setPluginNamespace(char const*) noexcept override {}
  char const* getPluginNamespace() const noexcept override { return ""; }
  DataType getOutputDataType(int32_t, DataType const* types, int32_t) const noexcept override { return types[0]; }
  DimsExprs getOutputDimensions(int32_t, DimsExprs const* inputs, int32_t, IExprBuilder&) noexcept override {
    return inputs[0];
  }
  bool supportsFormatCombination(int32_t place, PluginTensorDesc const* all, int32_t, int32_t) noexcept override {
    bool const number = all[place].type == DataType::kFLOAT || all[place].type == DataType::kHALF;
    return number && all[place].format == TensorFormat::kLINEAR && all[place].type == all[0].type;
  }
  void configurePlugin(DynamicPluginTensorDesc const*, int32_t, DynamicPluginTensorDesc const*,
                       int32_t) noexcept override {}
  size_t getWorkspaceSize(PluginTensorDesc const*, int32_t, PluginTensorDesc const*, int32_t) const noexcept override {
    return 0;
  }
  int32_t enqueue(PluginTensorDesc const* inputs, PluginTensorDesc const*, void const* const* from, void* const* to,
                  void*, cudaStream_t stream) noexcept override {
    int64_t count = 1;
    for (int32_t axis = 0; axis < inputs[0].dims.nbDims; ++axis) count *= inputs[0].dims.d[axis];
    if (inputs[0].type == DataType::kHALF) {
      launch<__half>(from[0], to[0], count, stream);
    } else {
      launch<float>(from[0], to[0], count, stream);
    }
    return cudaPeekAtLastError() == cudaSuccess ? 0 : 1;
  }
};

class Creator final : public IPluginCreator {
 public:
  char const* getPluginName() const noexcept override { return "Squash"; }
  char const* getPluginVersion() const noexcept override { return "1"; }
  PluginFieldCollection const* getFieldNames() noexcept override {
    static PluginFieldCollection const none{0, nullptr};
    return &none;
  }
  IPluginV2* createPlugin(char const*, PluginFieldCollection const*) noexcept override { return new Squash; }
  IPluginV2* deserializePlugin(char const*, void const*, size_t) noexcept override { return new Squash; }
  void setPluginNamespace(char const*) noexcept override {}
  char const* getPluginNamespace() const noexcept override { return ""; }
};
}  // namespace

// What IPluginRegistry::loadLibrary asks a library for.
extern "C" void setLoggerFinder(ILoggerFinder*) {}
extern "C" IPluginCreator* const* getPluginCreators(int32_t& count) {
  static Creator creator;
  static IPluginCreator* const all[] = {&creator};
  count = 1;
  return all;
}
