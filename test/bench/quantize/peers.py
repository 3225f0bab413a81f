"""One quantizer of onnxruntime's Python tools, run once for test/bench/quantize.bench.ts.

usage: peers.py METHOD SOURCE TARGET [FEEDS.npz] [BLOCK]

FEEDS.npz holds one array for each model input, samples along the first axis. Methods of weights alone get blocks of
BLOCK columns, the static one the samples one by one.
"""

import os
import sys

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def reader(path):
    from onnxruntime.quantization import CalibrationDataReader

    arrays = dict(np.load(path))
    count = next(iter(arrays.values())).shape[0]

    class Samples(CalibrationDataReader):
        def __init__(self):
            self.at = 0

        def get_next(self):
            if self.at == count:
                return None
            self.at += 1
            return {name: array[self.at - 1 : self.at] for name, array in arrays.items()}

        def __iter__(self):
            return self

        def __next__(self):
            feeds = self.get_next()
            if feeds is None:
                raise StopIteration
            return feeds

    return Samples()


def unfit(source, block, zero_points):
    """Matrices whose rows do not divide into blocks; with packed zero points, also those with an odd number of them."""
    import onnx

    graph = onnx.load(source).graph
    depth = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 2}
    unit = block * 2 if zero_points else block
    return [node.name for node in graph.node if node.op_type == "MatMul" and depth.get(node.input[1], 0) % unit]


def blocks(method, source, target, feeds, block):
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits

    if method in ("default-sym", "default-asym", "default-sym-gather", "default-asym-gather", "default-8bit"):
        operators = ("MatMul", "Gather") if method.endswith("-gather") else ("MatMul",)
        config = nbits.DefaultWeightOnlyQuantConfig(
            block_size=block,
            is_symmetric="-sym" in method,
            accuracy_level=4,
            op_types_to_quantize=operators,
            bits=8 if method == "default-8bit" else 4,
        )
    elif method == "hqq":
        config = nbits.HQQWeightOnlyQuantConfig(block_size=block)
    elif method == "rtn":
        config = nbits.RTNWeightOnlyQuantConfig()
    elif method == "k-quant":
        config = nbits.KQuantWeightOnlyQuantConfig()
    elif method == "gptq":
        config = nbits.GPTQWeightOnlyQuantConfig(calibration_data_reader=reader(feeds))
    else:
        raise SystemExit(f"unknown method {method}")
    # These fail on some matrices; told to leave them out, they do the others.
    strict = method in ("rtn", "k-quant", "gptq")
    left_out = unfit(source, block, method != "rtn") if strict else []
    tool = nbits.MatMulNBitsQuantizer(
        source,
        block_size=block,
        accuracy_level=4,
        nodes_to_exclude=left_out,
        algo_config=config,
    )
    if method == "gptq":
        # This one does not look at nodes_to_exclude, but knows the mark that the others make of it.
        configured = tool._generate_q4_node_config()
        tool._generate_q4_node_config = lambda: {**configured, **dict.fromkeys(left_out, "fp32")}
    tool.process()
    tool.model.save_model_to_file(target, False)


def main():
    method, source, target = sys.argv[1:4]
    feeds = sys.argv[4] if len(sys.argv) > 4 else ""
    block = int(sys.argv[5]) if len(sys.argv) > 5 else 32
    if method == "dynamic":
        from onnxruntime.quantization import QuantType, quantize_dynamic

        # Shapes that PyTorch's newer exporter notes contradict this tool's own inference: without them it works.
        import onnx

        model = onnx.load(source)
        del model.graph.value_info[:]
        quantize_dynamic(model, target, weight_type=QuantType.QInt8)
    elif method == "static":
        from onnxruntime.quantization import QuantType, quantize_static

        quantize_static(source, target, reader(feeds), per_channel=True, weight_type=QuantType.QInt8)
    else:
        blocks(method, source, target, feeds, block)


if __name__ == "__main__":
    main()
