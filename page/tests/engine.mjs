// The page's engine and writing loop for Node, bundled as the page has them.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

// a trace would show the whole bundle
process.on("uncaughtException", (error) => {
  console.error(error.message);
  process.exit(1);
});

const source = join(import.meta.dirname, "../src");
const modules = ["engine/kernels", "engine/decoder", "engine/weights", "engine/sampling", "worker/writing_loop"];
const { outputFiles: [bundle] } = await build({
  stdin: { contents: modules.map((name) => `export * from "./${name}";`).join("\n"), resolveDir: source },
  bundle: true, format: "esm", write: false, logLevel: "warning",
});
const { loadKernels, makeDecoder, readTensors, Reader, draw, writeTune } = await import(
  `data:text/javascript;base64,${Buffer.from(bundle.contents).toString("base64")}`
);
export { draw, writeTune };

export const bytesOf = (file) => new Uint8Array(readFileSync(file)).buffer;

/** A reader for the model in a folder. */
export async function readerOf(folder, kernels, isPlain) {
  const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
  const tensors = readTensors(bytesOf(join(folder, "model.safetensors")));
  return new Reader(makeDecoder(await loadKernels(bytesOf(kernels), isPlain), config, tensors));
}
