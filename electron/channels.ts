/** Names of the IPC channels. Requests: `call`, `files`; pushed to the page: `job`, `opened`. */
export const channels = {
  call: 'snug:call',
  files: 'snug:files',
  job: 'snug:job',
  opened: 'snug:opened',
} as const;
