import type { Configuration } from 'electron-builder';
import electronPackage from 'electron/package.json' with { type: 'json' };

/**
 * Every fuse is stated: a new one in a later electron-builder does not compile until somebody decided about it.
 * `build/check-fuses.js` reads them back from the packaged program.
 */
const electronFuses: Required<NonNullable<Configuration['electronFuses']>> = {
  runAsNode: false,
  enableCookieEncryption: true,
  enableNodeOptionsEnvironmentVariable: false,
  enableNodeCliInspectArguments: false,
  // Checked by Electron on macOS and Windows; Linux has no such check, and unpacked files are outside of it.
  enableEmbeddedAsarIntegrityValidation: true,
  onlyLoadAppFromAsar: true,
  loadBrowserProcessSpecificV8Snapshot: false,
  grantFileProtocolExtraPrivileges: false,
  // Flipping a fuse breaks the signature of an Apple Silicon binary; an unsigned build needs a new ad-hoc one.
  resetAdHocDarwinSignature: true,
};

const config: Configuration = {
  appId: 'org.snug.app',
  productName: 'Snug',
  directories: { output: 'dist', buildResources: 'build' },
  electronVersion: electronPackage.version,
  // An unpacked runtime that is already there; absent, electron-builder downloads one.
  electronDist: process.env.ELECTRON_OVERRIDE_DIST_PATH ?? null,
  // onnxruntime-node comes prebuilt for Node-API; rebuilding would only fetch headers.
  npmRebuild: false,
  electronFuses,
  asar: true,
  files: [
    'package.json',
    'LICENSE',
    'out/**/*',
    '!out/**/*.map',
    '!out/.built',
    '!out/cli.js',
    'src/app/samples/**/*',
    '!node_modules/onnxruntime-node/bin/**/*',
    'node_modules/onnxruntime-node/bin/napi-v6/${platform}/${arch}/**/*',
    '!node_modules/**/*.{map,md,d.ts,d.cts,d.mts}',
  ],
  // What native code opens by path cannot lie inside the archive.
  asarUnpack: ['node_modules/onnxruntime-node/bin/**/*', 'node_modules/@img/**/*', 'src/app/samples/**/*'],
  fileAssociations: [
    {
      ext: 'onnx',
      name: 'ONNX model',
      description: 'ONNX model',
      mimeType: 'application/onnx',
      role: 'Editor',
      // Offered under "Open with"; another program stays the default.
      rank: 'Alternate',
    },
  ],
  linux: { target: ['AppImage'], category: 'Science', executableName: 'snug-desktop' },
  mac: { target: [{ target: 'dmg', arch: ['arm64'] }], category: 'public.app-category.developer-tools' },
  win: { target: ['nsis'] },
  nsis: { oneClick: false, perMachine: false, allowToChangeInstallationDirectory: true },
  publish: null,
};

export default config;
