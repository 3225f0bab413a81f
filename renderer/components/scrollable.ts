import type { Attachment } from 'svelte/attachments';

/** Makes a box that scrolls reachable by keyboard, and only while there is something to scroll. */
export const scrollable: Attachment<HTMLElement> = (box) => {
  const update = (): void => {
    const overflows = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (overflows) box.tabIndex = 0;
    else box.removeAttribute('tabindex');
  };
  const observer = new ResizeObserver(update);
  observer.observe(box);
  for (const child of box.children) observer.observe(child);
  return () => observer.disconnect();
};
