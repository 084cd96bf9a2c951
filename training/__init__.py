"""What train.py is made of: config, blocks, Trainer, checkpoints, record; and the studies."""
