// The model and the grammar take turns, token by token.

import type { Reader } from "../engine/decoder";
import { draw, randomAt, type Sampling } from "../engine/sampling";
import type { Written } from "./messages";

/** A tune under way: `Task` of page/python/api.py. Ids come as text with commas. */
export interface Task {
  begin(): string;
  accept(token: number): boolean;
  legal(): string;
  forced(): string;
  is_over(): boolean;
  tune(): string;
}

const idsOf = (text: string) => (text ? text.split(",").map(Number) : []);

/**
 * Writes a tune.
 *
 * The model draws; where the grammar forbids what it drew, it draws again from what is legal. With
 * top-p 1 that is the same distribution as masking. What has no alternative is read at once. Each
 * draw takes its random number by place, so grammar and runs do not change the others.
 *
 * @param pause Called after each token; resolves to true if writing is to stop.
 */
export async function writeTune(
  reader: Reader, task: Task, sampling: Sampling, endId: number, newlines: Set<number>,
  pause: (lineEnded: boolean) => Promise<boolean>,
): Promise<Written> {
  const started = performance.now();
  const prompt = idsOf(task.begin());
  let place = prompt.length;
  let nReplaced = 0;
  let logits = reader.begin(prompt);
  while (!task.is_over()) {
    let token = draw(logits, sampling, randomAt(sampling.seed, place, 0));
    if (!task.accept(token)) {
      nReplaced++;
      token = draw(logits, sampling, randomAt(sampling.seed, place, 1), idsOf(task.legal()));
      if (!task.accept(token)) throw new Error(`token ${token} is legal, but was refused`);
    }
    const run = [token, ...idsOf(task.forced())];
    place += run.length;
    const stopped = await pause(run.some((id) => newlines.has(id)));
    if (stopped || run.includes(endId)) break;
    logits = reader.read(run);
  }
  const seconds = (performance.now() - started) / 1000;
  return { abc: task.tune(), nTokens: place - prompt.length, nReplaced, seconds };
}
