"""GRPO training, evaluation and the data they need."""
