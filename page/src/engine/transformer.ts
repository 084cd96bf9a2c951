// GPT (modeling/modeling_abc_gpt.py) and Llama (the library's own): blocks of attention and MLP.

import type { Decoder, ModelConfig } from "./decoder";
import { exp, ln, rotation } from "./exact_math";
import { Memory, padded, stack, type Matrix } from "./weights";

const MOST_ROWS = 32; // tokens computed at once

interface Layer {
  norm1: number;
  qkv: Matrix;
  out: Matrix;
  norm2: number;
  up: Matrix; // of a Llama: gate, then up
  down: Matrix;
  keys: number; // (H, P, D), then values
}

export class Transformer implements Decoder {
  readonly context: number;
  private readonly isLlama: boolean;
  private readonly width: number;
  private readonly inner: number; // width of the MLP
  private readonly heads: number;
  private readonly dim: number;
  private readonly headWidth: number; // dim, padded
  private readonly mixedWidth: number; // of all heads
  private readonly tokenTable: Matrix;
  private readonly positionTable: number = 0;
  private readonly cosines: Float32Array = new Float32Array(0); // (P, D / 2)
  private readonly sines: Float32Array = new Float32Array(0);
  private readonly lastNorm: number;
  private readonly head: Matrix;
  private readonly layers: Layer[];
  private readonly buffers: Record<"x" | "normed" | "qkv" | "mixed" | "inner" | "gate" | "scores" | "logits", number>;
  private nRead = 0;

  constructor(private readonly memory: Memory, private readonly config: ModelConfig) {
    const { hidden_size: size, num_attention_heads: heads, vocab_size: vocabulary } = config;
    this.isLlama = config.model_type === "llama";
    this.context = config.max_position_embeddings;
    [this.width, this.inner, this.heads] = [padded(size), padded(config.intermediate_size), heads];
    this.dim = size / heads;
    this.headWidth = padded(this.dim);
    this.mixedWidth = heads * this.headWidth;
    this.tokenTable = memory.single(memory.tensor("model.embed_tokens.weight", vocabulary, size));
    if (this.isLlama) {
      checkLlama(config);
      [this.cosines, this.sines] = rotations(config.rope_parameters!.rope_theta, this.dim, this.context);
    } else {
      this.positionTable = memory.single(memory.tensor("model.embed_positions.weight", this.context, size)).offset;
    }
    this.lastNorm = memory.vector("model.norm.weight", size);
    const untied = memory.has("lm_head.weight");
    this.head = untied ? memory.matrix(memory.tensor("lm_head.weight", vocabulary, size)) : this.tokenTable;
    this.layers = Array.from({ length: config.num_hidden_layers }, (_, i) => this.layer(i));
    this.buffers = this.allocateBuffers();
  }

  private allocateBuffers() {
    const rows = (n: number) => this.memory.allocate(MOST_ROWS * n);
    return {
      x: rows(this.width),
      normed: rows(this.width),
      qkv: rows(3 * this.mixedWidth),
      mixed: rows(this.mixedWidth),
      inner: rows((this.isLlama ? 2 : 1) * this.inner),
      gate: rows(this.inner),
      scores: this.memory.allocate(this.context),
      logits: this.memory.allocate(this.config.vocab_size),
    };
  }

  private layer(number: number): Layer {
    const { hidden_size: size, intermediate_size: inner } = this.config;
    const { memory, heads } = this;
    const of = (name: string, rows: number, columns: number) =>
      memory.tensor(`model.layers.${number}.${name}.weight`, rows, columns);
    const attention = this.isLlama ? "self_attn" : "attention";
    const qkv = this.isLlama
      ? stack(...["q", "k", "v"].map((part) => of(`self_attn.${part}_proj`, size, size)))
      : of("attention.qkv_proj", 3 * size, size);
    const up = this.isLlama
      ? stack(of("mlp.gate_proj", inner, size), of("mlp.up_proj", inner, size))
      : of("mlp.up_proj", inner, size);
    return {
      norm1: memory.single(of("input_layernorm", 1, size)).offset,
      qkv: memory.matrix(qkv, 3 * heads),
      out: memory.matrix(of(`${attention}.o_proj`, size, size), 1, heads),
      norm2: memory.single(of("post_attention_layernorm", 1, size)).offset,
      up: memory.matrix(up, this.isLlama ? 2 : 1),
      down: memory.matrix(of("mlp.down_proj", size, inner)),
      keys: memory.allocate(2 * this.mixedWidth * this.context),
    };
  }

  restart(): void {
    this.nRead = 0;
  }

  read(tokens: readonly number[]): Float32Array {
    const total = this.nRead + tokens.length;
    if (total > this.context) throw new Error(`${total} tokens, but the context is ${this.context}`);
    let rows = 0;
    for (let start = 0; start < tokens.length; start += MOST_ROWS) {
      const some = tokens.slice(start, start + MOST_ROWS);
      rows = some.length;
      this.embed(some);
      for (const layer of this.layers) this.block(layer, rows);
      this.nRead += rows;
    }
    const { kernels } = this.memory;
    const { x, normed, logits } = this.buffers;
    this.norm(normed, x + (rows - 1) * this.width * 4, this.lastNorm, 1);
    this.memory.multiply(logits, normed, this.head, 1, this.width, padded(this.config.vocab_size));
    return kernels.f32.slice(logits / 4, logits / 4 + this.config.vocab_size);
  }

