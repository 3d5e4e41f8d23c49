"""One process or many: what ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sw.train.data import Share

__all__ = ["ProcessError", "Processes", "compute_deterministically", "processes"]


class ProcessError(RuntimeError):
    """Another process of the run ended, or cannot be reached."""


@dataclass(frozen=True)
class Processes:
    """A process among all of a run.

    Parameters
    ----------
    share
        Its number and how many there are.
    device
        Where it computes.
    """

    share: Share
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and messages."""
        return self.share.rank == 0

    def parallel(self, model: nn.Module, *, unused: bool = False) -> nn.Module:
        """Return a network whose gradients are the mean over all processes (`unused`: not all take part in a step)."""
        if self.share.world == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices, find_unused_parameters=unused)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.share.world > 1:
            dist.all_reduce(values)
        return values

    def gathered(self, value: int) -> list[int]:
        """Return a number of each process."""
        values = torch.zeros(self.share.world, dtype=torch.int64, device=self.device)
        values[self.share.rank] = value
        return [int(found) for found in self.total(values).tolist()]

    def share_buffers(self, model: nn.Module) -> None:
        """Give a network's buffers, such as running statistics, the first process's values in all of them."""
        if self.share.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.share.world > 1:
            dist.barrier()


def compute_deterministically(device: torch.device) -> None:
    """Let the same run compute the same again: bit for bit on a CPU, on a GPU as far as its libraries can.

    PyTorch warns of operators that have no deterministic form for a GPU.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it; read with its first product
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")


@contextmanager
def processes(device: str | None = None) -> Iterator[Processes]:
    """Join the processes of a run (the environment of ``torchrun`` says which), and leave them at the end.

    Parameters
    ----------
    device
        ``cpu``, ``cuda`` or None for a GPU where there is one; with many processes each takes its own GPU.

    Raises
    ------
    ValueError
        If a GPU is asked for and there is none, or there are fewer than processes on this machine.
    ProcessError
        If the others cannot be found.  Out of the context: if one ended, which says why itself.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda" and local >= torch.cuda.device_count():
        raise ValueError(
            f"--device cuda: process {local} of this machine has no GPU ({torch.cuda.device_count()} seen)"
        )
    place = torch.device("cuda", local) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(place)
    if world == 1:
        yield Processes(Share(), place)
        return
    try:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
        yield Processes(Share(rank, world), place)
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):  # gloo raises plain RuntimeErrors
            reason = str(error).partition("\n")[0]
            raise ProcessError(f"process {rank} of {world} lost the others, or did not find them ({reason})") from None
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
