"""Requests that are ready to be sent: made-up inputs, serialised before the measurement. Knows messages, no connections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.models.model import BenchModel, echoed
from benchmarks.models.samples import samples
from benchmarks.triton.wire import service_pb2

SHARED_FROM_BYTES = 64 * 1024
"""Inputs of a request above this go through shared memory: that is where it begins to be faster [bytes]."""
_KEPT_BYTES = 64 * 2**20  # of requests that carry their inputs, for each batch size


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request.

    Parameters
    ----------
    message : a serialised ModelInferRequest.
    inputs : its values by name of the tensor.
    echo : what the only output has to be, of models that echo.
    """

    message: bytes
    inputs: dict[str, npt.NDArray[np.generic]]
    echo: bytes | None


class Inputs:
    """Inputs of a model, and the requests made of them, each made once.

    A request of several samples carries those that lie beside the first one: which made-up inputs come together does not
    matter, and gathering them anew for every request would be measured as if it were the server's time.

    Parameters
    ----------
    model : whose inputs.
    n_samples : different ones.
    seed : of the values.
    max_batch : samples in the largest request; None: the model's own limit.
    """

    def __init__(self, model: BenchModel, n_samples: int, *, seed: int, max_batch: int | None = None) -> None:
        self.model = model
        self._max_batch = min(model.max_batch, max_batch or model.max_batch)
        self.slots = max(n_samples, self._max_batch)
        self.arrays = samples(model, self.slots, seed=seed)
        self._region: str | None = None
        self._always_shared = False
        self._made: dict[tuple[int, int], Prepared] = {}

    @property
    def largest_bytes(self) -> int:
        """Size of the inputs of the largest request [bytes]."""
        return self.model.request_bytes * self._max_batch

    def share(self, region: str, *, always: bool) -> None:
        """Let requests name their inputs in a region that holds `arrays` in order; small ones only where `always` says so."""
        self._region, self._always_shared = region, always
        self._made.clear()

    def request(self, first: int, batch: int) -> Prepared:
        """Return the request of `batch` samples that begins with sample `first`."""
        key = (first, batch)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._wrapped(first, batch)
        return made

    def _wrapped(self, first: int, batch: int) -> Prepared:
        """Return the request of the window that stands for `first`: one within the prepared inputs, and among those kept."""
        shared = self._shares(batch)
        windows = max(1, self.slots - batch + 1)
        if not shared:
            windows = min(windows, max(1, _KEPT_BYTES // max(1, batch * self.model.request_bytes)))
        start = first % windows
        return self.request(start, batch) if start != first else self._make(start, batch, shared=shared)

    def _shares(self, batch: int) -> bool:
        if self._region is None or batch > self.slots:
            return False
        return self._always_shared or batch * self.model.request_bytes > SHARED_FROM_BYTES

    def _make(self, start: int, batch: int, *, shared: bool) -> Prepared:
        values = {tensor.name: self._values(tensor.name, start, batch) for tensor in self.model.inputs}
        message = service_pb2.ModelInferRequest(model_name=self.model.name)
        for tensor in self.model.outputs:
            message.outputs.add(name=tensor.name)
        offset = 0
        for tensor in self.model.inputs:
            part = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=(batch, *tensor.shape))
            if shared:
                part.parameters["shared_memory_region"].string_param = self._region
                part.parameters["shared_memory_offset"].int64_param = offset + start * tensor.nbytes
                part.parameters["shared_memory_byte_size"].int64_param = batch * tensor.nbytes
                offset += self.slots * tensor.nbytes
            else:
                message.raw_input_contents.append(values[tensor.name].tobytes())
        echo = echoed(self.model, values[self.model.inputs[0].name]).tobytes() if self.model.echoes else None
        return Prepared(message.SerializeToString(), values, echo)

    def _values(self, name: str, start: int, batch: int) -> npt.NDArray[np.generic]:
        array = self.arrays[name]
        if start + batch <= self.slots:
            return array[start : start + batch]
        return array.take(range(start, start + batch), axis=0, mode="wrap")  # more than are prepared: a copy, on the way once
