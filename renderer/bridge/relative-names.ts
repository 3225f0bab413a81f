/** Names inside a dropped folder. `File` objects made from directory entries do not carry them. */
const names = new WeakMap<File, string>();

export function setRelativeName(file: File, name: string): void {
  names.set(file, name);
}

/** Path of the file inside what was dropped or chosen, with forward slashes; its plain name otherwise. */
export function relativeName(file: File): string {
  return names.get(file) ?? (file.webkitRelativePath || file.name);
}
