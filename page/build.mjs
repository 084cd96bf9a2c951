// Builds the static page: node build.mjs <folder>. `make page` puts the model's files there first.

import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { compileKernels } from "./compile_kernels.mjs";
import { trimZip } from "./trim_zip.mjs";

const here = import.meta.dirname;
const out = process.argv[2];
if (!out) throw new Error("expected: node build.mjs <folder>");
const packageFolder = (name) => join(here, "node_modules", name);

// abcjs sets style attributes, which the content security policy forbids; the property is allowed.
// It also adds a style sheet to each drawing, for notes that are dragged, which ours are not.
const stylesByProperty = {
  name: "styles-by-property",
  setup: ({ onLoad }) => onLoad({ filter: /abcjs.*\.js$/ }, ({ path }) => ({
    contents: readFileSync(path, "utf8")
      .replace(/\.setAttribute\((['"])style\1,/g, ".style.cssText = (")
      .replace("renderer.paper.insertStyles(", "void ("),
  })),
};

await build({
  entryPoints: { app: join(here, "src/app/main.ts"), worker: join(here, "src/worker/worker.ts") },
  bundle: true,
  plugins: [stylesByProperty],
  format: "esm",
  target: "es2022",
  minify: true,
  legalComments: "none", // they are in licenses.txt
  outdir: out,
  logLevel: "warning",
});

compileKernels(join(out, "kernels.wasm"));

for (const name of ["index.html", "style.css", "icon.svg"]) cpSync(join(here, "src", name), join(out, name));
mkdirSync(join(out, "pyodide"), { recursive: true });
for (const name of ["pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "pyodide-lock.json"]) {
  cpSync(join(packageFolder("pyodide"), name), join(out, "pyodide", name));
}
const library = "python_stdlib.zip";
writeFileSync(join(out, "pyodide", library), trimZip(readFileSync(join(packageFolder("pyodide"), library)), isUsed));
mkdirSync(join(out, "sound"), { recursive: true });
cpSync(join(packageFolder("spessasynth_lib"), "dist/spessasynth_processor.min.js"), join(out, "sound/synthesizer.js"));
const bank = join(here, "../evaluation/sound_bank");
cpSync(join(bank, "fluid_r3_mono_cut.sf3"), join(out, "sound/bank.sf3"));
writeFileSync(join(out, "licenses.txt"), licenses());

/** Whether a file of Python's library can be of use: the page has no network, terminal, processes or tests. */
function isUsed(name) {
  const unused = "_pyrepl|bdb|cProfile|compileall|cmd|doctest|ftplib|http|imaplib|mailbox|modulefinder|multiprocessing|"
    + "pdb|pickletools|plistlib|poplib|profile|pstats|pty|pyclbr|pydoc|rlcompleter|smtplib|socketserver|sqlite3|"
    + "trace|tty|unittest|webbrowser|wsgiref|xml|xmlrpc|zipapp|zoneinfo";
  if (new RegExp(`^(${unused})(/|\\.py$)`).test(name)) return false;
  const encodings = "__init__|aliases|ascii|charmap|cp437|idna|iso8859_1|latin_1|punycode|raw_unicode_escape|"
    + "unicode_escape|utf_\\w+";
  return !name.startsWith("encodings/") || new RegExp(`^encodings/((${encodings})\\.py)?$`).test(name);
}

/** The licenses of all that is shipped. */
function licenses() {
  const { dependencies } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
  const names = [...Object.keys(dependencies), "stb-vorbis"];
  const parts = names.map((name) => {
    const folder = packageFolder(name);
    const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    const files = readdirSync(folder).filter((file) => /licen[cs]e/i.test(file));
    const texts = files.map((file) => readFileSync(join(folder, file), "utf8").trim());
    return [`${name} ${version} (${license ?? "see below"})`, ...texts].join("\n\n");
  });
  for (const file of [join(here, "src", "licenses_of_python.txt"), join(bank, "LICENSE.md")]) {
    parts.push(readFileSync(file, "utf8").trim());
  }
  return parts.join(`\n\n${"=".repeat(80)}\n\n`) + "\n";
}
