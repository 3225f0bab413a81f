"""Runs an ONNX file as PyTorch operators and trains it: the reference of train.bench.ts.

Usage: python train-reference.py MODEL FEEDS.npz OUT.npz STEPS
FEEDS holds the inputs by name and `labels`; PARAMETERS (comma-separated) are the initializers to differentiate by.
OUT gets the mean cross-entropy, every gradient (`grad:NAME`) and the seconds of each AdamW step.
"""
import sys, time
import numpy as np, onnx, torch
import torch.nn.functional as F
from onnx import numpy_helper

torch.set_num_threads(int(sys.argv[5]) if len(sys.argv) > 5 else torch.get_num_threads())
model = onnx.load(sys.argv[1])
feeds = {k: torch.from_numpy(v) for k, v in np.load(sys.argv[2]).items()}
labels = feeds.pop('labels')
names = open(sys.argv[3] + '.names').read().split('\n')
weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
for name in names:
    weights[name].requires_grad_(True)


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def ints(x):
    return [int(v) for v in x.reshape(-1)]


def conv(x, w, b=None, pads=(0, 0, 0, 0), strides=(1, 1), dilations=(1, 1), group=1, **_):
    assert pads[0] == pads[2] and pads[1] == pads[3]
    return F.conv2d(x, w, b, stride=list(strides), padding=list(pads[:2]), dilation=list(dilations), groups=group)


def gemm(a, b, c=None, transA=0, transB=0, alpha=1.0, beta=1.0):
    if transB and not transA and alpha == 1 and beta == 1:
        return F.linear(a, b, c)
    y = alpha * ((a.T if transA else a) @ (b.T if transB else b))
    return y if c is None else y + beta * c


def mean(x, axes=None, keepdims=1, **kw):
    axes = kw.get('axes_input', axes)
    return x.mean(dim=ints(axes) if torch.is_tensor(axes) else list(axes), keepdim=bool(keepdims))


def slices(x, starts, ends, axes=None, steps=None):
    index = [slice(None)] * x.dim()
    for i, axis in enumerate(ints(axes)):
        index[axis] = slice(ints(starts)[i], ints(ends)[i], ints(steps)[i] if steps is not None else 1)
    return x[tuple(index)]


def reshape(x, shape, **_):
    return x.reshape([x.shape[i] if d == 0 else d for i, d in enumerate(ints(shape))])


def unsqueeze(x, axes):
    for axis in sorted(ints(axes)):
        x = x.unsqueeze(axis)
    return x


types = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool}
operators = {
    'Gemm': gemm, 'Conv': conv, 'Relu': lambda x: torch.relu(x), 'Flatten': lambda x, axis=1: x.flatten(axis),
    'Add': lambda a, b: a + b, 'Sub': lambda a, b: a - b, 'Mul': lambda a, b: a * b, 'Div': lambda a, b: a / b,
    'Pow': lambda a, b: a ** b, 'Sqrt': torch.sqrt, 'Sigmoid': torch.sigmoid, 'MatMul': lambda a, b: a @ b,
    'ReduceMean': lambda x, a=None, axes=None, keepdims=1, **_: mean(x, a if a is not None else axes, keepdims),
    'Reshape': reshape, 'Transpose': lambda x, perm: x.permute(perm), 'Slice': slices, 'Unsqueeze': unsqueeze,
    'Squeeze': lambda x, axes: x.squeeze(ints(axes)[0]), 'Softmax': lambda x, axis=-1: torch.softmax(x, axis),
    'LayerNormalization': lambda x, g, b, axis=-1, epsilon=1e-5, **_: F.layer_norm(x, g.shape, g, b, epsilon),
    'Gelu': lambda x, **_: F.gelu(x), 'Concat': lambda *x, axis: torch.cat([t for t in x if t.numel()], axis),
    'Gather': lambda x, i, axis=0: F.embedding(i, x) if axis == 0 and x.dim() == 2 else (
        x.index_select(axis, i.reshape(-1)).reshape(x.shape[:axis] + i.shape + x.shape[axis + 1:])),
    'Shape': lambda x, **_: torch.tensor(x.shape), 'Cast': lambda x, to: x.to(types[to]),
    'Range': lambda a, b, c: torch.arange(int(a), int(b), int(c)), 'LessOrEqual': lambda a, b: a <= b,
    'Where': torch.where, 'Constant': lambda value: torch.from_numpy(numpy_helper.to_array(value).copy()),
}
needed, order = {model.graph.output[0].name}, []
for node in reversed(model.graph.node):
    if any(o in needed for o in node.output):
        needed.update(node.input)
        order.insert(0, (node.op_type, list(node.input), node.output[0], attributes(node)))
constants = {out: operators['Constant'](**a) for op, _, out, a in order if op == 'Constant'}
order = [n for n in order if n[0] != 'Constant']


def loss():
    values = {**weights, **constants, **feeds}
    for op, inputs, out, attrs in order:
        values[out] = operators[op](*[values[i] if i else None for i in inputs], **attrs)
    logits = values[model.graph.output[0].name]
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


value = loss()
value.backward()
result = {f'grad:{n}': weights[n].grad.numpy().copy() for n in names}
result['loss'] = np.array(value.item())
optimizer = torch.optim.AdamW([weights[n] for n in names], lr=1e-4, weight_decay=0.01)
seconds = []
for _ in range(int(sys.argv[4])):
    start = time.perf_counter()
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()
    seconds.append(time.perf_counter() - start)
result['seconds'] = np.array(seconds)
np.savez(sys.argv[3], **result)
