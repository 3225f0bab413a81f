import { DataType } from './model.js';
import { ceilDivide, larger, minus } from './shape-expression.js';
import { dimsFromInput, fresh } from './shape-ops-layout.js';
import {
  axisOf,
  broadcast,
  dimFromData,
  fixed,
  multiplyDims,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

const expand: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims: broadcast([dims, dimsFromInput(context, 1)]) }];
};

const tile: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const repeats = context.opset >= 6 ? context.input(1).data : undefined;
  const one = repeats?.values.length === 1 && dims.length > 1;
  return [
    {
      dataType,
      dims: dims.map((dim, index) => {
        if (repeats === undefined || one) return fresh(context, index);
        const times = dimFromData(repeats, index);
        return times.symbol === 1 ? dim : { ...multiplyDims(dim, times), symbol: symbolOfProduct(dim, times) };
      }),
    },
  ];
};

const symbolOfProduct = (a: ShapeDim, b: ShapeDim) =>
  typeof a.symbol === 'number' && typeof b.symbol === 'number' ? a.symbol * b.symbol : null;

const shapeOf: ShapeRule = (context) => {
  const rank = context.input(0).dims.length;
  const clamp = (at: number) => Math.min(Math.max(at < 0 ? at + rank : at, 0), rank);
  const count = clamp(context.int('end', rank)) - clamp(context.int('start', 0));
  return [{ dataType: DataType.INT64, dims: [fixed(Math.max(0, count))] }];
};

const range: ShapeRule = (context) => {
  const { dataType } = context.input(0);
  const known = [0, 1, 2].map((index) => context.input(index).data);
  const [start, limit, delta] = known.map((data) => data && dimFromData(data, 0));
  if (!start || !limit || !delta) return [{ dataType, dims: [fresh(context, 0)] }];
  const count = Math.max(0, Math.ceil((limit.size - start.size) / delta.size));
  const constant = known.every((data) => data?.constant === true);
  const step = typeof delta.expression === 'number' && delta.expression > 0 ? delta.expression : null;
  const formula = larger(0, ceilDivide(minus(limit.expression, start.expression), step));
  return [
    { dataType, dims: [{ size: count, symbol: constant ? count : null, expression: constant ? count : formula }] },
  ];
};

const constantOfShape: ShapeRule = (context) => {
  const value = context.attribute('value');
  const dataType = value?.type === 'tensor' ? value.value.dataType : DataType.FLOAT;
  return [{ dataType, dims: dimsFromInput(context, 0) }];
};

const oneHot: ShapeRule = (context) => {
  const dims = [...context.input(0).dims];
  const axis = axisOf(context.int('axis', -1), dims.length + 1);
  const { data } = context.input(1);
  dims.splice(axis, 0, data ? dimFromData(data, 0) : fresh(context, axis));
  return [{ dataType: context.input(2).dataType, dims }];
};

/** Operators that make elements from sizes, or repeat what is there. */
export const fillRules: ShapeRules = {
  Expand: expand,
  Tile: tile,
  Shape: shapeOf,
  Size: () => [{ dataType: DataType.INT64, dims: [] }],
  Range: range,
  'com.microsoft:Range': range,
  ConstantOfShape: constantOfShape,
  OneHot: oneHot,
};
