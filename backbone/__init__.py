"""Backbone: causal 3D-VAE, DiT, flow matching, reference-aware decode."""
