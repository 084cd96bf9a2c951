// abcjs as a judge: JSON lines {"text"} on stdin -> one JSON line each on stdout, after a first
// line that says the version. Runs in a sandbox; evaluation/judging/judge_process.py drives it.
// `played` are the notes as its player takes them, [onset in quarters of the first tempo, pitch]:
// in the file that it writes every distance between two events is rounded, which adds up.
"use strict";

const MAX_NOTES = 100000;
const MAX_MIDI_BYTES = 4 << 20;
const MESSAGES_SHOWN = 5;
const MESSAGE_CHARS = 200;

const send = (answer) => process.stdout.write(JSON.stringify(answer) + "\n");
console.log = console.warn = console.error = () => {}; // abcjs talks; stdout is for answers only

const sandbox = JSON.parse(process.env.SANDBOX || "{}");
let abcjs = null;
try {
  abcjs = require("abcjs");
  send({ sandbox, version: require("abcjs/package.json").version });
} catch (error) {
  send({ sandbox, missing: true });
  process.exit(0);
}

// The quoted line of music, in HTML, comes after two spaces.
const shown = (warning) => String(warning).split(":  ")[0].slice(0, MESSAGE_CHARS);

function read(text) {
  const answer = { parse: false, midi: false, warnings: 0, messages: [], played: [] };
  try {
    const tunes = abcjs.parseOnly(text);
    const tune = tunes[0];
    answer.tunes = tunes.length;
    const warnings = tune.warnings || [];
    answer.warnings = warnings.length;
    answer.messages = warnings.slice(0, MESSAGES_SHOWN).map(shown);
    answer.parse = tune.lines.some((line) => line.staff);
    const midi = abcjs.synth.getMidiFile(tune, { midiOutputType: "binary" });
    const played = tune
      .setUpAudio({})
      .tracks.flat()
      .filter((event) => event.cmd === "note");
    if (played.length > MAX_NOTES || midi.length > MAX_MIDI_BYTES) {
      return { ...answer, error: `more than ${MAX_NOTES} notes` };
    }
    answer.played = played.map((event) => [4 * event.start, Math.round(event.pitch)]);
    answer.file = Buffer.from(midi).toString("base64");
  } catch (error) {
    answer.error = `${error.name}: ${error.message}`.slice(0, MESSAGE_CHARS);
  }
  return answer;
}

const lines = require("readline").createInterface({ input: process.stdin });
lines.on("line", (line) => send(read(JSON.parse(line).text)));
