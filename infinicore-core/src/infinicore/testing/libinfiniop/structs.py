# Opaque types of the C API as ctypes structures. A handle and every operator descriptor begin with the device
# that they belong to; nothing else of them is public.
"""Structures of the C API."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_int

__all__ = [
    "Handle",
    "OpDescriptor",
    "TensorDescriptor",
    "infiniopHandle_t",
    "infiniopOperatorDescriptor_t",
    "infiniopTensorDescriptor_t",
]


class TensorDescriptor(Structure):
    """Shape, strides and element type of a tensor; opaque."""

    _fields_ = []


class Handle(Structure):
    """The device that operators are created for."""

    device: int
    device_id: int
    _fields_ = [("device", c_int), ("device_id", c_int)]


class OpDescriptor(Structure):
    """One operator, planned for one combination of layouts."""

    device: int
    device_id: int
    _fields_ = [("device", c_int), ("device_id", c_int)]


infiniopTensorDescriptor_t = POINTER(TensorDescriptor)
infiniopHandle_t = POINTER(Handle)
infiniopOperatorDescriptor_t = POINTER(OpDescriptor)
