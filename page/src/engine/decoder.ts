// The models: token ids in, logits out, with their state kept.
//
// Letters: T new tokens, C width, H heads, D head width (C = H D), P context, V vocabulary. In
// memory each head, gate and vector is padded with zeros to a multiple of 4.

import type { Kernels } from "./kernels";
import { Memory, type Tensor } from "./weights";
import { Lstm } from "./lstm";
import { Transformer } from "./transformer";

/** What `config.json` says of a model. */
export interface ModelConfig {
  model_type: string;
  vocab_size: number;
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads?: number;
  intermediate_size: number;
  max_position_embeddings: number;
  layer_norm_epsilon?: number;
  rms_norm_eps?: number;
  rope_parameters?: { rope_type: string; rope_theta: number };
  [name: string]: unknown;
}

/** A model with the state after the tokens that it has read. */
export interface Decoder {
  /** Number of tokens that it can read. */
  readonly context: number;
  /** Reads tokens, at least one, after those read before; returns the logits (V,) of the next. */
  read(tokens: readonly number[]): Float32Array;
  /** Forgets all tokens. */
  restart(): void;
}

/** @throws Error if the family is unknown or the weights do not fit the config. */
export function makeDecoder(
  kernels: Kernels, config: ModelConfig, tensors: Map<string, Tensor>,
): Decoder {
  const memory = new Memory(kernels, tensors);
  switch (config.model_type) {
    case "abc_gpt":
    case "llama":
      return new Transformer(memory, config);
    case "abc_lstm":
      return new Lstm(memory, config);
  }
  throw new Error(`a model of type ${config.model_type}, expected abc_gpt, abc_lstm or llama`);
}

/**
 * Continues rows of any length: at the context it goes on from the last half, as `generate` of the
 * project's GPT does. Where reading starts depends on the number of tokens alone.
 */
export class Reader {
  private tokens: number[] = [];
  private start = 0;

  constructor(private readonly decoder: Decoder) {}

  /** Begins a row anew; returns the logits (V,) after its first tokens. */
  begin(tokens: readonly number[]): Float32Array {
    this.tokens = [];
    this.start = 0;
    this.decoder.restart();
    return this.read(tokens);
  }

  /** Reads further tokens; returns the logits (V,) of the next. */
  read(tokens: readonly number[]): Float32Array {
    this.tokens.push(...tokens);
    const start = firstRead(this.tokens.length, this.decoder.context);
    if (start === this.start) return this.decoder.read(tokens);
    this.start = start;
    this.decoder.restart();
    return this.decoder.read(this.tokens.slice(start));
  }
}

/** Index of the first token to read of n; see `first_read` in modeling/decoding_abc_gpt.py. */
function firstRead(n: number, context: number): number {
  if (n <= context) return 0;
  const step = context + 1 - Math.max(1, Math.floor(context / 2));
  return Math.ceil((n - context) / step) * step;
}
