// The greedy tune of a published folder in transformers.js under node.
//
//     node transformers_js.mjs <folder> <number of tokens> <dtype: fp32 or q8>
//
// transformers.js is looked for from the working directory. Prints the ids as JSON.
import { createRequire } from "node:module";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(join(process.cwd(), "package.json"));
const { AutoModelForCausalLM, AutoTokenizer, env } = await import(
  pathToFileURL(require.resolve("@huggingface/transformers")).href
);

const [folder, count, dtype] = process.argv.slice(2);
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
const text = "X:1\nM:3/4\nL:1/16\n[V:1]^A,2|]";
console.log(
  JSON.stringify({
    greedy: output.tolist()[0].slice(1).map(Number),
    text,
    ids: (await tokenizer(text)).input_ids.tolist()[0].map(Number),
    decoded: tokenizer.decode((await tokenizer(text)).input_ids.tolist()[0], { skip_special_tokens: true }),
  }),
);
