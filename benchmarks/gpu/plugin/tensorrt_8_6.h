// What a plugin needs of TensorRT 8.6: the layout of the classes that it derives from, and of what they are handed.
//
// A plugin of your own includes <NvInferRuntime.h> of the TensorRT that it runs with. Where that is not installed, as
// on the measuring machine, these declarations stand in for it: the virtual functions have the order of 8.6, and
// the library exchanges nothing else with TensorRT.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

struct cudnnContext;
struct cublasContext;

namespace nvinfer1 {
constexpr int32_t kVersion = 8600;

enum class DataType : int32_t { kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3, kBOOL = 4, kUINT8 = 5, kFP8 = 6 };
enum class TensorFormat : int32_t { kLINEAR = 0 };
struct Dims {
  int32_t nbDims;
  int32_t d[8];
};
struct PluginTensorDesc {
  Dims dims;
  DataType type;
  TensorFormat format;
  float scale;
};
struct DynamicPluginTensorDesc {
  PluginTensorDesc desc;
  Dims min;
  Dims max;
};
class IDimensionExpr;
class IExprBuilder;
class IGpuAllocator;
class ILoggerFinder;
struct DimsExprs {
  int32_t nbDims;
  IDimensionExpr const* d[8];
};
struct PluginField {
  char const* name;
  void const* data;
  int32_t type;
  int32_t length;
};
struct PluginFieldCollection {
  int32_t nbFields;
  PluginField const* fields;
};

class IPluginV2 {
 public:
  virtual int32_t getTensorRTVersion() const noexcept { return kVersion; }
  virtual char const* getPluginType() const noexcept = 0;
  virtual char const* getPluginVersion() const noexcept = 0;
  virtual int32_t getNbOutputs() const noexcept = 0;
  virtual Dims getOutputDimensions(int32_t, Dims const*, int32_t) noexcept = 0;
  virtual bool supportsFormat(DataType, TensorFormat) const noexcept = 0;
  virtual void configureWithFormat(Dims const*, int32_t, Dims const*, int32_t, DataType, TensorFormat,
                                   int32_t) noexcept = 0;
  virtual int32_t initialize() noexcept = 0;
  virtual void terminate() noexcept = 0;
  virtual size_t getWorkspaceSize(int32_t) const noexcept = 0;
  virtual int32_t enqueue(int32_t, void const* const*, void* const*, void*, cudaStream_t) noexcept = 0;
  virtual size_t getSerializationSize() const noexcept = 0;
  virtual void serialize(void*) const noexcept = 0;
  virtual void destroy() noexcept = 0;
  virtual IPluginV2* clone() const noexcept = 0;
  virtual void setPluginNamespace(char const*) noexcept = 0;
  virtual char const* getPluginNamespace() const noexcept = 0;
  virtual ~IPluginV2() noexcept = default;
};

class IPluginV2Ext : public IPluginV2 {
 public:
  virtual DataType getOutputDataType(int32_t, DataType const*, int32_t) const noexcept = 0;
  virtual bool isOutputBroadcastAcrossBatch(int32_t, bool const*, int32_t) const noexcept = 0;
  virtual bool canBroadcastInputAcrossBatch(int32_t) const noexcept = 0;
  virtual void configurePlugin(Dims const*, int32_t, Dims const*, int32_t, DataType const*, DataType const*,
                               bool const*, bool const*, TensorFormat, int32_t) noexcept = 0;
  virtual void attachToContext(cudnnContext*, cublasContext*, IGpuAllocator*) noexcept {}
  virtual void detachFromContext() noexcept {}
  IPluginV2Ext* clone() const noexcept override = 0;
};

class IPluginV2DynamicExt : public IPluginV2Ext {
 public:
  IPluginV2DynamicExt* clone() const noexcept override = 0;
  virtual DimsExprs getOutputDimensions(int32_t, DimsExprs const*, int32_t, IExprBuilder&) noexcept = 0;
  virtual bool supportsFormatCombination(int32_t, PluginTensorDesc const*, int32_t, int32_t) noexcept = 0;
  virtual void configurePlugin(DynamicPluginTensorDesc const*, int32_t, DynamicPluginTensorDesc const*,
                               int32_t) noexcept = 0;
  virtual size_t getWorkspaceSize(PluginTensorDesc const*, int32_t, PluginTensorDesc const*,
                                  int32_t) const noexcept = 0;
  virtual int32_t enqueue(PluginTensorDesc const*, PluginTensorDesc const*, void const* const*, void* const*, void*,
                          cudaStream_t) noexcept = 0;
  int32_t getTensorRTVersion() const noexcept override { return (3 << 24) | kVersion; }  // marks this class

  // Of the classes above, and not asked for by TensorRT.
  Dims getOutputDimensions(int32_t, Dims const*, int32_t) noexcept final { return Dims{-1, {}}; }
  bool supportsFormat(DataType, TensorFormat) const noexcept final { return false; }
  void configureWithFormat(Dims const*, int32_t, Dims const*, int32_t, DataType, TensorFormat,
                           int32_t) noexcept final {}
  size_t getWorkspaceSize(int32_t) const noexcept final { return 0; }
  int32_t enqueue(int32_t, void const* const*, void* const*, void*, cudaStream_t) noexcept final { return 1; }
  bool isOutputBroadcastAcrossBatch(int32_t, bool const*, int32_t) const noexcept final { return false; }
  bool canBroadcastInputAcrossBatch(int32_t) const noexcept final { return true; }
  void configurePlugin(Dims const*, int32_t, Dims const*, int32_t, DataType const*, DataType const*, bool const*,
                       bool const*, TensorFormat, int32_t) noexcept final {}
};

class IPluginCreator {
 public:
  virtual int32_t getTensorRTVersion() const noexcept { return kVersion; }
  virtual char const* getPluginName() const noexcept = 0;
  virtual char const* getPluginVersion() const noexcept = 0;
  virtual PluginFieldCollection const* getFieldNames() noexcept = 0;
  virtual IPluginV2* createPlugin(char const*, PluginFieldCollection const*) noexcept = 0;
  virtual IPluginV2* deserializePlugin(char const*, void const*, size_t) noexcept = 0;
  virtual void setPluginNamespace(char const*) noexcept = 0;
  virtual char const* getPluginNamespace() const noexcept = 0;
  virtual ~IPluginCreator() = default;
};
}  // namespace nvinfer1
