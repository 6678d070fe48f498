"""The stand-in for TensorRT's bindings where there is no GPU, in two halves that share types and engines.

`builder` answers what a build calls, in the names of one version; what it builds, `runtime` deserializes, describes and
runs, on memory that ctypes can reach and on streams of `support.cuda_stand_in`.
"""