  private embed(tokens: readonly number[]): void {
    const { kernels } = this.memory;
    const { x } = this.buffers;
    tokens.forEach((token, row) => {
      const from = this.tokenTable.offset / 4 + token * this.width;
      kernels.f32.copyWithin(x / 4 + row * this.width, from, from + this.width);
      if (this.isLlama) return;
      const position = this.positionTable + (this.nRead + row) * this.width * 4;
      kernels.add(x + row * this.width * 4, position, this.width);
    });
  }

  /** One block over T rows, in place. */
  private block(layer: Layer, rows: number): void {
    const { kernels } = this.memory;
    const { width, mixedWidth, inner } = this;
    const at = this.buffers;
    this.norm(at.normed, at.x, layer.norm1, rows);
    this.memory.multiply(at.qkv, at.normed, layer.qkv, rows, width, 3 * mixedWidth);
    for (let row = 0; row < rows; row++) this.attend(layer, row);
    this.memory.multiply(at.normed, at.mixed, layer.out, rows, mixedWidth, width);
    kernels.add(at.x, at.normed, rows * width);
    this.norm(at.normed, at.x, layer.norm2, rows);
    let hidden = at.inner;
    this.memory.multiply(hidden, at.normed, layer.up, rows, width, (this.isLlama ? 2 : 1) * inner);
    if (this.isLlama) {
      hidden = at.gate;
      for (let row = 0; row < rows; row++) {
        const gate = at.inner + row * 2 * inner * 4;
        kernels.silu(hidden + row * inner * 4, gate, gate + inner * 4, inner);
      }
    } else {
      kernels.gelu(hidden, rows * inner);
    }
    this.memory.multiply(at.normed, hidden, layer.down, rows, inner, width);
    kernels.add(at.x, at.normed, rows * width);
  }

  /** Attention of one row to all tokens up to it; its keys and values are kept. */
  private attend(layer: Layer, row: number): void {
    const { kernels } = this.memory;
    const { headWidth, mixedWidth, context } = this;
    const position = this.nRead + row;
    const query = this.buffers.qkv + row * 3 * mixedWidth * 4;
    if (this.isLlama) this.rotate(query / 4, position);
    const memory = kernels.f32;
    for (let head = 0; head < this.heads; head++) {
      const shift = head * headWidth * 4;
      const keys = layer.keys + head * context * headWidth * 4;
      const values = keys + context * mixedWidth * 4;
      [keys, values].forEach((place, part) => {
        const from = (query + (part + 1) * mixedWidth * 4 + shift) / 4;
        memory.copyWithin(place / 4 + position * headWidth, from, from + headWidth);
      });
      const out = this.buffers.mixed + row * mixedWidth * 4 + shift;
      kernels.attend(out, query + shift, keys, values, this.buffers.scores, headWidth,
        position + 1, 1 / Math.sqrt(this.dim));
    }
  }

  /** Turns the left half of each head of query and key against the right. */
  private rotate(query: number, position: number): void {
    const memory = this.memory.kernels.f32;
    const half = this.dim / 2;
    const f = Math.fround;
    for (let head = 0; head < 2 * this.heads; head++) {
      const left = query + head * this.headWidth;
      for (let i = left; i < left + half; i++) {
        const cosine = this.cosines[position * half + i - left];
        const sine = this.sines[position * half + i - left];
        const [a, b] = [memory[i], memory[i + half]];
        memory[i] = f(a * cosine) - f(b * sine);
        memory[i + half] = f(b * cosine) + f(a * sine);
      }
    }
  }

  /** LayerNorm without bias, or RMSNorm of a Llama, of T rows. */
  private norm(out: number, x: number, weight: number, rows: number): void {
    const memory = this.memory.kernels.f32;
    const n = this.config.hidden_size;
    const epsilon = (this.isLlama ? this.config.rms_norm_eps : this.config.layer_norm_epsilon)!;
    for (let row = 0; row < rows; row++) {
      const from = x / 4 + row * this.width;
      let mean = 0;
      if (!this.isLlama) {
        for (let i = from; i < from + n; i++) mean += memory[i];
        mean /= n;
      }
      let squares = 0;
      for (let i = from; i < from + n; i++) squares += (memory[i] - mean) * (memory[i] - mean);
      const scale = 1 / Math.sqrt(squares / n + epsilon);
      const to = out / 4 + row * this.width;
      for (let i = 0; i < n; i++) {
        memory[to + i] = (memory[from + i] - mean) * scale * memory[weight / 4 + i];
      }
    }
  }
}

/** @throws Error for what some Llamas have and ours have not. */
function checkLlama(config: ModelConfig): void {
  const kvHeads = config.num_key_value_heads ?? config.num_attention_heads;
  if (config.rope_parameters?.rope_type !== "default" || kvHeads !== config.num_attention_heads) {
    throw new Error("a Llama with grouped heads or scaled positions, which this page cannot run");
  }
}

/** Cosines and sines of all positions, (P, D / 2) each. */
function rotations(theta: number, dim: number, context: number): [Float32Array, Float32Array] {
  const half = dim / 2;
  const [cosines, sines] = [new Float32Array(context * half), new Float32Array(context * half)];
  for (let i = 0; i < half; i++) {
    const frequency = Math.fround(exp((-2 * i * ln(theta)) / dim));
    for (let position = 0; position < context; position++) {
      const [cosine, sine] = rotation(Math.fround(position * frequency));
      cosines[position * half + i] = cosine;
      sines[position * half + i] = sine;
    }
  }
  return [cosines, sines];
}
