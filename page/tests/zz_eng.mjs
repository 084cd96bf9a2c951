import { readerOf } from "./engine.mjs";
const [kernels, model, n, runs] = process.argv.slice(2);
const cpu = () => { const u = process.cpuUsage(); return (u.user + u.system) / 1e3; };
for (const plain of [false]) {
const reader = await readerOf(model, kernels, plain);
reader.begin([2]);
for (let b = 0; b < Number(runs); b++) {
  reader.begin([2]);
  const c0 = cpu(), t0 = performance.now();
  for (let i = 0; i < Number(n); i++) reader.read([5 + (i * 7) % 50]);
  console.log("plain", plain, "cpu ms per step", ((cpu() - c0) / n).toFixed(3), "wall", ((performance.now() - t0) / n).toFixed(3));
}
const ids = Array.from({ length: 512 }, (_, i) => 5 + (i * 7) % 50);
reader.begin([2]); const c1 = cpu(); reader.read(ids); console.log("512 at once, cpu ms", (cpu() - c1).toFixed(1));
}
