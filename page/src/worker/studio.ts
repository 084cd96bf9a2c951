// What a studio computes for the page: evaluation/serving/studio/app.py.

import type { Sampling } from "../engine/sampling";
import type { Opened, Request, Written } from "./messages";

/** A line of the answer to `write`. */
interface Line {
  text?: string;
  abc?: string;
  nTokens?: number;
  error?: string;
}

export class Studio {
  private stopping = new AbortController();

  constructor(private readonly base: string) {}

  /** Writes a tune; what is written so far is told line by line. */
  async write(request: Request, sampling: Sampling, tell: (text: string) => void): Promise<Written> {
    const started = performance.now();
    this.stopping = new AbortController();
    const { signal } = this.stopping;
    let found: Line = { abc: "", nTokens: 0 };
    try {
      const { body } = await this.post("write", JSON.stringify({ request, sampling }), signal);
      for await (const line of linesOf(body!)) {
        if (line.error) throw new Error(line.error);
        if (line.text !== undefined) tell(line.text);
        found = { ...found, abc: line.abc ?? line.text, nTokens: line.nTokens ?? found.nTokens };
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
    const seconds = (performance.now() - started) / 1000;
    return { abc: found.abc!, nTokens: found.nTokens!, nReplaced: 0, seconds };
  }

  /** Ends a tune under way: what is there is kept. */
  stop(): void {
    this.stopping.abort();
  }

  /** Probabilities (V,) of the token after others. */
  async probabilities(ids: number[], temperature: number): Promise<number[]> {
    return (await this.post("next", JSON.stringify({ ids, temperature }))).json();
  }

  /** Reads a file of music, of any kind. */
  async open(name: string, content: Uint8Array<ArrayBuffer>): Promise<Opened> {
    return (await this.post(`convert?name=${encodeURIComponent(name)}`, content)).json();
  }

  private async post(what: string, body: BodyInit, signal?: AbortSignal): Promise<Response> {
    const response = await fetch(`${this.base}studio/${what}`, { method: "POST", body, signal }).catch((error) => {
      if (signal?.aborted) throw error;
      throw new Error("the studio does not answer: it has ended, or refused a large file");
    });
    if (response.ok) return response;
    const isJson = response.headers.get("content-type") === "application/json";
    throw new Error(isJson ? (await response.json()).error : `the studio answered ${response.status}`);
  }
}

async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Line> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + decoder.decode(part.value, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) yield JSON.parse(line);
  }
}
