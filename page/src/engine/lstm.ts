// The LSTM family: modeling/modeling_abc_lstm.py, one token at a time.

import type { Decoder, ModelConfig } from "./decoder";
import { beside, inSingle, Memory, padded, type Matrix, type Tensor } from "./weights";

interface Layer {
  weights: Matrix; // (4 C, 2 C): of the input and of the hidden state
  bias: number; // (4 C,)
  state: number; // input and hidden state side by side, (2 C,); then the cell, (C,)
}

export class Lstm implements Decoder {
  readonly context = Infinity;
  private readonly width: number;
  private readonly embedding: Matrix;
  private readonly head: Matrix;
  private readonly gates: number;
  private readonly logits: number;
  private readonly layers: Layer[];

  constructor(private readonly memory: Memory, private readonly config: ModelConfig) {
    const { hidden_size: size, vocab_size: vocabulary } = config;
    this.width = padded(size);
    const table = memory.tensor("model.embed_tokens.weight", vocabulary, size);
    this.embedding = memory.single(table);
    const untied = memory.has("lm_head.weight");
    this.head = untied ? memory.matrix(memory.tensor("lm_head.weight", vocabulary, size)) : this.embedding;
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => this.layer(i, size));
    this.gates = memory.allocate(4 * this.width);
    this.logits = memory.allocate(vocabulary);
  }

  private layer(number: number, size: number): Layer {
    const of = (name: string, columns: number): Tensor => {
      const rows = columns === 1 ? 1 : 4 * size;
      return this.memory.tensor(`model.layers.${number}.lstm.${name}_l0`, rows, columns === 1 ? 4 * size : columns);
    };
    const weights = beside(of("weight_ih", size), of("weight_hh", size));
    const [first, second] = [of("bias_ih", 1), of("bias_hh", 1)].map(({ values }) => inSingle(values));
    const bias = { rows: 1, columns: 4 * size, values: first.map((value, i) => value + second[i]) };
    return {
      weights: this.memory.matrix(weights, 4, 2),
      bias: this.memory.matrix(bias, 1, 4).offset,
      state: this.memory.allocate(3 * this.width),
    };
  }

  restart(): void {
    const { f32 } = this.memory.kernels;
    for (const { state } of this.layers) f32.fill(0, state / 4, state / 4 + 3 * this.width);
  }

  read(tokens: readonly number[]): Float32Array {
    for (const token of tokens) this.step(token);
    const { kernels } = this.memory;
    const last = this.layers[this.layers.length - 1].state + 4 * this.width;
    const vocabulary = this.config.vocab_size;
    this.memory.multiply(this.logits, last, this.head, 1, this.width, padded(vocabulary));
    return kernels.f32.slice(this.logits / 4, this.logits / 4 + vocabulary);
  }

  private step(token: number): void {
    const { kernels } = this.memory;
    const width = this.width;
    let input = this.embedding.offset + token * width * 4;
    for (const { weights, bias, state } of this.layers) {
      const hidden = state + 4 * width;
      kernels.f32.copyWithin(state / 4, input / 4, input / 4 + width);
      this.memory.multiply(this.gates, state, weights, 1, 2 * width, 4 * width);
      kernels.add(this.gates, bias, 4 * width);
      kernels.lstm(hidden, state + 8 * width, this.gates, width);
      input = hidden;
    }
  }
}
