# The record that infinicore reads on first use of the device. Nothing here touches the driver.
# NVIDIA's libraries are opened by the native part, when a device is first asked for.
"""The infinicore backend for NVIDIA GPUs, device string ``cuda``."""

from infinicore.discovery import Plugin

plugin = Plugin(
    "cuda",
    vendor="NVIDIA",
    module="infinicore_cuda._backend",
    aliases=("nvidia",),
    torch_type="cuda",
    hint="install NVIDIA's driver and see that nvidia-smi lists the device; in a container, start it with "
    "--gpus all",
)
