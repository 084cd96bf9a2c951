"""Tokenizers, augmentation and blocks of token ids."""
