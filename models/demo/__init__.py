"""The embedded default: a picture gallery, a small encoder and a small language model."""
