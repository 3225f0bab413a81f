import { readdirSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { OpenModel } from '../../contract/api.js';
import type { ErrorReport } from '../../contract/errors.js';
import type { TrainingReport } from '../../contract/training.js';
import type { FitReport, JobEvent } from '../../contract/types.js';

/** The page needs names, never paths: what it cannot see it cannot leak or abuse. */
const nameOf = (file: string) => path.basename(file);

export function modelWithoutPaths(model: OpenModel): OpenModel {
  return { ...model, summary: { ...model.summary, path: nameOf(model.summary.path) } };
}

export function reportWithoutPaths(report: FitReport): FitReport {
  return {
    ...report,
    model: { ...report.model, path: nameOf(report.model.path) },
    output: report.output && { ...report.output, path: nameOf(report.output.path) },
  };
}

function trainingWithoutPaths(report: TrainingReport): TrainingReport {
  return { ...report, output: { ...report.output, path: nameOf(report.output.path) } };
}

export function outputWithoutPaths(report: FitReport | TrainingReport): FitReport | TrainingReport {
  return 'plan' in report ? reportWithoutPaths(report) : trainingWithoutPaths(report);
}

export function eventWithoutPaths(event: JobEvent): JobEvent {
  if (event.kind === 'done') return { ...event, report: reportWithoutPaths(event.report) };
  if (event.kind === 'trained') return { ...event, report: trainingWithoutPaths(event.report) };
  if (event.kind === 'failed') {
    return {
      ...event,
      error: errorWithoutPaths(event.error),
      bestSoFar: event.bestSoFar && reportWithoutPaths(event.bestSoFar),
    };
  }
  return event;
}

export function errorWithoutPaths(error: ErrorReport): ErrorReport {
  return {
    ...error,
    message: textWithoutPaths(error.message),
    action: textWithoutPaths(error.action),
    params: Object.fromEntries(
      Object.entries(error.params).map(([key, value]) => [
        key,
        typeof value === 'string' ? textWithoutPaths(value) : value,
      ]),
    ),
    ...(error.details === undefined ? {} : { details: textWithoutPaths(error.details) }),
  };
}

/**
 * Replaces the folders of absolute paths by `…`, keeping the last name. Names of graph nodes such as
 * `/layer1/conv/Conv` look like paths too; they stay, since only paths whose first folder exists at the root
 * of this computer (or that start with a drive letter) are touched.
 */
export function textWithoutPaths(text: string, rootFolders: readonly string[] = foldersAtRoot()): string {
  const windows = /\b[A-Za-z]:\\(?:[^\\\s"'<>|:()]+\\)*([^\\\s"'<>|:()]+)/gu;
  const kept = text.replaceAll(os.homedir(), '~').replace(windows, '…\\$1');
  if (rootFolders.length === 0) return kept.replace(/~(?:[\\/][^\s\\/"'<>|:()]+)*[\\/]/gu, '…/');
  const first = rootFolders.map((name) => name.replace(/[.*+?^${}()|[\]\\]/gu, '\\$&')).join('|');
  const unix = new RegExp(String.raw`(?:~|(?<![\w/.])/(?:${first}))(?:/[^\s/"'<>|:()]+)*/([^\s/"'<>|:()]+)`, 'gu');
  return kept.replace(unix, '…/$1');
}

let knownRoots: string[] | null = null;

function foldersAtRoot(): string[] {
  try {
    knownRoots ??= process.platform === 'win32' ? [] : readdirSync('/').filter((name) => name.length > 1);
  } catch {
    knownRoots = [];
  }
  return knownRoots;
}
