import { app } from 'electron';

/** Words of the parts that the system draws: menus, dialogs, notifications. The page has its own. */
const english = {
  file: 'File',
  open: 'Open…',
  edit: 'Edit',
  view: 'View',
  window: 'Window',
  chooseModel: 'Choose a model',
  models: 'ONNX models',
  allFiles: 'All files',
  saveReport: 'Save report',
  keepWorking: 'Keep working',
  stopAndQuit: 'Stop and quit',
  stillWorking: 'Snug is still working.',
  stillWorkingDetail:
    'Stopping now leaves your original as it is. What was not finished is thrown away; a training can go on later.',
  done: 'The smaller model is ready.',
  trained: 'The trained model is ready.',
  failed: 'Snug could not finish.',
};

export type Words = typeof english;

const chinese: Words = {
  file: '文件',
  open: '打开…',
  edit: '编辑',
  view: '显示',
  window: '窗口',
  chooseModel: '选择模型',
  models: 'ONNX 模型',
  allFiles: '所有文件',
  saveReport: '保存报告',
  keepWorking: '继续运行',
  stopAndQuit: '停止并退出',
  stillWorking: 'Snug 仍在运行。',
  stillWorkingDetail: '现在停止不会改动原始文件。未完成的内容会被丢弃；训练可以之后继续。',
  done: '更小的模型已就绪。',
  trained: '训练好的模型已就绪。',
  failed: 'Snug 未能完成。',
};

/** Words in the user's first language that Snug speaks. */
export function words(languages: readonly string[] = app.getPreferredSystemLanguages()): Words {
  const known = languages.find((tag) => /^(?:zh|en)\b/iu.test(tag)) ?? 'en';
  return known.toLowerCase().startsWith('zh') ? chinese : english;
}
