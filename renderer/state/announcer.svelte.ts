/** The page's one polite live region. Screen readers hear a sentence; nothing else on the page is live. */
class Announcer {
  text = $state('');

  say(sentence: string): void {
    // The same sentence twice must change the text, or it is not read again.
    this.text = sentence === this.text ? `${sentence}\u00a0` : sentence;
  }
}

export const announcer = new Announcer();
