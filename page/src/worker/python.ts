// The project's Python in the page: pyodide, and the archive of its modules.

import type { Task } from "./writing_loop";

/** `Page` of page/python/api.py. */
export interface PythonPage {
  facts(): string;
  begin(request: string): Task & { destroy(): void };
  show(abc: string, width: number): string;
  next(text: string): string;
  open(content: Uint8Array): string;
}

interface Pyodide {
  unpackArchive(archive: ArrayBuffer, format: string): void;
  runPython(code: string): unknown;
}

const FILES = ["pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json"];

/** Starts Python and makes the page's object for a tokenizer. */
export async function startPython(
  base: string, archive: ArrayBuffer, tokenizer: string, trainedLength: number,
): Promise<PythonPage> {
  const indexURL = `${base}pyodide/`;
  await Promise.all(FILES.map(async (name) => { // pyodide would wait for a missing one without end
    const { ok, status } = await fetch(indexURL + name, { method: "HEAD" });
    if (!ok) throw new Error(`pyodide/${name} is missing (${status})`);
  }));
  const { loadPyodide } = await import(`${indexURL}pyodide.mjs`);
  const pyodide: Pyodide = await loadPyodide({ indexURL });
  pyodide.unpackArchive(archive, "zip");
  const makePage = pyodide.runPython("from page.python.api import Page; Page");
  return (makePage as (file: string, length: number) => PythonPage)(tokenizer, trainedLength);
}

/** The last line of a Python error: what a person needs. */
export function plainMessage(error: unknown): string {
  const text = (error instanceof Error ? error.message : String(error)).trim();
  const last = text.slice(text.lastIndexOf("\n") + 1);
  return last.replace(/^[\w.]*(Error|Exception): /, "");
}
