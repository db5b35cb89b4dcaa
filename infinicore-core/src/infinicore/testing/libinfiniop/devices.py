# The numbers of infiniDevice_t, their names, and which torch device string each stands for.
# Several vendors answer to PyTorch's "cuda", so that the way back names the first of them.
"""Devices of the C API."""

from __future__ import annotations

__all__ = ["InfiniDeviceEnum", "InfiniDeviceNames", "infini_device_map", "torch_device_map"]


class InfiniDeviceEnum:
    """Numbers of devices."""

    CPU = 0
    NVIDIA = 1
    CAMBRICON = 2
    ASCEND = 3
    METAX = 4
    MOORE = 5
    ILUVATAR = 6
    KUNLUN = 7
    HYGON = 8
    QY = 9
    ALI = 10  # that programs may name: no backend has it, and choosing it is status 5


#: Number -> the name that test scripts print.
InfiniDeviceNames: dict[int, str] = {
    InfiniDeviceEnum.CPU: "CPU",
    InfiniDeviceEnum.NVIDIA: "NVIDIA",
    InfiniDeviceEnum.CAMBRICON: "Cambricon",
    InfiniDeviceEnum.ASCEND: "Ascend",
    InfiniDeviceEnum.METAX: "Metax",
    InfiniDeviceEnum.MOORE: "Moore",
    InfiniDeviceEnum.ILUVATAR: "Iluvatar",
    InfiniDeviceEnum.KUNLUN: "Kunlun",
    InfiniDeviceEnum.HYGON: "Hygon",
    InfiniDeviceEnum.QY: "QY",
}

#: Number -> PyTorch's device type.
torch_device_map: dict[int, str] = {
    InfiniDeviceEnum.CPU: "cpu",
    InfiniDeviceEnum.NVIDIA: "cuda",
    InfiniDeviceEnum.CAMBRICON: "mlu",
    InfiniDeviceEnum.ASCEND: "npu",
    InfiniDeviceEnum.METAX: "cuda",
    InfiniDeviceEnum.MOORE: "musa",
    InfiniDeviceEnum.ILUVATAR: "cuda",
    InfiniDeviceEnum.KUNLUN: "cuda",
    InfiniDeviceEnum.HYGON: "cuda",
    InfiniDeviceEnum.QY: "cuda",
}

#: PyTorch's device type -> number; ``"cuda"`` is NVIDIA's.
infini_device_map: dict[str, int] = {
    torch_type: number for number, torch_type in reversed(torch_device_map.items())
}
