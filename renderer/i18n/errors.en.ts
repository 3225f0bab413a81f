import type { ErrorCode } from '../../src/contract/errors.js';
import type { Formats } from './format.js';
import { items } from './plural.en.js';

/** What the one button of an error does. */
export type ErrorAction = 'choose' | 'retry' | 'raise-budget' | 'adjust' | 'data' | 'copy' | 'none';

export interface ErrorWords {
  title: string;
  meaning: string;
}

type Params = Record<string, string | number>;

const text = (params: Params, key: string, fallback: string): string => String(params[key] ?? fallback);

/** What is wrong with labels that right answers are counted with; null where the error is of something else. */
function ofLabels({ labels, samples, label, classes, outputs }: Params): string | null {
  if (typeof labels === 'number' && typeof samples === 'number') {
    return `There are ${items(labels, 'label', 'labels')} for ${items(samples, 'sample', 'samples')}; each sample needs one.`;
  }
  if (typeof label === 'number' && typeof classes === 'number') {
    return `${label} is none of the model’s ${items(classes, 'class', 'classes')}, which are numbered from 0 to ${classes - 1}.`;
  }
  if (typeof outputs === 'string')
    return 'The model has no output with a number for each class, so nothing can be right.';
  return null;
}

/** Words for every failure; the switch is exhaustive, so a new code does not compile until it has words. */
export const errorsEn = ({ bytes }: Formats) => ({
  details: 'Details',
  copy: 'Copy details',
  copied: 'Copied',
  unchanged: 'Your original file was not changed.',
  actions: {
    choose: 'Choose another file',
    retry: 'Try again',
    'raise-budget': 'Change the budget',
    adjust: 'Open adjustments',
    data: 'Choose other samples',
    copy: 'Copy details',
    none: '',
  } satisfies Record<ErrorAction, string>,
  of(code: ErrorCode, params: Params): ErrorWords {
    switch (code) {
      case 'E_USAGE':
        return { title: 'That cannot be done', meaning: 'The request was not complete or contradicts itself.' };
      case 'E_BAD_REQUEST':
        return {
          title: 'The request was refused',
          meaning: 'This page and the engine do not agree. Reload the page or restart Snug.',
        };
      case 'E_NOT_FOUND':
        return {
          title: 'The file is not there',
          meaning: `${text(params, 'path', 'It')} was moved, renamed or deleted.`,
        };
      case 'E_NOT_ONNX':
        return {
          title: 'Not an ONNX model',
          meaning: 'The file does not hold an ONNX model, whatever its name says. Export the model to ONNX first.',
        };
      case 'E_TRUNCATED':
        return {
          title: 'The file is cut short',
          meaning: 'It ends before its own lengths say it should. Download or copy it again.',
        };
      case 'E_MALFORMED':
        return {
          title: 'The model is damaged',
          meaning: 'It breaks rules of the ONNX format, so Snug will not run it.',
        };
      case 'E_TOO_COSTLY':
        return {
          title: 'The model asks for too much',
          meaning: 'One of its steps needs more memory than this computer could ever give, so it was not loaded.',
        };
      case 'E_OPSET_TOO_NEW':
        return {
          title: 'The model is too new',
          meaning: 'It uses a newer operator set than the runtime knows. Export it again with an older opset.',
        };
      case 'E_UNKNOWN_OPERATOR':
        return {
          title: 'Unknown operator',
          meaning: `The runtime does not know ${text(params, 'operator', 'one of its operators')}, so the model cannot run here.`,
        };
      case 'E_EXTERNAL_MISSING':
        return {
          title: 'A weights file is missing',
          meaning: `The model keeps its weights in ${text(params, 'file', 'a second file')}, which is missing or too short. Drop both together, or the folder.`,
        };
      case 'E_EXTERNAL_OUTSIDE':
        return {
          title: 'Weights outside the folder',
          meaning: 'The model points to data outside of its own folder or through a link. Snug does not follow that.',
        };
      case 'E_FILE_CHANGED':
        return {
          title: 'The file changed meanwhile',
          meaning: 'Another program wrote to the model while Snug was reading it.',
        };
      case 'E_DISK_FULL':
        return {
          title: 'The disk is full',
          meaning:
            typeof params['needBytes'] === 'number'
              ? `The new model needs ${bytes(params['needBytes'])} on disk. Nothing half-written was left.`
              : 'There is not enough room for the new model. Nothing half-written was left.',
        };
      case 'E_NO_PERMISSION':
        return {
          title: 'No permission',
          meaning: `${text(params, 'path', 'The folder')} cannot be read or written by you.`,
        };
      case 'E_EXISTS':
        return {
          title: 'The output already exists',
          meaning: `${text(params, 'path', 'A file with that name')} is there already and was not overwritten.`,
        };
      case 'E_SAME_FILE':
        return { title: 'That would overwrite the original', meaning: 'The output and the input are the same file.' };
      case 'E_WRITE_FAILED':
        return {
          title: 'Writing failed',
          meaning: 'The file system refused the new model. Nothing half-written was left.',
        };
      case 'E_DATA_FORMAT':
        return typeof params['label'] === 'string'
          ? {
              title: 'The labels cannot be read',
              meaning: `${params['label']} is no class. Labels are whole numbers, counted from 0.`,
            }
          : {
              title: 'The samples cannot be read',
              meaning: 'Snug reads .npy and .npz arrays, and text for models with a tokenizer.',
            };
      case 'E_DATA_SHAPE': {
        const labels = ofLabels(params);
        if (labels !== null) return { title: 'The labels do not match', meaning: labels };
        return {
          title: 'The samples do not match the model',
          meaning:
            typeof params['rows'] === 'number' && typeof params['samples'] === 'number'
              ? `There are ${items(params['rows'], 'label', 'labels')} for ${items(params['samples'], 'sample', 'samples')}; each sample needs one row, of the shape the loss compares with.`
              : 'Their shape is not the shape of the model’s inputs; the first axis must count samples.',
        };
      }
      case 'E_DIMENSION':
        return {
          title: 'A size is missing or impossible',
          meaning: `The model needs a value for ${text(params, 'name', 'one of its dimensions')} that works.`,
        };
      case 'E_PROVIDER':
        return {
          title: 'That device cannot be used here',
          meaning: `${text(params, 'provider', 'The execution provider')} is not available on this computer.`,
        };
      case 'E_MODEL_REJECTED':
        return {
          title: 'The runtime refused the model',
          meaning: 'ONNX Runtime could not load it. The details say what it objected to.',
        };
      case 'E_RUN_FAILED':
        return {
          title: 'The model failed while running',
          meaning: 'It loads, but a step of it fails. The details name the step.',
        };
      case 'E_OUT_OF_MEMORY':
        return {
          title: 'Memory ran out',
          meaning:
            'The device or the computer had less memory than the run needed. Close other programs, or lower the budget or the batch.',
        };
      case 'E_ENGINE_KILLED':
        return {
          title: 'The engine was stopped from outside',
          meaning: 'The system or another program ended it, often because memory ran out.',
        };
      case 'E_ENGINE_CRASHED':
        return { title: 'The engine stopped unexpectedly', meaning: 'It ended by itself in the middle of the work.' };
      case 'E_CANCELLED':
        return { title: 'Stopped', meaning: 'You stopped the work.' };
      case 'E_NOTHING_FITS':
        return {
          title: 'Nothing fits this budget',
          meaning:
            typeof params['smallestBytes'] === 'number'
              ? `The smallest Snug can reach is ${bytes(params['smallestBytes'])}.`
              : 'No plan Snug knows gets below the budget.',
        };
      case 'E_NOT_SUPPORTED':
        return {
          title: 'Not possible for this model',
          meaning:
            typeof params['operator'] === 'string'
              ? `${params['operator']} (${text(params, 'node', 'a node of the model')}) cannot do what was asked.`
              : 'This operator, format or device cannot do what was asked.',
        };
      case 'E_INTERNAL':
        return {
          title: 'Something inside Snug went wrong',
          meaning: 'This is a fault in Snug. The details help to repair it.',
        };
    }
  },
});
