// The tunes so far: undo and redo.

export class History {
  private texts: string[] = [];
  private place = -1;

  get current(): string {
    return this.texts[this.place] ?? "";
  }

  get canUndo(): boolean {
    return this.place > 0;
  }

  get canRedo(): boolean {
    return this.place < this.texts.length - 1;
  }

  /** Adds a tune behind the current one; what was undone is forgotten. */
  push(text: string): void {
    if (text === this.current) return;
    this.texts = [...this.texts.slice(0, this.place + 1), text];
    this.place++;
  }

  undo(): string {
    if (this.canUndo) this.place--;
    return this.current;
  }

  redo(): string {
    if (this.canRedo) this.place++;
    return this.current;
  }
}
