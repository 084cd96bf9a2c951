// The greedy tune of a published folder in transformers.js under node.
//
//     node transformers_js.mjs <folder> <number of tokens> <fp32 or q8> <text>
//
// transformers.js is looked for from the working directory. Prints the ids of the tune as JSON, and
// those of the text.
import { createRequire } from "node:module";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(join(process.cwd(), "package.json"));
const { AutoModelForCausalLM, AutoTokenizer, env } = await import(
  pathToFileURL(require.resolve("@huggingface/transformers")).href
);

const [folder, count, dtype, text] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = dirname(resolve(folder));
const name = basename(resolve(folder));
const tokenizer = await AutoTokenizer.from_pretrained(name);
const model = await AutoModelForCausalLM.from_pretrained(name, { dtype });
const inputs = await tokenizer("");
const output = await model.generate({
  ...inputs,
  do_sample: false,
  max_new_tokens: Number(count),
  eos_token_id: [],
});
const ids = (await tokenizer(text)).input_ids.tolist()[0].map(Number);
console.log(
  JSON.stringify({
    greedy: output.tolist()[0].slice(1).map(Number),
    ids,
    decoded: tokenizer.decode(ids, { skip_special_tokens: true }),
  }),
);
