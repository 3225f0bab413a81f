"""Signal-to-noise ratios that onnxruntime's own 4-bit block quantizer leaves, for test/bench/weights.bench.ts.

usage: ort-blocks.py FOLDER BLOCK

FOLDER/weights.json lists {"file", "rows", "columns"}: float32 [rows, columns], a row for each output. Prints a JSON list
of {"symmetric", "asymmetric"} in dB.
"""

import json
import os
import sys

import numpy as np
from onnxruntime.capi._pybind_state import quantize_matmul_4bits


def ratio(rows, block, symmetric):
    count, depth = rows.shape
    blocks = -(-depth // block)
    packed = np.zeros((count, blocks, block // 2), np.uint8)
    scales = np.zeros(count * blocks, np.float32)
    zero_points = np.zeros(count * ((blocks + 1) // 2), np.uint8)
    weight = np.ascontiguousarray(rows.T)
    quantize_matmul_4bits(packed, weight, scales, zero_points, block, count, depth, symmetric)

    def halves(bytes_):
        return np.stack([bytes_ & 15, bytes_ >> 4], axis=-1).reshape(*bytes_.shape[:-1], -1).astype(np.float64)

    zeros = 8.0 if symmetric else halves(zero_points.reshape(count, -1))[:, :blocks, None]
    values = (halves(packed) - zeros) * scales.reshape(count, blocks, 1)
    off = rows - values.reshape(count, -1)[:, :depth]
    return float(10 * np.log10((rows.astype(np.float64) ** 2).sum() / (off**2).sum()))


folder, block = sys.argv[1], int(sys.argv[2])
results = []
with open(os.path.join(folder, "weights.json")) as listed:
    for entry in json.load(listed):
        rows = np.fromfile(os.path.join(folder, entry["file"]), np.float32).reshape(entry["rows"], entry["columns"])
        results.append({kind: ratio(rows, block, kind == "symmetric") for kind in ("symmetric", "asymmetric")})
print(json.dumps(results))
