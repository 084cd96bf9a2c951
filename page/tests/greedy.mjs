// node greedy.mjs <kernels.wasm> <n tokens> <model folder> ... -> JSON: for each folder the ids that
// are chosen greedily, with SIMD, in plain JavaScript, and whether runs read at once change a logit.

import { draw, readerOf } from "./engine.mjs";

const [kernels, n, ...folders] = process.argv.slice(2);

function greedy(reader) {
  const ids = [2];
  let logits = reader.begin(ids);
  for (let i = 0; i < Number(n); i++) {
    ids.push(draw(logits, { temperature: 0 }, 0));
    logits = reader.read(ids.slice(-1));
  }
  return { ids, logits };
}

function inRuns(reader, ids) {
  let logits = reader.begin(ids.slice(0, 4));
  for (let i = 4; i < ids.length; i += 7) logits = reader.read(ids.slice(i, i + 7));
  return logits;
}

const found = [];
for (const folder of folders) {
  const simd = greedy(await readerOf(folder, kernels, false));
  const plain = greedy(await readerOf(folder, kernels, true));
  const runs = inRuns(await readerOf(folder, kernels, false), simd.ids);
  found.push({
    ids: simd.ids,
    plainIds: plain.ids,
    isPlainSame: plain.logits.every((logit, i) => logit === simd.logits[i]),
    areRunsSame: runs.every((logit, i) => logit === simd.logits[i]),
  });
}
console.log(JSON.stringify(found));
