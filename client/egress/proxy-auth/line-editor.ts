/** Edits a line from the keys of a terminal in raw mode: Backspace, Ctrl-U, Enter, and Ctrl-C and Ctrl-D to cancel. */
export class LineEditor {
  readonly #echo: (text: string) => void;
  #characters: string[] = [];
  #decoder = new TextDecoder();

  constructor(echo: (text: string) => void) {
    this.#echo = echo;
  }

  /** Returns the line once it has ended; keys after its end are dropped. */
  push(bytes: Buffer): { readonly text: string } | 'broken off' | undefined {
    for (const key of this.#decoder.decode(bytes, { stream: true })) {
      if (key === '\r' || key === '\n') return { text: this.#characters.join('') };
      if (key === '\u0003' || (key === '\u0004' && this.#characters.length === 0)) return 'broken off';
      this.#press(key);
    }
    return undefined;
  }

  #press(key: string): void {
    if (key === '\u007f' || key === '\b') this.#erase(1);
    else if (key === '\u0015') this.#erase(this.#characters.length);
    else if (key >= ' ') {
      this.#characters.push(key);
      this.#echo(key);
    }
  }

  #erase(count: number): void {
    const erased = this.#characters.splice(Math.max(0, this.#characters.length - count), count);
    this.#echo('\b \b'.repeat(erased.length));
  }
}
