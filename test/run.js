#!/usr/bin/env node
/**
 * Runs every suite (vitest, Playwright, true Electron where there is one) and ends with one line
 * `N passed, N failed, N skipped`. Skipped tests are listed with their reason.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const results = path.join(root, 'test-results');
rmSync(results, { recursive: true, force: true });
mkdirSync(results, { recursive: true });

const totals = { passed: 0, failed: 0, skipped: 0 };
const skips = [];

function run(title, command, args, env = {}) {
  console.log(`\n== ${title}`);
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } });
  return status ?? 1;
}

function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

function node(file, ...args) {
  return [process.execPath, [path.join(root, file), ...args]];
}

/** A suite that ended without a readable result counts as one failure: it must not vanish. */
function crashed(title, status) {
  if (status !== 0) {
    console.error(`${title} ended with exit code ${status}.`);
    totals.failed++;
  }
}

function vitest() {
  const file = path.join(results, 'vitest.json');
  const status = run(
    'unit and engine tests',
    ...node(
      'node_modules/vitest/vitest.mjs',
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${file}`,
    ),
    {
      SNUG_SKIP_BUILD: '1',
    },
  );
  const json = readJson(file);
  if (!json) return crashed('vitest', status || 1);
  totals.passed += json.numPassedTests;
  totals.failed += json.numFailedTests;
  totals.skipped += json.numPendingTests + json.numTodoTests;
  for (const suite of json.testResults) {
    for (const test of suite.assertionResults)
      if (test.status === 'skipped' || test.status === 'pending') skips.push(test.fullName);
  }
  if (json.numFailedTests === 0) crashed('vitest', status);
}

function playwright() {
  const file = path.join(results, 'playwright.json');
  if (run('browser for the tests', ...node('build/browser.js')) !== 0)
    console.log('no browser: the browser tests will be skipped');
  const status = run('the app in a real browser', ...node('node_modules/@playwright/test/cli.js', 'test'));
  const json = readJson(file);
  if (!json) return crashed('playwright', status || 1);
  totals.passed += json.stats.expected + json.stats.flaky;
  totals.failed += json.stats.unexpected;
  totals.skipped += json.stats.skipped;
  const visit = (suite) => {
    for (const spec of suite.specs ?? [])
      for (const test of spec.tests)
        if (test.status === 'skipped')
          skips.push(
            `${spec.title}: ${
              test.annotations
                .map((a) => a.description)
                .filter(Boolean)
                .join(' ') || 'no reason given'
            }`,
          );
    for (const child of suite.suites ?? []) visit(child);
  };
  for (const suite of json.suites) visit(suite);
  if (json.stats.flaky > 0) console.log(`${json.stats.flaky} passed only at the second try`);
  if (json.stats.unexpected === 0) crashed('playwright', status);
}

crashed('build', run('build', ...node('build/build.js')));
vitest();
if (existsSync(path.join(root, 'playwright.config.ts'))) playwright();

if (skips.length > 0) console.log(`\nSkipped:\n${skips.map((s) => `  - ${s}`).join('\n')}`);
console.log(`\n${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exit(totals.failed > 0 ? 1 : 0);
