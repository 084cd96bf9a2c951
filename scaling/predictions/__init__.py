"""What fitted laws say: costs, frontier, crossover."""
