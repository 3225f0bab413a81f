import eslint from '@eslint/js';
import svelte from 'eslint-plugin-svelte';
import tseslint from 'typescript-eslint';

/** Which rooms a room may import from, besides itself (ARCHITECTURE.md, "Import law"). */
const law = {
  'src/contract': [],
  'src/onnx': ['contract'],
  'src/hardware': ['contract'],
  'src/memory': ['contract', 'onnx'],
  'src/runtime': ['contract', 'onnx'],
  'src/prune': ['contract', 'onnx', 'runtime'],
  'src/quantize': ['contract', 'onnx', 'runtime'],
  'src/train': ['contract', 'onnx', 'runtime'],
  'src/quality': ['contract', 'runtime'],
  'src/fit': ['contract', 'onnx', 'hardware', 'memory', 'prune', 'quantize', 'runtime', 'train', 'quality'],
  'src/app': ['contract', 'onnx', 'hardware', 'memory', 'prune', 'quantize', 'runtime', 'train', 'quality', 'fit'],
  'src/serve': ['contract', 'app'],
  'src/cli': [
    'contract',
    'onnx',
    'hardware',
    'memory',
    'prune',
    'quantize',
    'runtime',
    'train',
    'quality',
    'fit',
    'app',
    'serve',
  ],
};
const rooms = [
  'contract',
  'onnx',
  'hardware',
  'memory',
  'prune',
  'quantize',
  'runtime',
  'train',
  'quality',
  'fit',
  'app',
  'serve',
  'cli',
];

const roomRules = Object.entries(law).map(([room, allowed]) => {
  const own = room.split('/')[1];
  const forbidden = rooms.filter((other) => other !== own && !allowed.includes(other));
  return {
    files: [`${room}/**/*.ts`],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            ...forbidden.map((other) => ({
              group: [`**/${other}/*`, `**/${other}`],
              message: `${room} may not import src/${other} (import law).`,
            })),
            {
              group: ['electron', '**/electron/*', '**/renderer/*', 'svelte', 'chart.js'],
              message: 'The engine knows no Electron and no DOM.',
            },
          ],
        },
      ],
    },
  };
});

export default tseslint.config(
  { ignores: ['out/', 'dist/', 'node_modules/', 'test-results/', 'playwright-report/'] },
  eslint.configs.recommended,
  ...tseslint.configs.recommended,
  ...svelte.configs['flat/recommended'],
  {
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/consistent-type-imports': 'error',
      'no-restricted-exports': ['error', { restrictDefaultExports: { direct: true } }],
      'no-undef': 'off',
      eqeqeq: 'error',
    },
  },
  // Configuration files export a default because their tools ask for it.
  {
    files: [
      '*.config.{js,ts}',
      'test/bench/*.config.ts',
      'renderer/*.config.ts',
      'build/electron-builder.ts',
      'test/build-engine.ts',
      'test/renderer/global*.ts',
      'test/door/global*.ts',
      '*.js',
      '*.ts',
    ],
    rules: { 'no-restricted-exports': 'off' },
  },
  {
    files: ['**/*.svelte', '**/*.svelte.ts'],
    languageOptions: { parserOptions: { parser: tseslint.parser, extraFileExtensions: ['.svelte'] } },
  },
  {
    files: ['renderer/**/*.{ts,svelte}'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              group: [
                ...rooms.filter((room) => room !== 'contract').map((room) => `**/src/${room}/*`),
                'electron',
                'node:*',
              ],
              message: 'The page knows the contract only.',
            },
          ],
        },
      ],
    },
  },
  {
    files: ['electron/**/*.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              group: ['onnxruntime-node', '**/onnx/*', '**/quantize/*', '**/prune/*', '**/memory/*', '**/fit/*'],
              message: 'The desktop door stays thin: go through src/app.',
            },
          ],
        },
      ],
    },
  },
  ...roomRules,
);
