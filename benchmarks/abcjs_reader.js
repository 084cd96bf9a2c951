// Reads ABC with abcjs: JSON lines {"abc"} on stdin -> JSON lines on stdout, one a tune.
// `midi` is the file that abcjs writes, in base 64; `played` the notes as its player takes them,
// [onset, end, pitch] in whole notes of the first tempo: the file has every distance between two
// events rounded to a tick, and with stretched lengths (it writes no tempo changes) that adds up.
// The first line says which abcjs answers, or why none does; benchmarks/readers.py drives it.
"use strict";

const send = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
console.log = console.warn = console.error = () => {}; // abcjs talks; stdout is for answers only

let abcjs = null;
try {
  abcjs = require("abcjs");
  send({ version: require("abcjs/package.json").version });
} catch (error) {
  send({ missing: String(error.message).split("\n")[0] });
  process.exit(0);
}

function read(abc) {
  const answer = { parses: false, warnings: [], midi: null, played: [], error: null };
  try {
    const tune = abcjs.parseOnly(abc)[0];
    answer.warnings = tune.warnings || [];
    answer.parses = tune.lines.some((line) => line.staff);
    const midi = abcjs.synth.getMidiFile(tune, { midiOutputType: "binary" });
    answer.played = tune
      .setUpAudio({})
      .tracks.flat()
      .filter((event) => event.cmd === "note")
      .map((event) => [event.start, event.start + event.duration, event.pitch]);
    answer.midi = Buffer.from(midi).toString("base64");
  } catch (error) {
    answer.error = `${error.name}: ${error.message}`;
  }
  return answer;
}

const lines = require("readline").createInterface({ input: process.stdin });
lines.on("line", (line) => send(read(JSON.parse(line).abc)));
