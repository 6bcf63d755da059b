"""Writes golden.safetensors, with numpy and safetensors 0.8.0 installed: python make_golden.py"""

import pathlib

import numpy
import safetensors
from safetensors.numpy import save

tensors = {
    "zeta.weight": numpy.arange(6, dtype=numpy.float32).reshape(2, 3),
    "alpha.weight": numpy.arange(4, dtype=numpy.float32),
    "scalar": numpy.array(7, dtype=numpy.int64),
    "empty": numpy.zeros((0, 3), dtype=numpy.float32),
    "mask": numpy.array([True, False, True]),
    "half": numpy.array([1.5, -2.0], dtype=numpy.float16),
    "byte": numpy.array([255], dtype=numpy.uint8),
    "double": numpy.array([[0.1]], dtype=numpy.float64),
    "complex": numpy.array([1 + 2j], dtype=numpy.complex64),
    "wide": numpy.array([2**64 - 1], dtype=numpy.uint64),
    'quote"back\\slash/tab\tümläut': numpy.array([1, 2], dtype=numpy.int16),
}
here = pathlib.Path(__file__).parent
(here / "golden.safetensors").write_bytes(save(tensors, metadata={"format": "np"}))
print(safetensors.__version__)
