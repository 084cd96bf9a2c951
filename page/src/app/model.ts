// The worker as functions that return promises.

import type { Progress, Questions } from "../worker/messages";

interface Open {
  resolve(answer: never): void;
  reject(error: Error): void;
  tell?(progress: Progress): void;
}

export class Model {
  private readonly worker: Worker;
  private readonly open = new Map<number, Open>();
  private nAsked = 0;

  constructor() {
    // By way of a blob the worker inherits the page's content security policy.
    const source = `import ${JSON.stringify(new URL("worker.js", document.baseURI).href)};`;
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    this.worker = new Worker(url, { type: "module" });
    this.worker.onmessage = ({ data: { id, progress, error, answer } }) => {
      const question = this.open.get(id)!;
      if (progress) return question.tell?.(progress);
      this.open.delete(id);
      if (error) question.reject(new Error(error));
      else question.resolve(answer as never);
    };
    this.worker.onerror = (event) => {
      const error = new Error(event.message || "the worker could not be started");
      for (const question of this.open.values()) question.reject(error);
      this.open.clear();
    };
  }

  ask<N extends keyof Questions>(
    name: N, asked: Questions[N][0], tell?: (progress: Progress) => void,
  ): Promise<Questions[N][1]> {
    const id = this.nAsked++;
    return new Promise((resolve, reject) => {
      this.open.set(id, { resolve, reject, tell });
      this.worker.postMessage({ id, name, asked });
    });
  }
}
