"""From finished runs to scaling laws: N, D, C and L with intervals; does not import torch."""
