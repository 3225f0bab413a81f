"""Static or dynamic int8 of onnxruntime's own tools on given feeds: peer.py MODEL FEEDS OUT METHOD"""
import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    quantize_dynamic,
    quantize_static,
)

model, folder, out, method = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4]


class Feeds(CalibrationDataReader):
    def __init__(self):
        self.batches = iter(json.loads((folder / "feeds.json").read_text()))

    def get_next(self):
        batch = next(self.batches, None)
        if batch is None:
            return None
        return {
            name: np.fromfile(folder / entry["file"], entry["dtype"]).reshape(entry["dims"])
            for name, entry in batch.items()
        }


if method == "Dynamic":
    quantize_dynamic(model, out, per_channel=True)
else:
    quantize_static(
        model,
        out,
        Feeds(),
        quant_format=QuantFormat.QDQ,
        per_channel=method.endswith("PerChannel"),
        calibrate_method=getattr(CalibrationMethod, method.removesuffix("PerChannel")),
    )
