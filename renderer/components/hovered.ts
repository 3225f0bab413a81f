import type { Attachment } from 'svelte/attachments';

/**
 * Tells when the pointer is over an element that is only a part of a picture. Keyboard and screen-reader
 * users get the same facts from the legend or the table beside it.
 */
export function hovered(tell: (over: boolean) => void): Attachment<HTMLElement> {
  return (element) => {
    const enter = (): void => tell(true);
    const leave = (): void => tell(false);
    element.addEventListener('pointerenter', enter);
    element.addEventListener('pointerleave', leave);
    return () => {
      element.removeEventListener('pointerenter', enter);
      element.removeEventListener('pointerleave', leave);
    };
  };
}
