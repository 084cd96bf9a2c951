// Compiles the engine's arithmetic to WebAssembly.

import { execFileSync } from "node:child_process";
import { join } from "node:path";

const here = import.meta.dirname;

export function compileKernels(file) {
  execFileSync(process.execPath, [
    join(here, "node_modules/assemblyscript/bin/asc.js"), join(here, "kernels/simd.ts"),
    "--enable", "simd", "--runtime", "stub", "-O3", "--converge", "--noAssert",
    "--importMemory", "--initialMemory", "1", "--outFile", file,
  ], { stdio: "inherit" });
}
