import { DataType } from './model.js';
import {
  multiplyDims,
  fixed,
  ShapeGap,
  type RuleContext,
  type ShapeDim,
  type ShapeRule,
  type ShapeRules,
} from './shape-types.js';

/** Rows of a feature table; a single row may come without its batch axis. */
function rows(context: RuleContext): ShapeDim {
  const { dims } = context.input(0);
  return dims.length > 1 ? (dims[0] ?? fixed(1)) : fixed(1);
}

const sameFloat: ShapeRule = (context) => [{ dataType: DataType.FLOAT, dims: context.input(0).dims }];

const same: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType, dims }];
};

const lengthOf = (context: RuleContext, ...names: string[]): number => {
  for (const name of names) {
    const attribute = context.attribute(name);
    if (attribute?.type === 'ints' || attribute?.type === 'strings' || attribute?.type === 'floats') {
      return attribute.value.length;
    }
  }
  return 0;
};

function labelType(context: RuleContext, strings: string): number {
  return context.attribute(strings) === undefined ? DataType.INT64 : DataType.STRING;
}

/** Labels [rows] and scores [rows, classes]. */
function classifier(strings: string, ints: string): ShapeRule {
  return (context) => {
    const classes = lengthOf(context, strings, ints);
    if (classes === 0) throw new ShapeGap('the classes are not listed');
    const count = rows(context);
    return [
      { dataType: labelType(context, strings), dims: [count] },
      { dataType: DataType.FLOAT, dims: [count, fixed(classes)] },
    ];
  };
}

function regressor(targets: string): ShapeRule {
  return (context) => [{ dataType: DataType.FLOAT, dims: [rows(context), fixed(context.int(targets, 1))] }];
}

const labelEncoder: ShapeRule = (context) => {
  const types: [string, number][] = [
    ['values_strings', DataType.STRING],
    ['values_int64s', DataType.INT64],
    ['values_floats', DataType.FLOAT],
  ];
  const tensor = context.attribute('values_tensor');
  const found = types.find(([name]) => context.attribute(name) !== undefined);
  const dataType = tensor?.type === 'tensor' ? tensor.value.dataType : found?.[1];
  if (dataType === undefined) throw new ShapeGap('the values are not listed');
  return [{ dataType, dims: context.input(0).dims }];
};

/** Strings to numbers or back. */
const categoryMapper: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  return [{ dataType: dataType === DataType.STRING ? DataType.INT64 : DataType.STRING, dims }];
};

const oneHotEncoder: ShapeRule = (context) => [
  {
    dataType: DataType.FLOAT,
    dims: [...context.input(0).dims, fixed(lengthOf(context, 'cats_int64s', 'cats_strings'))],
  },
];

const featureVectorizer: ShapeRule = (context) => {
  const widths = context.ints('inputdimensions') ?? [];
  return [{ dataType: DataType.FLOAT, dims: [rows(context), fixed(widths.reduce((sum, width) => sum + width, 0))] }];
};

const arrayFeatureExtractor: ShapeRule = (context) => {
  const { dataType, dims } = context.input(0);
  const picked = multiplyDims(...context.input(1).dims);
  return [{ dataType, dims: dims.length === 1 ? [fixed(1), picked] : [...dims.slice(0, -1), picked] }];
};

const domain = (rules: ShapeRules): ShapeRules =>
  Object.fromEntries(Object.entries(rules).map(([name, rule]) => [`ai.onnx.ml:${name}`, rule]));

/** Classical models (ai.onnx.ml), as converters of scikit-learn and boosted trees write them. */
export const classicRules: ShapeRules = domain({
  Binarizer: same,
  Imputer: same,
  Normalizer: sameFloat,
  Scaler: sameFloat,
  LabelEncoder: labelEncoder,
  CategoryMapper: categoryMapper,
  OneHotEncoder: oneHotEncoder,
  FeatureVectorizer: featureVectorizer,
  ArrayFeatureExtractor: arrayFeatureExtractor,
  LinearClassifier: classifier('classlabels_strings', 'classlabels_ints'),
  LinearRegressor: regressor('targets'),
  SVMRegressor: (context) => [{ dataType: DataType.FLOAT, dims: [rows(context), fixed(1)] }],
  TreeEnsemble: regressor('n_targets'),
  TreeEnsembleClassifier: classifier('classlabels_strings', 'classlabels_int64s'),
  TreeEnsembleRegressor: regressor('n_targets'),
});
