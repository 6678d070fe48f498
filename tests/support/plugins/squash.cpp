// own.ops::Squash, y = x / (1 + |x|), for ONNX Runtime on a CPU.
//
//   g++ -O2 -shared -fPIC -o libsquash.so squash.cpp
//
// A library of your own includes <onnxruntime_c_api.h>. This one states the few members of the C API that it calls, so
// that it compiles where the headers are not: the first 102 members of OrtApi are those of version 1, which never
// changes (the header asserts that ReleaseCustomOpDomain is number 101).
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

extern "C" {
struct OrtApi;
struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};
struct OrtCustomOp {  // of version 13
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const void* info);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  int (*GetInputType)(const OrtCustomOp*, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  int (*GetOutputType)(const OrtCustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void* kernel, void* context);
  void (*KernelDestroy)(void* kernel);
  int (*GetInputCharacteristic)(const OrtCustomOp*, size_t);
  int (*GetOutputCharacteristic)(const OrtCustomOp*, size_t);
  int (*GetInputMemoryType)(const OrtCustomOp*, size_t);
  void* later[32];  // members of later versions, all optional
};
}

namespace {
// Places of the members in OrtApi.
enum {
  kCreateCustomOpDomain = 26,
  kCustomOpDomainAdd = 27,
  kAddCustomOpDomain = 28,
  kGetTensorMutableData = 51,
  kGetDimensionsCount = 61,
  kGetDimensions = 62,
  kGetTensorShapeElementCount = 64,
  kGetTensorTypeAndShape = 65,
  kKernelContextGetInput = 90,
  kKernelContextGetOutput = 91,
  kReleaseTensorTypeAndShapeInfo = 99,
};
constexpr int kFloat = 1;

const void* const* api = nullptr;

template <typename... Arguments>
void* call(int place, Arguments... arguments) {
  return reinterpret_cast<void* (*)(Arguments...)>(const_cast<void*>(api[place]))(arguments...);
}

void compute(void*, void* context) {
  void *input = nullptr, *output = nullptr, *shape = nullptr, *from = nullptr, *to = nullptr;
  size_t rank = 0, count = 0;
  call(kKernelContextGetInput, context, size_t{0}, &input);
  call(kGetTensorTypeAndShape, input, &shape);
  call(kGetDimensionsCount, shape, &rank);
  std::vector<int64_t> axes(rank);
  call(kGetDimensions, shape, axes.data(), rank);
  call(kGetTensorShapeElementCount, shape, &count);
  call(kReleaseTensorTypeAndShapeInfo, shape);
  call(kKernelContextGetOutput, context, size_t{0}, static_cast<const int64_t*>(axes.data()), rank, &output);
  call(kGetTensorMutableData, input, &from);
  call(kGetTensorMutableData, output, &to);
  const float* x = static_cast<const float*>(from);
  float* y = static_cast<float*>(to);
  for (size_t place = 0; place < count; ++place) y[place] = x[place] / (1.0f + std::fabs(x[place]));
}

const OrtCustomOp squash = {
    13,
    [](const OrtCustomOp*, const OrtApi*, const void*) -> void* { return &api; },
    [](const OrtCustomOp*) -> const char* { return "Squash"; },
    [](const OrtCustomOp*) -> const char* { return "CPUExecutionProvider"; },
    [](const OrtCustomOp*, size_t) { return kFloat; },
    [](const OrtCustomOp*) -> size_t { return 1; },
    [](const OrtCustomOp*, size_t) { return kFloat; },
    [](const OrtCustomOp*) -> size_t { return 1; },
    compute,
    [](void*) {},
    [](const OrtCustomOp*, size_t) { return 0; },  // required
    [](const OrtCustomOp*, size_t) { return 0; },
    [](const OrtCustomOp*, size_t) { return 0; },  // in the provider's memory
    {},
};
}  // namespace

extern "C" void* RegisterCustomOps(void* options, const OrtApiBase* base) {
  api = reinterpret_cast<const void* const*>(base->GetApi(1));
  static void* domain = nullptr;
  if (domain == nullptr) {
    if (void* fault = call(kCreateCustomOpDomain, "own.ops", &domain)) return fault;
    if (void* fault = call(kCustomOpDomainAdd, domain, &squash)) return fault;
  }
  return call(kAddCustomOpDomain, options, domain);
}
